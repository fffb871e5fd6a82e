//! What happens around the life of a `ReplicaGroup`'s pods.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Hooks in the life of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Lifecycle {
    /// What is waited for before a pod that runs is deleted. Default nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pre_delete: Option<PreDelete>,
}

/// A hook that is waited for before a pod is deleted.
///
/// Pods made while it is set carry the finalizer. One that is to go is first given the annotation
/// `mainstay.dev/pre-delete` and runs on; whoever the hook belongs to does what is to be done and then removes the
/// finalizer. Should the pod not have to go after all, the annotation is taken back.
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

    /// After so many seconds the pod goes all the same, and an event says so. Default 300.
    #[serde(default = "five_minutes")]
    #[schemars(range(min = 1))]
    pub timeout_seconds: i32,
}

fn five_minutes() -> i32 {
    300
}
