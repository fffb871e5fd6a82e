//! What a group says of itself.

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::{Api, ResourceExt};
use mainstay_crds::ReplicaGroup;
use mainstay_e2e::{Component::Replication, FakeNodes, Recorder, Scenario, condition, group, pods, reason};

/// The conditions of every group.
const KINDS: [&str; 7] =
    ["Ready", "Reconciling", "Stalled", "ReplicaFailure", "Available", "Progressing", "RolledBack"];

/// As many pods as take longer to make than the first report takes to come.
const MANY: usize = 600;

#[tokio::test]
async fn the_status_follows_a_large_scale_up_while_it_goes_on() {
    let scenario = Scenario::start("many", &[Replication]).await;
    let Some(nodes) = FakeNodes::make(&scenario, &["zone-a", "zone-b", "zone-c"]).await else { return };
    let many = scenario.create(&group("many", nodes.pod()).replicas(0)).await;
    many.ready().await;
    let groups: Api<ReplicaGroup> = Api::namespaced(scenario.client.clone(), &scenario.namespace);
    let record = Recorder::start(groups).await;
    many.scale(MANY).await;
    let status = many.ready().await;
    let all = i32::try_from(MANY).unwrap();
    let counts =
        [status.replicas, status.ready_replicas, status.available_replicas, status.fully_labeled_replicas];
    assert_eq!(counts, [all; 4]);
    record.catch_up().await;
    let seen: Vec<_> = record.read(|states| {
        let status = |group: &ReplicaGroup| group.status.clone().unwrap_or_default();
        states.iter().map(|(group, _)| (status(group).replicas, reason(&status(group)).to_owned())).collect()
    });
    let between = seen.iter().filter(|(replicas, _)| (1..all).contains(replicas)).count();
    assert!(between >= 2, "the status stayed silent until the end: {seen:?}");
    assert!(seen.iter().any(|(_, reason)| reason == "ScalingUp"), "{seen:?}");
    many.scale(0).await;
    assert_eq!(many.ready().await.replicas, 0);
}

#[tokio::test]
async fn a_pod_is_available_only_after_min_ready_seconds() {
    let scenario = Scenario::start("minready", &[Replication]).await;
    let slow = scenario.create(&group("slow", pods::gated()).with("spec.minReadySeconds", 4)).await;
    let status = slow.reason("PodsNotReady").await;
    assert_eq!((status.replicas, status.ready_replicas), (1, 0));
    let pod = slow.pods().await.remove(0).name_any();
    scenario.set_ready(&pod, true).await;
    let status = slow.reason("PodsNotAvailable").await;
    assert_eq!((status.ready_replicas, status.available_replicas), (1, 0));
    assert_eq!(condition(&status, "Reconciling").status, "True");

    let status = slow.ready().await;
    assert_eq!((status.ready_replicas, status.available_replicas), (1, 1));
    let conditions = scenario.pods().get(&pod).await.unwrap().status.unwrap().conditions.unwrap();
    let ready = conditions.iter().find(|condition| condition.type_ == "Ready").unwrap();
    let since = ready.last_transition_time.as_ref().unwrap().0;
    let available: Timestamp = condition(&status, "Ready").last_transition_time.0;
    let waited = available.duration_since(since);
    assert!(waited >= SignedDuration::from_secs(4), "available {waited:?} after it was ready");

    scenario.set_ready(&pod, false).await;
    let status = slow.reason("PodsNotReady").await;
    assert_eq!((status.ready_replicas, status.available_replicas), (0, 0));
}

#[tokio::test]
async fn every_condition_is_there_and_speaks_of_the_generation_it_saw() {
    let scenario = Scenario::start("conditions", &[Replication]).await;
    let group = scenario.create(&group("told", pods::gated())).await;
    for replicas in [1, 2] {
        group.scale(replicas).await;
        let status = group.reason("PodsNotReady").await;
        let kinds: Vec<_> = status.conditions.iter().map(|condition| condition.type_.as_str()).collect();
        assert_eq!(kinds, KINDS);
        let generation = group.get().await.metadata.generation;
        let observed: Vec<_> =
            status.conditions.iter().map(|condition| condition.observed_generation).collect();
        assert_eq!(observed, [generation; KINDS.len()]);
        assert_eq!(status.selector, "app=told");
    }
}
