//! What jobs have found.

use std::time::Duration;

use mainstay_runtime::failure::RequestError;

use crate::{
    apply::{ApplyError, leftovers::Standing, node::Written, pods, remediation},
    live::Answer,
    metrics::Action,
    record::Record,
};

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
    /// Of a visit to a node's pods.
    Visited(pods::Visit),
    /// Of a visit to its remediations.
    Remedied(Result<remediation::Visit, ApplyError>),
    /// Of a write of a status.
    Reported(Result<Option<Duration>, RequestError>),
    /// Of a list of the remediations of a policy, and what keeps its templates from being used, where that was found out.
    Listed(Result<Vec<Standing>, ApplyError>, Option<Vec<String>>),
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
