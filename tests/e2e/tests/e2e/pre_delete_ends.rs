//! Hooks when the group ends, the controller dies, or nobody wants them any more.

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use mainstay_crds::ReplicaGroup;
use mainstay_e2e::{
    Component::Replication, Draft, FINALIZER, FakeNodes, Group, NAME, Recorder, Scenario, Stopped,
    eventually, group, is_told, kubectl, pods, rolled_out,
};
use serde_json::json;

/// Longer than any of these tests waits.
const LONG: i64 = 120;
/// So short that a test can wait for its end.
const SHORT: i64 = 3;
/// What a group has whose deletion waits for hooks.
const OF_GROUP: &str = "mainstay.dev/pre-delete";

/// A group of so many pods with a hook, which run and are ready on `nodes`.
fn hooked(nodes: &FakeNodes, replicas: usize, timeout: i64) -> Draft {
    group("hooked", nodes.pod()).replicas(replicas).rolling(1, 0).pre_delete(timeout)
}

/// Waits until the group has its finalizer, or has it no more.
async fn has_finalizer(group: &Group, wanted: bool) {
    eventually(&format!("the group has the finalizer {OF_GROUP}: {wanted}"), async || {
        let finalizers = group.get().await.finalizers().to_vec();
        let has = finalizers.iter().any(|finalizer| finalizer == OF_GROUP);
        (has == wanted).then_some(()).ok_or(format!("{finalizers:?}"))
    })
    .await;
}

async fn all_gone(scenario: &Scenario) {
    scenario.kubectl("wait --for=delete rg/hooked --timeout=60s").succeeded();
    eventually("all pods are gone", async || {
        let left = scenario.pods().list(&Default::default()).await.map_err(|error| error.to_string())?.items;
        left.is_empty().then_some(()).ok_or(format!("{} are left", left.len()))
    })
    .await;
}

#[tokio::test]
async fn the_deletion_of_a_group_waits_for_the_hooks_of_its_pods() {
    let scenario = Scenario::start("hookend", &[Replication]).await;
    let Some(nodes) = FakeNodes::make(&scenario, &["zone-a"]).await else { return };
    let hooked = scenario.create(&hooked(&nodes, 3, LONG)).await;
    hooked.ready().await;
    has_finalizer(&hooked, true).await;
    let record = Recorder::<Pod>::start(scenario.pods()).await;
    scenario.kubectl("delete rg/hooked --wait=false").succeeded();
    let told = hooked.told(3).await;
    let status = hooked.reason("Deleting").await;
    assert_eq!(status.ready_replicas, 3, "the pods run on");
    // Each goes when its own hook is done.
    scenario.finish(&told[0]).await;
    eventually("the first is gone", async || {
        let now = hooked.pod_names().await;
        (!now.contains(&told[0].name_any())).then_some(()).ok_or(format!("{now:?}"))
    })
    .await;
    assert_eq!(hooked.told(2).await.len(), hooked.pods().await.len());
    assert!(hooked.pods().await.iter().all(|pod| pod.metadata.deletion_timestamp.is_none()));
    for pod in &told[1..] {
        scenario.finish(pod).await;
    }
    all_gone(&scenario).await;
    assert_eq!(record.uids().len(), 3, "pods were made for a group that was deleted");
}

#[tokio::test]
async fn the_deletion_of_a_group_does_not_wait_without_end() {
    let scenario = Scenario::start("hookendless", &[Replication]).await;
    let Some(nodes) = FakeNodes::make(&scenario, &["zone-a"]).await else { return };
    let hooked = scenario.create(&hooked(&nodes, 2, SHORT)).await;
    hooked.ready().await;
    scenario.kubectl("delete rg/hooked --wait=false").succeeded();
    hooked.event("PreDeleteTimedOut").await;
    all_gone(&scenario).await;
}

#[tokio::test]
async fn a_foreground_deletion_is_not_held_up_for_longer_than_the_timeout() {
    let scenario = Scenario::start("hookfront", &[Replication]).await;
    let Some(nodes) = FakeNodes::make(&scenario, &["zone-a"]).await else { return };
    let hooked = scenario.create(&hooked(&nodes, 2, SHORT)).await;
    hooked.ready().await;
    scenario.kubectl("delete rg/hooked --cascade=foreground --wait=false").succeeded();
    all_gone(&scenario).await;
}

