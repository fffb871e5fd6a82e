//! A group's spec, converted to the types of the plan.

use std::time::Duration;

use mainstay_crds::{
    ClaimReuse, NodePreference, PodReplacement, PodsToDeletePolicy, ReplicaGroup, Retention, seconds,
};

use crate::{
    plan::{self, Policy},
    slots::Slots,
    upkeep,
};

/// What is wanted of a group, apart from its revisions and its volume claims.
pub(super) fn of(group: &ReplicaGroup) -> Policy {
    let spec = &group.spec;
    Policy {
        replicas: usize::try_from(spec.replicas).unwrap_or_default(),
        min_ready: seconds(spec.min_ready_seconds),
        replacement: match spec.pod_replacement {
            PodReplacement::WhenTerminating => plan::Replacement::WhenTerminating,
            PodReplacement::WhenTerminated => plan::Replacement::WhenTerminated,
        },
        prefer: match spec.scale_down.prefer {
            NodePreference::CrowdedNode => plan::NodePreference::CrowdedNode,
            NodePreference::EmptiestNode => plan::NodePreference::EmptiestNode,
        },
        pods_to_delete: spec.scale_down.pods_to_delete.iter().cloned().collect(),
        replace_named: spec.scale_down.pods_to_delete_policy == PodsToDeletePolicy::Replace,
        ending: upkeep::ending(group),
        hook_timeout: spec
            .lifecycle
            .pre_delete
            .as_ref()
            .map_or(Duration::ZERO, |hook| seconds(hook.timeout_seconds)),
        ..Policy::default()
    }
}

/// The group's slots, and what happens to free ones.
pub(super) fn volumes(group: &ReplicaGroup, slots: &Slots) -> plan::Volumes {
    let claims = &group.spec.volume_claims;
    slots.volumes(claims.reuse == ClaimReuse::Always, claims.retention.when_scaled == Retention::Delete)
}
