//! Whatever a schema admits, the types can hold: an object that cannot be decoded is one that nobody keeps.
//!
//! Every field of every kind is set to the values at the bounds of its schema, one after the other, in an object that
//! has all fields. Formats are not believed to bound a number, since not every server checks them.

use k8s_openapi::api::core::v1::{PersistentVolumeClaimSpec, PodSpec, ServiceSpec};
use mainstay_cases::{admitted, full, refused, set_defaults, walk};
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

/// What the schema admits and `decode` does not, a line each. `object` has all fields.
fn faults(schema: &Value, mut object: Value, decode: Decode) -> Vec<String> {
    let mut faults = Vec::new();
    let mut check = |what: &dyn Fn() -> String, object: &Value| {
        faults.extend(decode(object).err().map(|error| format!("{}: {error}", what())));
    };
    check(&|| "an object with all fields".into(), &object);
    walk("", schema, &mut |path, field| {
        // The object as a whole has no bounds.
        for mut value in admitted(field).into_iter().filter(|_| !path.is_empty()) {
            set_defaults(&mut value, field);
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

/// Of a text that has a format the API server does not check that it is a text: it also takes a list for it
/// (kube-openapi `pkg/validation/validate/type.go`, where base64 is a list of bytes).
#[test]
fn no_text_that_users_write_has_a_format() {
    for (kind, _) in KINDS {
        walk("", &schema(kind)["properties"]["spec"], &mut |path, field| {
            let has_format = field["type"] == "string" && field.get("format").is_some();
            assert!(!has_format, "{kind} spec{path} has the format {}", field["format"]);
        });
    }
}

/// What the tests on the cluster write is found by trying texts.
#[test]
fn each_field_has_values_that_are_admitted_and_values_that_are_refused() {
    for (kind, _) in KINDS {
        walk("", &schema(kind)["properties"]["spec"], &mut |path, field| {
            assert!(!admitted(field).is_empty(), "{kind} spec{path} admits nothing that is tried");
            let is_open = field["x-kubernetes-preserve-unknown-fields"] == true;
            assert!(is_open || !refused(field).is_empty(), "{kind} spec{path} refuses nothing that is tried");
        });
    }
}
