//! Changes that fail, and the way back.

use k8s_openapi::api::core::v1::Pod;
use mainstay_e2e::{
    Component::Replication, Controller, Group, Recorder, Scenario, Traffic, condition, eventually, group,
    pods, version,
};
use serde_json::{Value, json};

/// What may be seen of failures in the metrics.
async fn failures(controller: &Controller, reason: &str) -> [f64; 3] {
    let prefix = "mainstay_replication_rollout";
    [
        controller.total(&format!("{prefix}s_failed_total"), &[("reason", reason)]).await,
        controller.total(&format!("{prefix}s_rolled_back_total"), &[]).await,
        controller.total(&format!("{prefix}_duration_seconds_count"), &[("outcome", "RolledBack")]).await,
    ]
}

/// Changes these fields of the template's only container, and its version.
async fn change_container(group: &Group, version: &str, fields: Value) {
    let container = group.container_with(fields).await;
    group.change_with(version, json!({"spec": {"containers": [container]}})).await;
}

/// Asserts that a group tells why it went back, from what and to what.
async fn assert_explained(group: &Group, failed: &str, current: &str, reason: &str) {
    let status = group.get().await.status.expect("the group has been reported on");
    assert_eq!(status.failed_revision.as_deref(), Some(failed), "{status:?}");
    assert_eq!(status.current_revision.as_deref(), Some(current), "{status:?}");
    let back = condition(&status, "RolledBack");
    for part in [failed, current] {
        assert!(back.message.contains(part), "RolledBack does not say {part:?}: {}", back.message);
    }
    let progressing = condition(&status, "Progressing");
    assert_eq!((progressing.status.as_str(), progressing.reason.as_str()), ("False", reason), "{status:?}");
    assert_eq!((status.updated_replicas, &status.rollout), (0, &None), "{status:?}");
    for (kind, expected) in [("Ready", "False"), ("Stalled", "True"), ("Reconciling", "False")] {
        assert_eq!(
            condition(&status, kind).status,
            expected,
            "{kind} to those who wait for the change: {status:?}"
        );
    }
    for (event, revision) in [("RolloutFailed", failed), ("RolledBack", current)] {
        let said = group.event(event).await;
        assert!(said.contains(revision), "the event {event} does not name {revision}: {said}");
    }
}

#[tokio::test]
async fn a_bad_image_goes_back_by_itself_and_no_client_notices() {
    let scenario = Scenario::start("badimage", &[Replication]).await;
    let controller = scenario.controller();
    let draft = group("web", pods::graceful_web())
        .replicas(3)
        .rolling(1, 1)
        .with("spec.failure.unschedulableSeconds", 2)
        .version("1");
    let web = scenario.create(&draft).await;
    web.completes("1").await;
    let traffic = Traffic::start(&scenario, "web").await;
    let record = Recorder::<Pod>::start(scenario.pods()).await;
    let before = failures(&controller, "ImagePullFailed").await;

    change_container(&web, "2", json!({"image": pods::NO_IMAGE})).await;
    web.rolls_back("1", "ImagePullFailed").await;
    let (first, second) = (web.revision("1").await, web.revision("2").await);
    assert_explained(&web, &second, &first, "ImagePullFailed").await;
    let after = failures(&controller, "ImagePullFailed").await;
    assert!(after.iter().zip(before).all(|(after, before)| *after > before), "{before:?}, then {after:?}");

    // Whatever else changes, the failed version is not tried again.
    let tried = pods_of(&record, "2").await;
    web.patch(json!({"spec": {"minReadySeconds": 1, "revisionHistoryLimit": 5}})).await;
    web.scale(4).await;
    web.settles_at(&[("1", 4)]).await;
    web.scale(3).await;
    web.settles_at(&[("1", 3)]).await;
    let victim = web.pod_names().await.pop_first().unwrap();
    scenario.kubectl(&format!("delete pod {victim} --wait=false")).succeeded();
    web.until("has three again", |status| (status.replicas, status.available_replicas) == (3, 3)).await;
    assert_eq!(pods_of(&record, "2").await, tried, "the failed version was tried again");
    assert_explained(&web, &second, &first, "ImagePullFailed").await;
    eventually("more than 50 requests say so", async || match traffic.unbroken() {
        0..=50 => Err(format!("{} do", traffic.unbroken())),
        _ => Ok(()),
    })
    .await;

    change_container(&web, "3", json!({"image": pods::AGNHOST})).await;
    let status = web.completes("3").await;
    assert_eq!(status.failed_revision, None);
    assert_eq!(condition(&status, "RolledBack").status, "False");
    traffic.end().await;
}

