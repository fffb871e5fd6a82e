//! How a change of a `ReplicaGroup`'s template is rolled out, and when a rollout has failed.

use k8s_openapi::apimachinery::pkg::{apis::meta::v1::Time, util::intstr::IntOrString};
use kube::core::Rule;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema;

/// How pods are replaced when the template changes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-validations" = update_rules()))]
pub struct Update {
    /// `Rolling` (the default): a few pods at a time, within `maxSurge` and `maxUnavailable`. `Recreate`: all old
    /// pods end before the first new one is created. `OnDelete`: a pod is replaced only when it is deleted by hand.
    #[serde(rename = "type")]
    pub strategy: UpdateType,

    /// How many pods there may be beyond `replicas` during a rolling update: a number, or a percentage of `replicas`,
    /// rounded up. Default 25%.
    #[schemars(schema_with = "schema::int_or_percent")]
    pub max_surge: IntOrString,

    /// How many of `replicas` may be unavailable during a rolling update: a number, or a percentage of `replicas`,
    /// rounded down; 1 if both this and `maxSurge` are rounded to 0. Default 25%.
    #[schemars(schema_with = "schema::int_or_percent")]
    pub max_unavailable: IntOrString,

    /// How many pods stay at the previous revision: a number, or a percentage of `replicas`, rounded up, but never all
    /// of them unless it is 100%. Default 0. Lower it to continue; raise it to go back.
    #[schemars(schema_with = "schema::int_or_percent")]
    pub partition: IntOrString,

    /// Whether a change of container images only is applied to running pods in place. `Never` (the default): the pods
    /// are replaced. `IfPossible`: their containers are replaced, one pod after the other within `maxUnavailable`; the
    /// pod, its node and its address stay. It applies only to pods that were created while it was set: they have a
    /// readiness gate that takes them out of service during the change.
    pub in_place: InPlace,

    /// The stages of a canary, each with more weight than the one before; after the last stage all pods are updated.
    /// They apply to rollouts of a group that has been fully available before. Default none. At most 20.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20), extend("x-kubernetes-list-type" = "atomic"))]
    pub steps: Vec<Step>,
}

impl Default for Update {
    fn default() -> Self {
        let quarter = || IntOrString::String("25%".into());
        Self {
            strategy: UpdateType::default(),
            max_surge: quarter(),
            max_unavailable: quarter(),
            partition: IntOrString::Int(0),
            in_place: InPlace::default(),
            steps: Vec::new(),
        }
    }
}

/// How pods are replaced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum UpdateType {
    /// A few pods at a time.
    #[default]
    Rolling,
    /// All old pods end before the first new one is created: the two never run together.
    Recreate,
    /// A pod is replaced only when it is deleted by hand.
    OnDelete,
}

/// Whether a change of container images is applied to running pods in place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum InPlace {
    /// They are replaced.
    #[default]
    Never,
    /// Their containers are replaced and the pods stay, if nothing else has changed.
    IfPossible,
}

/// One stage of a canary.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// The percentage of `replicas` that is updated at this stage, rounded up, but never all of several pods unless it is
    /// 100. A group of one pod has its canary beside the old pod if `maxSurge` allows it.
    #[schemars(range(min = 1, max = 100))]
    pub weight: i32,

    /// The pause after the pods of this stage are updated and available. Without it the next stage begins at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause: Option<Pause>,
}

/// How long a pause lasts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Pause {
    /// How many seconds it lasts. Without it, it lasts until it is ended by hand with the annotation
    /// `mainstay.dev/continue`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub seconds: Option<i32>,
}

/// When a rollout has failed, and what happens then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct FailurePolicy {
    /// `Rollback` (the default): the group rolls back to the last revision that was fully available, at the pace of the
    /// update, and stays there until the template changes again. `Pause`: the group stays as it is.
    pub action: FailureAction,

    /// A rollout has failed when a container of a new pod restarts more often than this. Default 5.
    #[schemars(range(min = 0))]
    pub max_restarts: i32,

    /// A rollout has failed when a new pod cannot be scheduled, or cannot get its image or configuration, for this many
    /// seconds. Pods that a scheduling gate holds do not count, nor as many as there were old pods without room. Default 300.
    #[schemars(range(min = 1))]
    pub unschedulable_seconds: i32,
}

impl Default for FailurePolicy {
    fn default() -> Self {
        Self { action: FailureAction::default(), max_restarts: 5, unschedulable_seconds: 300 }
    }
}

