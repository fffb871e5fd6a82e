//! Converts the state of a group's revisions from and to its status.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use mainstay_crds::{
    FailureStatus, HeldRevision, KeptReplicas, ReplicaGroup, ReplicaGroupStatus, RolloutStatus,
};
use mainstay_runtime::conditions::number;

use super::{Failed, Ignored, Kept, Reason, Rollout, State};
use crate::{plan::Share, revision};

impl State {
    /// What `status` keeps of `group`. What it cannot mean is left out.
    pub fn read(group: &ReplicaGroup, status: &ReplicaGroupStatus) -> Self {
        let own = |name: &String| revision::hash_of(group, name);
        let failure = status.failure.as_ref();
        let failed = status.failed_revision.as_ref().and_then(own).map(|revision| Failed {
            revision,
            reason: failure.and_then(|failure| Reason::parse(&failure.reason)).unwrap_or(Reason::Aborted),
            message: failure.map(|failure| failure.message.clone()).unwrap_or_default(),
        });
        Self {
            current: status.current_revision.as_ref().and_then(own),
            previous: status.previous_revision.as_ref().and_then(own),
            pinned: status.rollback_revision.as_ref().and_then(own),
            failed,
            rollout: status.rollout.as_ref().and_then(|rollout| read_rollout(group, rollout)),
        }
    }

    /// Puts it into `status`.
    pub fn write(&self, group: &ReplicaGroup, status: &mut ReplicaGroupStatus) {
        let name = |hash: &Arc<str>| revision::name(&group.name_any(), hash);
        status.current_revision = self.current.as_ref().map(name);
        status.previous_revision = self.previous.as_ref().map(name);
        status.rollback_revision = self.pinned.as_ref().map(name);
        status.failed_revision = self.failed.as_ref().map(|failed| name(&failed.revision));
        status.failure = self.failed.as_ref().map(|failed| FailureStatus {
            reason: failed.reason.to_string(),
            message: failed.message.clone(),
        });
        status.rollout = self.rollout.as_ref().map(|rollout| RolloutStatus {
            revision: name(&rollout.revision),
            started_at: Time(rollout.started),
            progressed_at: Time(rollout.progressed),
            available_replicas: number(rollout.available),
            step: rollout.step.map(|step| number(step + 1)),
            reached_at: rollout.reached.map(Time),
            held: rollout
                .held
                .iter()
                .map(|share| HeldRevision {
                    revision: name(&share.revision),
                    replicas: number(share.replicas),
                })
                .collect(),
            kept: rollout
                .kept
                .map(|kept| KeptReplicas { replicas: number(kept.replicas), of: number(kept.of) }),
            unschedulable_replicas: number(rollout.unschedulable),
            ignored_continue: rollout.ignored.resume.as_ref().map(|text| text.to_string()),
            ignored_abort: rollout.ignored.abort.as_ref().map(|text| text.to_string()),
        });
    }

    /// Whether both mean the same for what is done next; how far a change has got does not count.
    pub fn decides_as(&self, other: &Self) -> bool {
        let timeless = |state: &Self| {
            let mut state = state.clone();
            if let Some(rollout) = &mut state.rollout {
                (rollout.progressed, rollout.available, rollout.kept) = (Timestamp::UNIX_EPOCH, 0, None);
            }
            state
        };
        timeless(self) == timeless(other)
    }
}

fn read_rollout(group: &ReplicaGroup, rollout: &RolloutStatus) -> Option<Rollout> {
    let share = |held: &HeldRevision| {
        Some(Share { revision: revision::hash_of(group, &held.revision)?, replicas: count(held.replicas) })
    };
    Some(Rollout {
        revision: revision::hash_of(group, &rollout.revision)?,
        started: rollout.started_at.0,
        progressed: rollout.progressed_at.0,
        available: count(rollout.available_replicas),
        step: rollout.step.map(|step| count(step).saturating_sub(1)),
        reached: rollout.reached_at.as_ref().map(|at| at.0),
        held: rollout.held.iter().filter_map(share).collect(),
        kept: rollout.kept.as_ref().map(|kept| Kept { replicas: count(kept.replicas), of: count(kept.of) }),
        unschedulable: count(rollout.unschedulable_replicas),
        ignored: Ignored {
            resume: rollout.ignored_continue.as_deref().map(Into::into),
            abort: rollout.ignored_abort.as_deref().map(Into::into),
        },
    })
}

fn count(number: i32) -> usize {
    usize::try_from(number).unwrap_or_default()
}
