//! What a `NodeHealthPolicy` has found, as the controller last saw it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema;

/// What the policy has found and decided.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(transform = schema::without_defaults, transform = schema::with_flowing_text)]
pub struct NodeHealthPolicyStatus {
    /// The generation of the spec that this status answers; absent means none yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub observed_generation: Option<i64>,

    /// How many nodes of the policy are in which state.
    pub nodes: NodeCounts,

    /// The nodes that are not simply well, those first that need a person most; at most 100.
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub unhealthy_nodes: Vec<UnhealthyNode>,

    /// How many more there are.
    #[schemars(range(min = 0))]
    pub unlisted: i32,

    /// The breakers, open ones first; at most 64.
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub breakers: Vec<BreakerStatus>,

    /// What holds now, each with a reason and a sentence: `Ready`, `Stalled`, `BreakerOpen`, `Overlap` and
    /// `DryRun`.
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}

/// How many nodes are in which state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(transform = schema::without_defaults)]
pub struct NodeCounts {
    /// All of them.
    pub total: i32,
    /// Those that are well.
    pub healthy: i32,
    /// Those whose Lease is renewed too rarely for `unreachableAfter`.
    pub unjudged: i32,
    /// Those whose Lease is overdue, or whose condition is bad and not for long enough.
    pub suspect: i32,
    /// Those that a live read is to confirm.
    pub unconfirmed: i32,
    /// Those of which a second opinion says that they live.
    pub doubted: i32,
    /// Unhealthy ones that nothing is done with for now.
    pub waiting: i32,
    /// Unhealthy ones that are acted on.
    pub acting: i32,
    /// Those that are well again, and not for long enough.
    pub recovering: i32,
    /// Those that are well again, and have been so too often.
    pub quarantined: i32,
    /// Those that are being removed on purpose, by their deletion or an autoscaler.
    pub leaving: i32,
}

/// A node that is not simply well.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UnhealthyNode {
    /// Its name.
    pub name: String,
    /// Its zone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// Its state.
    #[serde(default)]
    pub state: String,
    /// Since when it is silent, or its condition bad.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
    /// Why it is in this state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What is waited for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting_for: Option<String>,
    /// The step that time alone brings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_step: Option<String>,
    /// And when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_step_time: Option<Time>,
}

/// A breaker.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct BreakerStatus {
    /// Its zone; absent: all nodes of the policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// How many nodes it watches.
    pub nodes: i32,
    /// How many of them are unhealthy or overdue.
    pub unhealthy: i32,
    /// How many may be.
    pub limit: i32,
    /// Whether it is open.
    pub open: bool,
    /// Since when.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub open_since: Option<Time>,
}