/// How many pods of this version there ever were.
async fn pods_of(record: &Recorder<Pod>, of: &str) -> usize {
    record.catch_up().await;
    let uids = record.read(|states| {
        let of_version = states.iter().filter(|(pod, _)| version(pod) == of);
        of_version.filter_map(|(pod, _)| pod.metadata.uid.clone()).collect::<std::collections::BTreeSet<_>>()
    });
    uids.len()
}

#[tokio::test]
async fn each_cause_of_a_failure_has_its_reason() {
    let scenario = Scenario::start("causes", &[Replication]).await;
    // The reason, and what of the template's container, or of its pod, is wrong.
    let from = json!([{"configMapRef": {"name": "absent"}}]);
    // What crashes at once would be ready until a busy kubelet has noticed.
    let never = json!({"exec": {"command": ["/absent"]}});
    let causes = [
        ("ConfigError", json!({"envFrom": from}), "configuration"),
        ("ImagePullFailed", json!({"image": pods::NO_IMAGE, "imagePullPolicy": "Never"}), "image"),
        (
            "CrashLoop",
            json!({"image": pods::AGNHOST, "args": ["no-such-command"], "readinessProbe": never}),
            "restart",
        ),
        ("Unschedulable", json!({"resources": {"requests": {"memory": "64Ti"}}}), "scheduled"),
    ];
    let name = |reason: &str| reason.to_lowercase();
    let mut groups = Vec::new();
    for (reason, ..) in &causes {
        let draft = group(&name(reason), pods::pause())
            .replicas(2)
            .rolling(1, 0)
            .with("spec.failure.unschedulableSeconds", 2)
            .with("spec.failure.maxRestarts", 0)
            .version("1");
        groups.push(scenario.create(&draft).await);
    }
    let mut before = Vec::new();
    for (group, (_, wrong, _)) in groups.iter().zip(&causes) {
        group.completes("1").await;
        before.push(group.pod_uids().await);
        change_container(group, "2", wrong.clone()).await;
    }
    for ((group, (reason, _, word)), before) in groups.iter().zip(&causes).zip(before) {
        let status = group.rolls_back("1", reason).await;
        assert_explained(group, &group.revision("2").await, &group.revision("1").await, reason).await;
        let said = &condition(&status, "RolledBack").message;
        assert!(said.contains(word), "{reason} does not say {word:?}: {said}");
        let kept = group.pod_uids().await.is_superset(&before);
        assert!(kept, "{reason}: old pods were exchanged, though no new one was ever available");
    }
}

#[tokio::test]
async fn a_change_that_makes_no_progress_is_rolled_back_at_its_deadline() {
    let scenario = Scenario::start("deadline", &[Replication]).await;
    let draft = group("late", pods::unscheduled()).replicas(4).rolling(1, 1).version("1");
    let late = scenario.create(&draft).await;
    late.settles_at(&[("1", 4)]).await;
    scenario.make_ready(&late, "1").await;
    late.completes("1").await;
    // Not before: the first version has the time that it needs.
    late.patch(json!({"spec": {"progressDeadlineSeconds": 10}})).await;
    let record = Recorder::<Pod>::start(scenario.pods()).await;
    late.change("2").await;
    late.settles_at(&[("1", 3), ("2", 2)]).await;
    let status = eventually("it has gone back", async || {
        scenario.make_ready(&late, "1").await;
        let status = late.get().await.status.unwrap_or_default();
        let back = condition(&status, "RolledBack").status == "True" && status.available_replicas == 4;
        if back { Ok(status) } else { Err(format!("{status:?}")) }
    })
    .await;
    assert_eq!(condition(&status, "RolledBack").reason, "ProgressDeadlineExceeded");
    late.rolls_back("1", "ProgressDeadlineExceeded").await;
    record.stays_within(3..=5).await;
    assert_explained(&late, &late.revision("2").await, &late.revision("1").await, "ProgressDeadlineExceeded")
        .await;
}

