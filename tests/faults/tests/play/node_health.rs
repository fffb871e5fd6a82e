//! NodeHealthPolicies.

use mainstay_faults::play::{
    controller::Controller,
    explore::explore,
    fault::COMMON,
    oracle::{Oracle, Written},
    scenario::{Scenario, node, silence},
};
use serde_json::{Value, json};

fn policy() -> Value {
    json!({
        "apiVersion": "mainstay.dev/v1alpha1", "kind": "NodeHealthPolicy", "metadata": {"name": "workers"},
        "spec": {
            "nodeSelector": {}, "dryRun": false, "unreachableAfter": "15s",
            // A check of a kubelet would be one of this machine's network.
            "secondOpinion": {"kubelet": {"enabled": false}},
            "breakers": {"zone": {"maxUnhealthy": "100%"}, "cluster": {"maxUnhealthy": "40%"}},
        },
    })
}

/// Nodes that answer are never cordoned or tainted.
fn healthy_left_alone() -> Box<dyn Oracle> {
    Box::new(|written: &Written<'_>| {
        let request = written.request;
        let is_touched = request.is_of("nodes") && request.name != "c";
        let node = written.store.find(request.kind()?, "", &request.name)?;
        let acted = node["spec"]["unschedulable"] == true || node["spec"]["taints"].is_array();
        (is_touched && acted).then(|| format!("healthy: node {} answers and was acted on", request.name))
    })
}

pub(crate) fn scenarios() -> Vec<Scenario> {
    let given = [node("a"), node("b"), node("c"), policy()];
    let mut silent =
        Scenario::new("one of three nodes goes silent", Controller::NodeHealth, given).at(60, silence("c"));
    // It asks whether it still hears of all nodes and of the silent one's pods, for as long as it runs.
    silent.background = |request| {
        !request.is_write() && ["leases", "nodes", "pods"].iter().any(|plural| request.is_of(plural))
    };
    // What is noted on the node says since when, which a fault delays.
    silent.scrub = |object| {
        if let Some(note) = object["metadata"]["annotations"].get_mut("mainstay.dev/node-health") {
            *note = "noted".into();
        }
    };
    vec![silent.watched(|| vec![healthy_left_alone()])]
}

#[test]
fn whatever_happens_to_a_request_the_silent_node_alone_is_acted_on() {
    for scenario in scenarios() {
        let report = explore(&scenario, &COMMON);
        println!("{}: {} requests, {} runs", scenario.name, report.requests, report.runs);
        assert!(report.requests > 5, "the controller does something");
        report.assert_kept();
    }
}
