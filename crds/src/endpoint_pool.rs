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

/// Which endpoints a Service should have.
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
    doc = "EndpointPool gives a Service without a selector its endpoints: pods, addresses and DNS names, of which \
           those are used that answer their check, with tiers that stand in for each other.",
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
    /// The Service, in the pool's namespace. It must have no selector. Where two pools name one Service the older one
    /// has it.
    pub service_ref: ServiceReference,

    /// Where the endpoints come from. At most 16 sets, each with a name of its own.
    #[schemars(
        length(min = 1, max = 16),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub members: Vec<PoolMembers>,

    /// How endpoints are checked. Default: not at all; pods then count as healthy when they are ready, and addresses
    /// always do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<EndpointCheck>,

    /// When fewer than so many percent of the members of the tier in use answer their check, all of them that are ready
    /// are used: checks that fail everywhere say more about the checks than about the members. Default 1, so only when
    /// no member at all is healthy; 0 turns this off. The condition `Panic` says when it holds.
    #[serde(default = "one")]
    #[schemars(range(min = 0, max = 100))]
    pub panic_threshold: i32,

    /// At most so many percent of the members of the tier in use are taken out for failing their check, those first
    /// that have failed for longest. Default 100.
    #[serde(default = "hundred")]
    #[schemars(range(min = 0, max = 100))]
    pub max_ejected_percent: i32,

    /// When one tier takes over from another.
    #[serde(default)]
    pub failover: FailoverPolicy,

    /// For so many seconds an endpoint that leaves while its server still runs is kept as serving and terminating: it
    /// gets no new connections as long as there are others. Default 0: it is removed at once. Pods that terminate are
    /// kept until they are gone in any case.
    #[serde(default)]
    #[schemars(range(min = 0, max = 3600))]
    pub drain_seconds: i32,

    /// Lets members that become healthy at the same time into use step by step. Default: all at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slow_start: Option<SlowStart>,

    /// The most endpoints that one EndpointSlice holds. Default 100.
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

    /// Makes the Service, and keeps it as written here. It goes with the pool. A Service of that name that is not the
    /// pool's own is used as it is. Default: the Service is made by others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub create: Option<ServiceTemplate>,
}

/// When one tier takes over from another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-validations" = failover_rules()))]
pub struct FailoverPolicy {
    /// The next tier takes over when fewer than so many percent of a tier's members are healthy. Default 50.
    #[schemars(range(min = 1, max = 100))]
    pub below_percent: i32,

    /// The better tier is returned to when at least so many percent of its members are healthy. Default 70.
    #[schemars(range(min = 1, max = 100))]
    pub return_percent: i32,

    /// For so many seconds without a break before that. Default 30.
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

/// How quickly members that become healthy come into use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct SlowStart {
    /// In each period so many percent of the members in use join them, and at least one. Default 25. The first members
    /// of a tier come all at once.
    #[schemars(range(min = 1, max = 100))]
    pub percent: i32,

    /// Seconds of a period. Default 5.
    #[schemars(range(min = 1, max = 3600))]
    pub period_seconds: i32,
}

impl Default for SlowStart {
    fn default() -> Self {
        Self { percent: 25, period_seconds: 5 }
    }
}

/// What the pool is, as the controller last saw it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(transform = schema::without_defaults, transform = schema::with_flowing_text)]
pub struct EndpointPoolStatus {
    /// The generation of the spec that this status answers; 0 means none yet.
    #[schemars(range(min = 0))]
    pub observed_generation: i64,

    /// The tier in use.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub tier: Option<i32>,

    /// Since when that tier is in use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tier_since: Option<Time>,

    /// How many members are in which state.
    pub members: MemberCounts,

    /// The health of each tier.
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["tier"]))]
    pub tiers: Vec<TierHealth>,

    /// Members that are not used, and why; at most 20 of them.
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub out: Vec<MemberOut>,

    /// How many EndpointSlices the pool has.
    #[schemars(range(min = 0))]
    pub slices: i32,

    /// What holds now, each with a reason and a sentence: `Ready`, `Reconciling`, `Stalled`, `Panic`, `FailedOver` and
    /// `MembersAccepted`.
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}

/// How many members are in which state. One address of a member counts as one: a pod of two address families twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(transform = schema::without_defaults)]
pub struct MemberCounts {
    /// All of them.
    pub total: i32,
    /// Those that get traffic.
    pub in_use: i32,
    /// Healthy ones of tiers that are not in use.
    pub standby: i32,
    /// Those that fail their check, and are not used.
    pub failing: i32,
    /// Pods that are not ready.
    pub not_ready: i32,
    /// Those whose first verdict is still to come.
    pub unchecked: i32,
    /// Healthy ones that slow start holds back.
    pub waiting: i32,
    /// Those on their way out.
    pub leaving: i32,
    /// Those that the operator's ranges or a missing grant forbid.
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
    /// Of the tier in use: how many members should be healthy. Those that have yet to become healthy for the first time
    /// are not among them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<i32>,
}

/// A member that is not used.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MemberOut {
    /// Its address.
    pub address: String,
    /// The name of its set in `spec.members`.
    #[serde(default)]
    pub set: String,
    /// Its pod or DNS name, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Why it is not used.
    #[serde(default)]
    pub reason: String,
    /// What its last check said, or what is to be done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Since when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
}
