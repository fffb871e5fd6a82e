//! EndpointPools.

use mainstay_faults::{
    model::kinds::Kind,
    play::{
        controller::Controller,
        explore::explore,
        fault::COMMON,
        oracle::{Oracle, Written},
        scenario::{Scenario, node},
    },
};
use serde_json::{Value, json};

fn pod(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": "web"}},
        "spec": {"containers": [{"name": "web", "image": "web:1",
            "ports": [{"name": "http", "containerPort": 8080}]}]},
    })
}

fn pool() -> Value {
    json!({
        "apiVersion": "mainstay.dev/v1alpha1", "kind": "EndpointPool", "metadata": {"name": "web"},
        "spec": {
            "serviceRef": {"name": "web", "create": {"spec": {"ports": [
                {"name": "http", "port": 80, "targetPort": "http"}]}}},
            "members": [{"name": "main", "podSelector": {"matchLabels": {"app": "web"}}}],
            "check": {"type": "TCP", "intervalSeconds": 5, "timeoutSeconds": 2},
        },
    })
}

/// What was ready in a slice is so after each write: both pods answer all the time.
fn none_lost() -> Box<dyn Oracle> {
    let mut most = 0;
    Box::new(move |written: &Written<'_>| {
        let slices = written.store.all(Kind::named("endpointslices"));
        let ready = slices.flat_map(|slice| slice["endpoints"].as_array().into_iter().flatten());
        let ready = ready.filter(|endpoint| endpoint["conditions"]["ready"] != false).count();
        most = most.max(ready);
        (ready < most).then(|| format!("endpoints: {ready} are ready, {most} were"))
    })
}

pub(crate) fn scenarios() -> Vec<Scenario> {
    let given = [node("a"), node("b"), pod("one"), pod("two"), pool()];
    vec![Scenario::new("two pods", Controller::Endpoints, given).watched(|| vec![none_lost()])]
}

#[test]
fn whatever_happens_to_a_request_both_pods_are_endpoints_in_the_end() {
    for scenario in scenarios() {
        let report = explore(&scenario, &COMMON);
        println!("{}: {} requests, {} runs", scenario.name, report.requests, report.runs);
        assert!(report.requests > 5, "the controller does something");
        report.assert_kept();
    }
}
