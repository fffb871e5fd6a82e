//! The input of a status.

use mainstay_crds::ConfigRollout;
use mainstay_runtime::outcome::{Failure, Failures};

use crate::{
    observe::ObserveError,
    plan::{Findings, Observed, Plan},
};

impl From<&ObserveError> for Failure {
    fn from(error: &ObserveError) -> Self {
        Self { reason: error.reason(), stalled: true, message: error.to_string() }
    }
}

/// All that a status is made from.
#[derive(Debug)]
pub struct StatusInput<'a> {
    /// The rollout.
    pub rollout: &'a ConfigRollout,
    /// What is seen.
    pub observed: &'a Observed,
    /// What reading the sources has shown.
    pub findings: &'a Findings,
    /// What was decided.
    pub plan: &'a Plan,
    /// What cannot be done.
    pub failures: &'a Failures,
}
