//! Recreate, partition, OnDelete.

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use mainstay_crds::ReplicaGroup;
use mainstay_e2e::{
    Component::Replication, FakeNodes, Group, Recorder, Scenario, condition, group, pods, version,
};
use serde_json::json;

/// A finalizer that keeps pods terminating until the test lets them go.
const HOLD: &str = "e2e.mainstay.dev/hold";

/// Kills a pod of this version.
async fn kill(scenario: &Scenario, group: &Group, of: &str) {
    let pods = group.pods().await;
    let victim = pods.iter().find(|pod| pods::is_active(pod) && version(pod) == of);
    let name = victim.unwrap_or_else(|| panic!("there is no pod of version {of}")).name_any();
    scenario.kubectl(&format!("delete pod {name}")).succeeded();
}

async fn let_go(scenario: &Scenario, pod: &str) {
    scenario.patch_pod(pod, json!({"metadata": {"finalizers": null}})).await;
}

#[tokio::test]
async fn recreate_never_has_old_and_new_pods_together() {
    let scenario = Scenario::start("recreate", &[Replication]).await;
    let Some(nodes) = FakeNodes::make(&scenario, &["zone-a"]).await else { return };
    let draft = group("alone", nodes.pod())
        .replicas(3)
        .update_type("Recreate")
        .with("spec.template.metadata.finalizers", json!([HOLD]))
        .version("1");
    let alone = scenario.create(&draft).await;
    alone.completes("1").await;
    let old = alone.pod_names().await;
    let record = Recorder::<Pod>::start(scenario.pods()).await;
    alone.change_with("2", json!({"metadata": {"finalizers": null}})).await;

    // One after the other they end; while one is left, none is made.
    for (gone, pod) in old.iter().enumerate() {
        let left = i32::try_from(old.len() - gone).unwrap();
        let status =
            alone.until("waits for the old pods", |status| status.terminating_replicas == left).await;
        assert_eq!(
            (status.replicas, condition(&status, "Ready").status.as_str()),
            (0, "False"),
            "{status:?}"
        );
        let_go(&scenario, pod).await;
    }
    alone.completes("2").await;
    record.always("old and new pods are never there together", |moment| moment.present.len() <= 1).await;
}

#[tokio::test]
async fn recreate_on_a_real_node_starts_no_container_beside_an_old_one() {
    let scenario = Scenario::start("recreated", &[Replication]).await;
    let alone = scenario
        .create(&group("alone", pods::pause()).replicas(3).update_type("Recreate").version("1"))
        .await;
    alone.completes("1").await;
    let record = Recorder::<Pod>::start(scenario.pods()).await;
    alone.change("2").await;
    alone.completes("2").await;
    record.always("old and new pods are never there together", |moment| moment.present.len() <= 1).await;
    assert_eq!(record.uids().len(), 6);
}

#[tokio::test]
async fn a_partition_keeps_old_pods_and_moves_both_ways() {
    let scenario = Scenario::start("partition", &[Replication]).await;
    let Some(nodes) = FakeNodes::make(&scenario, &["zone-a", "zone-b"]).await else { return };
    let draft =
        group("parted", nodes.pod()).replicas(5).rolling(1, 1).with("spec.update.partition", 3).version("1");
    let parted = scenario.create(&draft).await;
    parted.completes("1").await;
    let record = Recorder::<Pod>::start(scenario.pods()).await;
    parted.change("2").await;
    let reached = async |old: usize| {
        parted.settles_at(&[("1", old), ("2", 5 - old)]).await;
        let status = parted.progressing("PartitionReached").await;
        assert_eq!(status.updated_replicas, i32::try_from(5 - old).unwrap());
        let status = parted.ready().await;
        assert_ne!(status.current_revision, status.update_revision);
    };
    reached(3).await;

    // A pod that is lost comes back as what it was.
    for version in ["1", "2"] {
        kill(&scenario, &parted, version).await;
        reached(3).await;
    }
    let partition = async |pods: usize| {
        parted.patch(json!({"spec": {"update": {"partition": pods}}})).await;
    };
    partition(1).await;
    reached(1).await;
    partition(4).await;
    reached(4).await;
    partition(0).await;
    parted.completes("2").await;
    // The test itself took one of the five, beside the one that the update may take.
    record.stays_within(3..=6).await;
}

#[tokio::test]
async fn on_delete_leaves_the_choice_of_pods_to_somebody() {
    let scenario = Scenario::start("ondelete", &[Replication]).await;
    let Some(nodes) = FakeNodes::make(&scenario, &["zone-a"]).await else { return };
    let draft = group("manual", nodes.pod()).replicas(3).update_type("OnDelete").version("1");
    let manual = scenario.create(&draft).await;
    manual.completes("1").await;
    let before = manual.pod_uids().await;
    let reports = Recorder::<ReplicaGroup>::start(scenario.api()).await;
    manual.change("2").await;
    let status = manual.progressing("WaitingForDeletion").await;
    assert_eq!(condition(&status, "Progressing").status, "True");
    assert_eq!(manual.pod_uids().await, before, "pods were exchanged");
    for new in 1..=3 {
        kill(&scenario, &manual, "1").await;
        manual.settles_at(&[("1", 3 - new), ("2", new)]).await;
    }
    manual.completes("2").await;
    reports.catch_up().await;
    let failed = reports.read(|states| {
        states
            .iter()
            .any(|(group, _)| group.status.as_ref().is_some_and(|status| status.failed_revision.is_some()))
    });
    assert!(!failed, "the change was called failed");
}
