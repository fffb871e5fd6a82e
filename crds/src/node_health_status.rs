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
    /// The generation of the spec that this status is about; absent means none yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub observed_generation: Option<i64>,

    /// How many nodes of the policy are in which state.
    pub nodes: NodeCounts,

    /// Nodes that are not `Healthy`, most urgent first; at most 100.
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub unhealthy_nodes: Vec<UnhealthyNode>,

    /// How many more there are.
    #[schemars(range(min = 0))]
    pub unlisted: i32,

    /// The breakers, open ones first; at most 64.
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub breakers: Vec<BreakerStatus>,

    /// The kinds of which the policy may have created remediations, also those that it no longer names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub template_kinds: Vec<TemplateKind>,

    /// The conditions `Ready`, `Stalled`, `BreakerOpen`, `Overlap` and `DryRun`, each with a reason and a message.
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}

/// A kind of templates of remediations, in a namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(transform = schema::without_defaults)]
pub struct TemplateKind {
    /// Its API group and version.
    pub api_version: String,
    /// The kind.
    pub kind: String,
    /// The namespace.
    pub namespace: String,
}

/// How many nodes are in which state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(transform = schema::without_defaults)]
pub struct NodeCounts {
    /// All of them.
    pub total: i32,
    /// Those that are healthy.
    pub healthy: i32,
    /// Those whose Lease is renewed too rarely for `unreachableAfter`.
    pub unjudged: i32,
    /// Those whose Lease is overdue, or whose condition is bad but not yet for long enough.
    pub suspect: i32,
    /// Those that a live read must confirm.
    pub unconfirmed: i32,
    /// Those that a second opinion reports alive.
    pub doubted: i32,
    /// Unhealthy ones whose actions are held back.
    pub waiting: i32,
    /// Unhealthy ones that are acted on.
    pub acting: i32,
    /// Those that are healthy again, but not for long enough.
    pub recovering: i32,
    /// Those that are healthy again, but have failed too often.
    pub quarantined: i32,
    /// Those that are being removed on purpose, by their deletion or an autoscaler.
    pub leaving: i32,
}

/// A node that is not `Healthy`.
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
    /// Since when it has not renewed its Lease, or its condition is bad.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
    /// Why it is in this state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What the controller waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting_for: Option<String>,
    /// The step that comes next if nothing else changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_step: Option<String>,
    /// That step comes no earlier than this.
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
    /// How many nodes it counts.
    pub nodes: i32,
    /// How many of them are unhealthy or overdue.
    pub unhealthy: i32,
    /// How many of them may be unhealthy.
    pub limit: i32,
    /// Whether it is open.
    pub open: bool,
    /// Since when.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub open_since: Option<Time>,
}
