//! `ConfigRollout`: rolls out changes of Secrets and ConfigMaps in stages, and rolls them back.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::CustomResource;
use kube::core::Rule;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config_rollout_kinds::SourceKind;
use crate::config_rollout_stages::ConfigStage;
use crate::config_rollout_status::ConfigRolloutStatus;
use crate::duration::Duration;
use crate::schema;

/// Which configuration is rolled out to which workloads, and how.
#[derive(CustomResource, JsonSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "mainstay.dev",
    version = "v1alpha1",
    kind = "ConfigRollout",
    plural = "configrollouts",
    shortname = "cro",
    category = "all",
    namespaced,
    status = "ConfigRolloutStatus",
    derive = "PartialEq",
    validation = name_rule(),
    doc = "ConfigRollout turns each change of a set of Secrets and ConfigMaps into an immutable revision, rolls it out to \
           workloads stage by stage, and rolls it back when a health gate fails.",
    printcolumn(name = "Mode", type_ = "string", json_path = ".spec.mode"),
    printcolumn(name = "Current", type_ = "integer", json_path = ".status.currentRevision"),
    printcolumn(name = "Newest", type_ = "integer", json_path = ".status.revision"),
    printcolumn(name = "Failed", type_ = "integer", json_path = ".status.failedRevision"),
    printcolumn(name = "Stage", type_ = "string", json_path = ".status.rollout.stage"),
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
pub struct ConfigRolloutSpec {
    /// The Secrets and ConfigMaps, in the rollout's namespace. At most 64 entries.
    #[schemars(length(min = 1, max = 64), extend("x-kubernetes-list-type" = "atomic"))]
    pub sources: Vec<ConfigSource>,

    /// How the pods of a target get a revision: `Admission` (the default), `Repoint` or `RestartOnly`. Immutable.
    #[serde(default)]
    pub mode: ConfigMode,

    /// The targets, in the order in which they get a revision. At most 16 stages.
    #[schemars(
        length(min = 1, max = 16),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub stages: Vec<ConfigStage>,

    /// What happens when a target fails its gate.
    #[serde(default)]
    pub rollback_policy: RollbackPolicy,

    /// A revision is created when the sources have not changed for this long, so that changes which belong together
    /// become one revision; after ten times as long at the latest. Default 500ms.
    #[serde(default = "half_a_second")]
    pub debounce: Duration,

    /// What happens to changes of the other sources while a source that pods need is missing, or lacks a key. Default
    /// `Hold`.
    #[serde(default)]
    pub incomplete_policy: IncompletePolicy,

    /// Shortest time between the starts of two rollouts. A rollback does not wait. Default 0s.
    #[serde(default)]
    pub min_interval: Duration,

    /// While this is true nothing new is started: no revision is created and no target is changed.
    #[serde(default)]
    pub paused: bool,

    /// How many revisions are kept that no object in the namespace refers to. Default 5. Revisions that a pod, a
    /// ReplicaSet or a ControllerRevision refers to are always kept.
    #[serde(default = "five")]
    #[schemars(range(min = 0, max = 100))]
    pub history_limit: i32,

    /// For `Repoint`: the field managers from which the rollout may take over the references of a target. If a reference
    /// has another manager, the target is not changed and the condition `Conflict` is set, which names the manager.
    /// Default: none, because a pipeline that applies a target again needs the fields itself. Those of `kubectl rollout
    /// undo`, and of a ConfigRollout that does not exist any more, are always taken over.
    #[serde(default)]
    #[schemars(schema_with = "managers")]
    pub take_over_from: Vec<String>,
}

fn half_a_second() -> Duration {
    Duration::millis(500)
}

fn five() -> i32 {
    5
}

fn managers(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "array",
        "x-kubernetes-list-type": "set",
        "maxItems": 32,
        "items": { "type": "string", "minLength": 1, "maxLength": 128 },
    })
}

/// The name is part of annotation keys and the value of a label.
fn name_rule() -> Rule {
    Rule::new("size(self.metadata.name) <= 63").message(
        "metadata.name must have at most 63 characters: revisions and pod templates carry it in a label or the key \
         of an annotation",
    )
}

fn spec_rules() -> Vec<Rule> {
    vec![
        Rule::new("self.mode == oldSelf.mode")
            .message("spec.mode is immutable: create a new ConfigRollout instead")
            .field_path(".mode"),
    ]
}

/// Secrets or ConfigMaps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("x-kubernetes-validations" = source_rules()))]
pub struct ConfigSource {
    /// `ConfigMap` or `Secret`.
    pub kind: SourceKind,

    /// The one of this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub name: Option<String>,

    /// All with these labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::source_selector")]
    pub selector: Option<LabelSelector>,
}

fn source_rules() -> Vec<Rule> {
    vec![
        Rule::new("has(self.name) != has(self.selector)")
            .message("a source has either a name or a selector: set one of them"),
    ]
}

/// How the pods of a target get a revision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ConfigMode {
    /// The references in the target's template are changed to the revision's objects.
    Repoint,
    /// The template gets annotations that name the revision, and a webhook changes the references of the pods that
    /// are created from it. The rest of the template stays as it is, so that pipelines and GitOps tools that apply it
    /// again see no difference.
    #[default]
    Admission,
    /// The template gets an annotation that changes with the revision, so that pods are recreated. They read the
    /// sources themselves, so no rollback is possible.
    RestartOnly,
}

/// What happens while a source is incomplete.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum IncompletePolicy {
    /// No revision is created, so that no target gets a change without what belongs to it.
    #[default]
    Hold,
    /// A revision is created of the other sources; targets keep the last copy of the incomplete one.
    Proceed,
}

/// What happens when a target fails its gate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RollbackPolicy {
    /// Every target of the rollout gets its previous revision back.
    #[default]
    Always,
    /// Everything stays as it is and the condition `Stalled` says why: for credentials whose previous version is
    /// already revoked.
    Never,
}
