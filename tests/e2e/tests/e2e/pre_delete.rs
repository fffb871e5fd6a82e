//! A hook that is waited for before a pod that runs is deleted. The test is who the hook belongs to.

use std::time::Duration;

use k8s_openapi::{api::core::v1::Pod, jiff::Timestamp};
use kube::ResourceExt;
use mainstay_e2e::{
    Component::Replication,
    Draft, FINALIZER, FakeNodes, Recorder, Scenario, condition, eventually, group, is_told,
    pods::{self, is_ready},
    told_at,
};
use serde_json::json;

/// Longer than any of these tests waits.
const LONG: i64 = 120;
/// So short that a test can wait for its end.
const SHORT: i64 = 3;

/// A group of so many pods with a hook, which run and are ready on `nodes`.
fn hooked(nodes: &FakeNodes, replicas: usize, timeout: i64) -> Draft {
    group("hooked", nodes.pod()).replicas(replicas).rolling(1, 0).pre_delete(timeout)
}

#[tokio::test]
async fn a_pod_that_is_to_go_runs_on_until_its_hook_is_done() {
    let scenario = Scenario::start("hook", &[Replication]).await;
    let Some(nodes) = FakeNodes::make(&scenario, &["zone-a"]).await else { return };
    let hooked = scenario.create(&hooked(&nodes, 3, LONG)).await;
    hooked.ready().await;
    let before = hooked.pod_uids().await;
    for pod in hooked.pods().await {
        assert_eq!(pod.finalizers(), [FINALIZER]);
        assert_eq!(pod.annotations()["mainstay.dev/pre-delete-finalizer"], FINALIZER);
        assert!(!is_told(&pod), "{:?}", pod.annotations());
    }
    let start = Timestamp::now();
    hooked.scale(2).await;
    let told = hooked.told(1).await.remove(0);
    let at = told_at(&told).unwrap();
    assert!((at - start).get_seconds().abs() <= 60, "told at {at}, scaled down at {start}");
    let status = hooked.reason("WaitingForPreDelete").await;
    let ready = condition(&status, "Ready");
    assert_eq!(ready.status, "False");
    let until = (at + Duration::from_secs(LONG.unsigned_abs())).strftime("%FT%TZ").to_string();
    for part in ["1 pod", &until] {
        assert!(ready.message.contains(part), "{:?} does not say {part}", ready.message);
    }
    // A report on a new generation shows that a reconcile was made over it.
    hooked.patch(json!({"spec": {"paused": true}})).await;
    hooked.reason("WaitingForPreDelete").await;
    assert_eq!(hooked.pod_uids().await, before, "a pod was deleted before its hook was done");
    let told = hooked.told(1).await.remove(0);
    assert_eq!((told_at(&told), is_ready(&told)), (Some(at), true), "it runs on, and is told once");

    scenario.let_go(&told.name_any()).await;
    let status = hooked.ready().await;
    assert_eq!(status.replicas, 2);
    let after = hooked.pod_uids().await;
    assert!(!after.contains(&told.uid().unwrap()) && after.is_subset(&before), "{after:?} of {before:?}");
    hooked.told(0).await;
}

#[tokio::test]
async fn a_hook_that_takes_too_long_is_given_up_and_that_is_said() {
    let scenario = Scenario::start("timeout", &[Replication]).await;
    let Some(nodes) = FakeNodes::make(&scenario, &["zone-a"]).await else { return };
    let hooked = scenario.create(&hooked(&nodes, 2, SHORT)).await;
    hooked.ready().await;
    let record = Recorder::<Pod>::start(scenario.pods()).await;
    hooked.scale(1).await;
    let said = hooked.event("PreDeleteTimedOut").await;
    hooked.ready().await;
    record.catch_up().await;
    assert_eq!((hooked.pods().await.len(), record.uids().len()), (1, 2));
    let lasts = record.read(|states| {
        let gone = states.iter().filter(|(_, gone)| *gone);
        gone.map(|(pod, _)| (pod.name_any(), told_at(pod), pod.metadata.deletion_timestamp.clone()))
            .collect::<Vec<_>>()
    });
    let [(name, Some(told), Some(deleted))] = &lasts[..] else {
        panic!("not one pod that was told: {lasts:?}")
    };
    // Both times are whole seconds.
    assert!((deleted.0 - *told).get_seconds() >= SHORT, "told at {told}, deleted at {}", deleted.0);
    assert!(said.contains(name), "the event does not name {name}: {said}");
}

