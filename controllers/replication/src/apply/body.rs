//! The JSON of a new pod, written once a reconcile and completed a name at a time.

use std::{borrow::Cow, collections::BTreeMap};

use kube::ResourceExt;
use mainstay_crds::{InPlace, PodTemplate, ReplicaGroup};
use mainstay_runtime::{names, node::ZONE, owner};
use serde::Serialize;
use serde_json::{Map, Value, json, value::RawValue};

use crate::{
    claim,
    names::{PRE_DELETE_FINALIZER, READINESS_GATE, REVISION, SLOT},
};

/// A pod's name is its host name, which has at most 63 characters.
const MAX_NAME: usize = 63;

/// A name for a pod of `group` that is very likely free.
pub(super) fn name(group: &str) -> String {
    names::generated(group, MAX_NAME)
}

/// The spec with the readiness gate by which its pods can be taken out of service.
fn with_gate(spec: &mut Map<String, Value>) {
    let gates = spec.entry("readinessGates").or_insert_with(|| json!([]));
    if let Value::Array(gates) = gates {
        gates.push(json!({"conditionType": READINESS_GATE}));
    }
}

/// How the scheduler spreads pods that name no constraints of their own: softly, as long as a node has no more than two
/// pods more than another, and a zone four (pkg/scheduler/framework/plugins/podtopologyspread/plugin.go,
/// `systemDefaultConstraints`). It does so for pods of the built-in kinds, which it finds by their owner, and for those
/// that a Service selects.
const DEFAULT_SPREAD: [(&str, i32); 2] = [("kubernetes.io/hostname", 3), (ZONE, 5)];

/// The spec with the scheduler's default constraints, unless it has some of its own; an empty list leaves it to the
/// scheduler. As in a Deployment, only pods of the same revision are counted.
///
/// Unlike its defaults, constraints of a pod's own make the scheduler ignore every node that lacks one of their labels
/// (scoring.go, `requireAllTopologies`): that of zones is left out unless all nodes have `zones`.
fn with_spread(spec: &mut Map<String, Value>, group: &ReplicaGroup, hash: &str, zones: bool) {
    if spec.contains_key("topologySpreadConstraints") {
        return;
    }
    let mut selector = group.spec.selector.clone();
    selector.match_labels.get_or_insert_default().insert(REVISION.to_owned(), hash.to_owned());
    let constraint = |(key, skew)| json!({"topologyKey": key, "maxSkew": skew, "whenUnsatisfiable": "ScheduleAnyway", "labelSelector": &selector});
    let spread = DEFAULT_SPREAD.into_iter().filter(|(key, _)| zones || *key != ZONE);
    let constraints = spread.map(constraint).collect();
    spec.insert("topologySpreadConstraints".to_owned(), constraints);
}

/// The spec with the volumes of a slot, before which volumes of the same names give way, as in a StatefulSet.
fn with_claims(spec: &Map<String, Value>, group: &ReplicaGroup, slot: &str) -> Map<String, Value> {
    let (mut spec, templates) = (spec.clone(), &group.spec.volume_claim_templates);
    let volumes = spec.entry("volumes").or_insert_with(|| json!([]));
    if let Value::Array(volumes) = volumes {
        volumes.retain(|volume| templates.iter().all(|template| volume["name"] != *template.metadata.name));
        volumes.extend(templates.iter().map(|template| {
            let claim = claim::name(template, &group.name_any(), slot);
            json!({"name": template.metadata.name, "persistentVolumeClaim": {"claimName": claim}})
        }));
    }
    spec
}

/// What all new pods of a revision of a group have in common.
pub(super) struct Body<'a> {
    group: &'a ReplicaGroup,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    finalizers: Vec<&'a str>,
    owner: Value,
    spec: Map<String, Value>,
    /// `spec`, written out.
    text: Box<RawValue>,
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
    finalizers: &'a [&'a str],
    owner_references: [&'a Value; 1],
}

impl<'a> Body<'a> {
    /// The body of pods of `template`, which is the group's revision of that hash, for nodes that all have `zones`, or not.
    ///
    /// # Errors
    /// serde_json's, which a template that was read from JSON does not cause.
    pub(super) fn of(
        group: &'a ReplicaGroup,
        template: &'a PodTemplate,
        hash: &str,
        zones: bool,
    ) -> serde_json::Result<Self> {
        let metadata = template.metadata.as_ref();
        let mut labels = metadata.map(|metadata| metadata.labels.clone()).unwrap_or_default();
        labels.insert(REVISION.to_owned(), hash.to_owned());
        let mut annotations = metadata.map(|metadata| metadata.annotations.clone()).unwrap_or_default();
        let finalizers = metadata.into_iter().flat_map(|metadata| &metadata.finalizers);
        let mut finalizers: Vec<_> = finalizers.map(String::as_str).collect();
        if let Some(hook) = &group.spec.lifecycle.pre_delete {
            annotations.insert(PRE_DELETE_FINALIZER.to_owned(), hook.finalizer.clone());
            finalizers.retain(|finalizer| *finalizer != hook.finalizer);
            finalizers.push(&hook.finalizer);
        }
        let mut spec = template.spec.clone();
        if group.spec.update.in_place == InPlace::IfPossible {
            with_gate(&mut spec);
        }
        with_spread(&mut spec, group, hash, zones);
        let text = serde_json::value::to_raw_value(&spec)?;
        Ok(Self { group, labels, annotations, finalizers, owner: json!(owner::reference(group)), spec, text })
    }

