//! Conditions and counters, computed from what a reconcile observed. Pure: the clock is an argument.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;
use mainstay_crds::{ReplicaGroup, ReplicaGroupStatus};
use mainstay_runtime::{
    conditions::{NewCondition, merge, number, same_heads},
    outcome::Failure,
};

use crate::{
    observe::Assessment,
    plan::{Counts, Wait},
    revision,
    rollout::State,
};

mod change;
mod failure;
mod seen;

pub use self::seen::Seen;
use self::seen::hook_sentence;

/// The status of a group whose pods were observed.
pub fn observed(seen: &Seen<'_>, now: Timestamp) -> ReplicaGroupStatus {
    let Seen { group, observed, assessed, .. } = *seen;
    let Counts { active, ready, available, terminating, fully_labeled } = assessed.plan.counts;
    let unknown = observed.revisions.unknown.as_ref().map(|name| failure::unknown_revision(name));
    let lasting = seen.failures.first().cloned().or(unknown);
    let lasting = lasting.or_else(|| change::lost_revision(seen)).or_else(|| change::lasting_failure(seen));
    let readiness = readiness(seen, lasting.as_ref());
    let stalled = lasting.filter(|failure| failure.stalled).or_else(|| change::rolled_back_failure(seen));
    let mut verdicts = verdicts(readiness, stalled.as_ref(), failure::of_replicas(seen.failures));
    verdicts.extend(change::verdicts(seen));
    verdicts.extend(seen.failures.conditions());
    let mut status = ReplicaGroupStatus {
        observed_generation: group.metadata.generation.unwrap_or_default(),
        replicas: number(active),
        ready_replicas: number(ready),
        available_replicas: number(available),
        terminating_replicas: number(terminating),
        fully_labeled_replicas: number(fully_labeled),
        updated_replicas: number(assessed.updated),
        update_revision: Some(revision::name(&group.name_any(), &assessed.decision.wanted)),
        selector: observed.selector.to_string(),
        conditions: conditions(group, verdicts, now),
        ..ReplicaGroupStatus::default()
    };
    assessed.decision.state.write(group, &mut status);
    status
}

/// When time alone changes what the status says.
pub fn due(assessed: &Assessment) -> Option<Duration> {
    change::due(assessed)
}

/// The status of a group that cannot be planned: its counters stay as they were.
pub fn unusable(group: &ReplicaGroup, failure: &Failure, now: Timestamp) -> ReplicaGroupStatus {
    let verdicts = verdicts((false, failure.reason, failure.message.clone()), Some(failure), None);
    ReplicaGroupStatus {
        observed_generation: group.metadata.generation.unwrap_or_default(),
        conditions: conditions(group, verdicts, now),
        ..group.status.clone().unwrap_or_default()
    }
}

/// Whether two statuses differ in more than counters and messages, so that the new one is written at once.
pub fn is_urgent(group: &ReplicaGroup, old: &ReplicaGroupStatus, new: &ReplicaGroupStatus) -> bool {
    if !State::read(group, old).decides_as(&State::read(group, new)) {
        return true;
    }
    old.observed_generation != new.observed_generation || !same_heads(&old.conditions, &new.conditions)
}

fn conditions(group: &ReplicaGroup, verdicts: Vec<NewCondition>, now: Timestamp) -> Vec<Condition> {
    let standing = group.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    merge(verdicts, standing, group.metadata.generation, now)
}

