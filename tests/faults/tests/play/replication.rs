//! ReplicaGroups.

use mainstay_faults::{
    model::{kinds::Kind, object::is_terminating},
    play::{
        controller::Controller,
        explore::explore,
        fault::COMMON,
        oracle::{Oracle, Written},
        scenario::{Scenario, node},
    },
};
use serde_json::{Value, json};

fn group(replicas: i32) -> Value {
    json!({
        "apiVersion": "mainstay.dev/v1alpha1", "kind": "ReplicaGroup", "metadata": {"name": "web"},
        "spec": {
            "replicas": replicas, "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "web", "image": "web:1"}]}},
        },
    })
}

/// Never more pods than this.
fn at_most(pods: usize) -> Box<dyn Oracle> {
    Box::new(move |written: &Written<'_>| {
        let standing = written.store.all(Kind::named("pods")).filter(|pod| !is_terminating(pod)).count();
        (standing > pods).then(|| format!("pods: {standing} stand, at most {pods} may"))
    })
}

pub(crate) fn scenarios() -> Vec<Scenario> {
    vec![
        Scenario::new("three pods", Controller::Replication, [node("a"), node("b"), group(3)])
            .watched(|| vec![at_most(3)]),
    ]
}

#[test]
fn whatever_happens_to_a_request_there_are_three_pods_in_the_end() {
    for scenario in scenarios() {
        let report = explore(&scenario, &COMMON);
        println!("{}: {} requests, {} runs", scenario.name, report.requests, report.runs);
        assert!(report.requests > 5, "the controller does something");
        report.assert_kept();
    }
}
