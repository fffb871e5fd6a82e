//! `EndpointPool`: the endpoints of a Service, checked, with failover.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::CustomResource;
use kube::core::Rule;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::endpoint_check::EndpointCheck;
use crate::endpoint_members::PoolMembers;
use crate::schema;
use crate::service_template::ServiceTemplate;

/// The desired endpoints of a Service.
#[derive(CustomResource, JsonSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "mainstay.dev",
    version = "v1alpha1",
    kind = "EndpointPool",
    plural = "endpointpools",
    shortname = "epp",
    category = "all",
    namespaced,
    status = "EndpointPoolStatus",
    derive = "PartialEq",
    validation = name_rule(),
    doc = "EndpointPool provides the endpoints of a Service without a selector: pods, addresses and DNS names. Members \
           that pass their check are used, with failover between tiers.",
    printcolumn(name = "Service", type_ = "string", json_path = ".spec.serviceRef.name"),
    printcolumn(name = "Members", type_ = "integer", json_path = ".status.members.total"),
    printcolumn(name = "In-Use", type_ = "integer", json_path = ".status.members.inUse"),
    printcolumn(name = "Tier", type_ = "integer", json_path = ".status.tier"),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].reason"#
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].message"#,
        priority = 1
    )
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = spec_rules()), transform = schema::with_flowing_text)]
pub struct EndpointPoolSpec {
    /// The Service, in the pool's namespace. It must have no selector. If two pools name one Service, it belongs to the
    /// older one.
    pub service_ref: ServiceReference,

    /// Where the endpoints come from. At most 16 sets with different names.
    #[schemars(
        length(min = 1, max = 16),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub members: Vec<PoolMembers>,

    /// How endpoints are checked. Default: not at all; pods then count as healthy when they are ready, and addresses
    /// always do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<EndpointCheck>,

    /// Panic mode: when fewer than this percentage of the active tier's members pass their check, health checks are
    /// ignored and all ready members are used, because the checks are more likely wrong than all members. Default 1: only
    /// when no member is healthy; 0 turns this off. It ends when one member more passes. The condition `Panic` reports it.
    #[serde(default = "one")]
    #[schemars(range(min = 0, max = 100))]
    pub panic_threshold: i32,

    /// Maximum percentage of the active tier's members that may be ejected because their check fails; the
    /// longest-failing are ejected first. At least one may be, unless it is 0. Default 100.
    #[serde(default = "hundred")]
    #[schemars(range(min = 0, max = 100))]
    pub max_ejected_percent: i32,

    /// When one tier takes over from another.
    #[serde(default)]
    pub failover: FailoverPolicy,

    /// How long, in seconds, an endpoint removed from the pool is kept with `serving: true` and `terminating: true`
    /// (connection draining): it gets no new connections as long as there are others. Default 0: it is removed at once.
    /// Terminating pods are always kept until they are gone.
    #[serde(default)]
    #[schemars(range(min = 0, max = 3600))]
    pub drain_seconds: i32,

    /// Adds members that become healthy at the same time step by step. Default: all at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slow_start: Option<SlowStart>,

    /// Maximum number of endpoints in one EndpointSlice. Default 100.
    #[serde(default = "hundred")]
    #[schemars(range(min = 1, max = 1000))]
    pub max_endpoints_per_slice: i32,
}

fn one() -> i32 {
    1
}

fn hundred() -> i32 {
    100
}

/// The name is a label of the pool's slices.
fn name_rule() -> Rule {
    Rule::new("size(self.metadata.name) <= 63").message(
        "metadata.name must have at most 63 characters: the pool's EndpointSlices carry it as a label",
    )
}

fn spec_rules() -> Vec<Rule> {
    vec![
        Rule::new("self.serviceRef.name == oldSelf.serviceRef.name")
            .message("spec.serviceRef.name is immutable: create a new EndpointPool instead")
            .field_path(".serviceRef.name"),
    ]
}

/// The Service that gets the endpoints.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ServiceReference {
    /// Its name.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,

    /// Creates the Service, and keeps it as specified here. It is deleted with the pool. An existing Service of that name
    /// that the pool does not own is used as it is. Default: the Service is created by others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub create: Option<ServiceTemplate>,
}

