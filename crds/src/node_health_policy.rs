//! `NodeHealthPolicy`: detects dead nodes within seconds, with circuit breakers for the case that too many fail at once.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::CustomResource;
use kube::core::Rule;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::duration::Duration;
use crate::node_health_actions::{Actions, RemediationPolicy};
use crate::node_health_breakers::{Breakers, Flapping};
use crate::node_health_status::NodeHealthPolicyStatus;
use crate::schema;

/// When a node counts as unhealthy, what is done then, and the limits of that.
#[derive(CustomResource, JsonSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "mainstay.dev",
    version = "v1alpha1",
    kind = "NodeHealthPolicy",
    plural = "nodehealthpolicies",
    shortname = "nhp",
    status = "NodeHealthPolicyStatus",
    derive = "PartialEq",
    validation = name_rule(),
    doc = "NodeHealthPolicy cordons and taints nodes that no longer answer, moves their pods, and restores the nodes when \
           they are healthy again; a circuit breaker stops new actions when too many nodes fail at once.",
    printcolumn(name = "Nodes", type_ = "integer", json_path = ".status.nodes.total"),
    printcolumn(name = "Healthy", type_ = "integer", json_path = ".status.nodes.healthy"),
    printcolumn(name = "Acting", type_ = "integer", json_path = ".status.nodes.acting"),
    printcolumn(
        name = "Breaker",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="BreakerOpen")].reason"#
    ),
    printcolumn(name = "Dry-Run", type_ = "boolean", json_path = ".spec.dryRun"),
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
pub struct NodeHealthPolicySpec {
    /// The nodes of the policy; an empty selector selects all. A node that several policies select belongs to one of
    /// them: policies that act come before dry runs, then the shortest `unreachableAfter`, then the name.
    #[schemars(schema_with = "schema::node_selector")]
    pub node_selector: LabelSelector,

    /// Decides and reports, and writes nothing to nodes or pods. Default false.
    #[serde(default)]
    pub dry_run: bool,

    /// While there is any, the controller begins to act on no further node; what was begun goes on. Each says who asks and
    /// why, for example `upgrade of the storage, ann`. Default: none. At most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::reasons")]
    pub pause_requests: Vec<String>,

    /// A node that has not renewed its Lease for this long is unreachable. At least 1.5 times the time between two
    /// renewals of that node, which is a quarter of its Lease's duration: 10 s with a kubelet's default settings. Default
    /// 15s.
    #[serde(default = "unreachable_after")]
    pub unreachable_after: Duration,

    /// A node without a Lease is unreachable when it has not posted its status either for this long. A kubelet posts an
    /// unchanged status every 5 minutes: nodes that never have a Lease need more than that. Default 60s.
    #[serde(default = "startup_grace")]
    pub startup_grace: Duration,

    /// Conditions of a node that make it unhealthy, for example those of a node problem detector. One is enough.
    /// Default: `Ready` is `False` for 5m.
    #[serde(default = "conditions")]
    #[schemars(
        length(max = 16),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type", "status"])
    )]
    pub conditions: Vec<UnhealthyCondition>,

    /// A node is restored after it has been healthy for this long without interruption: it renews its Lease, and none of
    /// the conditions is bad, not even for less than its `for`. Default 10s.
    #[serde(default = "healthy_for")]
    pub healthy_for: Duration,

    /// Other sources that may report a node alive although it does not renew its Lease. Default: its kubelet.
    #[serde(default)]
    pub second_opinion: SecondOpinion,

    /// What is done with a node that is unhealthy.
    #[serde(default)]
    pub actions: Actions,

    /// Objects that other controllers act on, to repair the node, by the contract of medik8s. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remediation: Option<RemediationPolicy>,

    /// Circuit breakers and the rate limit: no new actions are taken while too many nodes fail at once.
    #[serde(default)]
    pub breakers: Breakers,

    /// Quarantine of nodes that flap.
    #[serde(default)]
    pub flapping: Flapping,
}

fn unreachable_after() -> Duration {
    Duration::seconds(15)
}

