//! The status of a `ConfigRollout`, as the controller last saw it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config_rollout_kinds::{SourceKind, TargetKind};
use crate::schema;

/// The state of the rollout.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(transform = schema::without_defaults, transform = schema::with_flowing_text)]
pub struct ConfigRolloutStatus {
    /// The generation of the spec that this status is about; 0 means none yet.
    #[schemars(range(min = 0))]
    pub observed_generation: i64,

    /// The newest revision, counted from 1. No number is used twice.
    #[schemars(range(min = 0))]
    pub revision: i64,

    /// The last revision that is proven to work; absent while there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub current_revision: Option<i64>,

    /// The revision that has failed. It is not tried again until a source changes, or the annotation
    /// `mainstay.dev/retry` names it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub failed_revision: Option<i64>,

    /// Why it has failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<ConfigFailure>,

    /// The rollout in progress.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollout: Option<ConfigRolloutProgress>,

    /// When a rollout last began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_rollout_at: Option<Time>,

    /// The values of the annotations `mainstay.dev/retry`, `continue` and `abort` that were carried out, or were set
    /// before the rollout or the failure that they name. Each value is carried out once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests: Option<ConfigRequests>,

    /// What the rollout waits for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waiting_for: Option<String>,

    /// The targets, in their order.
    #[schemars(
        length(max = 512),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["kind", "name"])
    )]
    pub targets: Vec<ConfigTargetStatus>,

    /// Sources of which no revision can be created, and why; at most 20.
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub source_problems: Vec<SourceProblem>,

    /// The conditions `Ready`, `Reconciling`, `Stalled`, `SourcesReady`, `Conflict` and `RolledBack`, each with a reason
    /// and a message.
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}

/// Why a revision has failed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConfigFailure {
    /// `DeadlineExceeded`, `MoreRestarts`, `ProgressDeadlineExceeded` or `Aborted`.
    pub reason: String,
    /// The target that failed its gate, as `Deployment/web`; empty if the rollout was aborted.
    #[serde(default)]
    pub target: String,
    /// What the controller saw.
    #[serde(default)]
    pub message: String,
}

/// The values of annotations that were carried out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConfigRequests {
    /// Of `mainstay.dev/retry`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<String>,
    /// Of `mainstay.dev/continue`.
    #[serde(default, rename = "continue", skip_serializing_if = "Option::is_none")]
    pub go_on: Option<String>,
    /// Of `mainstay.dev/abort`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub abort: Option<String>,
}

/// A rollout in progress.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConfigRolloutProgress {
    /// The revision; 0 means the sources themselves.
    #[schemars(range(min = 0))]
    pub revision: i64,

    /// Whether it is a rollback of a failed revision.
    #[serde(default)]
    pub back: bool,

    /// When it began.
    pub started_at: Time,

    /// The current stage.
    pub stage: String,

    /// Since when all targets of that stage have passed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passed_at: Option<Time>,
}

/// A target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConfigTargetStatus {
    /// Its kind.
    pub kind: TargetKind,
    /// Its name.
    pub name: String,
    /// Its UID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// The name of its stage.
    #[serde(default)]
    pub stage: String,
    /// The revision that it was given last; 0 means the sources themselves.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub revision: i64,
    /// `Current`, `Pending`, `Updating`, `Soaking`, `Passed`, `Held`, `Conflict`, `Missing` or `Unreadable`.
    #[serde(default)]
    pub state: String,
    /// When it was changed; it counts as updating until its pods are available again, or it has passed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed_at: Option<Time>,
    /// Since when it has been available after the change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub available_at: Option<Time>,
    /// When it last became unavailable after the change. Its deadline counts from then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broken_at: Option<Time>,
    /// How many of its pods were not available before the rollout changed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub unavailable_before: Option<i32>,
    /// The highest number of restarts of one of its pods before the change, or, since it has passed, the number that does
    /// not count any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub restarts_before: Option<i32>,
    /// Since when further restarts count, after it has passed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restarted_at: Option<Time>,
    /// How often another field manager has reverted the change.
    #[serde(default, skip_serializing_if = "is_zero")]
    #[schemars(range(min = 0))]
    pub reverts: i32,
    /// When that was last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reverted_at: Option<Time>,
    /// The revision that the target had before it was last reverted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub reverted_revision: Option<i64>,
    /// The generation of the target at which a field had another manager.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub conflict_generation: Option<i64>,
    /// What the target waits for, or what is wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

fn is_zero(count: &i32) -> bool {
    *count == 0
}

/// A source of which no revision can be created.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SourceProblem {
    /// Its kind.
    pub kind: SourceKind,
    /// Its name.
    pub name: String,
    /// `SourceMissing`, `KeyMissing` or `SourceTooLarge`.
    #[serde(default)]
    pub reason: String,
    /// What the controller saw, without any value.
    #[serde(default)]
    pub message: String,
}
