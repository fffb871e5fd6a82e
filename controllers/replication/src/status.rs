//! Conditions and counters out of what a pass saw. Pure: the clock is an argument.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use mainstay_crds::{ReplicaGroup, ReplicaGroupStatus};
use mainstay_runtime::{
    conditions::{Verdict, merge},
    failure::RequestError,
};

use crate::{
    apply::ApplyError,
    observe::{ObserveError, Observed},
    plan::{Counts, Plan, Wait},
};

/// A failure as conditions show it, for as long as it is not overcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Reason of `Ready`.
    pub reason: &'static str,
    /// Reason of `ReplicaFailure`; `None` when no pod was refused.
    pub replica_failure: Option<&'static str>,
    /// Whether somebody must change something.
    pub stalled: bool,
    /// What was wrong, in the server's words, and what to do.
    pub message: String,
}

impl From<&ApplyError> for Failure {
    fn from(error: &ApplyError) -> Self {
        let (reason, replica_failure) = match error {
            ApplyError::Create(request) => (create_reason(request), Some("FailedCreate")),
            ApplyError::Delete { .. } => ("DeleteFailed", Some("FailedDelete")),
            ApplyError::Adopt { .. } | ApplyError::Release { .. } => ("AdoptFailed", None),
            ApplyError::Read(_) => ("ReadFailed", None),
        };
        let advice = match (error, error.request()) {
            (ApplyError::Create(_), RequestError::QuotaExceeded(_)) => {
                "; raise the ResourceQuota or lower spec.replicas: creation goes on by itself"
            }
            (ApplyError::Create(_), RequestError::Invalid(_)) => "; correct spec.template",
            (ApplyError::Create(_), RequestError::Forbidden(_)) => {
                "; change spec.template or what forbids it, such as a LimitRange or the namespace's Pod Security level"
            }
            _ => "",
        };
        let stalled = error.request().needs_change();
        Self { reason, replica_failure, stalled, message: format!("{error}{advice}") }
    }
}

impl From<&ObserveError> for Failure {
    fn from(error: &ObserveError) -> Self {
        Self { reason: "InvalidSelector", replica_failure: None, stalled: true, message: error.to_string() }
    }
}

fn create_reason(request: &RequestError) -> &'static str {
    match request {
        RequestError::QuotaExceeded(_) => "QuotaExceeded",
        RequestError::Forbidden(_) => "Forbidden",
        RequestError::Invalid(_) => "InvalidTemplate",
        _ => "CreateFailed",
    }
}

/// The status of a group whose pods were observed.
pub fn observed(
    group: &ReplicaGroup,
    observed: &Observed,
    plan: &Plan,
    failure: Option<&Failure>,
    now: Timestamp,
) -> ReplicaGroupStatus {
    let Counts { active, ready, available, terminating, fully_labeled } = plan.counts;
    let readiness = readiness(group, observed.policy.replicas, plan, failure);
    ReplicaGroupStatus {
        observed_generation: group.metadata.generation.unwrap_or_default(),
        replicas: number(active),
        ready_replicas: number(ready),
        available_replicas: number(available),
        terminating_replicas: number(terminating),
        fully_labeled_replicas: number(fully_labeled),
        selector: observed.selector.to_string(),
        conditions: conditions(group, readiness, failure, now),
    }
}

/// The status of a group that cannot be planned: its counters stay as they were.
pub fn unusable(group: &ReplicaGroup, failure: &Failure, now: Timestamp) -> ReplicaGroupStatus {
    let readiness = (false, failure.reason, failure.message.clone());
    ReplicaGroupStatus {
        observed_generation: group.metadata.generation.unwrap_or_default(),
        conditions: conditions(group, readiness, Some(failure), now),
        ..group.status.clone().unwrap_or_default()
    }
}

/// Whether two statuses differ in more than counters and sentences, so that nobody should wait to see the new one.
pub fn is_urgent(old: &ReplicaGroupStatus, new: &ReplicaGroupStatus) -> bool {
    let heads = |status: &ReplicaGroupStatus| -> Vec<(String, String, String)> {
        let head = |condition: &Condition| {
            (condition.type_.clone(), condition.status.clone(), condition.reason.clone())
        };
        status.conditions.iter().map(head).collect()
    };
    old.observed_generation != new.observed_generation || heads(old) != heads(new)
}

fn number(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

fn conditions(
    group: &ReplicaGroup,
    (ready, reason, message): (bool, &'static str, String),
    failure: Option<&Failure>,
    now: Timestamp,
) -> Vec<Condition> {
    let stalled = failure.filter(|failure| failure.stalled);
    let refused = failure.and_then(|failure| Some((failure.replica_failure?, failure.message.clone())));
    let none = |kind| Verdict { kind, status: false, reason: "None", message: String::new() };
    let verdicts = vec![
        Verdict { kind: "Ready", status: ready, reason, message: message.clone() },
        Verdict { kind: "Reconciling", status: !ready && stalled.is_none(), reason, message },
        stalled.map_or(none("Stalled"), |failure| Verdict {
            kind: "Stalled",
            status: true,
            reason: failure.reason,
            message: failure.message.clone(),
        }),
        refused.map_or(none("ReplicaFailure"), |(reason, message)| Verdict {
            kind: "ReplicaFailure",
            status: true,
            reason,
            message,
        }),
    ];
    let standing = group.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    merge(verdicts, standing, group.metadata.generation, now)
}

/// Status, reason and message of `Ready`: the first thing that keeps the group from what is wanted.
fn readiness(
    group: &ReplicaGroup,
    wanted: usize,
    plan: &Plan,
    failure: Option<&Failure>,
) -> (bool, &'static str, String) {
    let Counts { active, ready, available, terminating, .. } = plan.counts;
    if group.metadata.deletion_timestamp.is_some() {
        return (false, "Deleting", format!("the group is being deleted; {active} pods are left"));
    }
    if let Some(failure) = failure {
        return (false, failure.reason, failure.message.clone());
    }
    match plan.wait {
        Some(Wait::Backoff { until }) => {
            let message = format!(
                "{active} of {wanted} pods exist; pods failed one after the other, so the next is made at {}: see \
                 the failed pods' status and logs",
                until.strftime("%FT%TZ")
            );
            return (false, "CreateBackoff", message);
        }
        Some(Wait::Terminating(waiting)) if plan.create == 0 => {
            let message = format!(
                "{active} of {wanted} pods exist; {waiting} replacements wait for {terminating} terminating pods to end"
            );
            return (false, "WaitingForTermination", message);
        }
        _ => {}
    }
    if active < wanted {
        (false, "ScalingUp", format!("{active} of {wanted} pods exist"))
    } else if active > wanted {
        (false, "ScalingDown", format!("{active} pods exist, {wanted} are wanted"))
    } else if ready < wanted {
        (false, "PodsNotReady", format!("{ready} of {wanted} pods are ready"))
    } else if available < wanted {
        let message = format!("{available} of {wanted} pods have been ready for spec.minReadySeconds");
        (false, "PodsNotAvailable", message)
    } else {
        (true, "AllAvailable", format!("{available} of {wanted} pods are available"))
    }
}

#[cfg(test)]
mod tests;