fn verdicts(
    (ready, reason, message): (bool, &'static str, String),
    failure: Option<&Failure>,
    refused: Option<(&'static str, String)>,
) -> Vec<NewCondition> {
    let stalled = failure.filter(|failure| failure.stalled);
    let none = |kind| NewCondition { kind, status: false, reason: "None", message: String::new() };
    vec![
        NewCondition { kind: "Ready", status: ready, reason, message: message.clone() },
        NewCondition { kind: "Reconciling", status: !ready && stalled.is_none(), reason, message },
        stalled.map_or(none("Stalled"), |failure| NewCondition {
            kind: "Stalled",
            status: true,
            reason: failure.reason,
            message: failure.message.clone(),
        }),
        refused.map_or(none("ReplicaFailure"), |(reason, message)| NewCondition {
            kind: "ReplicaFailure",
            status: true,
            reason,
            message,
        }),
    ]
}

/// Status, reason and message of `Ready`: the first thing that keeps the group from what is wanted.
fn readiness(seen: &Seen<'_>, failure: Option<&Failure>) -> (bool, &'static str, String) {
    let (plan, wanted) = (&seen.assessed.plan, seen.observed.policy.replicas);
    let Counts { active, ready, available, terminating, .. } = plan.counts;
    if seen.group.metadata.deletion_timestamp.is_some() {
        let hooks = hook_sentence(plan).map(|sentence| format!("; {sentence}")).unwrap_or_default();
        return (false, "Deleting", format!("the group is being deleted; {active} pods are left{hooks}"));
    }
    if let Some(failure) = failure {
        return (false, failure.reason, failure.message.clone());
    }
    if seen.behind {
        let message = "pods are to be created, changed or deleted, but the controller's watch has not shown the present \
                       state of the group for a while: see the metric watch_last_event_age_seconds of the controller, \
                       and its log";
        return (false, "WaitingForWatch", message.to_owned());
    }
    match &plan.wait {
        Some(Wait::Backoff { until, .. }) => {
            let message = format!(
                "{active} of {wanted} pods exist; pods ended one after the other, or were deleted by others soon after they were \
                 created, so the next is created at {}: see the ended pods' status and logs, or the audit log",
                until.strftime("%FT%TZ")
            );
            return (false, "CreateBackoff", message);
        }
        Some(Wait::Terminating(waiting)) if plan.create.is_empty() => {
            let message = format!(
                "{active} of {wanted} pods exist; {} for terminating pods ({terminating}) to end",
                replacements_wait(*waiting)
            );
            return (false, "WaitingForTermination", message);
        }
        Some(Wait::Volumes(waiting)) if plan.create.is_empty() => {
            let message = format!(
                "{active} of {wanted} pods exist; {} for the volume claims of pods that have not ended yet",
                replacements_wait(*waiting)
            );
            return (false, "WaitingForVolumes", message);
        }
        Some(Wait::OldPods(waiting)) => {
            let message = format!(
                "{waiting} pods of other revisions have not ended yet; new ones are created after \
                         that"
            );
            return (false, "WaitingForTermination", message);
        }
        _ => {}
    }
    if let Some(verdict) = change::readiness(seen) {
        return verdict;
    }
    if active < wanted {
        (false, "ScalingUp", format!("{active} of {wanted} pods exist"))
    } else if let Some(hooks) = hook_sentence(plan).filter(|_| active > wanted) {
        (false, "WaitingForPreDelete", format!("{active} pods exist, {wanted} are wanted; {hooks}"))
    } else if active > wanted {
        (false, "ScalingDown", format!("{active} pods exist, {wanted} are wanted"))
    } else if ready < wanted {
        (false, "PodsNotReady", format!("{ready} of {wanted} pods are ready{}", seen.unprepared()))
    } else if available < wanted {
        let message = format!("{available} of {wanted} pods have been ready for spec.minReadySeconds");
        (false, "PodsNotAvailable", message)
    } else if let Some(Failure { reason, message, .. }) = change::rolled_back_failure(seen) {
        (false, reason, format!("{available} of {wanted} pods are available, but {message}"))
    } else {
        (
            true,
            "AllAvailable",
            format!("{available} of {wanted} pods are available{}", change::addition(seen)),
        )
    }
}

fn replacements_wait(count: usize) -> String {
    if count == 1 { "1 replacement waits".to_owned() } else { format!("{count} replacements wait") }
}

#[cfg(test)]
mod tests;
