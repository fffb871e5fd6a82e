//! The lifecycle hooks of a `ReplicaGroup`'s pods.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Lifecycle hooks of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Lifecycle {
    /// A hook that must complete before a running pod is deleted. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pre_delete: Option<PreDelete>,
}

/// A hook that must complete before a pod is deleted.
///
/// Pods that are created while it is set carry the finalizer. Before a pod is deleted it gets the annotation
/// `mainstay.dev/pre-delete`; the hook's owner does its work and removes the finalizer. The pod keeps running meanwhile.
/// If the deletion is cancelled, the annotation is removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PreDelete {
    /// The finalizer, a qualified name such as `example.com/drain`.
    #[schemars(
        length(min = 3, max = 317),
        regex(
            pattern = r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$"
        )
    )]
    pub finalizer: String,

    /// After this many seconds the pod is deleted although the hook has not completed, and an event says so. Default 300.
    #[serde(default = "five_minutes")]
    #[schemars(range(min = 1))]
    pub timeout_seconds: i32,
}

fn five_minutes() -> i32 {
    300
}
