//! The number of pods changes in the middle of a rollout.

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use mainstay_e2e::{Component::Replication, Group, Recorder, Scenario, eventually, group, pods, version};
use serde_json::json;

/// A group of version 1, all ready, whose pods become ready when the test says so.
async fn ready(scenario: &Scenario, replicas: usize, surge: i32, unavailable: i32) -> Group {
    let draft = group("sized", pods::gated()).replicas(replicas).rolling(surge, unavailable).version("1");
    let sized = scenario.create(&draft).await;
    sized.settles_at(&[("1", replicas)]).await;
    scenario.make_ready(&sized, "1").await;
    sized.completes("1").await;
    sized
}

#[tokio::test]
async fn a_group_that_grows_during_a_rollout_keeps_within_its_bounds() {
    let scenario = Scenario::start("grow", &[Replication]).await;
    let sized = ready(&scenario, 4, 2, 1).await;
    let record = Recorder::<Pod>::start(scenario.pods()).await;
    // Three available old pods, and as many new ones as there is room for, which are slow to become ready.
    sized.change("2").await;
    sized.settles_at(&[("1", 3), ("2", 3)]).await;
    record.stays_within(3..=6).await;

    sized.scale_by_subresource(8).await;
    // What is more is old: no new pod has been available yet.
    sized.settles_at(&[("1", 7), ("2", 3)]).await;
    assert_eq!(scenario.drive(&sized, "2").await.replicas, 8);
    record.stays_within(3..=10).await;
}

#[tokio::test]
async fn old_pods_that_are_lost_during_a_rollout_come_back_as_what_they_were() {
    let scenario = Scenario::start("lost", &[Replication]).await;
    let sized = ready(&scenario, 4, 1, 1).await;
    sized.change("2").await;
    sized.settles_at(&[("1", 3), ("2", 2)]).await;
    let pods = sized.pods().await;
    let old: Vec<_> = pods.iter().filter(|pod| version(pod) == "1").map(ResourceExt::name_any).collect();
    scenario.kubectl(&format!("delete pod {} {}", old[0], old[1])).succeeded();
    sized.settles_at(&[("1", 3), ("2", 2)]).await;
    scenario.make_ready(&sized, "1").await;
    sized.until("serves as it did", |status| status.available_replicas == 3).await;
    scenario.drive(&sized, "2").await;
}

#[tokio::test]
async fn a_group_that_shrinks_during_a_rollout_keeps_what_is_available() {
    let scenario = Scenario::start("shrinking", &[Replication]).await;
    let sized = ready(&scenario, 8, 2, 2).await;
    let record = Recorder::<Pod>::start(scenario.pods()).await;
    sized.change("2").await;
    sized.settles_at(&[("1", 6), ("2", 4)]).await;
    sized.scale_by_subresource(4).await;
    eventually("there are fewer pods", async || {
        let now = sized.versions().await;
        let all: usize = now.values().sum();
        (all <= 6).then_some(()).ok_or(format!("{now:?}"))
    })
    .await;
    assert_eq!(scenario.drive(&sized, "2").await.replicas, 4);
    // Two of four may be unavailable, so at least two of the old ones were kept until new ones were there.
    record.stays_within(2..=10).await;
    let moments = record.moments();
    assert!(moments.iter().all(|moment| moment.all_available() >= 2), "{moments:?}");
}

#[tokio::test]
async fn a_paused_rollout_stands_still_and_is_scaled_in_its_proportion() {
    let scenario = Scenario::start("paused", &[Replication]).await;
    let sized = ready(&scenario, 10, 0, 5).await;
    sized.change("2").await;
    sized.settles_at(&[("1", 5), ("2", 5)]).await;
    sized.patch(json!({"spec": {"paused": true}})).await;
    sized.progressing("Paused").await;
    // Now it could go on, and does not: a report on the new pods has been made, and no exchange.
    scenario.make_ready(&sized, "2").await;
    sized.until("sees the new pods ready", |status| status.available_replicas == 10).await;
    sized.settles_at(&[("1", 5), ("2", 5)]).await;

    sized.scale_by_subresource(20).await;
    sized.settles_at(&[("1", 10), ("2", 10)]).await;
    sized.scale_by_subresource(4).await;
    sized.settles_at(&[("1", 2), ("2", 2)]).await;
    sized.scale_by_subresource(10).await;
    sized.settles_at(&[("1", 5), ("2", 5)]).await;
    // A pod that is lost comes back as what it was.
    for version in ["1", "2"] {
        let pods = sized.pods().await;
        let victim = pods.iter().find(|pod| mainstay_e2e::version(pod) == version).unwrap();
        let name = victim.metadata.name.as_deref().unwrap();
        scenario.kubectl(&format!("delete pod {name}")).succeeded();
        sized.settles_at(&[("1", 5), ("2", 5)]).await;
    }
    sized.patch(json!({"spec": {"paused": false}})).await;
    for version in ["1", "2"] {
        scenario.make_ready(&sized, version).await;
    }
    assert_eq!(scenario.drive(&sized, "2").await.replicas, 10);
}

#[tokio::test]
async fn a_change_while_paused_waits_for_the_end_of_the_pause() {
    let scenario = Scenario::start("held", &[Replication]).await;
    let sized = ready(&scenario, 3, 1, 0).await;
    sized.patch(json!({"spec": {"paused": true}})).await;
    sized.change("2").await;
    let status = sized.progressing("Paused").await;
    assert_eq!((status.updated_replicas, status.replicas), (0, 3), "{status:?}");
    sized.scale_by_subresource(5).await;
    sized.settles_at(&[("1", 5)]).await;
    scenario.make_ready(&sized, "1").await;
    sized.patch(json!({"spec": {"paused": false}})).await;
    assert_eq!(scenario.drive(&sized, "2").await.replicas, 5);
}
