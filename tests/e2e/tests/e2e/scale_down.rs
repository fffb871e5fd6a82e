//! Which pods go first, on fake nodes. Orphans placed by hand and adopted give each test the start it needs.

use std::collections::{BTreeMap, BTreeSet};

use kube::ResourceExt;
use mainstay_e2e::{Component::Replication, Draft, FakeNodes, Group, Scenario, eventually, group, pods};
use serde_json::json;

const A: &str = "zone-a";
const B: &str = "zone-b";
const C: &str = "zone-c";

/// Creates `counts[n]` orphans on node number n, named `<node>-<number>`, and a group that adopts them all and has
/// them ready.
async fn placed(scenario: &Scenario, nodes: &FakeNodes, counts: &[usize], draft: Draft) -> Group {
    for (node, count) in counts.iter().enumerate() {
        for number in 0..*count {
            scenario.orphan(&format!("{node}-{number}"), "placed", nodes.pod_on(node)).await;
        }
    }
    let group = scenario.create(&draft.replicas(counts.iter().sum())).await;
    group.ready().await;
    group
}

/// How many of the group's pods are on each node.
async fn by_node(group: &Group, nodes: &FakeNodes, count: usize) -> Vec<usize> {
    let mut counts = BTreeMap::<String, usize>::new();
    for node in group.pods().await.into_iter().filter_map(|pod| pod.spec?.node_name) {
        *counts.entry(node).or_default() += 1;
    }
    (0..count).map(|number| counts.get(nodes.name(number)).copied().unwrap_or_default()).collect()
}

#[tokio::test]
async fn zones_stay_balanced_from_a_balanced_start() {
    let scenario = Scenario::start("zones", &[Replication]).await;
    let Some(nodes) = FakeNodes::make(&scenario, &[A, B, B, B, C, C]).await else { return };
    // By crowded nodes alone, zone-a would be emptied first.
    let group = placed(&scenario, &nodes, &[3, 1, 1, 1, 2, 1], group("placed", nodes.pod())).await;
    for (replicas, each) in [(6, 2), (3, 1)] {
        group.scale(replicas).await;
        group.has(replicas).await;
        let counts = by_node(&group, &nodes, 6).await;
        let zones = [counts[..1].iter().sum::<usize>(), counts[1..4].iter().sum(), counts[4..].iter().sum()];
        assert_eq!(zones, [each; 3], "of {replicas} pods: {counts:?}");
    }
}

#[tokio::test]
async fn zones_become_balanced_from_an_unbalanced_start() {
    let scenario = Scenario::start("skewed", &[Replication]).await;
    let Some(nodes) = FakeNodes::make(&scenario, &[A, A, A, A, A, B, C]).await else { return };
    // The most crowded node lies in a zone that has fewer pods than another.
    let group = placed(&scenario, &nodes, &[1, 1, 1, 1, 1, 3, 1], group("placed", nodes.pod())).await;
    for (replicas, expected) in [(7, [3, 3, 1]), (5, [2, 2, 1]), (3, [1, 1, 1])] {
        group.scale(replicas).await;
        group.has(replicas).await;
        let counts = by_node(&group, &nodes, 7).await;
        assert_eq!(
            [counts[..5].iter().sum(), counts[5], counts[6]],
            expected,
            "of {replicas} pods: {counts:?}"
        );
    }
}

#[tokio::test]
async fn the_crowded_node_loses_pods_first_unless_the_emptiest_is_to_be_freed() {
    let scenario = Scenario::start("prefer", &[Replication]).await;
    let Some(nodes) = FakeNodes::make(&scenario, &[A; 3]).await else { return };
    let group = placed(&scenario, &nodes, &[4, 1, 3], group("placed", nodes.pod())).await;
    group.scale(6).await;
    group.has(6).await;
    let counts = by_node(&group, &nodes, 3).await;
    assert_eq!(counts[1], 1, "the emptiest node lost a pod: {counts:?}");
    assert_eq!(BTreeSet::from([counts[0], counts[2]]), BTreeSet::from([2, 3]));

    // From here on the node with one pod is freed, then the one with two.
    group.patch(json!({"spec": {"replicas": 5, "scaleDown": {"prefer": "EmptiestNode"}}})).await;
    group.has(5).await;
    assert_eq!(by_node(&group, &nodes, 3).await[1], 0);
    group.scale(3).await;
    group.has(3).await;
    let mut counts = by_node(&group, &nodes, 3).await;
    counts.sort_unstable();
    assert_eq!(counts, [0, 0, 3]);
}

