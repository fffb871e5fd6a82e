//! The JSON of a new pod, written once a pass and completed a name at a time.

use std::{borrow::Cow, collections::BTreeMap};

use mainstay_crds::{InPlace, PodTemplate, ReplicaGroup};
use rand::seq::IndexedRandom;
use serde::Serialize;
use serde_json::{Map, Value, json, value::RawValue};

use super::Owner;
use crate::{pod::READINESS_GATE, revision};

/// The letters of generated names: no vowels and no look-alikes, so that they spell and confuse nothing
/// (k8s.io/apimachinery/pkg/util/rand).
const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
/// A pod's name is its host name, which has at most 63 characters.
const MAX_NAME: usize = 63;
const SUFFIX: usize = 5;

/// A name for a pod of `group` that is very likely free.
pub(super) fn name(group: &str) -> String {
    let mut name: String = group.chars().take(MAX_NAME - SUFFIX - 1).collect();
    name.push('-');
    let mut random = rand::rng();
    name.extend((0..SUFFIX).filter_map(|_| LETTERS.choose(&mut random)).map(|letter| char::from(*letter)));
    name
}

/// The spec with the readiness gate by which its pods can be taken out of service.
fn with_gate(spec: &Map<String, Value>) -> Map<String, Value> {
    let mut spec = spec.clone();
    let gates = spec.entry("readinessGates").or_insert_with(|| json!([]));
    if let Value::Array(gates) = gates {
        gates.push(json!({"conditionType": READINESS_GATE}));
    }
    spec
}

/// What all new pods of a revision of a group have in common.
pub(super) struct Body<'a> {
    labels: BTreeMap<String, String>,
    annotations: Cow<'a, BTreeMap<String, String>>,
    finalizers: &'a [String],
    owner: Value,
    spec: Box<RawValue>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct NewPod<'a> {
    api_version: &'static str,
    kind: &'static str,
    metadata: NewMetadata<'a>,
    spec: &'a RawValue,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct NewMetadata<'a> {
    name: &'a str,
    labels: &'a BTreeMap<String, String>,
    annotations: &'a BTreeMap<String, String>,
    finalizers: &'a [String],
    owner_references: [&'a Value; 1],
}

impl<'a> Body<'a> {
    /// The body of pods of `template`, which is the group's revision of that hash.
    ///
    /// # Errors
    /// serde_json's, which a template that was read from JSON does not cause.
    pub(super) fn of(
        group: &ReplicaGroup,
        template: &'a PodTemplate,
        hash: &str,
    ) -> serde_json::Result<Self> {
        let metadata = template.metadata.as_ref();
        let mut labels = metadata.map(|metadata| metadata.labels.clone()).unwrap_or_default();
        labels.insert(revision::LABEL.to_owned(), hash.to_owned());
        let gated = (group.spec.update.in_place == InPlace::IfPossible).then(|| with_gate(&template.spec));
        Ok(Self {
            labels,
            annotations: metadata.map(|metadata| Cow::Borrowed(&metadata.annotations)).unwrap_or_default(),
            finalizers: metadata.map_or(&[], |metadata| &metadata.finalizers),
            owner: group.owner_reference(),
            spec: serde_json::value::to_raw_value(gated.as_ref().unwrap_or(&template.spec))?,
        })
    }

    /// The whole pod under `name`.
    ///
    /// # Errors
    /// As [`Body::of`].
    pub(super) fn named(&self, name: &str) -> serde_json::Result<Vec<u8>> {
        serde_json::to_vec(&NewPod {
            api_version: "v1",
            kind: "Pod",
            metadata: NewMetadata {
                name,
                labels: &self.labels,
                annotations: &self.annotations,
                finalizers: self.finalizers,
                owner_references: [&self.owner],
            },
            spec: &self.spec,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_a_host_name_whatever_the_group_is_called() {
        for group in ["web", &"long".repeat(60)] {
            let name = name(group);
            assert!(name.len() <= MAX_NAME && name.as_bytes()[name.len() - SUFFIX - 1] == b'-', "{name}");
        }
        assert_ne!(name("web"), name("web"));
    }

    #[test]
    fn a_pod_is_the_template_word_for_word_under_the_group() {
        let group: ReplicaGroup = serde_json::from_value(json!({
            "apiVersion": "mainstay.dev/v1alpha1", "kind": "ReplicaGroup",
            "metadata": {"name": "web", "namespace": "ns", "uid": "u"},
            "spec": {
                "selector": {"matchLabels": {"app": "web"}},
                "template": {
                    "metadata": {"labels": {"app": "web"}, "annotations": {"a": "b"}},
                    "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": 1}}}], "newField": [1]}
                }
            }
        }))
        .unwrap();
        let body: Value = serde_json::from_slice(
            &Body::of(&group, &group.spec.template, "0123").unwrap().named("web-x").unwrap(),
        )
        .unwrap();
        assert_eq!(body["metadata"]["name"], "web-x");
        assert_eq!(body["metadata"]["labels"], json!({"app": "web", "mainstay.dev/revision": "0123"}));
        assert_eq!(
            body["metadata"]["ownerReferences"],
            json!([{"apiVersion": "mainstay.dev/v1alpha1", "kind": "ReplicaGroup", "name": "web", "uid": "u",
                    "controller": true, "blockOwnerDeletion": true}])
        );
        assert_eq!(
            body["spec"],
            json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": 1}}}], "newField": [1]})
        );
    }
}
