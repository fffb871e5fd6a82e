//! Whatever a schema admits, the types can hold: an object that cannot be decoded is one that nobody keeps.
//!
//! Every field of every kind is set to the values at the bounds of its schema, one after the other, in an object that
//! has all fields. Formats are not believed to bound a number, since not every server checks them.

use k8s_openapi::api::core::v1::{PersistentVolumeClaimSpec, PodSpec, ServiceSpec};
use mainstay_crds::{
    AccountPolicy, ConfigRollout, EndpointGrant, EndpointPool, NodeHealthPolicy, ReplicaGroup,
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

type Decode = fn(&Value) -> Result<(), String>;

fn decode<T: DeserializeOwned>(value: &Value) -> Result<(), String> {
    T::deserialize(value).map(drop).map_err(|error| error.to_string())
}

const KINDS: [(&str, Decode); 6] = [
    ("ReplicaGroup", decode::<ReplicaGroup>),
    ("EndpointPool", decode::<EndpointPool>),
    ("EndpointGrant", decode::<EndpointGrant>),
    ("NodeHealthPolicy", decode::<NodeHealthPolicy>),
    ("ConfigRollout", decode::<ConfigRollout>),
    ("AccountPolicy", decode::<AccountPolicy>),
];

fn schema(kind: &str) -> Value {
    let crd = mainstay_crds::all().into_iter().find(|crd| crd.spec.names.kind == kind);
    let mut versions = crd.unwrap_or_else(|| panic!("{kind} is defined")).spec.versions;
    serde_json::to_value(versions.remove(0).schema.unwrap().open_api_v3_schema).unwrap()
}

fn is_quantity(schema: &Value) -> bool {
    schema["pattern"].as_str().is_some_and(|pattern| pattern.contains("KMGTPE"))
}

/// A value that the schema admits, with all that it may have.
fn full(schema: &Value) -> Value {
    if is_quantity(schema) {
        return json!("1");
    }
    if schema["x-kubernetes-int-or-string"] == true {
        return json!(1);
    }
    match schema["type"].as_str().unwrap() {
        "object" => {
            let fields = schema["properties"].as_object().into_iter().flatten();
            let mut object: Value = fields.map(|(name, field)| (name.clone(), full(field))).collect();
            if let Some(values) = schema.get("additionalProperties") {
                object = json!({"key": full(values)});
            }
            object
        }
        "array" => json!([full(&schema["items"])]),
        "integer" => schema.get("minimum").map_or(json!(1), |least| json!(least.as_f64().unwrap() as i64)),
        "boolean" => json!(true),
        "string" => texts(schema).remove(0),
        other => panic!("no field is a {other}"),
    }
}

/// Texts at the bounds of a schema.
fn texts(schema: &Value) -> Vec<Value> {
    let pattern = schema["pattern"].as_str().unwrap_or_default();
    if let Some(values) = schema["enum"].as_array() {
        values.clone()
    } else if schema["format"] == "date-time" {
        vec![json!("2026-01-01T00:00:00Z"), json!("0001-01-01T23:59:60.123456789+14:00")]
    } else if pattern.contains("(ms|s|m|h)") {
        ["1s", "0.000001ms", "999999h999999h99999h", "999999.999999h"].map(Value::from).into()
    } else if is_quantity(schema) {
        ["1", "-.5e+30", "1.Ei"].map(Value::from).into()
    } else {
        vec![json!("x"), json!("")]
    }
}

/// The least and the most of numbers.
fn numbers(schema: &Value) -> Vec<Value> {
    let bound = |name: &str, without: i64| schema[name].as_f64().map_or(without, |bound| bound as i64);
    vec![json!(bound("minimum", i64::MIN)), json!(bound("maximum", i64::MAX))]
}

/// Values at the bounds of a schema, without what lies within them.
fn bounds(schema: &Value) -> Vec<Value> {
    let mut values = if is_quantity(schema) {
        [vec![json!(0.5), json!(i64::MAX)], texts(schema)].concat()
    } else if schema["x-kubernetes-int-or-string"] == true {
        [numbers(schema), texts(schema)].concat()
    } else {
        match schema["type"].as_str().unwrap() {
            "object" => vec![sparse(schema)],
            "array" => vec![json!([])],
            "integer" => numbers(schema),
            "boolean" => vec![json!(false)],
            "string" => texts(schema),
            other => panic!("no field is a {other}"),
        }
    };
    if schema["nullable"] == true {
        values.push(Value::Null);
    }
    values
}

/// An object with what it must have alone.
fn sparse(schema: &Value) -> Value {
    let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
    required.map(|name| (name.to_owned(), full(&schema["properties"][name]))).collect()
}

/// Calls `visit` with the path and the schema of all that lies within.
fn walk(path: &str, schema: &Value, visit: &mut impl FnMut(&str, &Value)) {
    visit(path, schema);
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        walk(&format!("{path}/{name}"), field, visit);
    }
    for (key, inner) in [("key", "additionalProperties"), ("0", "items")] {
        if let Some(inner) = schema.get(inner) {
            walk(&format!("{path}/{key}"), inner, visit);
        }
    }
}

