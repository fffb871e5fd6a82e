//! ConfigRollouts.

use mainstay_faults::{
    model::kinds::Kind,
    play::{
        controller::Controller,
        explore::explore,
        fault::COMMON,
        oracle::{Oracle, Written},
        scenario::{Scenario, change, node},
    },
};
use serde_json::{Value, json};

fn given(mode: &str) -> [Value; 5] {
    let config =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "web"}, "data": {"a": "1"}});
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "labels": {"app": "web"}},
        "spec": {
            "replicas": 2, "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{
                "name": "web", "image": "web:1",
                "env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "web", "key": "a"}}}],
            }]}},
        },
    });
    let rollout = json!({
        "apiVersion": "mainstay.dev/v1alpha1", "kind": "ConfigRollout", "metadata": {"name": "web"},
        "spec": {
            "mode": mode, "sources": [{"kind": "ConfigMap", "name": "web"}], "takeOverFrom": ["user"],
            "stages": [{"name": "all", "targets": [{"kind": "Deployment", "name": "web"}], "soakSeconds": 10,
                "gate": {"deadlineSeconds": 120}}],
        },
    });
    [node("a"), node("b"), config, deployment, rollout]
}

/// A source is never deleted.
fn source_stays() -> Box<dyn Oracle> {
    Box::new(|written: &Written<'_>| {
        let stands = written.store.find(Kind::named("configmaps"), "ns", "web").is_some();
        (!stands).then(|| "source: the ConfigMap is gone".to_owned())
    })
}

pub(crate) fn scenarios() -> Vec<Scenario> {
    [("one change", "Admission"), ("one change of references", "Repoint")].map(scenario).into()
}

fn scenario((name, mode): (&'static str, &str)) -> Scenario {
    let changed = change("/api/v1/namespaces/ns/configmaps/web", json!({"data": {"a": "2"}}));
    let mut scenario = Scenario::new(name, Controller::ConfigRollout, given(mode)).at(120, changed);
    // Versions count all writes, also of others.
    scenario.scrub = |object| {
        if let Some(annotations) = object["metadata"]["annotations"].as_object_mut() {
            annotations.remove("mainstay.dev/source-resource-version");
        }
    };
    scenario.watched(|| vec![source_stays()])
}

#[test]
fn whatever_happens_to_a_request_the_change_is_rolled_out_in_the_end() {
    for scenario in scenarios() {
        let report = explore(&scenario, &COMMON);
        println!("{}: {} requests, {} runs", scenario.name, report.requests, report.runs);
        assert!(report.requests > 5, "the controller does something");
        report.assert_kept();
    }
}
