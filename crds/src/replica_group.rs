//! `ReplicaGroup`: a number of pods of one template, kept running.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector};
use kube::CustomResource;
use kube::core::Rule;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::lifecycle::Lifecycle;
use crate::pod_template::PodTemplate;
use crate::schema;
use crate::update::{FailurePolicy, FailureStatus, RolloutStatus, Update};
use crate::volume_claims::{self, VolumeClaimTemplate, VolumeClaims};

/// The desired state of the group.
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
    validation = name_rule(),
    doc = "ReplicaGroup keeps a number of pods of one template running: it creates missing pods, deletes surplus \
           ones, replaces failed ones, and rolls out changes of the template.",
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn(name = "Desired", type_ = "integer", json_path = ".spec.replicas"),
    printcolumn(name = "Updated", type_ = "integer", json_path = ".status.updatedReplicas"),
    printcolumn(name = "Ready", type_ = "integer", json_path = ".status.readyReplicas"),
    printcolumn(name = "Available", type_ = "integer", json_path = ".status.availableReplicas"),
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

    /// The pod to run. Each change of it is a revision, which is rolled out as `update` says.
    pub template: PodTemplate,

    /// For how many seconds a new pod must be ready, without a crash of its containers, before it counts as
    /// available. Default 0: available as soon as it is ready.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub min_ready_seconds: i32,

    /// Pauses the rollout of template changes. Default false. Scaling and the replacement of failed pods
    /// continue while it is true, in the proportion of revisions that the group had reached.
    #[serde(default)]
    pub paused: bool,

    /// When a terminating pod is replaced. `WhenTerminating` (the default): as soon as its deletion has
    /// begun, so that there may temporarily be more pods than `replicas`. `WhenTerminated`: only when it is
    /// gone, or has succeeded or failed, so that there are never more than `replicas`.
    #[serde(default)]
    pub pod_replacement: PodReplacement,

    /// Which pods are deleted first at a scale-down: those named in `podsToDelete`, then those that are not
    /// available; among the rest, `spread` comes before `prefer`.
    #[serde(default)]
    pub scale_down: ScaleDown,

    /// How pods are replaced when the template changes.
    #[serde(default)]
    pub update: Update,

    /// When a rollout has failed, and what happens then.
    #[serde(default)]
    pub failure: FailurePolicy,

    /// A rollout that makes no progress for this many seconds has failed: neither did the number of available updated
    /// pods increase, nor the number of old pods decrease. Default 600. Pauses do not count, nor does time in which the
    /// group only waits for old pods to terminate. It must be longer than `minReadySeconds`.
    #[serde(default = "ten_minutes")]
    #[schemars(range(min = 1))]
    pub progress_deadline_seconds: i32,

    /// Volume claims of which each pod gets its own, one for each template. At most 8. Their names cannot be changed;
    /// other changes apply to claims that are created later.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), extend("x-kubernetes-list-type" = "atomic"))]
    pub volume_claim_templates: Vec<VolumeClaimTemplate>,

    /// Whether new pods reuse the claims of pods that are gone, and what happens to claims that are not needed.
    #[serde(default)]
    pub volume_claims: VolumeClaims,

    /// Hooks that must complete before a pod is deleted.
    #[serde(default)]
    pub lifecycle: Lifecycle,

    /// How many revisions are kept that neither a pod nor a rollback needs. Default 10.
    #[serde(default = "ten")]
    #[schemars(range(min = 0, max = 1000))]
    pub revision_history_limit: i32,

    /// The name of a ControllerRevision of the group (`kubectl get controllerrevisions`), or `previous`: the last other
    /// revision of which all pods were available. While it is set the pods follow that revision instead of the
    /// template, and what `previous` stands for does not change; see `status.rollbackRevision`. A rollback has no
    /// steps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub rollback_to: Option<String>,
}

fn one() -> i32 {
    1
}

fn ten() -> i32 {
    10
}

fn ten_minutes() -> i32 {
    600
}

/// The template must have the labels by which the group finds its pods, or it would create pods endlessly; and a
/// rollout must be able to succeed before its deadline.
fn spec_rules() -> Vec<Rule> {
    let labels = "self.template.metadata.labels";
    let mut rules = vec![
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
        Rule::new("self.progressDeadlineSeconds > self.minReadySeconds")
            .message(
                "spec.progressDeadlineSeconds must be more than spec.minReadySeconds: \
                 no new pod could become available before the deadline",
            )
            .field_path(".progressDeadlineSeconds"),
    ];
    rules.extend(volume_claims::template_rules());
    rules
}

