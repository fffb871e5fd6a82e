//! What the API server, kubectl and the controllers need of every definition.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use mainstay_crds::{GROUP, ReplicaGroup, ReplicaGroupSpec, VERSION};
use serde_json::{Value, json};

/// The longest annotation an object may have; `kubectl apply` keeps the whole definition in one.
const KUBECTL_LIMIT: usize = 256 * 1024;

fn schema(crd: &CustomResourceDefinition) -> Value {
    let schema = crd.spec.versions[0].schema.as_ref().expect("every version has a schema");
    serde_json::to_value(&schema.open_api_v3_schema).expect("a schema is JSON")
}

fn spec_schema() -> Value {
    let replica_group = mainstay_crds::all().into_iter().find(|crd| crd.spec.names.kind == "ReplicaGroup");
    schema(&replica_group.expect("ReplicaGroup is defined"))["properties"]["spec"].clone()
}

#[test]
fn definitions_are_of_this_group_and_version() {
    for crd in mainstay_crds::all() {
        assert_eq!(crd.spec.group, GROUP);
        assert_eq!(crd.spec.versions[0].name, VERSION);
    }
}

#[test]
fn definitions_fit_into_what_kubectl_apply_records() {
    for crd in mainstay_crds::all() {
        let size = serde_json::to_string(&crd).unwrap().len();
        println!("{}: {size} bytes", crd.spec.names.kind);
        assert!(size < KUBECTL_LIMIT, "{} has {size} bytes as JSON", crd.spec.names.kind);
    }
}

#[test]
fn schemas_are_structural() {
    for crd in mainstay_crds::all() {
        let mut faults = Vec::new();
        let schema = schema(&crd);
        for part in ["spec", "status"].iter().filter(|part| schema["properties"].get(part).is_some()) {
            faults_of(part, &schema["properties"][part], &mut faults);
        }
        assert!(faults.is_empty(), "{}:\n{}", crd.spec.names.kind, faults.join("\n"));
    }
}

/// Collects what the API server would refuse about a schema, and what it would silently take away: fields of
/// an object that names none, and the owners of the items of a list that does not say how it is merged.
fn faults_of(path: &str, schema: &Value, faults: &mut Vec<String>) {
    let mut fault = |what: &str| faults.push(format!("{path}: {what}"));
    // A value of any type needs no type.
    let is_open = |keyword| schema[keyword] == true;
    if is_open("x-kubernetes-int-or-string") || is_open("x-kubernetes-preserve-unknown-fields") {
        return;
    }
    for keyword in ["$ref", "allOf", "anyOf", "oneOf", "not"] {
        if schema.get(keyword).is_some() {
            fault(&format!("has {keyword}"));
        }
    }
    match schema["type"].as_str() {
        Some("object") => match (schema["properties"].as_object(), schema.get("additionalProperties")) {
            (Some(_), Some(_)) => fault("has both properties and additionalProperties"),
            (None, None) => fault("names no fields, so that all of them are pruned"),
            (properties, values) => {
                for (name, property) in properties.into_iter().flatten() {
                    faults_of(&format!("{path}.{name}"), property, faults);
                }
                if let Some(values) = values {
                    faults_of(&format!("{path}[*]"), values, faults);
                }
            }
        },
        Some("array") => {
            if let Some(what) = list_fault(schema) {
                fault(&what);
            }
            faults_of(&format!("{path}[]"), &schema["items"], faults);
        }
        Some("string" | "integer" | "number" | "boolean") => {}
        other => fault(&format!("has type {other:?}")),
    }
}

fn list_fault(list: &Value) -> Option<String> {
    let items = &list["items"];
    match list["x-kubernetes-list-type"].as_str() {
        Some("atomic") => None,
        Some("set") => (items["type"] == "object").then(|| "is a set of objects".into()),
        Some("map") => {
            let required = items["required"].as_array().cloned().unwrap_or_default();
            let keys = list["x-kubernetes-list-map-keys"].as_array().cloned().unwrap_or_default();
            let usable = |key: &Value| {
                let property = &items["properties"][key.as_str().unwrap_or_default()];
                property["type"].is_string() && (required.contains(key) || property.get("default").is_some())
            };
            let bad: Vec<_> = keys.iter().filter(|key| !usable(key)).collect();
            (keys.is_empty() || !bad.is_empty())
                .then(|| format!("has keys {keys:?}, of which {bad:?} are neither required nor defaulted"))
        }
        other => Some(format!("has list type {other:?}")),
    }
}

#[test]
fn the_api_server_and_the_types_agree_on_defaults() {
    let spec: ReplicaGroupSpec = serde_json::from_value(json!({ "selector": {}, "template": {} })).unwrap();
    let found = serde_json::to_value(&spec).unwrap();
    let schema = spec_schema();
    for field in ["replicas", "minReadySeconds", "paused", "podReplacement", "scaleDown"] {
        assert_eq!(found[field], schema["properties"][field]["default"], "default of spec.{field}");
    }
    for field in ["spread", "prefer"] {
        let property = &schema["properties"]["scaleDown"]["properties"][field];
        assert_eq!(found["scaleDown"][field], property["default"], "default of spec.scaleDown.{field}");
    }
    assert_eq!(spec.replicas, 1);
    assert_eq!(spec.scale_down.spread, ["topology.kubernetes.io/zone"]);
}

