//! What the server fills in where an object says nothing.

use std::{collections::BTreeMap, sync::LazyLock};

use serde_json::{Value, json};

use super::{
    kinds::Kind,
    object::{map, name},
};

/// The schemas of our own kinds.
static SCHEMAS: LazyLock<BTreeMap<String, Value>> = LazyLock::new(|| {
    let schema = |definition: k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition| {
        let version = definition.spec.versions.into_iter().next()?;
        let schema = serde_json::to_value(version.schema?.open_api_v3_schema?).ok()?;
        Some((definition.spec.names.plural, schema))
    };
    mainstay_crds::all().into_iter().filter_map(schema).collect()
});

/// Fills in the defaults of the object's kind.
pub(super) fn set(kind: Kind, object: &mut Value) {
    let plural = kind.row().plural;
    if let Some(schema) = SCHEMAS.get(plural) {
        return fill(schema, object);
    }
    match plural {
        "pods" => {
            let spec = map(object, "spec");
            for (field, value) in
                [("restartPolicy", json!("Always")), ("terminationGracePeriodSeconds", json!(30))]
            {
                spec.entry(field).or_insert(value);
            }
            map(object, "status").entry("phase").or_insert_with(|| json!("Pending"));
        }
        "services" => service(object),
        "secrets" => {
            let secret = object.as_object_mut().expect("an object is a map");
            // What is written as text is stored as data.
            if let Some(Value::Object(texts)) = secret.remove("stringData") {
                use base64::{Engine, prelude::BASE64_STANDARD};
                let data = map(object, "data");
                for (key, text) in texts {
                    data.insert(key, BASE64_STANDARD.encode(text.as_str().unwrap_or_default()).into());
                }
            }
            let secret = object.as_object_mut().expect("an object is a map");
            secret.entry("type").or_insert_with(|| json!("Opaque"));
        }
        _ => {}
    }
}

fn service(object: &mut Value) {
    let number: u64 = name(object).bytes().map(u64::from).sum();
    let spec = map(object, "spec");
    if spec.get("type").is_some_and(|of| of == "ExternalName") {
        return;
    }
    spec.entry("clusterIP").or_insert_with(|| json!(format!("10.96.0.{}", number % 250 + 2)));
    let address = spec["clusterIP"].clone();
    spec.entry("clusterIPs").or_insert_with(|| json!([address]));
    spec.entry("type").or_insert_with(|| json!("ClusterIP"));
    spec.entry("ipFamilies").or_insert_with(|| json!(["IPv4"]));
    spec.entry("ipFamilyPolicy").or_insert_with(|| json!("SingleStack"));
    spec.entry("sessionAffinity").or_insert_with(|| json!("None"));
    spec.entry("internalTrafficPolicy").or_insert_with(|| json!("Cluster"));
    for port in spec.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
        let number = port["port"].clone();
        let port = port.as_object_mut().expect("a port is a map");
        port.entry("protocol").or_insert_with(|| json!("TCP"));
        port.entry("targetPort").or_insert(number);
    }
}

/// Fills in what a schema says, as the API server does for custom resources.
fn fill(schema: &Value, value: &mut Value) {
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
