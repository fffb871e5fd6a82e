//! The volume claims of a `ReplicaGroup`'s pods.

use std::borrow::Cow;
use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::PersistentVolumeClaimSpec;
use kube::core::Rule;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::{
    pod_template::{ignored, ignored_time, upstream},
    schema,
};

/// A PersistentVolumeClaim of which each pod of the group gets its own.
///
/// In Rust it is kept as the user wrote it, for the reasons given at [`PodTemplate`](crate::PodTemplate).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct VolumeClaimTemplate {
    /// The name of the volume, and labels and annotations of a new claim.
    pub metadata: VolumeClaimMeta,
    /// The `PersistentVolumeClaimSpec` of a new claim, as written.
    pub spec: Map<String, Value>,
}

/// The part of a claim's metadata that a template may set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct VolumeClaimMeta {
    /// The name of the pod's volume; names of claims begin with it.
    pub name: String,
    /// Labels of a new claim.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Annotations of a new claim.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl JsonSchema for VolumeClaimTemplate {
    fn schema_name() -> Cow<'static, str> {
        "VolumeClaimTemplate".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let mut spec = upstream::<PersistentVolumeClaimSpec>("PersistentVolumeClaimSpec");
        spec["description"] =
            "The claim's specification, as `kubectl explain persistentvolumeclaim.spec` describes it.".into();
        json_schema!({
            "type": "object",
            "required": ["metadata", "spec"],
            "properties": {
                // As `kubectl get statefulset` prints a template.
                "apiVersion": ignored("string"),
                "kind": ignored("string"),
                "metadata": claim_meta(),
                "spec": spec,
                "status": {
                    "type": "object",
                    "description": "Ignored.",
                    "x-kubernetes-preserve-unknown-fields": true,
                },
            },
        })
    }
}

fn claim_meta() -> Value {
    json!({
        "description": "The name of the volume, and labels and annotations of a new claim.",
        "type": "object",
        "required": ["name"],
        "properties": {
            "name": {
                "description": "The name of the pod's volume, which its containers mount; it replaces a volume of that \
                                name in the template of the pod. Names of claims begin with it.",
                "type": "string",
                "minLength": 1,
                "maxLength": 63,
                "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$",
            },
            "labels": schema::labels(),
            "annotations": { "type": "object", "additionalProperties": { "type": "string" } },
            "namespace": ignored("string"),
            "creationTimestamp": ignored_time(),
        },
    })
}

/// What happens to claims that no pod uses any more.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct VolumeClaims {
    /// Whether a new pod reuses claims that a pod of the group has left behind. `Always` (the default): it does if
    /// there are any, those of the zone with the fewest pods first; it waits for the claims of terminating pods if more
    /// claims would be created than `replicas` and `update.maxSurge` need. `Never`: it gets new ones.
    pub reuse: ClaimReuse,

    /// Whether claims that no pod needs are kept.
    pub retention: ClaimRetention,
}

/// Whether a new pod reuses the claims of a pod that is gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ClaimReuse {
    /// It reuses free claims.
    #[default]
    Always,
    /// It gets new claims.
    Never,
}

/// Whether claims that no pod needs are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ClaimRetention {
    /// After a scale-down, and with `reuse: Never` whenever a pod is gone. `Retain` (the default): claims are kept for
    /// later pods, or for you. `Delete`: claims that `replicas` does not need are deleted when their pods are gone.
    pub when_scaled: Retention,

    /// When the group is deleted. `Retain` (the default): claims are kept, and a later group of the same name uses them.
    /// `Delete`: they are deleted with the group.
    pub when_deleted: Retention,
}

/// Whether claims are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Retention {
    /// They are kept.
    #[default]
    Retain,
    /// They are deleted.
    Delete,
}

/// Names of templates are unique; and running pods would never get a claim of another name.
pub(crate) fn template_rules() -> [Rule; 2] {
    [
        Rule::new(
            "!has(self.volumeClaimTemplates) || self.volumeClaimTemplates.all(claim, \
             self.volumeClaimTemplates.exists_one(other, other.metadata.name == claim.metadata.name))",
        )
        .message("spec.volumeClaimTemplates has two templates with the same name: give each a different name")
        .field_path(".volumeClaimTemplates"),
        Rule::new(
            "has(self.volumeClaimTemplates) == has(oldSelf.volumeClaimTemplates) && \
             (!has(self.volumeClaimTemplates) || \
              size(self.volumeClaimTemplates) == size(oldSelf.volumeClaimTemplates) && \
              self.volumeClaimTemplates.all(claim, \
              oldSelf.volumeClaimTemplates.exists(old, old.metadata.name == claim.metadata.name)))",
        )
        .message(
            "spec.volumeClaimTemplates must keep its names: running pods would not get another volume, so create a \
             new ReplicaGroup instead",
        )
        .field_path(".volumeClaimTemplates"),
    ]
}
