//! Schemas of fields whose Rust type says less than the API server should check.
//!
//! Every list, map and string that a CEL rule reads is bounded: the API server refuses a definition whose
//! rules could cost too much, and it computes the cost from these bounds.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::core::Rule;
use schemars::transform::transform_subschemas;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

/// Most labels a pod template or a selector may name.
const MAX_LABELS: usize = 64;

/// Most expressions of a selector, and most values of one expression.
const MAX_EXPRESSIONS: usize = 16;
const MAX_VALUES: usize = 64;

/// A label key: a name of at most 63 characters, after a DNS subdomain of at most 253 and `/` if it has one.
const LABEL_KEY: &str =
    "^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$";

fn label_key() -> Value {
    json!({ "type": "string", "minLength": 1, "maxLength": 317, "pattern": LABEL_KEY })
}

/// A label value: empty, or at most 63 characters that begin and end with a letter or digit.
fn label_value() -> Value {
    json!({
        "type": "string",
        "maxLength": 63,
        "pattern": "^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$",
    })
}

/// A map of labels.
pub(crate) fn labels() -> Value {
    json!({
        "type": "object",
        "maxProperties": MAX_LABELS,
        "additionalProperties": label_value(),
        "x-kubernetes-validations": [
            Rule::new(format!("self.all(key, key.matches('{LABEL_KEY}'))")).message(
                "a label key must be a name of at most 63 letters, digits, '-', '_' and '.', \
                 with a DNS domain and '/' before it if it has a prefix",
            ),
        ],
    })
}

/// A `LabelSelector`, bounded, and checked as the built-in kinds check theirs.
pub(crate) fn label_selector(_: &mut SchemaGenerator) -> Schema {
    let mut match_labels = labels();
    match_labels["description"] = "Labels a pod must have, each with exactly this value.".into();
    json_schema!({
        "type": "object",
        "x-kubernetes-map-type": "atomic",
        "properties": {
            "matchLabels": match_labels,
            "matchExpressions": {
                "description": "Conditions on labels; all of them must hold.",
                "type": "array",
                "x-kubernetes-list-type": "atomic",
                "maxItems": MAX_EXPRESSIONS,
                "items": label_selector_requirement(),
            },
        },
    })
}

/// A `LabelSelector` of nodes.
pub(crate) fn node_selector(generator: &mut SchemaGenerator) -> Schema {
    selector_of("node", generator)
}

/// A `LabelSelector` of Secrets or ConfigMaps.
pub(crate) fn source_selector(generator: &mut SchemaGenerator) -> Schema {
    selector_of("source", generator)
}

/// A `LabelSelector` of namespaces.
pub(crate) fn namespace_selector(generator: &mut SchemaGenerator) -> Schema {
    selector_of("namespace", generator)
}

/// The name of an object: a DNS subdomain.
pub(crate) fn object_name(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "minLength": 1,
        "maxLength": 253,
        "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$",
    })
}

/// A map of labels.
pub(crate) fn label_map(_: &mut SchemaGenerator) -> Schema {
    Schema::try_from(labels()).expect("an object is a schema")
}

/// A map of annotations.
pub(crate) fn annotation_map(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": MAX_LABELS,
        "additionalProperties": { "type": "string", "maxLength": 4096 },
    })
}

/// The audiences of a token.
pub(crate) fn audiences(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "x-kubernetes-list-type": "set",
        "maxItems": 8,
        "items": { "type": "string", "minLength": 1, "maxLength": 253 },
    })
}

/// Reasons, in a few words each.
pub(crate) fn reasons(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "x-kubernetes-list-type": "set",
        "maxItems": 16,
        "items": { "type": "string", "minLength": 1, "maxLength": 253 },
    })
}

/// A `LabelSelector` of workloads.
pub(crate) fn target_selector(generator: &mut SchemaGenerator) -> Schema {
    selector_of("target", generator)
}

fn selector_of(what: &str, generator: &mut SchemaGenerator) -> Schema {
    let mut schema = label_selector(generator).to_value();
    schema["properties"]["matchLabels"]["description"] =
        format!("Labels a {what} must have, each with exactly this value.").into();
    Schema::try_from(schema).expect("a schema that a description was changed of is one")
}

fn label_selector_requirement() -> Value {
    let mut key = label_key();
    key["description"] = "The label that the condition is about.".into();
    json!({
        "type": "object",
        "required": ["key", "operator"],
        "properties": {
            "key": key,
            "operator": {
                "description": "How the label is compared with the values.",
                "type": "string",
                "enum": ["In", "NotIn", "Exists", "DoesNotExist"],
            },
            "values": {
                "description": "What In and NotIn compare with; Exists and DoesNotExist take none.",
                "type": "array",
                "x-kubernetes-list-type": "atomic",
                "maxItems": MAX_VALUES,
                "items": label_value(),
            },
        },
        "x-kubernetes-validations": [
            Rule::new("(has(self.values) && size(self.values) > 0) == (self.operator in ['In', 'NotIn'])")
                .message(
                    "values must not be empty when operator is In or NotIn, \
                     and must be empty when it is Exists or DoesNotExist",
                ),
        ],
    })
}