/// When one tier takes over from another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-validations" = failover_rules()))]
pub struct FailoverPolicy {
    /// The next tier takes over when fewer than this percentage of a tier's members are healthy. Default 50.
    #[schemars(range(min = 1, max = 100))]
    pub below_percent: i32,

    /// The better tier becomes active again when at least this percentage of its members are healthy. Default 70.
    #[schemars(range(min = 1, max = 100))]
    pub return_percent: i32,

    /// How many seconds that must be so without interruption. Default 30.
    #[schemars(range(min = 0, max = 86400))]
    pub return_seconds: i32,
}

impl Default for FailoverPolicy {
    fn default() -> Self {
        Self { below_percent: 50, return_percent: 70, return_seconds: 30 }
    }
}

fn failover_rules() -> Vec<Rule> {
    vec![
        Rule::new("self.returnPercent >= self.belowPercent")
            .message("spec.failover.returnPercent must not be less than spec.failover.belowPercent")
            .field_path(".returnPercent"),
    ]
}

/// How quickly members that become healthy are added.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct SlowStart {
    /// By how many percent the number of members in use may grow in each period; at least one is added. Default 25. The
    /// first members of a tier are added all at once.
    #[schemars(range(min = 1, max = 100))]
    pub percent: i32,

    /// Length of a period in seconds. Default 5.
    #[schemars(range(min = 1, max = 3600))]
    pub period_seconds: i32,
}

impl Default for SlowStart {
    fn default() -> Self {
        Self { percent: 25, period_seconds: 5 }
    }
}

/// The state of the pool, as the controller last saw it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(transform = schema::without_defaults, transform = schema::with_flowing_text)]
pub struct EndpointPoolStatus {
    /// The generation of the spec that this status is about; 0 means none yet.
    #[schemars(range(min = 0))]
    pub observed_generation: i64,

    /// The active tier.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub tier: Option<i32>,

    /// Since when that tier is active.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tier_since: Option<Time>,

    /// How many members are in which state.
    pub members: MemberCounts,

    /// The health of each tier.
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["tier"]))]
    pub tiers: Vec<TierHealth>,

    /// Members that are not used, and why, and those that are used although their check fails; at most 20 of them.
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub out: Vec<MemberOut>,

    /// How many EndpointSlices the pool has.
    #[schemars(range(min = 0))]
    pub slices: i32,

    /// The conditions `Ready`, `Reconciling`, `Stalled`, `Panic`, `FailedOver` and `MembersAccepted`, each with a reason
    /// and a message.
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}

/// How many members are in which state. Each address of a member counts as one: a pod with two address families counts
/// twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(transform = schema::without_defaults)]
pub struct MemberCounts {
    /// All of them.
    pub total: i32,
    /// Those that get traffic.
    pub in_use: i32,
    /// Healthy ones of tiers that are not active.
    pub standby: i32,
    /// Those that fail their check, and are not used.
    pub failing: i32,
    /// Pods that are not ready.
    pub not_ready: i32,
    /// Those without a first check result.
    pub unchecked: i32,
    /// Healthy ones that are not used yet because of slow start.
    pub waiting: i32,
    /// Those that are terminating or draining.
    pub leaving: i32,
    /// Those excluded by a forbidden range, a missing grant or a missing port.
    pub refused: i32,
}

/// The health of a tier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TierHealth {
    /// The tier.
    pub tier: i32,
    /// Its members whose health is known.
    #[serde(default)]
    pub members: i32,
    /// Those of them that are healthy.
    #[serde(default)]
    pub healthy: i32,
    /// For the active tier: how many members should be healthy. Those that have never been healthy do not count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<i32>,
}

/// A member that is not used, or is used although its check fails.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MemberOut {
    /// Its address.
    pub address: String,
    /// The name of its set in `spec.members`.
    #[serde(default)]
    pub set: String,
    /// Its pod or DNS name, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Why it is not used; `KeptDespiteFailing`: it is used, because too many members fail.
    #[serde(default)]
    pub reason: String,
    /// The result of its last check, or what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Since when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
}
