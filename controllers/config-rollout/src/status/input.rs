//! The input of a status.

use mainstay_crds::ConfigRollout;
use mainstay_runtime::reconcile::PassError;

use crate::{
    apply::ApplyError,
    observe::ObserveError,
    plan::{Findings, Observed, Plan},
};

/// Something that keeps a pass from its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// As a condition names it.
    pub reason: &'static str,
    /// What was wrong and what to do.
    pub message: String,
    /// Whether only a change helps.
    pub stalled: bool,
}

impl From<&ApplyError> for Failure {
    fn from(error: &ApplyError) -> Self {
        let request = error.request();
        Self { reason: request.reason(), message: error.to_string(), stalled: request.needs_change() }
    }
}

impl From<&ObserveError> for Failure {
    fn from(error: &ObserveError) -> Self {
        Self { reason: error.reason(), message: error.to_string(), stalled: true }
    }
}

/// All that a status is made from.
#[derive(Debug)]
pub struct Told<'a> {
    /// The rollout.
    pub rollout: &'a ConfigRollout,
    /// What is seen.
    pub observed: &'a Observed,
    /// What reading the sources has shown.
    pub findings: &'a Findings,
    /// What was decided.
    pub plan: &'a Plan,
    /// What failed last.
    pub failure: Option<&'a Failure>,
}