#[tokio::test]
async fn the_deletion_of_a_namespace_is_not_held_up_for_longer_than_the_timeout() {
    let scenario = Scenario::start("hookspace", &[Replication]).await;
    let Some(nodes) = FakeNodes::make(&scenario, &["zone-a"]).await else { return };
    let hooked = scenario.create(&hooked(&nodes, 2, SHORT)).await;
    hooked.ready().await;
    // All is deleted at once, and no event can be published any more. The namespace controller itself looks again later and
    // later, half a minute apart with many namespaces on their way out.
    kubectl(&format!("delete namespace {} --timeout=180s", scenario.namespace)).succeeded();
}

#[tokio::test]
async fn an_orphaning_deletion_waits_for_nobody_and_touches_no_pod() {
    let scenario = Scenario::start("hookorphan", &[Replication]).await;
    let Some(nodes) = FakeNodes::make(&scenario, &["zone-a"]).await else { return };
    let draft = hooked(&nodes, 2, LONG);
    let first = scenario.create(&draft).await;
    first.ready().await;
    let uids = first.pod_uids().await;
    scenario.kubectl("delete rg/hooked --cascade=orphan --timeout=30s").succeeded();
    let left = scenario.pods().list(&Default::default()).await.unwrap().items;
    for pod in &left {
        let touched = is_told(pod) || pod.metadata.deletion_timestamp.is_some();
        assert!(!touched && pod.owner_references().is_empty(), "{:?}", pod.metadata);
        assert!(pod.finalizers().is_empty(), "nobody would end the hook of {:?}", pod.metadata);
    }
    // In the next group they have its hook.
    let second = scenario.create(&draft).await;
    second.ready().await;
    assert_eq!(second.pod_uids().await, uids);
    second.scale(1).await;
    let told = second.told(1).await;
    scenario.finish(&told[0]).await;
    second.ready().await;
    assert_eq!(second.pods().await.len(), 1);
}

#[tokio::test]
async fn a_group_can_be_deleted_of_which_a_pod_has_failed() {
    let scenario = Scenario::start("hookfailed", &[Replication]).await;
    let draft = group("hooked", pods::gated()).replicas(2).pre_delete(LONG);
    let hooked = scenario.create(&draft).await;
    hooked.has(2).await;
    let failed = hooked.pod_names().await.pop_first().unwrap();
    scenario.fail(&failed).await;
    eventually("the failed pod is replaced", async || {
        let pods = hooked.pods().await.len();
        (pods == 3).then_some(()).ok_or(format!("{pods} pods"))
    })
    .await;
    has_finalizer(&hooked, true).await;
    scenario.kubectl("delete rg/hooked --wait=false").succeeded();
    for pod in hooked.told(3).await {
        scenario.finish(&pod).await;
    }
    all_gone(&scenario).await;
}

#[tokio::test]
async fn a_pod_that_is_taken_aside_loses_its_hook_and_can_be_deleted() {
    let scenario = Scenario::start("hookaside", &[Replication]).await;
    let hooked = scenario.create(&group("hooked", pods::gated()).replicas(1).pre_delete(LONG)).await;
    hooked.has(1).await;
    let aside = hooked.pod_names().await.pop_first().unwrap();
    scenario.kubectl(&format!("label pod {aside} --overwrite app=debug")).succeeded();
    eventually("the pod is released", async || {
        let pod = scenario.pods().get(&aside).await.map_err(|error| error.to_string())?;
        let free = pod.owner_references().is_empty();
        free.then_some(()).ok_or(format!("{:?}", pod.metadata.owner_references))
    })
    .await;
    scenario.kubectl(&format!("delete pod {aside} --timeout=30s")).succeeded();
}