/// A number of pods, or a percentage of `replicas`.
pub(crate) fn int_or_percent(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "anyOf": [{ "type": "integer" }, { "type": "string" }],
        "x-kubernetes-int-or-string": true,
        "minimum": 0,
        "maxLength": 10,
        "pattern": "^[0-9]{1,9}%$",
    })
}

/// A number of nodes, or a percentage of them, of which there are no more than a hundred.
pub(crate) fn nodes_or_percent(generator: &mut SchemaGenerator) -> Schema {
    let mut schema = int_or_percent(generator);
    schema.insert("pattern".into(), "^([0-9]{1,2}|100)%$".into());
    schema
}

/// The keys of node labels in `scaleDown.spread`.
pub(crate) fn label_keys(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "x-kubernetes-list-type": "set",
        "maxItems": 4,
        "items": label_key(),
    })
}

/// The names of pods in `scaleDown.podsToDelete`.
pub(crate) fn pod_names(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "x-kubernetes-list-type": "set",
        "maxItems": 1000,
        "items": { "type": "string", "minLength": 1, "maxLength": 253 },
    })
}

/// Fully qualified DNS names.
pub(crate) fn dns_names(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "x-kubernetes-list-type": "set",
        "maxItems": 64,
        "items": {
            "type": "string",
            "minLength": 1,
            "maxLength": 253,
            "pattern": "^([A-Za-z0-9_]([-A-Za-z0-9_]{0,61}[A-Za-z0-9_])?\\.)*[A-Za-z0-9]([-A-Za-z0-9]{0,61}[A-Za-z0-9])?\\.?$",
            "x-kubernetes-validations": [
                Rule::new("!isIP(self)").message("a DNS name must not be an IP address: write it into addresses"),
            ],
        },
    })
}

/// HTTP status codes and ranges of them.
pub(crate) fn statuses(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "x-kubernetes-list-type": "atomic",
        "minItems": 1,
        "maxItems": 16,
        "items": {
            "type": "string",
            "maxLength": 7,
            "pattern": "^[1-5][0-9]{2}(-[1-5][0-9]{2})?$",
            "x-kubernetes-validations": [
                Rule::new("size(self) < 7 || self.substring(0, 3) <= self.substring(4)")
                    .message("a range of status codes must not end before it begins"),
            ],
        },
    })
}

/// The number of a port, or a name.
pub(crate) fn port_or_name(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "anyOf": [{ "type": "integer" }, { "type": "string" }],
        "x-kubernetes-int-or-string": true,
        "minimum": 1,
        "maximum": 65535,
        "minLength": 1,
        "maxLength": 63,
        "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$",
    })
}

/// A list of conditions that managers share by type, with the bounds of upstream's `metav1.Condition`
/// (apimachinery `pkg/apis/meta/v1/types.go`), which the generated type does not carry.
pub(crate) fn conditions(generator: &mut SchemaGenerator) -> Schema {
    let mut condition = Condition::json_schema(generator).to_value();
    for (field, bounds) in [
        ("type", json!({ "maxLength": 316, "pattern": CONDITION_TYPE })),
        ("status", json!({ "enum": ["True", "False", "Unknown"] })),
        ("reason", json!({ "minLength": 1, "maxLength": 1024, "pattern": CONDITION_REASON })),
        ("message", json!({ "maxLength": 32768 })),
        ("observedGeneration", json!({ "minimum": 0 })),
    ] {
        let (Value::Object(schema), Value::Object(bounds)) = (&mut condition["properties"][field], bounds)
        else {
            unreachable!("metav1.Condition has a field {field}");
        };
        schema.extend(bounds);
    }
    json_schema!({
        "type": "array",
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": condition,
    })
}

const CONDITION_TYPE: &str = "^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?\
    (([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$";
const CONDITION_REASON: &str = "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$";

/// Takes the defaults out of a status: they let an old object be read after a field is added, and are no
/// values that the API server should make up.
pub(crate) fn without_defaults(schema: &mut Schema) {
    let properties = schema.get_mut("properties").and_then(Value::as_object_mut);
    for property in properties.into_iter().flat_map(|all| all.values_mut()).filter_map(Value::as_object_mut) {
        property.remove("default");
    }
}

/// Joins the lines of every description within, so that `kubectl explain` breaks them where its reader's
/// window ends and not where a doc comment does.
pub(crate) fn with_flowing_text(schema: &mut Schema) {
    if let Some(Value::String(description)) = schema.get_mut("description") {
        let paragraphs: Vec<_> = description.split("\n\n").map(|text| text.replace('\n', " ")).collect();
        *description = paragraphs.join("\n\n");
    }
    transform_subschemas(&mut with_flowing_text, schema);
}
