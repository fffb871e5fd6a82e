//! What users write: all that a schema admits is read, and nothing of it stops a controller.

use std::sync::LazyLock;

use arbitrary::{Result, Unstructured};
use mainstay_cases::{admitted, sparse};
use mainstay_crds::{
    AccountPolicy, ConfigRollout, EndpointGrant, EndpointPool, NodeHealthPolicy, ReplicaGroup,
};
use serde_json::{Map, Value, json};

/// The schema of each kind's spec, by the kind, without the parts that are kept as they are written.
static SCHEMAS: LazyLock<Vec<(String, Value)>> = LazyLock::new(|| {
    let schemas = mainstay_crds::all().into_iter().map(|crd| {
        let kind = crd.spec.names.kind;
        let mut versions = crd.spec.versions;
        let schema = versions.remove(0).schema.expect("each version has a schema").open_api_v3_schema;
        let mut schema = serde_json::to_value(schema).expect("a schema is JSON");
        let mut spec = schema["properties"]["spec"].take();
        for verbatim in [
            "/properties/template/properties/spec",
            "/properties/volumeClaimTemplates/items/properties/spec",
            "/properties/serviceRef/properties/create/properties/spec",
        ] {
            if let Some(verbatim) = spec.pointer_mut(verbatim) {
                *verbatim = json!({"type": "object", "properties": {}});
            }
        }
        (kind, spec)
    });
    schemas.collect()
});

/// A value that the schema admits; which one the input says.
fn value(u: &mut Unstructured<'_>, schema: &Value) -> Result<Value> {
    match schema["type"].as_str() {
        Some("object") if schema.get("properties").is_some() => object(u, schema),
        Some("array") => list(u, schema),
        Some("integer") => integer(u, schema),
        _ => Ok(u.choose(&admitted(schema))?.clone()),
    }
}

fn object(u: &mut Unstructured<'_>, schema: &Value) -> Result<Value> {
    let required = schema["required"].as_array().cloned().unwrap_or_default();
    let mut object = Map::new();
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        if required.iter().any(|required| required == name) || u.arbitrary()? {
            object.insert(name.clone(), value(u, field)?);
        }
    }
    Ok(Value::Object(object))
}

fn list(u: &mut Unstructured<'_>, schema: &Value) -> Result<Value> {
    const MOST: u64 = 3;
    let bound = |name: &str| schema[name].as_u64();
    let least = bound("minItems").unwrap_or_default();
    let count = u.int_in_range(least..=bound("maxItems").unwrap_or(MOST).min(MOST).max(least))?;
    let mut items = Vec::new();
    for _ in 0..count {
        let item = value(u, &schema["items"])?;
        if schema["x-kubernetes-list-type"] == "atomic"
            || !items.iter().any(|other| is_same(schema, other, &item))
        {
            items.push(item);
        }
    }
    Ok(Value::Array(items))
}

/// Whether a list may not have both.
fn is_same(list: &Value, one: &Value, other: &Value) -> bool {
    match list["x-kubernetes-list-map-keys"].as_array() {
        Some(keys) => keys.iter().filter_map(Value::as_str).all(|key| one[key] == other[key]),
        None => one == other,
    }
}

fn integer(u: &mut Unstructured<'_>, schema: &Value) -> Result<Value> {
    let bound = |name: &str, without: i64| schema[name].as_f64().map_or(without, |bound| bound as i64);
    let (least, most) = (bound("minimum", i64::MIN), bound("maximum", i64::MAX));
    if u.arbitrary()? {
        return Ok(u.choose(&admitted(schema))?.clone());
    }
    u.int_in_range(least..=most.min(least.saturating_add(700))).map(Value::from)
}

/// An object of this kind whose spec the schema admits.
fn written(u: &mut Unstructured<'_>, kind: &str) -> Result<Value> {
    let schema = SCHEMAS.iter().find(|(of, _)| of == kind).map(|(_, schema)| schema);
    let schema = schema.unwrap_or_else(|| panic!("{kind} is defined"));
    let spec = if u.ratio(1, 50)? { sparse(schema) } else { value(u, schema)? };
    let metadata = json!({"name": "x", "namespace": "ns", "uid": "u"});
    Ok(json!({"apiVersion": "mainstay.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec}))
}

macro_rules! read {
    ($name:ident, $kind:ident) => {
        /// One that the schema admits. Rules across fields may refuse it.
        pub(crate) fn $name(u: &mut Unstructured<'_>) -> Result<$kind> {
            let object = written(u, stringify!($kind))?;
            let read: std::result::Result<$kind, _> = serde_json::from_value(object.clone());
            let read = read.unwrap_or_else(|error| panic!("admitted and not read: {error}: {object}"));
            // What is written back is read as the same: nothing is lost by a controller that only looks.
            let back = serde_json::to_value(&read).expect("an object is JSON");
            let again: $kind = serde_json::from_value(back).expect("what was written is read");
            assert_eq!(read, again, "{object}");
            Ok(read)
        }
    };
}

read!(replica_group, ReplicaGroup);
read!(endpoint_pool, EndpointPool);
read!(endpoint_grant, EndpointGrant);
read!(node_health_policy, NodeHealthPolicy);
read!(config_rollout, ConfigRollout);
read!(account_policy, AccountPolicy);

/// Reads an object of each kind, and what a controller makes of its spec. What cannot be carried out is an error that
/// names a field.
pub(crate) fn check(u: &mut Unstructured<'_>) -> Result<()> {
    let names_field = |what: String| assert!(what.contains("spec."), "no field is named: {what}");
    match u.int_in_range(0..=5)? {
        0 => {
            let settings = mainstay_replication::rollout::Settings::of(&replica_group(u)?);
            assert!(settings.reach <= settings.replicas, "{settings:?}");
        }
        1 => {
            if let Err(error) = mainstay_endpoints::settings::Settings::read(&endpoint_pool(u)?) {
                names_field(error.to_string());
            }
        }
        2 => drop(endpoint_grant(u)?),
        3 => {
            if let Err(error) = mainstay_node_health::settings::Settings::read(&node_health_policy(u)?) {
                names_field(error.to_string());
            }
        }
        4 => drop(config_rollout(u)?),
        _ => {
            if let Err(error) = mainstay_accounts::settings::Settings::read(&account_policy(u)?) {
                names_field(error.to_string());
            }
        }
    }
    Ok(())
}
