//! What the chart tells kube-state-metrics.

use mainstay_e2e::root;
use serde_json::{Value, json};

use crate::chart::{names, rendered};

/// The schema of a field of a kind's object.
fn field<'a>(schema: &'a Value, path: &[&str]) -> Option<&'a Value> {
    path.iter().try_fold(schema, |schema, name| schema["properties"].get(name))
}

#[test]
fn kube_state_metrics_is_told_of_fields_that_there_are() {
    let name = "ConfigMap/mainstay-kube-state-metrics";
    assert!(!names(&rendered(&[])).contains(name));
    let all = rendered(&["--set=kubeStateMetrics.enabled=true"]);
    let map = all.iter().find(|object| object["metadata"]["name"] == "mainstay-kube-state-metrics");
    let text = map.and_then(|map| map["data"]["custom-resource-state.yaml"].as_str()).expect(name);
    let config: Value = serde_saphyr::from_str(text).unwrap();
    let resources = config["spec"]["resources"].as_array().unwrap();
    assert_eq!(resources.len(), 5);
    for resource in resources {
        let of = &resource["groupVersionKind"];
        let plural = format!("{}s", of["kind"].as_str().unwrap().to_lowercase()).replace("ys", "ies");
        let crd = std::fs::read_to_string(root().join(format!("crds/manifests/{plural}.mainstay.dev.yaml")))
            .unwrap();
        let crd: Value = serde_saphyr::from_str(&crd).unwrap();
        let version = &crd["spec"]["versions"][0];
        assert_eq!((&of["group"], &of["version"]), (&crd["spec"]["group"], &version["name"]));
        let is_namespaced = crd["spec"]["scope"] == "Namespaced";
        assert_eq!(resource["labelsFromPath"]["namespace"].is_array(), is_namespaced, "{plural}");
        // By default it logs an error for each object without the field, whenever the object changes.
        assert!(resource["errorLogV"].as_u64() > Some(0), "{plural}: most of a status is optional");
        for metric in resource["metrics"].as_array().unwrap() {
            let path = metric["each"]["gauge"]["path"].as_array().unwrap();
            let path: Vec<_> = path.iter().filter_map(Value::as_str).collect();
            let field = field(&version["schema"]["openAPIV3Schema"], &path);
            let is_list = metric["name"] == "status_condition";
            let expected = if is_list { "array" } else { "integer" };
            assert_eq!(field.map(|field| &field["type"]), Some(&json!(expected)), "{plural}: {path:?}");
        }
    }
}