#[test]
fn a_status_has_no_defaults_and_may_lack_any_field() {
    for crd in mainstay_crds::all() {
        let schema = schema(&crd);
        // A grant is a mere consent, and has none.
        let Some(status) = schema["properties"].get("status") else { continue };
        assert_eq!(status.get("required"), None);
        for (name, property) in status["properties"].as_object().unwrap() {
            assert_eq!(property.get("default"), None, "status.{name}");
        }
    }
    let group = json!({
        "apiVersion": "mainstay.dev/v1alpha1", "kind": "ReplicaGroup", "metadata": {},
        "spec": { "selector": {}, "template": {} }, "status": { "replicas": 2 },
    });
    let group: ReplicaGroup = serde_json::from_value(group).unwrap();
    assert_eq!(group.status.unwrap().replicas, 2);
}

#[test]
fn unknown_values_of_an_enum_are_refused() {
    let properties = spec_schema()["properties"].clone();
    assert_eq!(properties["podReplacement"]["enum"], json!(["WhenTerminating", "WhenTerminated"]));
    assert_eq!(
        properties["scaleDown"]["properties"]["prefer"]["enum"],
        json!(["CrowdedNode", "EmptiestNode"])
    );
}

#[test]
fn a_template_is_kept_word_for_word() {
    let template = json!({
        "metadata": { "labels": { "app": "web" }, "annotations": { "a": "b" } },
        "spec": {
            "containers": [{
                "name": "server",
                "resources": { "limits": { "cpu": 1, "memory": "1.5Gi", "example.com/gpu": "2" } },
                "ports": [{ "containerPort": 80, "protocol": "TCP" }],
                "readinessProbe": { "httpGet": { "port": "http" }, "periodSeconds": 5 },
                "env": [],
            }],
            "fieldOfTomorrow": { "nested": [1, 2.5, null, "x"] },
        },
    });
    let spec = json!({ "selector": { "matchLabels": { "app": "web" } }, "template": template });
    let typed: ReplicaGroupSpec = serde_json::from_value(spec).unwrap();
    assert_eq!(serde_json::to_value(&typed).unwrap()["template"], template);
}

#[test]
fn a_template_takes_numbers_for_quantities_and_names_for_ports() {
    let pod = spec_schema()["properties"]["template"]["properties"]["spec"]["properties"].clone();
    let container = &pod["containers"]["items"]["properties"];
    for quantity in ["limits", "requests"] {
        let values = &container["resources"]["properties"][quantity]["additionalProperties"];
        assert_eq!(
            (&values["type"], &values["x-kubernetes-preserve-unknown-fields"]),
            (&Value::Null, &json!(true))
        );
        assert!(values["pattern"].is_string());
    }
    let port = &container["livenessProbe"]["properties"]["httpGet"]["properties"]["port"];
    assert_eq!(port["x-kubernetes-int-or-string"], true);
}

#[test]
fn a_claim_template_of_a_pod_has_no_metadata_that_no_pod_may_have() {
    let pod = &spec_schema()["properties"]["template"]["properties"]["spec"];
    let volume = &pod["properties"]["volumes"]["items"]["properties"];
    let claim = &volume["ephemeral"]["properties"]["volumeClaimTemplate"];
    let fields: Vec<_> =
        claim["properties"]["metadata"]["properties"].as_object().unwrap().keys().cloned().collect();
    assert_eq!(fields, ["annotations", "labels"]);
}

#[test]
fn a_template_merges_lists_by_the_keys_of_a_pod() {
    let pod = spec_schema()["properties"]["template"]["properties"]["spec"]["properties"].clone();
    let keys = |list: &Value| list["x-kubernetes-list-map-keys"].clone();
    let container = &pod["containers"]["items"]["properties"];
    assert_eq!(keys(&pod["containers"]), json!(["name"]));
    assert_eq!(keys(&pod["topologySpreadConstraints"]), json!(["topologyKey", "whenUnsatisfiable"]));
    assert_eq!(keys(&container["env"]), json!(["name"]));
    for list in [&container["ports"], &pod["hostAliases"]] {
        assert_eq!(list["x-kubernetes-list-type"], "atomic", "a pod may have an entry of one key twice");
    }
    assert_eq!(keys(&container["resources"]["properties"]["claims"]), json!(["name"]));
    assert_eq!(pod["tolerations"]["x-kubernetes-list-type"], "atomic");
    assert_eq!(
        pod["volumes"]["items"]["properties"]["projected"]["properties"]["sources"]["x-kubernetes-list-type"],
        "atomic"
    );
}

/// Where a schema has defaults.
fn defaults_of(path: &str, schema: &Value, found: &mut Vec<String>) {
    if let Some(default) = schema.get("default") {
        found.push(format!("{path}={default}"));
    }
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        defaults_of(&format!("{path}.{name}"), property, found);
    }
    if schema["items"].is_object() {
        defaults_of(&format!("{path}[]"), &schema["items"], found);
    }
}

/// With one more, each template that is stored would become another one when the group is written next, and all pods would be
/// replaced by an upgrade.
#[test]
fn a_template_is_given_the_defaults_that_it_always_was_and_no_others() {
    let mut found = Vec::new();
    defaults_of("", &spec_schema()["properties"]["template"]["properties"]["spec"], &mut found);
    found.sort_unstable();
    let ports = ["containers", "ephemeralContainers", "initContainers"];
    let mut expected = ports.map(|list| format!(".{list}[].ports[].protocol=\"TCP\"")).to_vec();
    expected.insert(2, ".imagePullSecrets[].name=\"\"".to_owned());
    assert_eq!(found, expected);
}