fn startup_grace() -> Duration {
    Duration::seconds(60)
}

fn healthy_for() -> Duration {
    Duration::seconds(10)
}

fn conditions() -> Vec<UnhealthyCondition> {
    vec![UnhealthyCondition {
        kind: "Ready".into(),
        status: ConditionStatus::False,
        lasts: Duration::seconds(300),
    }]
}

/// The name is a label of remediations.
fn name_rule() -> Rule {
    Rule::new("size(self.metadata.name) <= 63")
        .message("metadata.name must have at most 63 characters: remediations carry it as a label")
}

fn spec_rules() -> Vec<Rule> {
    vec![
        Rule::new("duration(self.unreachableAfter) >= duration('2s')")
            .message("spec.unreachableAfter must be at least 2s: no Lease is renewed more often")
            .field_path(".unreachableAfter"),
        Rule::new("duration(self.startupGrace) >= duration(self.unreachableAfter)")
            .message("spec.startupGrace must not be shorter than spec.unreachableAfter")
            .field_path(".startupGrace"),
    ]
}

/// A condition that makes a node unhealthy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("x-kubernetes-validations" = condition_rules()))]
pub struct UnhealthyCondition {
    /// Its type, for example `Ready` or `KernelDeadlock`.
    #[serde(rename = "type")]
    #[schemars(length(min = 1, max = 316))]
    pub kind: String,

    /// The status that is bad. Nodes without this condition do not match.
    pub status: ConditionStatus,

    /// How long the condition must have had this status, as this controller has seen it.
    #[serde(rename = "for")]
    pub lasts: Duration,
}

fn condition_rules() -> Vec<Rule> {
    vec![
        Rule::new("self.type != 'Ready' || self.status != 'True'")
            .message(
                "status must be False or Unknown for the type Ready: a node that is Ready is not unhealthy",
            )
            .field_path(".status"),
    ]
}

/// The status of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum ConditionStatus {
    /// The condition is true.
    True,
    /// The condition is false.
    False,
    /// It is not known.
    Unknown,
}

impl ConditionStatus {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

/// Other sources that may report a node alive although it does not renew its Lease. Such a report delays the verdict, and
/// is shown in the status. When an API server fails, its kubelets renew no Lease for half a minute, but still answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct SecondOpinion {
    /// The node's kubelet, which this controller calls. Default: by HTTPS.
    pub kubelet: KubeletProbe,

    /// The pods of the node: a pod that became ready after the Lease should have been renewed shows that the
    /// kubelet is alive. Default false.
    pub pods: bool,

    /// A second opinion that reports the node alive delays the verdict by at most this. Default 30s.
    pub max_delay: Duration,
}

impl Default for SecondOpinion {
    fn default() -> Self {
        Self { kubelet: KubeletProbe::default(), pods: false, max_delay: Duration::seconds(30) }
    }
}

/// Whether and how a kubelet is called.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-validations" = probe_rules()))]
pub struct KubeletProbe {
    /// Whether it is called. Default true.
    pub enabled: bool,

    /// `TCP`: its port accepts a connection, which the kernel does even when the kubelet hangs. `HTTPS`: it answers a
    /// request, or at least presents a certificate. Default `HTTPS`.
    #[serde(rename = "type")]
    pub kind: KubeletProbeType,

    /// Its port. Default 10250.
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,

    /// How long an answer may take. Default 1s.
    pub timeout: Duration,
}

impl Default for KubeletProbe {
    fn default() -> Self {
        Self { enabled: true, kind: KubeletProbeType::Https, port: 10250, timeout: Duration::seconds(1) }
    }
}

fn probe_rules() -> Vec<Rule> {
    vec![
        Rule::new("duration(self.timeout) > duration('0s')")
            .message("spec.secondOpinion.kubelet.timeout must be more than 0s: an answer takes some time")
            .field_path(".timeout"),
    ]
}

/// How a kubelet is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum KubeletProbeType {
    /// By a connection.
    #[serde(rename = "TCP")]
    Tcp,
    /// By a request.
    #[serde(rename = "HTTPS")]
    Https,
}
