//! What a `NodeHealthPolicy` is made into by the API server is what the controller takes it for.

use std::{fs, path::Path};

use kube::CustomResourceExt;
use mainstay_crds::{NodeHealthPolicy, NodeHealthPolicySpec};
use serde_json::{Value, json};

fn schema() -> Value {
    let crd = NodeHealthPolicy::crd();
    let schema = crd.spec.versions[0].schema.as_ref().expect("every version has a schema");
    serde_json::to_value(&schema.open_api_v3_schema).expect("a schema is JSON")
}

#[test]
fn the_api_server_and_the_types_agree_on_defaults() {
    let template =
        json!({"apiVersion": "example.com/v1", "kind": "RebootTemplate", "name": "r", "namespace": "ns"});
    let sparse = [
        json!({"nodeSelector": {}}),
        json!({
            "nodeSelector": {},
            "conditions": [{"type": "Ready", "status": "Unknown", "for": "1m"}],
            "secondOpinion": {"kubelet": {}},
            "actions": {"cordon": {}, "taint": {}, "podsNotReady": {}, "drain": {}, "outOfService": {}},
            "remediation": {"templates": [template]},
            "breakers": {"zone": {}, "maxActionsPer": {}},
            "flapping": {},
        }),
    ];
    for sparse in sparse {
        let typed: NodeHealthPolicySpec = serde_json::from_value(sparse.clone()).unwrap();
        let mut stored = sparse;
        mainstay_cases::set_defaults(&mut stored, &schema()["properties"]["spec"]);
        assert_eq!(serde_json::to_value(&typed).unwrap(), stored);
    }
}

#[test]
fn limits_are_counts_or_at_most_all_nodes() {
    let breakers = schema()["properties"]["spec"]["properties"]["breakers"].clone();
    for breaker in ["zone", "cluster"] {
        let limit = &breakers["properties"][breaker]["properties"]["maxUnhealthy"];
        assert_eq!(limit["x-kubernetes-int-or-string"], true, "{breaker}");
        assert_eq!(limit["minimum"], 0.0, "{breaker}");
        assert_eq!(limit["pattern"], "^([0-9]{1,2}|100)%$", "{breaker}");
    }
}

#[test]
fn every_duration_is_bounded_and_every_rule_names_what_to_do() {
    let (mut durations, mut rules) = (0, 0);
    visit("spec", &schema()["properties"]["spec"], &mut |path, schema| {
        let pattern = schema["pattern"].as_str().unwrap_or_default();
        if pattern.contains("(ms|s|m|h)") {
            durations += 1;
            assert_eq!(schema["maxLength"], 20, "{path}");
            assert!(pattern.contains("{1,6}"), "{path}: {pattern}");
        }
        for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
            rules += 1;
            let message = rule["message"].as_str().unwrap_or_default();
            assert!(message.contains("must"), "{path}: {rule}");
        }
    });
    assert!(durations > 0 && rules > 0, "{durations} durations and {rules} rules were seen");
}

fn visit(path: &str, schema: &Value, see: &mut impl FnMut(&str, &Value)) {
    see(path, schema);
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        visit(&format!("{path}.{name}"), property, see);
    }
    if let Some(items) = schema.get("items") {
        visit(&format!("{path}[]"), items, see);
    }
}

#[test]
fn a_selector_of_nodes_speaks_of_nodes() {
    let selector = schema()["properties"]["spec"]["properties"]["nodeSelector"].to_string();
    assert!(selector.contains("a node must have") && !selector.contains("pod"), "{selector}");
}

#[test]
fn the_example_is_a_policy_that_writes_nothing_and_has_no_unknown_field() {
    let path =
        Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("../examples/nodehealthpolicy.yaml");
    let written: Value = serde_saphyr::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let policy: NodeHealthPolicy = serde_json::from_value(written.clone()).unwrap();
    assert!(policy.spec.dry_run);
    let read = serde_json::to_value(&policy).unwrap();
    is_within("", &written, &read);
}

/// All that `part` says is in `whole`.
fn is_within(path: &str, part: &Value, whole: &Value) {
    match (part, whole) {
        (Value::Object(part), Value::Object(whole)) => {
            for (name, value) in part {
                let found = whole.get(name).unwrap_or(&Value::Null);
                is_within(&format!("{path}.{name}"), value, found);
            }
        }
        (Value::Array(part), Value::Array(whole)) => {
            assert_eq!(part.len(), whole.len(), "{path}");
            part.iter().zip(whole).for_each(|(part, whole)| is_within(path, part, whole));
        }
        (part, whole) => assert_eq!(part, whole, "{path}"),
    }
}
