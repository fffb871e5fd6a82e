//! The stages of a `ConfigRollout`: which targets get a revision when, and the gates that they must pass.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::core::Rule;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config_rollout_kinds::TargetKind;
use crate::schema;
use crate::update::Pause;

/// Targets that get a revision together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConfigStage {
    /// Its name.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,

    /// The workloads. One that two stages name belongs to the first.
    #[schemars(length(min = 1, max = 64), extend("x-kubernetes-list-type" = "atomic"))]
    pub targets: Vec<ConfigTarget>,

    /// How many targets of the stage may be updating at the same time. Default: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub max_parallel: Option<i32>,

    /// How many seconds a target must stay available and its probe must succeed, without interruption, before it passes.
    /// Default 0.
    #[serde(default)]
    #[schemars(range(min = 0, max = 604_800))]
    pub soak_seconds: i32,

    /// What a target must fulfil for the rollout to continue.
    #[serde(default)]
    pub gate: ConfigGate,

    /// The pause after all targets of the stage have passed, before the next stage begins. Without it the next stage
    /// begins at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause: Option<Pause>,

    /// The next stage may begin although no target of this one has tested the revision: because its selectors match
    /// none, because all have 0 replicas, or because they were rolled back by hand. Default false: the rollout stops
    /// here. A target that is named and does not exist always stops it.
    #[serde(default)]
    pub allow_empty: bool,
}

/// Workloads of one kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("x-kubernetes-validations" = target_rules()))]
pub struct ConfigTarget {
    /// `Deployment`, `StatefulSet`, `DaemonSet` or `ReplicaGroup`.
    pub kind: TargetKind,

    /// The one of this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub name: Option<String>,

    /// All with these labels that refer to one of the sources.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::target_selector")]
    pub selector: Option<LabelSelector>,
}

fn target_rules() -> Vec<Rule> {
    vec![
        Rule::new("has(self.name) != has(self.selector)")
            .message("a target has either a name or a selector: set one of them"),
    ]
}

/// What a target must fulfil: all its pods run the new template and are available, except as many as were unavailable
/// before the change; none of them has restarted more often than the pods before; and its probe succeeds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ConfigGate {
    /// A target that does not fulfil this within this many seconds after it was changed, or after an interruption of its
    /// `soakSeconds`, has failed. Time in which it soaks does not count. A target that is interrupted again and again
    /// fails after three times both together. Default 600.
    #[schemars(range(min = 1, max = 604_800))]
    pub deadline_seconds: i32,

    /// A target has failed when one of its pods has restarted more often than any pod before the change, by more than
    /// this number. Default 0.
    #[schemars(range(min = 0))]
    pub more_restarts: i32,

    /// A request to a Service of the namespace over HTTP, every second. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probe: Option<ConfigProbe>,
}

impl Default for ConfigGate {
    fn default() -> Self {
        Self { deadline_seconds: 600, more_restarts: 0, probe: None }
    }
}

/// A GET request to a Service. It succeeds with a status from 200 to 399.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConfigProbe {
    /// The Service's name.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"))]
    pub service: String,

    /// The Service's port. Default 80.
    #[serde(default = "http")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,

    /// Path and query. Default `/`.
    #[serde(default = "root")]
    #[schemars(length(max = 2048), regex(pattern = r"^/[!-~]*$"))]
    pub path: String,

    /// Seconds after which a request without an answer has failed. Default 2.
    #[serde(default = "two")]
    #[schemars(range(min = 1, max = 60))]
    pub timeout_seconds: i32,

    /// How many requests in a row have to fail before an answer counts as a failure. Default 3.
    #[serde(default = "three")]
    #[schemars(range(min = 1, max = 100))]
    pub failure_threshold: i32,
}

fn three() -> i32 {
    3
}

fn http() -> u16 {
    80
}

fn root() -> String {
    "/".into()
}

fn two() -> i32 {
    2
}