/// What happens when a rollout has failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum FailureAction {
    /// The group rolls back to the last revision that was fully available.
    #[default]
    Rollback,
    /// The group stays as it is.
    Pause,
}

/// Why a revision has failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FailureStatus {
    /// The kind of failure: `ProgressDeadlineExceeded`, `CrashLoop`, `ImagePullFailed`, `ConfigError`,
    /// `Unschedulable` or `Aborted`.
    pub reason: String,
    /// What the controller saw.
    pub message: String,
}

/// A rollout in progress.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolloutStatus {
    /// The revision that is being rolled out.
    pub revision: String,

    /// When it began.
    pub started_at: Time,

    /// When it last made progress, for information only: `progressDeadlineSeconds` counts only time in which the
    /// controller watched.
    pub progressed_at: Time,

    /// The highest number of pods of the revision that were available at the same time.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub available_replicas: i32,

    /// The current stage of `update.steps`, counted from 1; absent if there are none, or none is left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub step: Option<i32>,

    /// Since when all pods that this stage, or `update.partition`, asks for are updated and available.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reached_at: Option<Time>,

    /// How many pods of each revision there were when the rollout was paused. The group is scaled in this proportion
    /// until the rollout continues.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub held: Vec<HeldRevision>,

    /// How many old pods are kept until new ones are available in their place: lost ones are recreated from
    /// `currentRevision`. Absent if the rollout began without old pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<KeptReplicas>,

    /// The highest number of old pods that could not be scheduled at the same time: no more new ones may fail to be.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub unschedulable_replicas: i32,

    /// The value that the annotation `mainstay.dev/continue` already had when the rollout began. It has no effect on this
    /// rollout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ignored_continue: Option<String>,

    /// The same of the annotation `mainstay.dev/abort`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ignored_abort: Option<String>,
}

/// How many old pods are kept during a rollout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KeptReplicas {
    /// How many old pods are kept.
    #[schemars(range(min = 0))]
    pub replicas: i32,
    /// The number of all pods that this refers to: a group that is scaled meanwhile keeps the proportion.
    #[schemars(range(min = 0))]
    pub of: i32,
}

/// A revision's share of a paused rollout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HeldRevision {
    /// The revision.
    pub revision: String,
    /// How many pods of it there were.
    #[schemars(range(min = 0))]
    pub replicas: i32,
}

/// Settings that contradict each other, each refused with what to do instead.
fn update_rules() -> Vec<Rule> {
    let zero = |field: &str| format!("(type({field}) == int ? {field} == 0 : {field}.matches('^0+%$'))");
    let at_most_100 =
        |field: &str| format!("type({field}) == int || {field}.matches('^0*(100|[0-9]{{1,2}})%$')");
    vec![
        Rule::new(format!("!({} && {})", zero("self.maxSurge"), zero("self.maxUnavailable")))
            .message(
                "spec.update.maxSurge and spec.update.maxUnavailable must not both be 0: \
                 otherwise no pod could be replaced",
            )
            .field_path(".maxUnavailable"),
        Rule::new(at_most_100("self.maxUnavailable"))
            .message("spec.update.maxUnavailable must not exceed 100%")
            .field_path(".maxUnavailable"),
        Rule::new(at_most_100("self.partition"))
            .message("spec.update.partition must not exceed 100%")
            .field_path(".partition"),
        Rule::new("!has(self.steps) || self.steps.map(step, step.weight).isSorted()")
            .message("spec.update.steps are out of order: every step needs more weight than the one before")
            .field_path(".steps"),
        Rule::new(
            "!has(self.steps) || self.steps.all(step, self.steps.exists_one(other, other.weight == step.weight))",
        )
        .message("spec.update.steps has two steps with the same weight: every step needs more weight than the one before")
        .field_path(".steps"),
        Rule::new(format!("self.type == 'Rolling' || (!has(self.steps) && {})", zero("self.partition")))
            .message(
                "spec.update.steps and spec.update.partition are for spec.update.type Rolling: \
                 remove them, or set the type to Rolling",
            )
            .field_path(".type"),
        Rule::new("self.type == 'Rolling' || self.inPlace == 'Never'")
            .message(
                "spec.update.inPlace is for spec.update.type Rolling: \
                 set it to Never, or set the type to Rolling",
            )
            .field_path(".inPlace"),
        Rule::new(format!("!has(self.steps) || {}", zero("self.partition")))
            .message(
                "spec.update.steps and spec.update.partition must not be set together: \
                 both say how many pods are updated, so use one of them",
            )
            .field_path(".partition"),
    ]
}