#[tokio::test]
async fn a_controller_that_dies_between_the_word_and_the_deletion_is_followed_by_one_that_knows() {
    let scenario = Scenario::alone("hookcrash", &[Replication]).await;
    let Some(nodes) = FakeNodes::make(&scenario, &["zone-a"]).await else { return };
    let controller = scenario.controller();
    let victim = controller.victim(&controller.leader().await).await;
    let hooked = scenario.create(&hooked(&nodes, 3, LONG)).await;
    hooked.ready().await;
    let record = Recorder::<Pod>::start(scenario.pods()).await;
    hooked.scale(2).await;
    let told = hooked.told(1).await.remove(0);
    victim.kill().await;
    scenario.finish(&told).await;
    eventually("the pod that was told is gone", async || {
        let now = hooked.pod_names().await;
        (now.len() == 2 && !now.contains(&told.name_any())).then_some(()).ok_or(format!("{now:?}"))
    })
    .await;
    hooked.ready().await;
    record.catch_up().await;
    let others = record.read(|states| states.iter().any(|(pod, _)| pod.uid() != told.uid() && is_told(pod)));
    assert!(!others, "another pod was told too");
    assert_eq!(record.uids().len(), 3);
    rolled_out(NAME).succeeded();
}

#[tokio::test]
async fn a_hook_that_was_done_in_vain_is_put_back() {
    let scenario = Scenario::alone("hookvain", &[Replication]).await;
    let Some(nodes) = FakeNodes::make(&scenario, &["zone-a"]).await else { return };
    let hooked = scenario.create(&hooked(&nodes, 2, LONG)).await;
    hooked.ready().await;
    let before = hooked.pod_uids().await;
    hooked.scale(1).await;
    let told = hooked.told(1).await.remove(0);
    let stopped = Stopped::begin(&scenario.controller()).await;
    scenario.finish(&told).await;
    hooked.scale(2).await;
    drop(stopped);
    hooked.told(0).await;
    hooked.ready().await;
    assert_eq!(hooked.pod_uids().await, before);
    assert!(hooked.pods().await.iter().all(|pod| pod.finalizers() == [FINALIZER]), "a pod has lost its hook");
}

#[tokio::test]
async fn hooks_that_are_given_up_hold_nobody_and_the_group_forgets_them_with_the_last_pod() {
    let scenario = Scenario::start("unhooked", &[Replication]).await;
    let Some(nodes) = FakeNodes::make(&scenario, &["zone-a"]).await else { return };
    let hooked = scenario.create(&hooked(&nodes, 3, LONG)).await;
    hooked.ready().await;
    has_finalizer(&hooked, true).await;
    let record = Recorder::<Pod>::start(scenario.pods()).await;
    hooked.scale(2).await;
    hooked.told(1).await;
    hooked.patch(json!({"spec": {"lifecycle": null}})).await;
    eventually("who was waited for is gone", async || {
        let left = hooked.pods().await.len();
        (left == 2).then_some(()).ok_or(format!("{left} pods"))
    })
    .await;
    hooked.ready().await;
    has_finalizer(&hooked, true).await;

    hooked.scale(3).await;
    hooked.ready().await;
    let new: Vec<_> = hooked.pods().await.into_iter().filter(|pod| pod.finalizers().is_empty()).collect();
    assert_eq!(new.len(), 1, "the new pod has a hook, or an old one has none");
    hooked.scale(1).await;
    hooked.ready().await;
    hooked.scale(0).await;
    hooked.ready().await;
    has_finalizer(&hooked, false).await;
    record.catch_up().await;
    assert_eq!(record.uids().len(), 4);
}

#[tokio::test]
async fn a_group_without_hooks_has_no_finalizer() {
    let scenario = Scenario::start("hookless", &[Replication]).await;
    let Some(nodes) = FakeNodes::make(&scenario, &["zone-a"]).await else { return };
    let record = Recorder::<ReplicaGroup>::start(scenario.api()).await;
    let plain = scenario.create(&group("hooked", nodes.pod()).replicas(1)).await;
    plain.ready().await;
    record.catch_up().await;
    assert!(record.read(|states| states.iter().all(|(group, _)| group.finalizers().is_empty())));

    // Pods that were there before have none of it.
    let pre_delete = json!({"finalizer": FINALIZER, "timeoutSeconds": LONG});
    plain.patch(json!({"spec": {"replicas": 2, "lifecycle": {"preDelete": pre_delete}}})).await;
    plain.ready().await;
    has_finalizer(&plain, true).await;
    let hooks: usize = plain.pods().await.iter().map(|pod| pod.finalizers().len()).sum();
    assert_eq!(hooks, 1);
    scenario.kubectl("delete rg/hooked --wait=false").succeeded();
    let told = plain.told(1).await;
    scenario.finish(&told[0]).await;
    all_gone(&scenario).await;
}
