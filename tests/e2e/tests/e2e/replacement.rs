//! Pods that end, and what takes their place.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use mainstay_e2e::{
    Component::Replication,
    FakeNodes, Group, Recorder, Scenario, condition, eventually, group, kubectl,
    pods::{self, is_active},
    reason, within,
};
use serde_json::json;

/// A finalizer that keeps pods terminating until the test lets them go. They must be on nodes: a pod without one
/// that terminates is failed by the cluster's pod garbage collector, sooner or later, and has then ended.
const HOLD: &str = "e2e.mainstay.dev/hold";

async fn active(group: &Group) -> Vec<String> {
    group.pods().await.iter().filter(|pod| is_active(pod)).map(ResourceExt::name_any).collect()
}

#[tokio::test]
async fn an_evicted_pod_is_replaced_and_left_as_evidence() {
    let scenario = Scenario::start("evicted", &[Replication]).await;
    let evicted = scenario.create(&group("evicted", pods::gated()).replicas(3)).await;
    evicted.has(3).await;
    let before = active(&evicted).await;
    scenario.fail(&before[0]).await;
    eventually("another pod has taken its place", async || {
        let now = active(&evicted).await;
        let all = evicted.pods().await.len();
        let replaced = now.len() == 3 && !now.contains(&before[0]) && all == 4;
        replaced.then_some(()).ok_or(format!("active {now:?} of {all}, evicted {}", before[0]))
    })
    .await;
    let status = evicted.until("counts three", |status| status.replicas == 3).await;
    assert_eq!(condition(&status, "Stalled").status, "False");
    assert_ne!(reason(&status), "CreateBackoff", "one failure is no reason to wait");
}

#[tokio::test]
async fn pods_of_a_deleted_node_are_replaced_on_another() {
    let scenario = Scenario::start("node", &[Replication]).await;
    let Some(nodes) = FakeNodes::make(&scenario, &["zone-a", "zone-b"]).await else { return };
    for number in 0..4 {
        scenario.orphan(&format!("pod-{number}"), "moved", nodes.pod_on(number % 2)).await;
    }
    let moved = scenario.create(&group("moved", nodes.pod()).replicas(4)).await;
    moved.ready().await;
    kubectl(&format!("delete node {}", nodes.name(0))).succeeded();
    // The cluster's pod garbage collector gives a node 40 s to come back, and looks every 20 s.
    within(Duration::from_secs(180), "all pods are on the node that is left", async || {
        let pods = moved.pods().await;
        let places: Vec<_> = pods.iter().map(|pod| pod.spec.as_ref().unwrap().node_name.as_deref()).collect();
        let there = places == [Some(nodes.name(1)); 4] && pods.iter().all(is_active);
        there.then_some(()).ok_or(format!("{places:?}"))
    })
    .await;
    moved.ready().await;
}

#[tokio::test]
async fn pods_that_fail_one_after_the_other_slow_their_group_down() {
    let scenario = Scenario::start("backoff", &[Replication]).await;
    let doomed = scenario.create(&group("doomed", pods::gated())).await;
    // Every pod fails as soon as it is there. Without a pause this would never end.
    let status = eventually("creation pauses", async || {
        for pod in active(&doomed).await {
            scenario.fail(&pod).await;
        }
        let (failed, status) = (doomed.pods().await.len(), doomed.get().await.status.unwrap_or_default());
        assert!(failed < 40, "{failed} pods were made, and the group does not slow down");
        if reason(&status) == "CreateBackoff" {
            Ok(status)
        } else {
            Err(format!("{failed} failed, {status:?}"))
        }
    })
    .await;
    assert_eq!(status.replicas, 0);
    let ready = condition(&status, "Ready");
    assert!(ready.message.contains("the next is created at"), "it does not say how long: {}", ready.message);

    // A scale-up waits too: its report has been made, and no pod.
    let failed = doomed.pod_uids().await;
    doomed.scale(2).await;
    doomed.reason("CreateBackoff").await;
    assert_eq!(doomed.pod_uids().await, failed, "a pod was made during the pause");

    // Whoever has removed the cause deletes the failed pods, and the pause ends.
    scenario.kubectl("delete pods --selector=app=doomed").succeeded();
    doomed.has(2).await;
}

#[tokio::test]
async fn when_terminating_replaces_a_pod_that_is_still_going() {
    let scenario = Scenario::start("terminating", &[Replication]).await;
    let Some(nodes) = FakeNodes::make(&scenario, &["zone-a"]).await else { return };
    let draft =
        group("quick", nodes.pod()).replicas(3).with("spec.template.metadata.finalizers", json!([HOLD]));
    let quick = scenario.create(&draft).await;
    quick.ready().await;
    let victim = active(&quick).await.remove(0);
    scenario.kubectl(&format!("delete pod {victim} --wait=false")).succeeded();
    let status =
        quick.until("has its three beside the old one", |s| s.replicas == 3 && s.terminating_replicas == 1);
    assert_eq!(status.await.fully_labeled_replicas, 3);
    assert_eq!(quick.pods().await.len(), 4);
    scenario.let_go(&victim).await;
    quick.until("has seen the old one go", |status| status.terminating_replicas == 0).await;
    for pod in quick.pod_names().await {
        scenario.let_go(&pod).await;
    }
}

#[tokio::test]
async fn when_terminated_never_has_more_pods_than_replicas() {
    let scenario = Scenario::start("terminated", &[Replication]).await;
    let Some(nodes) = FakeNodes::make(&scenario, &["zone-a"]).await else { return };
    let record = Recorder::<Pod>::start(scenario.pods()).await;
    let draft = group("strict", nodes.pod())
        .replicas(3)
        .with("spec.podReplacement", "WhenTerminated")
        .with("spec.template.metadata.finalizers", json!([HOLD]));
    let strict = scenario.create(&draft).await;
    strict.ready().await;
    for _ in 0..2 {
        let victim = active(&strict).await.remove(0);
        scenario.kubectl(&format!("delete pod {victim} --wait=false")).succeeded();
        let status = strict.reason("WaitingForTermination").await;
        assert_eq!((status.replicas, status.terminating_replicas), (2, 1));
        scenario.let_go(&victim).await;
        strict.ready().await;
    }
    // Fewer and more again, while old pods still terminate.
    strict.scale(1).await;
    strict.until("two pods terminate", |status| status.terminating_replicas == 2).await;
    strict.scale(3).await;
    strict.reason("WaitingForTermination").await;
    for pod in strict.pods().await.iter().filter(|pod| !is_active(pod)) {
        scenario.let_go(&pod.name_any()).await;
    }
    strict.ready().await;
    record.catch_up().await;
    assert_eq!(record.most_at_once(), 3);
    for pod in strict.pod_names().await {
        scenario.let_go(&pod).await;
    }
}
