//! What a `NodeHealthPolicy` does with a node that is unhealthy.

use kube::core::Rule;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::duration::Duration;

/// What is done with a node that is unhealthy. Each step comes `after` so long from the moment at which the node is
/// acted on, and what was taken is handed back when the node is well again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Actions {
    /// The node takes no new pods: `spec.unschedulable`. Default: at once.
    pub cordon: StepAction,

    /// The node gets the taint `mainstay.dev/unhealthy`. Default: at once, with NoSchedule.
    pub taint: TaintAction,

    /// The node's pods are marked not ready, so that no Service sends to them any more. Only of a node that is
    /// unreachable. Default: at once.
    pub pods_not_ready: StepAction,

    /// The node's pods are evicted. Default: after 10s.
    pub drain: DrainAction,

    /// The node gets the taint `node.kubernetes.io/out-of-service`, so that its volumes detach and pods of StatefulSets
    /// move. Only of a node that is unreachable, and with proof that it is dead: its cloud says that it is shut down, a
    /// remediation has succeeded whose template says `provesDeath`, or a person has set the label
    /// `mainstay.node-restriction.kubernetes.io/confirmed-dead` as the status says. Removed when the node has booted anew.
    /// Default: not done.
    pub out_of_service: OutOfServiceAction,
}

/// Whether and when a step is taken that is, unless the policy says otherwise.
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
    /// `NoSchedule` keeps new pods away. With `NoExecute` Kubernetes also deletes pods at once that do not tolerate the
    /// taint, without regard to PodDisruptionBudgets. Default `NoSchedule`.
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
    /// No new pods that do not tolerate it.
    NoSchedule,
    /// None at all.
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
    /// For how long from then on PodDisruptionBudgets are honoured. Default 5m.
    pub deadline: Duration,
    /// What happens after that: `Wait` goes on honouring them, `Delete` deletes the pods. Default `Wait`.
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

/// What happens to pods that a PodDisruptionBudget has held for too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum OnDeadline {
    /// They are waited for.
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

/// Objects that others act on, to repair the node. An object is made from the first template; when it does not succeed
/// in its time, one from the next. They are deleted when the node is well again, and the node is handed back when they
/// are gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RemediationPolicy {
    /// When the first one is made. Default 5m: what repairs a machine often begins by cutting its power.
    #[serde(default = "remediate_after")]
    pub after: Duration,

    /// The templates, in the order in which they are tried.
    #[schemars(length(min = 1, max = 8), extend("x-kubernetes-list-type" = "atomic"))]
    pub templates: Vec<RemediationTemplate>,
}

fn remediate_after() -> Duration {
    Duration::seconds(300)
}

/// A template of remediations, by the contract of medik8s: its kind ends with `Template`, and the objects that are made
/// from `spec.template.spec` have the kind without that ending.
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
    /// Its namespace; the objects are made there as well.
    #[schemars(length(min = 1, max = 63))]
    pub namespace: String,
    /// How long the object may take before the next template has its turn. At least 60s. Default 5m.
    #[serde(default = "template_timeout")]
    pub timeout: Duration,
    /// Whether the node is certainly dead, or has booted anew, once the object says that it has succeeded. It is with a
    /// remediator that cuts the power, and not with one that restarts a kubelet. Only then it is proof for
    /// `actions.outOfService`. Default false.
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
