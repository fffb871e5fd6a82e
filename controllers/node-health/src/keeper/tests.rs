//! What a pass does with nodes whose policy is there and cannot be read.

use kube::{
    client::Body,
    runtime::{
        reflector::{store, store::Writer},
        watcher::Event,
    },
};
use mainstay_runtime::{
    decode::Undecodable, events::Events, k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use prometheus::Registry;
use serde_json::json;

use super::{jobs::Task, *};
use crate::watched::WatchedNode;

/// A keeper of one node, which the policy `ours` has cordoned, on a server that never answers.
fn keeper() -> (Keeper, Writer<NodeHealthPolicy>) {
    let silent = tower::service_fn(|_: http::Request<Body>| {
        std::future::pending::<Result<http::Response<Body>, std::io::Error>>()
    });
    let (client, registry) = (Client::new(silent, "default"), Registry::new());
    let (clock, (policies, writer)) = (Clock::start(), store());
    let (sight, nodes) = (Arc::new(Sight::new(clock)), Index::default());
    let record = json!({"taken": {"policy": "ours", "since": "2026-01-01T00:00:00Z", "cordon": true}});
    let node = json!({
        "metadata": {
            "name": "n", "uid": "n", "annotations": {crate::record::ANNOTATION: record.to_string()},
        },
        "spec": {"unschedulable": true},
        "status": {},
    });
    let node = Node::from(serde_json::from_value::<WatchedNode>(node).unwrap());
    nodes.apply(Event::Apply(node), |change| sight.node_changed(&change));
    let keeper = Keeper {
        announcer: Announcer::new(Events::start(client.clone(), "test", "test")),
        client,
        clock,
        sight,
        nodes,
        policies,
        undecoded: Undecoded::new(&registry),
        reports: Arc::new(Reports::new("test", STATUS_PACE)),
        metrics: Arc::new(Metrics::new(&registry)),
        loop_metrics: LoopMetrics::new(&registry, "test", 1),
        max_in_flight: 4,
        passed: Arc::new(LastPass::default()),
    };
    (keeper, writer)
}

/// Whether the node is written by a first pass.
fn is_written(keeper: &Keeper) -> bool {
    let mut mind = Mind::new(4);
    keeper.pass(&mut mind);
    mind.jobs.is_running(&(Task::Write, "n".into()))
}

fn policy(metadata: ObjectMeta, spec: serde_json::Value) -> NodeHealthPolicy {
    let mut policy = NodeHealthPolicy::new("ours", serde_json::from_value(spec).unwrap());
    policy.metadata = metadata;
    policy
}

#[tokio::test]
async fn what_a_policy_took_that_is_gone_is_handed_back() {
    assert!(is_written(&keeper().0));
}

#[tokio::test]
async fn what_a_policy_took_that_cannot_be_decoded_is_kept() {
    let (keeper, mut policies) = keeper();
    let metadata = ObjectMeta { name: Some("ours".into()), ..ObjectMeta::default() };
    keeper.undecoded.put(
        Undecodable {
            metadata,
            field: "spec.breakers.zone.maxUnhealthy".into(),
            error: "too much".into(),
            conditions: vec![],
        },
        None,
    );
    assert!(!is_written(&keeper));

    // Nor by a dry run that selects the node as well.
    let metadata = ObjectMeta { name: Some("dry".into()), uid: Some("dry".into()), ..ObjectMeta::default() };
    let dry = policy(metadata, json!({"nodeSelector": {}, "dryRun": true}));
    policies.apply_watcher_event(&Event::Apply(dry));
    assert!(!is_written(&keeper));
}

#[tokio::test]
async fn what_a_policy_took_that_makes_no_sense_is_kept() {
    let (keeper, mut policies) = keeper();
    let metadata =
        ObjectMeta { name: Some("ours".into()), uid: Some("ours".into()), ..ObjectMeta::default() };
    let expression = json!({"key": "a", "operator": "Gt", "values": ["1"]});
    let wrong = policy(metadata, json!({"nodeSelector": {"matchExpressions": [expression]}}));
    policies.apply_watcher_event(&Event::Apply(wrong));
    assert!(!is_written(&keeper));
}

#[tokio::test]
async fn the_remediations_of_a_policy_that_makes_no_sense_any_more_go_on() {
    for (operator, goes_on) in [("Gt", true), ("Exists", false)] {
        let (keeper, mut policies) = keeper();
        let mut mind = Mind::new(4);
        let mut apply = |generation, expressions: serde_json::Value| {
            let template = json!({
                "apiVersion": "x.dev/v1", "kind": "RepairTemplate", "namespace": "ns", "name": "gentle",
            });
            let selector = json!({"matchExpressions": expressions});
            let spec = json!({"nodeSelector": selector, "remediation": {"templates": [template]}});
            let metadata = ObjectMeta {
                name: Some("ours".into()),
                uid: Some("ours".into()),
                generation: Some(generation),
                ..ObjectMeta::default()
            };
            policies.apply_watcher_event(&Event::Apply(policy(metadata, spec)));
        };
        apply(1, json!([]));
        keeper.pass(&mut mind);
        mind.standing.insert("ours".into(), vec![crate::apply::leftovers::tests::made(json!([]))]);
        apply(
            2,
            json!([{"key": "a", "operator": operator, "values": if goes_on { json!(["1"]) } else { json!([]) }}]),
        );
        keeper.pass(&mut mind);
        // Where it can be read, and selects the node no more, they end.
        assert_eq!(mind.jobs.is_running(&(Task::Clear, "ours".into())), !goes_on, "{operator}");
    }
}
