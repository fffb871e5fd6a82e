//! What a `NodeHealthPolicy` does with a node that is unhealthy.

use kube::core::Rule;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::duration::Duration;

/// What is done with a node that is unhealthy. The `after` of each step counts from the moment at which the controller
/// begins to act on the node. When the node is healthy again, the cordon and taints are removed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Actions {
    /// The node is cordoned (`spec.unschedulable`), so that it gets no new pods. Default: at once.
    pub cordon: StepAction,

    /// The node gets the taint `mainstay.dev/unhealthy`. Default: at once, with NoSchedule.
    pub taint: TaintAction,

    /// The node's pods are marked not ready, so that Services stop sending traffic to them. Only for a node that is
    /// unreachable. Default: at once.
    pub pods_not_ready: StepAction,

    /// The node's pods are evicted. Default: after 10s.
    pub drain: DrainAction,

    /// The node gets the taint `node.kubernetes.io/out-of-service`, so that its volumes detach and pods of StatefulSets
    /// move. Only for a node that is unreachable, and with proof that it is dead: its cloud provider says that it is shut
    /// down, a remediation whose template says `provesDeath` has succeeded, or a person has set the label
    /// `mainstay.node-restriction.kubernetes.io/confirmed-dead` as the status says. Removed after the node has rebooted.
    /// Default: not done.
    pub out_of_service: OutOfServiceAction,
}

/// Whether and when a step is taken; on by default.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct StepAction {
    /// Whether this is done. Default true.
    pub enabled: bool,
    /// When. Default 0s.
    pub after: Duration,
}

impl Default for StepAction {
    fn default() -> Self {
        Self { enabled: true, after: Duration::seconds(0) }
    }
}

/// Whether, when and how a node is tainted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct TaintAction {
    /// Whether this is done. Default true.
    pub enabled: bool,
    /// When. Default 0s.
    pub after: Duration,
    /// `NoSchedule`: the node gets no new pods. With `NoExecute` Kubernetes also deletes pods that do not tolerate the
    /// taint, at once and without regard to PodDisruptionBudgets. Default `NoSchedule`.
    pub effect: TaintEffect,
}

impl Default for TaintAction {
    fn default() -> Self {
        Self { enabled: true, after: Duration::seconds(0), effect: TaintEffect::NoSchedule }
    }
}

/// The effect of a taint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum TaintEffect {
    /// The node gets no new pods that do not tolerate the taint.
    NoSchedule,
    /// Pods that do not tolerate the taint are also deleted.
    NoExecute,
}

/// Whether, when and how pods are evicted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct DrainAction {
    /// Whether this is done. Default true.
    pub enabled: bool,
    /// When it begins. Default 10s.
    pub after: Duration,
    /// How long PodDisruptionBudgets are respected from then on. Default 5m.
    pub deadline: Duration,
    /// What happens after that: with `Wait` they are still respected, with `Delete` the pods are deleted. Default `Wait`.
    pub on_deadline: OnDeadline,
}

impl Default for DrainAction {
    fn default() -> Self {
        Self {
            enabled: true,
            after: Duration::seconds(10),
            deadline: Duration::seconds(300),
            on_deadline: OnDeadline::Wait,
        }
    }
}

/// What happens to pods that a PodDisruptionBudget still protects after the deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum OnDeadline {
    /// The drain waits for them.
    Wait,
    /// They are deleted.
    Delete,
}

/// Whether and when volumes may detach.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct OutOfServiceAction {
    /// Whether this is done. Default false.
    pub enabled: bool,
    /// When. Default 0s.
    pub after: Duration,
}

impl Default for OutOfServiceAction {
    fn default() -> Self {
        Self { enabled: false, after: Duration::seconds(0) }
    }
}

/// Objects that other controllers act on, to repair the node. An object is created from the first template; if it does
/// not succeed within its timeout, one is created from the next. They are deleted when the node is healthy again, and the
/// node is restored when they are gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = remediation_rules()))]
pub struct RemediationPolicy {
    /// When the first one is created. Default 5m: remediators often begin by cutting the power.
    #[serde(default = "remediate_after")]
    pub after: Duration,

    /// The templates, in the order in which they are tried.
    #[schemars(length(min = 1, max = 8), extend("x-kubernetes-list-type" = "atomic"))]
    pub templates: Vec<RemediationTemplate>,
}

fn remediation_rules() -> Vec<Rule> {
    // A word of CEL itself is escaped.
    let same =
        ["apiVersion", "kind", "name", "__namespace__"].map(|field| format!("one.{field} == other.{field}"));
    let once = format!("self.templates.all(one, self.templates.exists_one(other, {}))", same.join(" && "));
    vec![
        Rule::new(once)
            .message("spec.remediation.templates must not have a template twice: each has its turn once")
            .field_path(".templates"),
    ]
}

fn remediate_after() -> Duration {
    Duration::seconds(300)
}

/// A template of remediations, by the contract of medik8s: its kind ends with `Template`, and the objects that are
/// created from `spec.template.spec` have the kind without that ending.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = template_rules()))]
pub struct RemediationTemplate {
    /// Its API group and version.
    #[schemars(length(min = 1, max = 317))]
    pub api_version: String,
    /// Its kind.
    #[schemars(length(min = 9, max = 63), regex(pattern = r"^[A-Za-z0-9]+Template$"))]
    pub kind: String,
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Its namespace; the objects are created there as well.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub namespace: String,
    /// How long the object may take before the next template is used. At least 60s. Default 5m.
    #[serde(default = "template_timeout")]
    pub timeout: Duration,
    /// Whether success of the object proves that the node is dead or has rebooted. True for a remediator that cuts the
    /// power, and false for one that restarts a kubelet. Only then it is proof for `actions.outOfService`. Default false.
    #[serde(default)]
    pub proves_death: bool,
}

fn template_timeout() -> Duration {
    Duration::seconds(300)
}

fn template_rules() -> Vec<Rule> {
    vec![
        Rule::new("duration(self.timeout) >= duration('60s')")
            .message("timeout must be at least 60s: a machine takes longer to boot")
            .field_path(".timeout"),
    ]
}