    /// The whole pod under `name`, with the volume claims of a slot.
    ///
    /// # Errors
    /// As [`Body::of`].
    pub(super) fn named(&self, name: &str, slot: Option<&str>) -> serde_json::Result<Vec<u8>> {
        let (mut labels, mut text) = (Cow::Borrowed(&self.labels), Cow::Borrowed(&self.text));
        if let Some(slot) = slot {
            labels.to_mut().insert(SLOT.to_owned(), slot.to_owned());
            text = Cow::Owned(serde_json::value::to_raw_value(&with_claims(&self.spec, self.group, slot))?);
        }
        serde_json::to_vec(&NewPod {
            api_version: "v1",
            kind: "Pod",
            metadata: NewMetadata {
                name,
                labels: &labels,
                annotations: &self.annotations,
                finalizers: &self.finalizers,
                owner_references: [&self.owner],
            },
            spec: &text,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let made = |zones| -> Value {
            let body = Body::of(&group, &group.spec.template, "0123", zones).unwrap();
            serde_json::from_slice(&body.named("web-x", None).unwrap()).unwrap()
        };
        let body = made(true);
        assert_eq!(body["metadata"]["name"], "web-x");
        assert_eq!(body["metadata"]["labels"], json!({"app": "web", "mainstay.dev/revision": "0123"}));
        assert_eq!(
            body["metadata"]["ownerReferences"],
            json!([{"apiVersion": "mainstay.dev/v1alpha1", "kind": "ReplicaGroup", "name": "web", "uid": "u",
                    "controller": true, "blockOwnerDeletion": true}])
        );
        let mut spec = body["spec"].clone();
        let spread = spec.as_object_mut().unwrap().remove("topologySpreadConstraints");
        assert_eq!(
            spec,
            json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": 1}}}], "newField": [1]})
        );
        let selector = json!({"matchLabels": {"app": "web", "mainstay.dev/revision": "0123"}});
        let soft = |key: &str, skew: i32| json!({"topologyKey": key, "maxSkew": skew, "whenUnsatisfiable": "ScheduleAnyway", "labelSelector": selector});
        let default = [soft("kubernetes.io/hostname", 3), soft("topology.kubernetes.io/zone", 5)];
        assert_eq!(spread, Some(json!(default)), "as the scheduler spreads pods of a Deployment");
        let unzoned = &made(false)["spec"]["topologySpreadConstraints"];
        assert_eq!(*unzoned, json!(default[..1]), "or else it would ignore the nodes without a zone");
    }

    #[test]
    fn constraints_of_the_template_stay_as_they_are_be_there_none() {
        for constraints in [json!([]), json!([{"topologyKey": "rack"}])] {
            let group: ReplicaGroup = serde_json::from_value(json!({
                "apiVersion": "mainstay.dev/v1alpha1", "kind": "ReplicaGroup",
                "metadata": {"name": "web", "namespace": "ns", "uid": "u"},
                "spec": {"selector": {}, "template": {"spec": {"topologySpreadConstraints": constraints}}}
            }))
            .unwrap();
            let body = Body::of(&group, &group.spec.template, "0123", true).unwrap();
            let body = body.named("web-x", None).unwrap();
            let body: Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(body["spec"]["topologySpreadConstraints"], constraints);
        }
    }

    #[test]
    fn a_pod_with_claims_and_a_hook_carries_both() {
        let group: ReplicaGroup = serde_json::from_value(json!({
            "apiVersion": "mainstay.dev/v1alpha1", "kind": "ReplicaGroup",
            "metadata": {"name": "db", "namespace": "ns", "uid": "u"},
            "spec": {
                "selector": {"matchLabels": {"app": "db"}},
                "template": {
                    "metadata": {"labels": {"app": "db"}, "finalizers": ["example.com/other"]},
                    "spec": {"containers": [], "volumes": [{"name": "tmp", "emptyDir": {}},
                                                           {"name": "data", "emptyDir": {}}]}
                },
                "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {}}],
                "lifecycle": {"preDelete": {"finalizer": "example.com/drain"}}
            }
        }))
        .unwrap();
        let body = Body::of(&group, &group.spec.template, "0123", true).unwrap();
        let pod: Value = serde_json::from_slice(&body.named("db-x", Some("bcdfg")).unwrap()).unwrap();
        assert_eq!(pod["metadata"]["labels"]["mainstay.dev/slot"], "bcdfg");
        assert_eq!(pod["metadata"]["finalizers"], json!(["example.com/other", "example.com/drain"]));
        assert_eq!(pod["metadata"]["annotations"], json!({PRE_DELETE_FINALIZER: "example.com/drain"}));
        let claim = json!({"name": "data", "persistentVolumeClaim": {"claimName": "data-db-bcdfg"}});
        assert_eq!(pod["spec"]["volumes"], json!([{"name": "tmp", "emptyDir": {}}, claim]));
    }
}
