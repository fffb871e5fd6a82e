//! What came of a plan.

use std::{collections::BTreeSet, sync::Arc};

use mainstay_runtime::outcome::{Concern, Part};

use super::error::ApplyError;
use crate::{plan::Why, rollout::Refusal};

/// What of a plan was carried out.
#[derive(Debug, Default)]
pub struct Applied {
    /// Pods adopted.
    pub adopted: usize,
    /// Pods released.
    pub released: usize,
    /// Pods created.
    pub created: usize,
    /// Pods deleted, by the rule that chose them.
    pub deleted: Vec<(Arc<str>, Why)>,
    /// Pods whose images were changed in place.
    pub changed: usize,
    /// Pods whose hook's owner was told that they are to go.
    pub notified: usize,
    /// Pods that need not go after all, as their hook's owner was told.
    pub cancelled: usize,
    /// Pods whose hook has taken too long.
    pub timed_out: Vec<Arc<str>>,
    /// Volume claims made.
    pub claims_created: usize,
    /// Volume claims deleted.
    pub claims_deleted: usize,
    /// Whether a pod that is out of service is waited for.
    pub waiting: bool,
    /// How many of the deleted were evicted.
    pub evicted: usize,
    /// What the server said when a PodDisruptionBudget refused an eviction.
    pub blocked: Option<String>,
    /// Which pods the server refused; `None` if none were to be made.
    pub refused: Option<Vec<Refusal>>,
    /// Whether the time for it was over before all was done.
    pub unfinished: bool,
    /// Whether the stores turned out to lag behind the server, so that nothing more was done.
    pub stale: bool,
    /// What failed of each concern that was tried.
    pub ended: Vec<(Concern, Vec<ApplyError>)>,
    /// What is still to be done and was not tried, because it failed last or the time is over.
    pub held: BTreeSet<Part>,
}

impl Applied {
    pub(super) fn end(&mut self, concern: Concern, result: Result<(), ApplyError>) {
        self.ended.push((concern, result.err().into_iter().collect()));
    }
}