#[tokio::test]
async fn the_emptiest_node_is_found_by_pods_of_any_owner() {
    let scenario = Scenario::start("others", &[Replication]).await;
    let Some(nodes) = FakeNodes::make(&scenario, &[A; 2]).await else { return };
    for number in 0..4 {
        scenario.orphan(&format!("other-{number}"), "other", nodes.pod_on(0)).await;
    }
    let draft = group("placed", nodes.pod()).with("spec.scaleDown.prefer", "EmptiestNode");
    // Node 0 has fewer of the group's pods, but more in all.
    let group = placed(&scenario, &nodes, &[2, 3], draft).await;
    group.scale(2).await;
    group.has(2).await;
    assert_eq!(by_node(&group, &nodes, 2).await, [2, 0]);
}

#[tokio::test]
async fn named_then_unscheduled_then_unready_then_cheap_pods_go_first() {
    let scenario = Scenario::start("order", &[Replication]).await;
    let Some(nodes) = FakeNodes::make(&scenario, &[A]).await else { return };
    let names = ["named", "unscheduled", "unready", "cheap", "plain", "dear"];
    for name in names {
        let spec = if name == "unscheduled" { pods::gated() } else { nodes.pod_on(0) };
        scenario.orphan(name, "placed", spec).await;
    }
    for (name, cost) in [("named", "100"), ("cheap", "-10"), ("dear", "10")] {
        let annotations = json!({"controller.kubernetes.io/pod-deletion-cost": cost});
        scenario.patch_pod(name, json!({"metadata": {"annotations": annotations}})).await;
    }
    let draft = group("placed", nodes.pod())
        .replicas(6)
        .with("spec.scaleDown.podsToDelete", json!(["named", "ghost"]));
    let group = scenario.create(&draft).await;
    // Its status counts those too that it is about to adopt.
    eventually("all six pods are the group's", async || {
        let own = group.pods().await.len();
        (own == 6).then_some(()).ok_or(format!("{own} are"))
    })
    .await;
    group.until("has five pods ready", |status| status.ready_replicas == 5).await;
    scenario.set_ready("unready", false).await;
    group.until("sees the unready pod", |status| status.ready_replicas == 4).await;
    assert_eq!(group.pods().await.len(), 6, "a pod was deleted for being named alone");

    for (left, expected) in names.iter().enumerate().map(|(gone, name)| (names.len() - gone - 1, *name)) {
        let before = group.pod_names().await;
        group.scale(left).await;
        let gone = eventually(&format!("{left} pods are left"), async || {
            let now = group.pod_names().await;
            if now.len() == left { Ok(&before - &now) } else { Err(format!("{now:?}")) }
        })
        .await;
        assert_eq!(gone, BTreeSet::from([expected.to_owned()]), "with {left} left");
    }
    let said = group.event("PodsDeleted").await;
    assert!(said.contains("named"), "the event names no pod: {said}");
    assert!(
        scenario.pods().list(&Default::default()).await.unwrap().iter().all(|pod| pod.name_any() != "ghost")
    );
}

#[tokio::test]
async fn a_cordoned_node_loses_its_pods_first() {
    let scenario = Scenario::start("cordoned", &[Replication]).await;
    let Some(nodes) = FakeNodes::make(&scenario, &[A, B, C]).await else { return };
    let group = placed(&scenario, &nodes, &[2, 2, 2], group("placed", nodes.pod())).await;
    nodes.patch(1, json!({"spec": {"unschedulable": true}})).await;
    // The scheduler's pods do not tell when the controller has heard of it: one pod of the node is enough.
    eventually("the controller has seen it", async || {
        group.scale(5).await;
        group.has(5).await;
        let counts = by_node(&group, &nodes, 3).await;
        if counts == [2, 1, 2] {
            return Ok(());
        }
        group.scale(6).await;
        group.ready().await;
        Err(format!("{counts:?}"))
    })
    .await;
    group.scale(4).await;
    group.has(4).await;
    assert_eq!(by_node(&group, &nodes, 3).await, [2, 0, 2]);
}

#[tokio::test]
async fn a_pod_that_is_named_is_replaced_at_once_by_choice() {
    let scenario = Scenario::start("specified", &[Replication]).await;
    let Some(nodes) = FakeNodes::make(&scenario, &[A]).await else { return };
    let group = scenario.create(&group("web", nodes.pod()).replicas(3)).await;
    group.ready().await;
    let before = group.pod_names().await;
    let named = before.iter().next().expect("it has three").clone();
    group
        .patch(json!({"spec": {"scaleDown": {"podsToDelete": [named], "podsToDeletePolicy": "Replace"}}}))
        .await;
    eventually("another pod has taken its place", async || {
        let after = group.pod_names().await;
        let kept = before.intersection(&after).count();
        ((after.len(), kept) == (3, 2) && !after.contains(&named)).then_some(()).ok_or(format!("{after:?}"))
    })
    .await;
    group.ready().await;
}
