//! The three ways to delete a group.

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use mainstay_e2e::{Component::Replication, FakeNodes, Recorder, Scenario, eventually, group, pods, reason};
use serde_json::json;

async fn count(scenario: &Scenario) -> Result<usize, String> {
    let pods = scenario.pods().list(&Default::default()).await.map_err(|error| error.to_string())?;
    Ok(pods.items.len())
}

async fn no_pods(scenario: &Scenario) {
    eventually("all pods are gone", async || match count(scenario).await? {
        0 => Ok(()),
        left => Err(format!("{left} are left")),
    })
    .await;
}

#[tokio::test]
async fn a_background_deletion_takes_the_pods_along() {
    let scenario = Scenario::start("background", &[Replication]).await;
    let gone = scenario.create(&group("gone", pods::gated()).replicas(3)).await;
    gone.has(3).await;
    let record = Recorder::<Pod>::start(scenario.pods()).await;
    scenario.kubectl("delete rg/gone --cascade=background").succeeded();
    no_pods(&scenario).await;
    assert_eq!(record.uids().len(), 3, "pods were made for a group that was deleted");
}

#[tokio::test]
async fn a_foreground_deletion_waits_for_the_pods() {
    let scenario = Scenario::start("foreground", &[Replication]).await;
    let Some(nodes) = FakeNodes::make(&scenario, &["zone-a"]).await else { return };
    let draft = group("last", nodes.pod())
        .replicas(2)
        .with("spec.template.metadata.finalizers", json!(["e2e.mainstay.dev/hold"]));
    let last = scenario.create(&draft).await;
    last.ready().await;
    let record = Recorder::<Pod>::start(scenario.pods()).await;
    scenario.kubectl("delete rg/last --cascade=foreground --wait=false").succeeded();
    eventually("the group says that it goes, while its pods terminate", async || {
        let group = last.get().await;
        assert!(group.finalizers().iter().any(|finalizer| finalizer == "foregroundDeletion"));
        let status = group.status.unwrap_or_default();
        let told = reason(&status) == "Deleting" && status.terminating_replicas == 2;
        told.then_some(()).ok_or(format!("{status:?}"))
    })
    .await;
    for pod in last.pod_names().await {
        scenario.let_go(&pod).await;
    }
    scenario.kubectl("wait --for=delete rg/last --timeout=60s").succeeded();
    no_pods(&scenario).await;
    assert_eq!(record.uids().len(), 2, "pods were made for a group that was being deleted");
}

#[tokio::test]
async fn an_orphaning_deletion_leaves_the_pods_to_the_next_group() {
    let scenario = Scenario::start("orphan", &[Replication]).await;
    let draft = group("heir", pods::gated()).replicas(3);
    let first = scenario.create(&draft).await;
    first.has(3).await;
    let pods = first.pod_uids().await;
    scenario.kubectl("delete rg/heir --cascade=orphan").succeeded();
    let left = scenario.pods().list(&Default::default()).await.unwrap().items;
    assert_eq!(left.len(), 3);
    assert!(
        left.iter().all(|pod| pod.owner_references().is_empty() && pod.metadata.deletion_timestamp.is_none())
    );

    let second = scenario.create(&draft).await;
    second.has(3).await;
    assert_eq!(second.pod_uids().await, pods, "the next group did not adopt the pods");
}