/// What the schema admits and `decode` does not, a line each. `object` has all fields.
fn faults(schema: &Value, mut object: Value, decode: Decode) -> Vec<String> {
    let mut faults = Vec::new();
    let mut check = |what: &dyn Fn() -> String, object: &Value| {
        faults.extend(decode(object).err().map(|error| format!("{}: {error}", what())));
    };
    check(&|| "an object with all fields".into(), &object);
    walk("", schema, &mut |path, field| {
        // The object as a whole has no bounds.
        for mut value in bounds(field).into_iter().filter(|_| !path.is_empty()) {
            crate::defaults::set(&mut value, field);
            let before = std::mem::replace(object.pointer_mut(path).unwrap(), value);
            check(&|| format!("{path} = {}", object.pointer(path).unwrap()), &object);
            *object.pointer_mut(path).unwrap() = before;
        }
        let required = field["required"].as_array().cloned().unwrap_or_default();
        for (name, property) in field["properties"].as_object().into_iter().flatten() {
            if required.contains(&json!(name)) {
                continue;
            }
            // The API server takes a null for it, too.
            let fields = object.pointer_mut(path).unwrap().as_object_mut().unwrap();
            let before = fields.remove(name).unwrap();
            if let Some(default) = property.get("default") {
                fields.insert(name.clone(), default.clone());
            }
            check(&|| format!("{path}/{name} is not there"), &object);
            object.pointer_mut(path).unwrap()[name] = before;
        }
    });
    faults
}

/// What is kept as it is written: the schemas of whole objects of other kinds.
const VERBATIM: [(&str, &str, Decode); 3] = [
    ("ReplicaGroup", "/template/properties/spec", decode::<PodSpec>),
    ("ReplicaGroup", "/volumeClaimTemplates/items/properties/spec", decode::<PersistentVolumeClaimSpec>),
    ("EndpointPool", "/serviceRef/properties/create/properties/spec", decode::<ServiceSpec>),
];

fn verbatim<'a>(schema: &'a mut Value, path: &str) -> &'a mut Value {
    schema.pointer_mut(&format!("/properties/spec/properties{path}")).expect("the kind has the field")
}

#[test]
fn whatever_the_schema_of_a_kind_admits_can_be_decoded() {
    for (kind, decode) in KINDS {
        let mut schema = schema(kind);
        for (_, path, _) in VERBATIM.iter().filter(|(of, ..)| *of == kind) {
            *verbatim(&mut schema, path) = json!({"type": "object", "properties": {}});
        }
        let mut object = full(&schema);
        object["apiVersion"] = "mainstay.dev/v1alpha1".into();
        object["kind"] = kind.into();
        object["metadata"] = json!({"name": "x"});
        let faults = faults(&schema, object, decode);
        assert!(faults.is_empty(), "{kind}:\n{}", faults.join("\n"));
    }
}

#[test]
fn what_a_template_may_say_can_be_held_by_the_kind_that_it_is_made_into() {
    for (kind, path, decode) in VERBATIM {
        let mut schema = schema(kind);
        let schema = verbatim(&mut schema, path);
        let faults = faults(schema, full(schema), decode);
        assert!(faults.is_empty(), "{path} of {kind}:\n{}", faults.join("\n"));
    }
}

#[test]
fn a_null_is_a_field_that_is_not_given() {
    for (kind, _) in KINDS {
        walk("", &schema(kind), &mut |path, field| {
            assert_eq!(
                field.get("nullable"),
                None,
                "{kind}{path} keeps a null, which rules take for a value"
            );
        });
    }
}