#[tokio::test]
async fn a_pod_that_need_not_go_after_all_is_told_so_and_stays() {
    let scenario = Scenario::start("recall", &[Replication]).await;
    let Some(nodes) = FakeNodes::make(&scenario, &["zone-a"]).await else { return };
    let hooked = scenario.create(&hooked(&nodes, 3, LONG)).await;
    hooked.ready().await;
    let before = hooked.pod_uids().await;
    hooked.scale(1).await;
    hooked.told(2).await;
    hooked.scale(3).await;
    hooked.told(0).await;
    hooked.ready().await;
    assert_eq!(hooked.pod_uids().await, before);
    assert!(hooked.pods().await.iter().all(|pod| pod.finalizers() == [FINALIZER]), "a pod has lost its hook");
}

#[tokio::test]
async fn who_was_told_first_goes_unless_another_becomes_unready() {
    let scenario = Scenario::start("told", &[Replication]).await;
    let Some(nodes) = FakeNodes::make(&scenario, &["zone-a"]).await else { return };
    let hooked = scenario.create(&hooked(&nodes, 3, LONG)).await;
    hooked.ready().await;
    hooked.scale(2).await;
    let told = hooked.told(1).await.remove(0).name_any();
    let names = hooked.pod_names().await;
    let other = names.iter().find(|name| **name != told).unwrap();
    // Had nobody been told, this one would go now.
    let cheap = json!({"controller.kubernetes.io/pod-deletion-cost": "-100"});
    scenario.patch_pod(other, json!({"metadata": {"annotations": cheap}})).await;
    hooked.patch(json!({"spec": {"paused": true}})).await;
    hooked.reason("WaitingForPreDelete").await;
    assert_eq!(hooked.told(1).await[0].name_any(), told);

    scenario.set_ready(other, false).await;
    eventually("the unready one is told in its place", async || {
        let told: Vec<_> = hooked.told(1).await.iter().map(ResourceExt::name_any).collect();
        (told == [other.as_str()]).then_some(()).ok_or(format!("{told:?}"))
    })
    .await;
    scenario.let_go(other).await;
    let status = hooked.ready().await;
    assert_eq!(status.replicas, 2);
    let left = hooked.pod_names().await;
    assert!(left.contains(&told) && !left.contains(other), "{left:?}");
    hooked.told(0).await;
}

#[tokio::test]
async fn a_change_tells_each_old_pod_before_it_goes_and_keeps_within_its_bounds() {
    let scenario = Scenario::start("hookchange", &[Replication]).await;
    let Some(nodes) = FakeNodes::make(&scenario, &["zone-a", "zone-b"]).await else { return };
    let hooked = scenario.create(&hooked(&nodes, 4, LONG).version("1")).await;
    hooked.completes("1").await;
    let old = hooked.pod_uids().await;
    let record = Recorder::<Pod>::start(scenario.pods()).await;
    hooked.change("2").await;
    let status = hooked.reason("WaitingForPreDelete").await;
    assert_eq!(condition(&status, "Ready").status, "False");
    assert!(old.is_subset(&hooked.pod_uids().await), "an old pod went before its hook was done");

    eventually("all pods are of version 2", async || {
        for pod in hooked.pods().await.iter().filter(|pod| is_told(pod)) {
            scenario.finish(pod).await;
        }
        let versions = hooked.versions().await;
        (versions == mainstay_e2e::counts(&[("2", 4)])).then_some(()).ok_or(format!("{versions:?}"))
    })
    .await;
    hooked.completes("2").await;
    record.stays_within(4..=5).await;
    assert_eq!(record.uids().len(), 8);
    let untold = record.read(|states| {
        let went = states.iter().filter(|(pod, _)| pod.metadata.deletion_timestamp.is_some());
        went.filter(|(pod, _)| !is_told(pod)).map(|(pod, _)| pod.name_any()).collect::<Vec<_>>()
    });
    assert!(untold.is_empty(), "deleted without a word before: {untold:?}");
    hooked.told(0).await;
}

