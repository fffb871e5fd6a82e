//! The pod template inside a custom resource.
//!
//! In Rust it is kept as the user wrote it, so that nothing is lost that is written in another form (`cpu: 1` is a
//! number). Its schema is the one that the built-in kinds have, so that the API server finds a mistake at admission and
//! merges lists by the same keys. A field that is newer than the schema is pruned at admission, as any unknown one. What is
//! wrong with two fields together, such as a mount of a volume that the template does not have, is found when a pod is created:
//! rules for that would cost more than the API server allows.

use std::borrow::Cow;
use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::PodSpec;
use kube::core::Rule;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::schema;

/// What a new pod looks like.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PodTemplate {
    /// Labels, annotations and finalizers of a new pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<PodTemplateMeta>,
    /// The `PodSpec` of a new pod, as written.
    #[serde(default)]
    pub spec: Map<String, Value>,
}

/// The part of a pod's metadata that a template may set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PodTemplateMeta {
    /// Labels of a new pod; the selector of its owner must match them.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Annotations of a new pod.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Finalizers of a new pod.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub finalizers: Vec<String>,
}

impl JsonSchema for PodTemplate {
    fn schema_name() -> Cow<'static, str> {
        "PodTemplate".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let metadata = json!({
            "type": "object",
            "description": "Labels, annotations and finalizers of a new pod.",
            "required": ["labels"],
            "properties": {
                "labels": schema::labels(),
                "annotations": strings(),
                "finalizers": { "type": "array", "x-kubernetes-list-type": "set", "items": { "type": "string" } },
                // What else programs print there: the built-in kinds take it and ignore it.
                "name": ignored("string"),
                "generateName": ignored("string"),
                "namespace": ignored("string"),
                "creationTimestamp": ignored_time(),
            },
        });
        json_schema!({
            "type": "object",
            "required": ["metadata", "spec"],
            "properties": { "metadata": metadata, "spec": pod_spec() },
        })
    }
}

/// The structural schema of an upstream type, whose name is `kind`.
pub(crate) fn upstream<T: JsonSchema>(kind: &str) -> Value {
    // Plain draft 2020-12 leaves definitions and references apart, so that upstream's rules apply by name.
    let mut generator = SchemaSettings::draft2020_12().into_generator();
    generator.subschema_for::<T>();
    structural(kind, &by_short_name(generator.take_definitions(true)))
}

/// The schema of `PodSpec`, narrowed to what a controller can keep running.
fn pod_spec() -> Value {
    let mut spec = upstream::<PodSpec>("PodSpec");
    spec["description"] = "The pod's specification, as `kubectl explain pod.spec` describes it.".into();
    spec["x-kubernetes-validations"] = json!([
        Rule::new("!has(self.restartPolicy) || self.restartPolicy == 'Always'")
            .message(
                "spec.template.spec.restartPolicy must be Always: remove the field, \
                 or use a Job for pods that finish",
            )
            .field_path(".restartPolicy"),
        Rule::new("!has(self.activeDeadlineSeconds)")
            .message(
                "spec.template.spec.activeDeadlineSeconds must not be set: remove the field, \
                 or use a Job for pods that finish",
            )
            .field_path(".activeDeadlineSeconds"),
        Rule::new("!has(self.ephemeralContainers)")
            .message("spec.template.spec.ephemeralContainers must not be set: add them to a pod, with kubectl debug")
            .field_path(".ephemeralContainers"),
    ]);
    let properties = &mut spec["properties"];
    properties["containers"]["minItems"] = 1.into();
    for list in ["containers", "initContainers"] {
        let fields = &mut properties[list]["items"]["properties"];
        // A name without these is refused when the pod is created. An image may be left to an admission webhook.
        (fields["name"]["pattern"], fields["name"]["maxLength"]) = (DNS_LABEL.into(), 63.into());
        fields["image"]["minLength"] = 1.into();
    }
    spec
}

/// A DNS label (RFC 1123), but for its length.
const DNS_LABEL: &str = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";

/// Upstream's definitions, keyed by kind alone: `io.k8s.api.core.v1.PodSpec` is `PodSpec`.
type Definitions = BTreeMap<String, Value>;

fn by_short_name(definitions: Map<String, Value>) -> Definitions {
    definitions.into_iter().map(|(name, schema)| (short_name(&name).into(), schema)).collect()
}

