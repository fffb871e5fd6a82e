//! Which lists and maps are merged how, as the schemas of the kinds say.

use std::{collections::BTreeMap, sync::LazyLock};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::{Value, json};

use super::{kinds::Kind, object::items};

/// The schemas of custom resources, by their plural.
static SCHEMAS: LazyLock<BTreeMap<String, Value>> = LazyLock::new(|| {
    let schema = |definition: CustomResourceDefinition| {
        let version = definition.spec.versions.into_iter().next()?;
        let schema = serde_json::to_value(version.schema?.open_api_v3_schema?).ok()?;
        Some((definition.spec.names.plural, schema))
    };
    let repair = ("repairs".to_owned(), repair());
    mainstay_crds::all().into_iter().filter_map(schema).chain([repair]).collect()
});

/// The schema of the remediation of a user's own controller.
pub fn repair() -> Value {
    let text = json!({"type": "string"});
    let condition = json!({"type": "object", "required": ["type"],
        "properties": {"type": text, "status": text, "message": text}});
    json!({"type": "object", "properties": {
        "spec": {"type": "object", "properties": {
            "size": {"type": "integer"},
            "settings": {"type": "object", "additionalProperties": text},
            "steps": {"type": "array", "items": text},
            "template": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
        }},
        "status": {"type": "object", "properties": {
            "phase": text,
            "items": {"type": "array", "items": text},
            "counts": {"type": "object", "additionalProperties": {"type": "integer"}},
            "conditions": {"type": "array", "items": condition,
                "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
        }},
    }})
}

/// A field that items of a list are found by, and its value where an item does not say it.
pub(super) type Key = (String, Option<Value>);

/// How a list is merged.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum List {
    /// As one value.
    Atomic,
    /// As a set of scalars.
    Set,
    /// As a map, whose keys are these fields of its items.
    Map(Vec<Key>),
}

/// The schema of a custom resource.
pub(super) fn of(kind: Kind) -> Option<&'static Value> {
    SCHEMAS.get(kind.row().plural).filter(|_| kind.is_custom())
}

/// What the schema of a custom resource says of a field. It says nothing of metadata.
fn node(kind: Option<Kind>, path: &[String]) -> Option<&'static Value> {
    let schema = of(kind?).filter(|_| path.first().is_none_or(|first| first != "f:metadata"))?;
    path.iter().try_fold(schema, |schema, step| match step.strip_prefix("f:") {
        Some(name) => schema["properties"].get(name).or_else(|| schema.get("additionalProperties")),
        None => schema.get("items"),
    })
}

/// Whether a field is in a part of a custom resource of which its schema says nothing.
pub(super) fn is_free(kind: Option<Kind>, path: &[String]) -> bool {
    let known =
        (1..=path.len()).rev().find_map(|length| node(kind, &path[..length]).map(|node| (length, node)));
    known.is_some_and(|(length, node)| {
        length < path.len() && node["x-kubernetes-preserve-unknown-fields"] == true
    })
}

/// The last two names of fields of a path, as `managedFields` writes its steps.
fn ends(path: &[String]) -> (&str, &str) {
    let mut names = path.iter().rev().filter_map(|step| step.strip_prefix("f:"));
    let last = names.next().unwrap_or_default();
    (names.next().unwrap_or_default(), last)
}

/// How server-side apply merges the list at this path. What nothing is known of is atomic.
pub(super) fn list(kind: Option<Kind>, path: &[String]) -> List {
    const CONTAINERS: [&str; 2] = ["containers", "initContainers"];
    let by = |keys: &[(&str, Option<&str>)]| {
        List::Map(keys.iter().map(|(key, value)| ((*key).to_owned(), value.map(Value::from))).collect())
    };
    if let Some(node) = node(kind, path) {
        return match node["x-kubernetes-list-type"].as_str() {
            Some("set") => List::Set,
            Some("map") => {
                let keys = items(&node["x-kubernetes-list-map-keys"]).filter_map(Value::as_str);
                let default = |key: &str| node["items"]["properties"][key].get("default").cloned();
                List::Map(keys.map(|key| (key.to_owned(), default(key))).collect())
            }
            _ => List::Atomic,
        };
    }
    match ends(path) {
        ("metadata", "finalizers") => List::Set,
        ("metadata", "ownerReferences") => by(&[("uid", None)]),
        ("status", "conditions") => by(&[("type", None)]),
        ("spec", "containers" | "initContainers" | "volumes" | "imagePullSecrets") | (_, "env") => {
            by(&[("name", None)])
        }
        (parent, "ports") if CONTAINERS.contains(&parent) => {
            by(&[("containerPort", None), ("protocol", Some("TCP"))])
        }
        (parent, "volumeMounts") if CONTAINERS.contains(&parent) => by(&[("mountPath", None)]),
        ("spec", "ports") => by(&[("port", None), ("protocol", Some("TCP"))]),
        ("", "secrets") => by(&[("name", None)]),
        _ => List::Atomic,
    }
}

/// Whether the map at this path is one value to server-side apply.
pub(super) fn is_atomic(kind: Option<Kind>, path: &[String]) -> bool {
    if let Some(node) = node(kind, path) {
        return node["x-kubernetes-map-type"] == "atomic";
    }
    match (path.last(), ends(path)) {
        // References to other objects.
        (Some(last), (_, "ownerReferences" | "imagePullSecrets" | "secrets")) => last.starts_with("k:"),
        (_, (_, last)) => {
            let whole = [
                "configMapKeyRef",
                "fieldRef",
                "labelSelector",
                "nodeSelector",
                "resourceFieldRef",
                "roleRef",
                "secretKeyRef",
                "selector",
                "targetRef",
            ];
            whole.contains(&last)
        }
    }
}

/// By which field of its items a strategic merge patch merges the list under this name; `None` when it replaces the list.
pub(super) fn strategic(parent: &str, name: &str) -> Option<&'static str> {
    Some(match (parent, name) {
        (_, "conditions") => "type",
        (_, "containers" | "initContainers" | "env" | "volumes")
        | ("spec", "imagePullSecrets")
        | ("", "secrets") => "name",
        (_, "ownerReferences") => "uid",
        (_, "volumeMounts") => "mountPath",
        _ => return None,
    })
}

/// Fills in what the schema of a custom resource has as defaults, as the API server does for custom resources.
pub(super) fn fill(schema: &Value, value: &mut Value) {
    match value {
        Value::Object(object) => {
            for (field, schema) in schema["properties"].as_object().into_iter().flatten() {
                if let Some(default) = schema.get("default")
                    && object.get(field).is_none_or(|found| found.is_null() && schema["nullable"] != true)
                {
                    object.insert(field.clone(), default.clone());
                }
                if let Some(child) = object.get_mut(field) {
                    fill(schema, child);
                }
            }
            if let Some(schema) = schema.get("additionalProperties").filter(|schema| schema.is_object()) {
                object.values_mut().for_each(|child| fill(schema, child));
            }
        }
        Value::Array(list) => list.iter_mut().for_each(|child| fill(&schema["items"], child)),
        _ => {}
    }
}
