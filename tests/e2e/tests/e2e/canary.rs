//! Changes in steps.

use k8s_openapi::{api::core::v1::Pod, jiff::SignedDuration};
use kube::ResourceExt;
use mainstay_crds::ReplicaGroup;
use mainstay_e2e::{
    Component::Replication, Draft, FakeNodes, Group, Recorder, Scenario, condition, group, reason, run,
    version,
};
use serde_json::{Value, json};

/// The seconds of the timed pause.
const TIMED: i64 = 3;

fn open_ended() -> Option<Value> {
    Some(json!({}))
}

/// Ten pods in the steps 20 %, with an open-ended pause, and 50 %, with a timed one.
fn draft(pod: Value) -> Draft {
    let steps = [(20, open_ended()), (50, Some(json!({"seconds": TIMED})))];
    group("canary", pod).replicas(10).rolling(2, 1).steps(&steps).version("1")
}

/// Waits until the group waits at its first step, and asserts how far it is.
async fn at_the_first_step(group: &Group, old: &str, new: &str) -> String {
    let status = group
        .until("waits at its first step", |status| {
            let step = status.rollout.as_ref().and_then(|rollout| rollout.step);
            reason(status) == "StepPaused" && step == Some(1) && status.available_replicas == 10
        })
        .await;
    assert_eq!(status.updated_replicas, 2, "{status:?}");
    group.settles_at(&[(old, 8), (new, 2)]).await;
    let progressing = condition(&status, "Progressing");
    assert_eq!((progressing.status.as_str(), progressing.reason.as_str()), ("True", "StepPaused"));
    group.event("StepReached").await;
    condition(&status, "Ready").message.clone()
}

/// The command that a sentence tells its reader to type.
fn command(sentence: &str) -> &str {
    let start = sentence.find("kubectl ").unwrap_or_else(|| panic!("it names no command: {sentence}"));
    let rest = &sentence[start..];
    rest.split(['`', '"', '\n']).next().unwrap_or(rest).trim_end_matches(['.', ')'])
}

/// Asserts that between the time at which the second step was reached, by the group's reports, and the first pod beyond
/// it there lies the timed pause.
async fn assert_waited(reports: &Recorder<ReplicaGroup>, pods: &Recorder<Pod>) {
    reports.catch_up().await;
    let reached = reports.read(|states| {
        let rollouts = states.iter().filter_map(|(group, _)| group.status.as_ref()?.rollout.clone());
        rollouts.filter(|rollout| rollout.step == Some(2)).find_map(|rollout| rollout.reached_at)
    });
    let reached = reached.expect("a report says when the second step was reached").0;
    pods.catch_up().await;
    let mut made = pods.read(|states| {
        let new = states.iter().filter(|(pod, _)| version(pod) == "2");
        new.map(|(pod, _)| (pod.uid(), pod.creation_timestamp().expect("a pod was created").0))
            .collect::<std::collections::BTreeMap<_, _>>()
            .into_values()
            .collect::<Vec<_>>()
    });
    made.sort();
    let waited = made[5].duration_since(reached);
    assert!(waited >= SignedDuration::from_secs(TIMED), "the sixth pod was made after {waited:?}");
}

#[tokio::test]
async fn a_canary_waits_at_each_step_and_goes_on_when_told_or_in_time() {
    let scenario = Scenario::start("canary", &[Replication]).await;
    let Some(nodes) = FakeNodes::make(&scenario, &["zone-a", "zone-b"]).await else { return };
    let canary = scenario.create(&draft(nodes.pod())).await;
    canary.completes("1").await;
    let record = Recorder::<Pod>::start(scenario.pods()).await;
    let reports = Recorder::<ReplicaGroup>::start(scenario.api()).await;

    canary.change("2").await;
    let said = at_the_first_step(&canary, "1", "2").await;
    record.always("at most two new pods", |moment| moment.active_of("2") <= 2).await;
    // What the sentence says is what a person types.
    let told = command(&said);
    assert!(told.contains(&format!("mainstay.dev/continue={}/1", canary.revision("2").await)), "{said}");
    run("sh", &["-c", told], "").succeeded();
    let status = canary
        .until("is at its second step", |status| {
            status
                .rollout
                .as_ref()
                .is_some_and(|rollout| rollout.step == Some(2) && rollout.reached_at.is_some())
        })
        .await;
    assert_eq!(status.updated_replicas, 5, "{status:?}");
    canary.completes("2").await;
    assert_waited(&reports, &record).await;
    record.stays_within(9..=12).await;

    // The annotation of the change before is no word on this one.
    canary.change("3").await;
    at_the_first_step(&canary, "2", "3").await;
    canary.annotate("mainstay.dev/continue", "canary-another/1").await;
    canary.patch(json!({"spec": {"minReadySeconds": 1}})).await;
    at_the_first_step(&canary, "2", "3").await;
    canary.annotate("mainstay.dev/continue", &canary.revision("3").await).await;
    canary.completes("3").await;
}

#[tokio::test]
async fn a_canary_that_is_aborted_goes_back() {
    let scenario = Scenario::start("abort", &[Replication]).await;
    let Some(nodes) = FakeNodes::make(&scenario, &["zone-a", "zone-b"]).await else { return };
    let canary = scenario.create(&draft(nodes.pod())).await;
    canary.completes("1").await;
    let before = canary.pod_uids().await;
    let record = Recorder::<Pod>::start(scenario.pods()).await;
    canary.change("2").await;
    at_the_first_step(&canary, "1", "2").await;

    let failed = canary.revision("2").await;
    canary.annotate("mainstay.dev/abort", &failed).await;
    let status = canary.rolls_back("1", "Aborted").await;
    assert_eq!(status.failed_revision.as_deref(), Some(failed.as_str()));
    let kept = canary.pod_uids().await.intersection(&before).count();
    assert_eq!(kept, 8, "old pods were exchanged on the way back");
    for event in ["RolloutFailed", "RolledBack"] {
        canary.event(event).await;
    }
    record.stays_within(9..=12).await;

    // Taking the change back settles it, and the next one starts at the first step again.
    canary.change("1").await;
    let status = canary.completes("1").await;
    assert_eq!(
        (
            status.failed_revision,
            condition(&canary.get().await.status.unwrap(), "RolledBack").status.as_str()
        ),
        (None, "False")
    );
    canary.change("3").await;
    at_the_first_step(&canary, "1", "3").await;
}

#[tokio::test]
async fn the_canary_of_a_group_of_one_pod_stands_beside_the_old_one() {
    let scenario = Scenario::start("single", &[Replication]).await;
    let Some(nodes) = FakeNodes::make(&scenario, &["zone-a"]).await else { return };
    let steps = [(10, open_ended()), (100, open_ended())];
    let single = scenario.create(&group("single", nodes.pod()).replicas(1).steps(&steps).version("1")).await;
    single.completes("1").await;
    single.change("2").await;
    single.reason("StepPaused").await;
    single.settles_at(&[("1", 1), ("2", 1)]).await;

    let revision = single.revision("2").await;
    single.annotate("mainstay.dev/continue", &format!("{revision}/1")).await;
    // All pods are updated, and it waits all the same.
    single
        .until("waits at its last step", |status| {
            let step = status.rollout.as_ref().and_then(|rollout| rollout.step);
            reason(status) == "StepPaused" && step == Some(2)
        })
        .await;
    single.settles_at(&[("2", 1)]).await;
    single.annotate("mainstay.dev/continue", &revision).await;
    single.completes("2").await;
}