fn short_name(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

/// The structural schema of a definition: without references and descriptions (300 KB of them would be more
/// than `kubectl apply` can record), and with upstream's merge rules, which the generated types do not carry.
fn structural(kind: &str, definitions: &Definitions) -> Value {
    match kind {
        "Quantity" => return quantity(),
        "ObjectMeta" => return claim_meta(),
        _ => {}
    }
    let mut schema = inlined(&definitions[kind], definitions);
    if ATOMIC_KINDS.contains(&kind) {
        schema["x-kubernetes-map-type"] = "atomic".into();
    }
    let properties = schema.get_mut("properties").and_then(Value::as_object_mut);
    for (field, property) in properties.into_iter().flatten() {
        if property["type"] == "array" {
            merge_list(kind, field, property);
        } else if (kind, field.as_str()) == ("PodSpec", "nodeSelector") {
            property["x-kubernetes-map-type"] = "atomic".into();
        }
    }
    schema
}

/// A schema with its references replaced by what they refer to.
fn inlined(schema: &Value, definitions: &Definitions) -> Value {
    if let Some(reference) = schema["$ref"].as_str() {
        return structural(short_name(reference), definitions);
    }
    let mut schema = schema.clone();
    let fields = schema.as_object_mut().expect("a schema is an object");
    fields.remove("description");
    for (keyword, value) in fields {
        match keyword.as_str() {
            "items" | "additionalProperties" => *value = inlined(value, definitions),
            "properties" => value
                .as_object_mut()
                .expect("properties is an object")
                .values_mut()
                .for_each(|property| *property = inlined(property, definitions)),
            _ => {}
        }
    }
    schema
}

/// Says how a list is merged: by key, as a set, or (what upstream does with all others) as a whole.
///
/// The fields that are keys upstream and optional get upstream's defaults: `TCP`, and the empty name.
fn merge_list(kind: &str, field: &str, list: &mut Value) {
    let keys = KEYED_LISTS.iter().find(|(kinds, name, _)| kinds.contains(&kind) && *name == field);
    if let Some((_, _, keys)) = keys {
        list["x-kubernetes-list-type"] = "map".into();
        list["x-kubernetes-list-map-keys"] = json!(keys);
    } else if (kind, field) == ("ContainerRestartRuleOnExitCodes", "values") {
        list["x-kubernetes-list-type"] = "set".into();
    } else {
        list["x-kubernetes-list-type"] = "atomic".into();
    }
    match field {
        "ports" => list["items"]["properties"]["protocol"]["default"] = "TCP".into(),
        "imagePullSecrets" => list["items"]["properties"]["name"]["default"] = "".into(),
        _ => {}
    }
}

/// Kinds, field and keys of the lists that are merged by key, as `x-kubernetes-list-map-keys` in upstream's
/// OpenAPI (Kubernetes 1.36, api/openapi-spec/swagger.json) has them, but for two: `ports` and `hostAliases`. The server refuses a
/// custom resource with two entries of a key, and takes a pod with such. In `env` and `imagePullSecrets` it does so too, but
/// several writers share these lists, each with entries of its own: a ConfigRollout applies the entries that it changes.
const KEYED_LISTS: &[(&[&str], &str, &[&str])] = &[
    (POD, "containers", &["name"]),
    (POD, "ephemeralContainers", &["name"]),
    (POD, "imagePullSecrets", &["name"]),
    (POD, "initContainers", &["name"]),
    (POD, "resourceClaims", &["name"]),
    (POD, "schedulingGates", &["name"]),
    (POD, "topologySpreadConstraints", &["topologyKey", "whenUnsatisfiable"]),
    (POD, "volumes", &["name"]),
    (CONTAINER, "env", &["name"]),
    (CONTAINER, "volumeDevices", &["devicePath"]),
    (CONTAINER, "volumeMounts", &["mountPath"]),
    (&["ResourceRequirements"], "claims", &["name"]),
];
const POD: &[&str] = &["PodSpec"];
const CONTAINER: &[&str] = &["Container", "EphemeralContainer"];

/// Kinds that are replaced as a whole: those with `x-kubernetes-map-type: atomic` in the same file.
const ATOMIC_KINDS: &[&str] = &[
    "ConfigMapKeySelector",
    "FileKeySelector",
    "LabelSelector",
    "LocalObjectReference",
    "NodeSelector",
    "NodeSelectorTerm",
    "ObjectFieldSelector",
    "ResourceFieldSelector",
    "SecretKeySelector",
    "TypedLocalObjectReference",
];

/// The metadata of a volume claim template in a pod: the API server refuses a pod with any other field in it
/// (pkg/apis/core/validation/validation.go, `allowedPVCTemplateObjectMetaFields`).
fn claim_meta() -> Value {
    json!({ "type": "object", "properties": { "labels": strings(), "annotations": strings() } })
}

/// A field that is accepted and has no effect, as in the built-in kinds.
pub(crate) fn ignored(kind: &str) -> Value {
    json!({ "type": kind, "description": "Ignored." })
}

/// A time that is accepted and has no effect. One that is none is refused: by a pattern, since the API server takes a list
/// for a text that has a format.
pub(crate) fn ignored_time() -> Value {
    json!({ "type": "string", "maxLength": 40, "pattern": TIME, "description": "Ignored." })
}

/// A time as RFC 3339 has it.
const TIME: &str =
    "^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\\.[0-9]+)?([Zz]|[-+][0-9]{2}:[0-9]{2})$";

fn strings() -> Value {
    json!({ "type": "object", "additionalProperties": { "type": "string" } })
}

/// A quantity: a string, or a number with or without a fraction, for which a schema has no type of its own.
fn quantity() -> Value {
    json!({ "pattern": QUANTITY, "maxItems": 0, "maxProperties": 0, "x-kubernetes-preserve-unknown-fields": true })
}

/// A number, then a suffix or an exponent: the pattern that controller-tools gives its users for `Quantity`.
const QUANTITY: &str = "^(\\+|-)?(([0-9]+(\\.[0-9]*)?)|(\\.[0-9]+))\
    (([KMGTPE]i)|[numkMGTPE]|([eE](\\+|-)?(([0-9]+(\\.[0-9]*)?)|(\\.[0-9]+))))?$";
