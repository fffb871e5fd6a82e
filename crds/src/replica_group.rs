//! `ReplicaGroup`: a number of pods of one template, kept running.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector};
use kube::CustomResource;
use kube::core::Rule;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::pod_template::PodTemplate;
use crate::schema;

/// What the group should be.
#[expect(clippy::duplicated_attributes, reason = "columns of one type are no duplicates")]
#[derive(CustomResource, JsonSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "mainstay.dev",
    version = "v1alpha1",
    kind = "ReplicaGroup",
    plural = "replicagroups",
    shortname = "rg",
    category = "all",
    namespaced,
    status = "ReplicaGroupStatus",
    derive = "PartialEq",
    doc = "ReplicaGroup keeps a number of pods of one template running: it makes what is missing, \
           deletes what is too many, and replaces what has failed.",
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn(name = "Desired", type_ = "integer", json_path = ".spec.replicas"),
    printcolumn(name = "Ready", type_ = "integer", json_path = ".status.readyReplicas"),
    printcolumn(name = "Available", type_ = "integer", json_path = ".status.availableReplicas"),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].reason"#
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = spec_rules()), transform = schema::with_flowing_text)]
pub struct ReplicaGroupSpec {
    /// How many pods there should be. Default 1; `kubectl scale` and a HorizontalPodAutoscaler set it through
    /// the scale subresource.
    #[serde(default = "one")]
    #[schemars(range(min = 0))]
    pub replicas: i32,

    /// Which pods belong to the group: those in its namespace that it matches and that no other controller
    /// owns. It must not be empty, must match the labels of the template, and cannot be changed.
    #[schemars(
        schema_with = "schema::label_selector",
        extend("x-kubernetes-validations" = selector_rules())
    )]
    pub selector: LabelSelector,

    /// The pod to run. A change of it never touches pods that run already; pods made later follow it.
    pub template: PodTemplate,

    /// For how many seconds a new pod must be ready, without a crash of its containers, before it counts as
    /// available. Default 0: available as soon as it is ready.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub min_ready_seconds: i32,

    /// Holds back the rollout of template changes. Default false. Scaling and the replacement of failed pods
    /// go on while it is true.
    #[serde(default)]
    pub paused: bool,

    /// When a pod that goes away is replaced. `WhenTerminating` (the default): as soon as its deletion has
    /// begun, so that there may for a while be more pods than `replicas`. `WhenTerminated`: only when it is
    /// gone, or has succeeded or failed, so that there are never more than `replicas`.
    #[serde(default)]
    pub pod_replacement: PodReplacement,

    /// Which pods go first when the group becomes smaller: those named in `podsToDelete`, then those that
    /// serve nobody yet; among the rest, `spread` is kept before `prefer` chooses.
    #[serde(default)]
    pub scale_down: ScaleDown,
}

fn one() -> i32 {
    1
}

/// The template must have the labels by which the group finds its pods, or it would make pods without end.
fn spec_rules() -> [Rule; 2] {
    let labels = "self.template.metadata.labels";
    [
        Rule::new(format!(
            "!has(self.selector.matchLabels) || self.selector.matchLabels.all(key, \
             key in {labels} && {labels}[key] == self.selector.matchLabels[key])"
        ))
        .message(
            "spec.selector.matchLabels does not match spec.template.metadata.labels: \
             give the template every label of the selector, with the same value",
        )
        .field_path(".selector.matchLabels"),
        // As in every selector of the API, `NotIn` also holds for a label that is absent.
        Rule::new(format!(
            "!has(self.selector.matchExpressions) || self.selector.matchExpressions.all(e, \
             e.operator == 'Exists' ? e.key in {labels} : \
             e.operator == 'DoesNotExist' ? !(e.key in {labels}) : \
             (e.operator == 'In') == (has(e.values) && e.key in {labels} && {labels}[e.key] in e.values))"
        ))
        .message(
            "spec.selector.matchExpressions does not match spec.template.metadata.labels: \
             change the template's labels so that every expression holds",
        )
        .field_path(".selector.matchExpressions"),
    ]
}

fn selector_rules() -> [Rule; 2] {
    [
        Rule::new("self == oldSelf").message("spec.selector is immutable: create a new ReplicaGroup instead"),
        Rule::new(
            "(has(self.matchLabels) && size(self.matchLabels) > 0) || \
             (has(self.matchExpressions) && size(self.matchExpressions) > 0)",
        )
        .message(
            "spec.selector must not be empty: name at least one label in matchLabels or matchExpressions",
        ),
    ]
}

/// When a pod that goes away is replaced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PodReplacement {
    /// As soon as the deletion of the old pod has begun: quick, and for a while more pods than `replicas`.
    #[default]
    WhenTerminating,
    /// Only when the old pod is gone, or has succeeded or failed: never more pods than `replicas`.
    WhenTerminated,
}

/// Which pods go first when the group becomes smaller.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ScaleDown {
    /// Keys of node labels whose values divide the nodes into domains, the most important first. Pods are
    /// taken from the domain that has most of them, so that the rest stays balanced. Default: the zone alone.
    /// At most 4; an empty list asks for no balance.
    #[schemars(schema_with = "schema::label_keys")]
    pub spread: Vec<String>,

    /// Which node gives up a pod first. `CrowdedNode` (the default): the one with most pods of this group.
    /// `EmptiestNode`: the one with fewest pods of any kind, so that nodes become free.
    pub prefer: NodePreference,

    /// Names of pods that go first when the group becomes smaller. A pod is never deleted for being named
    /// here alone, and a name that no pod has is ignored. At most 1000.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::pod_names")]
    pub pods_to_delete: Vec<String>,
}

impl Default for ScaleDown {
    fn default() -> Self {
        Self {
            spread: vec!["topology.kubernetes.io/zone".into()],
            prefer: NodePreference::default(),
            pods_to_delete: Vec::new(),
        }
    }
}

/// Which node gives up a pod first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum NodePreference {
    /// The node with most pods of the group: what the ReplicaSet controller does.
    #[default]
    CrowdedNode,
    /// The node with fewest pods of any kind, so that a cluster autoscaler can take it away.
    EmptiestNode,
}

/// What the group is, as the controller last saw it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(transform = schema::without_defaults, transform = schema::with_flowing_text)]
pub struct ReplicaGroupStatus {
    /// The generation of the spec that this status answers; 0 means none yet.
    #[schemars(range(min = 0))]
    pub observed_generation: i64,

    /// Pods of the group that have neither finished nor begun to terminate.
    #[schemars(range(min = 0))]
    pub replicas: i32,

    /// Those of `replicas` that are ready.
    #[schemars(range(min = 0))]
    pub ready_replicas: i32,

    /// Those of `replicas` that have been ready for `minReadySeconds`.
    #[schemars(range(min = 0))]
    pub available_replicas: i32,

    /// Pods of the group that are being deleted and have not finished yet; they are not among `replicas`.
    #[schemars(range(min = 0))]
    pub terminating_replicas: i32,

    /// Those of `replicas` that carry all labels of the current template.
    #[schemars(range(min = 0))]
    pub fully_labeled_replicas: i32,

    /// `spec.selector` in its text form, for the scale subresource.
    pub selector: String,

    /// What holds now: `Ready`, `Reconciling`, `Stalled` and `ReplicaFailure`, each with a reason and a
    /// sentence.
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}
