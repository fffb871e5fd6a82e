//! The input of a status.

use mainstay_crds::ReplicaGroup;

use crate::{
    observe::{Assessment, Observed},
    plan::Plan,
};
use mainstay_runtime::outcome::Failures;

/// What a reconcile saw of a group.
pub struct Seen<'a> {
    /// The group.
    pub group: &'a ReplicaGroup,
    /// Its pods.
    pub observed: &'a Observed,
    /// What they need.
    pub assessed: &'a Assessment,
    /// What went wrong last.
    pub failures: &'a Failures,
    /// What a PodDisruptionBudget said when it refused an eviction.
    pub blocked: Option<&'a str>,
    /// Whether pods are to be changed and the stores have not shown for long what they must before that.
    pub behind: bool,
}

/// Which hooks are waited for, and for how long.
pub(super) fn hook_sentence(plan: &Plan) -> Option<String> {
    let (count, until) = plan.hooks?;
    let until = until.strftime("%FT%TZ");
    Some(match count {
        1 => format!("waiting for the pre-delete hook of 1 pod (times out at {until})"),
        _ => format!("waiting for the pre-delete hooks of {count} pods (the first times out at {until})"),
    })
}
