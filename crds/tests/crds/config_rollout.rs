//! What a `ConfigRollout` is made into by the API server is what the controller takes it for.

use kube::CustomResourceExt;
use mainstay_crds::{ConfigRollout, ConfigRolloutSpec};
use serde_json::{Value, json};

fn spec_schema() -> Value {
    let crd = ConfigRollout::crd();
    let schema = crd.spec.versions[0].schema.as_ref().expect("every version has a schema");
    let schema = serde_json::to_value(&schema.open_api_v3_schema).expect("a schema is JSON");
    schema["properties"]["spec"].clone()
}

#[test]
fn the_api_server_and_the_types_agree_on_defaults() {
    let target = json!({"kind": "Deployment", "name": "web"});
    let sparse = [
        json!({
            "sources": [{"kind": "ConfigMap", "name": "web"}],
            "stages": [{"name": "all", "targets": [target]}],
        }),
        json!({
            "sources": [{"kind": "Secret", "selector": {"matchLabels": {"app": "web"}}}],
            "stages": [{
                "name": "all", "targets": [target], "gate": {"probe": {"service": "web"}}, "pause": {},
            }],
        }),
    ];
    for sparse in sparse {
        let typed: ConfigRolloutSpec = serde_json::from_value(sparse.clone()).unwrap();
        let mut stored = sparse;
        mainstay_cases::set_defaults(&mut stored, &spec_schema());
        assert_eq!(serde_json::to_value(&typed).unwrap(), stored);
    }
}
