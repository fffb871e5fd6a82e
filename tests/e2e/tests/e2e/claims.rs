//! Whose a pod is.

use std::collections::BTreeSet;

use k8s_openapi::api::{apps::v1::ReplicaSet, core::v1::Pod};
use kube::{Api, ResourceExt, api::PostParams};
use mainstay_e2e::{Component::Replication, Recorder, Scenario, eventually, group, pods};
use serde_json::json;

fn uids(pods: &[Pod]) -> BTreeSet<String> {
    pods.iter().filter_map(ResourceExt::uid).collect()
}

#[tokio::test]
async fn an_orphan_that_matches_is_adopted_and_counted() {
    let scenario = Scenario::start("adopt", &[Replication]).await;
    let series = "mainstay_replication_pods_adopted_total";
    let before = scenario.controller().total(series, &[]).await;
    let orphan = scenario.orphan("orphan", "adopter", pods::gated()).await;
    let stranger = scenario.orphan("stranger", "other", pods::gated()).await;
    let adopter = scenario.create(&group("adopter", pods::gated()).replicas(3)).await;
    adopter.has(3).await;
    let owned = adopter.pod_uids().await;
    assert_eq!(owned.len(), 3);
    assert!(owned.contains(&orphan.uid().unwrap()), "the orphan was not adopted");
    assert!(!owned.contains(&stranger.uid().unwrap()), "a pod that does not match was adopted");
    adopter.event("PodsAdopted").await;
    assert!(scenario.controller().total(series, &[]).await > before, "{series} has not moved");
}

#[tokio::test]
async fn a_pod_that_matches_no_more_is_released_lives_on_and_is_replaced() {
    let scenario = Scenario::start("release", &[Replication]).await;
    let releaser = scenario.create(&group("releaser", pods::gated()).replicas(2)).await;
    releaser.has(2).await;
    let before = releaser.pods().await;
    let aside = before[0].name_any();
    scenario.patch_pod(&aside, json!({"metadata": {"labels": {"app": "debugged"}}})).await;
    eventually("the pod has been released and replaced", async || {
        let pod = scenario.pods().get(&aside).await.map_err(|error| error.to_string())?;
        let (owners, count) = (pod.owner_references().len(), releaser.pods().await.len());
        assert_eq!(
            (pod.uid(), pod.metadata.deletion_timestamp),
            (before[0].uid(), None),
            "the pod must live on"
        );
        (owners == 0 && count == 2).then_some(()).ok_or(format!("{owners} owners, {count} pods of the group"))
    })
    .await;
    assert!(releaser.pod_uids().await.contains(&before[1].uid().unwrap()), "the other pod has changed");
    releaser.event("PodsReleased").await;
}

#[tokio::test]
async fn pods_of_another_controller_are_never_touched() {
    let scenario = Scenario::start("foreign", &[Replication]).await;
    let labels = json!({"app": "shared"});
    let set: ReplicaSet = serde_json::from_value(json!({
        "metadata": {"name": "upstream"},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pods::gated()},
        },
    }))
    .unwrap();
    scenario.api().create(&PostParams::default(), &set).await.unwrap();
    let foreign = eventually("the ReplicaSet has its pods", async || {
        let pods = scenario.pods().list(&Default::default()).await.map_err(|error| error.to_string())?.items;
        if pods.len() == 2 { Ok(pods) } else { Err(format!("{} pods", pods.len())) }
    })
    .await;

    let shared = scenario.create(&group("shared", pods::gated()).replicas(3)).await;
    shared.has(3).await;
    assert!(shared.pod_uids().await.is_disjoint(&uids(&foreign)));
    shared.scale(0).await;
    shared.has(0).await;
    eventually("only the ReplicaSet's pods are left", async || {
        let left = scenario.pods().list(&Default::default()).await.map_err(|error| error.to_string())?.items;
        (left.len() == 2).then_some(()).ok_or(format!("{} pods", left.len()))?;
        assert_eq!(uids(&left), uids(&foreign), "the ReplicaSet had to make its pods anew");
        let owners: Vec<_> = left.iter().map(|pod| pod.owner_references()[0].kind.as_str()).collect();
        assert_eq!(owners, ["ReplicaSet", "ReplicaSet"]);
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn two_groups_that_select_the_same_pods_leave_each_other_alone() {
    let scenario = Scenario::start("overlap", &[Replication]).await;
    let labels = json!({"app": "same"});
    let draft = |name| {
        let draft = group(name, pods::gated()).replicas(3);
        draft
            .with("spec.selector.matchLabels", labels.clone())
            .with("spec.template.metadata.labels", labels.clone())
    };
    let (one, two) = (scenario.create(&draft("one")).await, scenario.create(&draft("two")).await);
    one.has(3).await;
    two.has(3).await;
    let (first, second) = (one.pod_uids().await, two.pod_uids().await);
    assert_eq!((first.len(), second.len()), (3, 3));

    let record = Recorder::<Pod>::start(scenario.pods()).await;
    // A report on a new generation shows that a reconcile was made over it.
    for paused in [true, false, true] {
        for group in [&one, &two] {
            group.patch(json!({"spec": {"paused": paused}})).await;
            group.has(3).await;
        }
    }
    record.catch_up().await;
    let written = record.read(<[_]>::len) - 6;
    assert_eq!(written, 0, "pods were written, though nothing was to be done");
    assert_eq!((one.pod_uids().await, two.pod_uids().await), (first, second));
}

#[tokio::test]
async fn a_group_that_becomes_smaller_keeps_pods_it_had() {
    let scenario = Scenario::start("shrink", &[Replication]).await;
    let shrunk = scenario.create(&group("shrunk", pods::gated()).replicas(5)).await;
    shrunk.has(5).await;
    let before = shrunk.pod_uids().await;
    shrunk.scale(2).await;
    shrunk.has(2).await;
    let after = shrunk.pod_uids().await;
    assert_eq!(after.len(), 2);
    assert!(after.is_subset(&before), "pods were made anew");
    let said = shrunk.event("PodsDeleted").await;
    assert!(said.contains("3 pods"), "the event does not say how many: {said}");

    // One too many, by hand: adopted, and one of the three goes.
    scenario.orphan("extra", "shrunk", pods::gated()).await;
    eventually("two pods are left", async || {
        let all: Api<Pod> = scenario.pods();
        let pods = all.list(&Default::default()).await.map_err(|error| error.to_string())?.items;
        let owned = shrunk.pods().await.len();
        (pods.len() == 2 && owned == 2).then_some(()).ok_or(format!("{} pods, {owned} owned", pods.len()))
    })
    .await;
}
