//! What jobs have found.

use std::{sync::Arc, time::Duration};

use mainstay_runtime::{clock::Moment, failure::RequestError};

use super::jobs::{Jobs, Task};
use crate::{
    apply::{
        ApplyError,
        leftovers::{Flaw, Listed},
        node::Written,
        pods, remediation,
    },
    live::Answer,
    metrics::Action,
    plan::PodsPlan,
    record::Record,
};

/// What a job has found, and of what.
pub(super) struct Found {
    /// The UID of the node or policy: one that was recreated under its name since is another.
    uid: Box<str>,
    outcome: Outcome,
}

impl Found {
    /// Of the node or policy of this UID.
    pub(super) fn new(uid: &str, outcome: Outcome) -> Self {
        Self { uid: uid.into(), outcome }
    }

    /// What was found, if it is of the node or policy of this UID.
    pub(super) fn of(self, uid: &str) -> Option<Outcome> {
        (*self.uid == *uid).then_some(self.outcome)
    }
}

impl Jobs<Found> {
    /// Begins `job` for the node or policy of this name and UID, as [`Jobs::start`] does.
    pub(super) fn start_for(
        &mut self,
        task: Task,
        (name, uid): (&Arc<str>, &str),
        now: Moment,
        job: impl Future<Output = Outcome> + Send + 'static,
    ) {
        let uid = uid.to_owned();
        self.start((task, Arc::clone(name)), now, async move { Found::new(&uid, job.await) });
    }
}

/// What a job has found.
pub(super) enum Outcome {
    /// Of a live read.
    Confirmed(Result<Answer, RequestError>),
    /// Of a write of a node.
    Written {
        /// What stood on the node, as the watch showed it.
        before: Record,
        /// What was to.
        wanted: Record,
        /// What was written.
        result: Box<Result<Option<Written>, ApplyError>>,
    },
    /// Of a visit to a node's pods, and what it was to do.
    Visited(PodsPlan, pods::Visit),
    /// Of a visit to its remediations.
    Remedied(Result<remediation::Visit, ApplyError>),
    /// Of a write of a status.
    Reported(Result<Option<Duration>, RequestError>),
    /// Of a list of the remediations of a policy, and what keeps its templates from being used.
    Listed(Listed, Vec<Flaw>),
    /// Of the deletion of some of them.
    Cleared(Result<(), ApplyError>),
}

/// What leads from one record to another.
pub(super) fn actions(before: &Record, after: &Record) -> Vec<Action> {
    let (from, to) = (before.taken.clone().unwrap_or_default(), after.taken.clone().unwrap_or_default());
    let mut actions = Vec::new();
    if to.cordon && !from.cordon {
        actions.push(Action::Cordon);
    }
    if to.taint.is_some() && to.taint != from.taint {
        actions.push(Action::Taint);
    }
    if to.out_of_service.is_some() && from.out_of_service.is_none() {
        actions.push(Action::OutOfService);
    }
    let stood = from.cordon || from.taint.is_some() || from.out_of_service.is_some();
    let stands = to.cordon || to.taint.is_some() || to.out_of_service.is_some();
    if stood && !stands {
        actions.push(Action::Restore);
    }
    actions
}