/// The name is a label of the group's claims.
fn name_rule() -> Rule {
    Rule::new("!has(self.spec.volumeClaimTemplates) || size(self.metadata.name) <= 63").message(
        "metadata.name must have at most 63 characters if spec.volumeClaimTemplates is set: \
         volume claims carry it as a label",
    )
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

/// When a terminating pod is replaced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PodReplacement {
    /// As soon as the deletion of the old pod has begun: fast, but temporarily more pods than `replicas`.
    #[default]
    WhenTerminating,
    /// Only when the old pod is gone, or has succeeded or failed: never more pods than `replicas`.
    WhenTerminated,
}

/// Which pods are deleted first at a scale-down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ScaleDown {
    /// Keys of node labels whose values divide the nodes into domains, the most important key first. Pods are
    /// deleted from the domain that has the most, so that the others stay balanced. Default: only the zone.
    /// At most 4; an empty list turns this off.
    #[schemars(schema_with = "schema::label_keys")]
    pub spread: Vec<String>,

    /// From which node a pod is deleted first. `CrowdedNode` (the default): the one with the most pods of this
    /// group. `EmptiestNode`: the one with the fewest pods of any owner, so that nodes become empty.
    pub prefer: NodePreference,

    /// Names of pods that are deleted first at a scale-down; see `podsToDeletePolicy`. A name that no pod has is
    /// ignored. At most 1000.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::pod_names")]
    pub pods_to_delete: Vec<String>,

    /// When the pods of `podsToDelete` are deleted. `OnScaleDown` (the default): only when there are too many pods.
    /// `Replace`: at once, and new pods are created in their place, within `update.maxSurge` and
    /// `update.maxUnavailable` and with the consent of PodDisruptionBudgets; this needs `update.type: Rolling`.
    pub pods_to_delete_policy: PodsToDeletePolicy,
}

impl Default for ScaleDown {
    fn default() -> Self {
        Self {
            spread: vec!["topology.kubernetes.io/zone".into()],
            prefer: NodePreference::default(),
            pods_to_delete: Vec::new(),
            pods_to_delete_policy: PodsToDeletePolicy::default(),
        }
    }
}

/// When pods that are named are deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PodsToDeletePolicy {
    /// When there are too many pods.
    #[default]
    OnScaleDown,
    /// At once, for new pods in their place.
    Replace,
}

/// From which node a pod is deleted first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum NodePreference {
    /// The node with the most pods of the group: what the ReplicaSet controller does.
    #[default]
    CrowdedNode,
    /// The node with the fewest pods of any owner, so that a cluster autoscaler can remove it.
    EmptiestNode,
}

/// The state of the group, as the controller last saw it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(transform = schema::without_defaults, transform = schema::with_flowing_text)]
pub struct ReplicaGroupStatus {
    /// The generation of the spec that this status is about; 0 means none yet.
    #[schemars(range(min = 0))]
    pub observed_generation: i64,

    /// Pods of the group that have neither ended nor begun to terminate.
    #[schemars(range(min = 0))]
    pub replicas: i32,

    /// Those of `replicas` that are ready.
    #[schemars(range(min = 0))]
    pub ready_replicas: i32,

    /// Those of `replicas` that have been ready for `minReadySeconds`.
    #[schemars(range(min = 0))]
    pub available_replicas: i32,

    /// Pods of the group that are being deleted and have not ended yet; `replicas` does not include them.
    #[schemars(range(min = 0))]
    pub terminating_replicas: i32,

    /// Those of `replicas` that carry all labels of the current template.
    #[schemars(range(min = 0))]
    pub fully_labeled_replicas: i32,

    /// Those of `replicas` that are of `updateRevision`.
    #[schemars(range(min = 0))]
    pub updated_replicas: i32,

    /// The last revision of which all pods have been available. A failed rollout rolls back to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current_revision: Option<String>,

    /// The last other revision of which all pods were available before that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub previous_revision: Option<String>,

    /// What `spec.rollbackTo: previous` stands for, as long as the spec says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollback_revision: Option<String>,

    /// The revision that the spec asks for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub update_revision: Option<String>,

    /// The revision that has failed, as long as the spec asks for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed_revision: Option<String>,

    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<FailureStatus>,

    /// The rollout in progress.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollout: Option<RolloutStatus>,

    /// `spec.selector` in its text form, for the scale subresource.
    pub selector: String,

    /// The conditions `Ready`, `Available`, `Progressing`, `RolledBack`, `Reconciling`, `Stalled` and
    /// `ReplicaFailure`, each with a reason and a message. The message of `Ready` says what the group is doing and
    /// what it waits for.
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}