#[tokio::test]
async fn a_pod_that_somebody_else_deletes_is_not_kept_for_longer_than_the_timeout() {
    let scenario = Scenario::start("foreign", &[Replication]).await;
    let Some(nodes) = FakeNodes::make(&scenario, &["zone-a"]).await else { return };
    let hooked = scenario.create(&hooked(&nodes, 2, SHORT)).await;
    hooked.ready().await;
    let record = Recorder::<Pod>::start(scenario.pods()).await;
    let victim = hooked.pods().await.remove(0);
    scenario.kubectl(&format!("delete pod {} --wait=false", victim.name_any())).succeeded();
    let said = hooked.event("PreDeleteTimedOut").await;
    assert!(said.contains(&victim.name_any()), "{said}");
    eventually("the pod is gone, and another in its place", async || {
        let now = hooked.pod_names().await;
        (now.len() == 2 && !now.contains(&victim.name_any())).then_some(()).ok_or(format!("{now:?}"))
    })
    .await;
    record.catch_up().await;
    let held = record.read(|states| {
        let ours = states.iter().filter(|(pod, _)| pod.uid() == victim.uid());
        let terminates = ours.filter(|(pod, _)| pod.metadata.deletion_timestamp.is_some());
        terminates.filter(|(pod, _)| pod.finalizers() == [FINALIZER]).count()
    });
    assert!(held > 0, "the pod has not been kept at all");
}

#[tokio::test]
async fn recreation_waits_for_all_hooks_before_it_makes_a_new_pod() {
    let scenario = Scenario::start("hookrecreate", &[Replication]).await;
    let Some(nodes) = FakeNodes::make(&scenario, &["zone-a"]).await else { return };
    let draft =
        group("hooked", nodes.pod()).replicas(3).update_type("Recreate").pre_delete(LONG).version("1");
    let hooked = scenario.create(&draft).await;
    hooked.completes("1").await;
    let record = Recorder::<Pod>::start(scenario.pods()).await;
    hooked.change("2").await;
    for pod in hooked.told(3).await {
        scenario.finish(&pod).await;
    }
    hooked.completes("2").await;
    record.always("no two versions beside each other", |moment| moment.present.len() <= 1).await;
    assert_eq!(record.uids().len(), 6);
}

#[tokio::test]
async fn a_change_in_place_calls_no_hook() {
    let scenario = Scenario::start("hookinplace", &[Replication]).await;
    let mut spec = pods::pause();
    spec["containers"][0]["image"] = pods::AGNHOST.into();
    spec["containers"][0]["args"] = json!(["pause"]);
    let draft = group("hooked", spec).replicas(2).rolling(0, 1).pre_delete(LONG);
    let hooked = scenario.create(&draft.with("spec.update.inPlace", "IfPossible")).await;
    hooked.ready().await;
    let record = Recorder::<Pod>::start(scenario.pods()).await;
    let container = hooked.container_with(json!({"image": pods::PAUSE})).await;
    hooked.patch(json!({"spec": {"template": {"spec": {"containers": [container]}}}})).await;
    eventually("all pods are of the new revision", async || {
        let status = hooked.get().await.status.unwrap_or_default();
        let done = status.updated_replicas == 2 && status.current_revision == status.update_revision;
        done.then_some(()).ok_or(format!("{status:?}"))
    })
    .await;
    record.catch_up().await;
    assert_eq!(record.uids().len(), 2, "a pod was replaced");
    assert!(record.read(|states| states.iter().all(|(pod, _)| !is_told(pod))), "a pod was told to go");
}