#[tokio::test]
async fn old_pods_that_are_long_in_ending_and_gates_are_no_failure_of_the_new_version() {
    let scenario = Scenario::start("slowend", &[Replication]).await;
    // Long enough for a pod to start.
    let draft =
        |name: &str, pod| group(name, pod).replicas(1).with("spec.progressDeadlineSeconds", 15).version("1");
    let mut lingering = pods::lingering();
    lingering["volumes"] = json!([{"name": "data", "emptyDir": {}}]);
    let slow = scenario.create(&draft("slow", lingering).update_type("Recreate")).await;
    let late = scenario.create(&draft("late", pods::unscheduled()).rolling(1, 0)).await;
    let held = scenario.create(&draft("held", pods::gated()).rolling(1, 0)).await;
    for group in [&late, &held] {
        group.settles_at(&[("1", 1)]).await;
        scenario.make_ready(group, "1").await;
        group.completes("1").await;
    }
    slow.completes("1").await;
    let old = slow.pod_names().await.pop_first().unwrap();
    slow.change("2").await;
    slow.until("has a pod that terminates", |status| status.terminating_replicas == 1).await;
    held.change("2").await;
    held.settles_at(&[("1", 1), ("2", 1)]).await;
    // A change that begins now, and has the same time, tells when that is over.
    late.change("2").await;
    late.rolls_back("1", "ProgressDeadlineExceeded").await;
    let status = slow.get().await.status.unwrap_or_default();
    assert_eq!((status.failed_revision, status.terminating_replicas), (None, 1));
    assert_eq!(held.get().await.status.unwrap_or_default().failed_revision, None, "a gate is no failure");
    scenario.drive(&held, "2").await;
    scenario.let_end(&old).await;
    slow.completes("2").await;
}

#[tokio::test]
async fn a_failed_change_stays_as_it_is_if_so_wished() {
    let scenario = Scenario::start("stays", &[Replication]).await;
    let draft = group("stays", pods::unscheduled())
        .replicas(4)
        .rolling(1, 1)
        .with("spec.failure.action", "Pause")
        .version("1");
    let stays = scenario.create(&draft).await;
    stays.settles_at(&[("1", 4)]).await;
    scenario.make_ready(&stays, "1").await;
    stays.completes("1").await;
    stays.patch(json!({"spec": {"progressDeadlineSeconds": 10}})).await;
    stays.change("2").await;
    let status = stays.progressing("ProgressDeadlineExceeded").await;
    for (kind, expected) in [("Progressing", "False"), ("RolledBack", "False"), ("Ready", "False")] {
        assert_eq!(condition(&status, kind).status, expected, "{kind}: {status:?}");
    }
    stays.event("RolloutFailed").await;
    // Nothing moves, however often it is looked at: reports on new generations show that reconciles were made.
    for seconds in [0, 1, 0] {
        stays.patch(json!({"spec": {"minReadySeconds": seconds}})).await;
        stays.progressing("ProgressDeadlineExceeded").await;
        stays.settles_at(&[("1", 3), ("2", 2)]).await;
    }
    stays.change("3").await;
    scenario.drive(&stays, "3").await;
}

#[tokio::test]
async fn the_first_version_of_a_group_has_nothing_to_go_back_to() {
    let scenario = Scenario::start("first", &[Replication]).await;
    let draft =
        group("first", pods::unscheduled()).replicas(2).with("spec.progressDeadlineSeconds", 1).version("1");
    let first = scenario.create(&draft).await;
    first.progressing("ProgressDeadlineExceeded").await;
    // On a busy machine its second is over before the watch shows both pods.
    let status = first.until("two pods of it", |status| status.replicas == 2).await;
    assert_eq!(condition(&status, "Progressing").status, "False");
    assert_eq!(status.current_revision, None, "{status:?}");
    assert_eq!(condition(&status, "RolledBack").status, "False");
    scenario.make_ready(&first, "1").await;
    first.completes("1").await;
}
