//! A change of the template reaches the pods.

use k8s_openapi::api::{apps::v1::ControllerRevision, core::v1::Pod};
use kube::ResourceExt;
use mainstay_crds::{ReplicaGroup, ReplicaGroupStatus};
use mainstay_e2e::{
    Component::Replication, Controller, FakeNodes, Group, Recorder, Scenario, condition, group, pods, reason,
};
use serde_json::json;

/// The metrics that a rollout moves, by name and labels.
const SERIES: &[(&str, &[(&str, &str)])] = &[
    ("mainstay_replication_rollouts_started_total", &[]),
    ("mainstay_replication_rollouts_completed_total", &[]),
    ("mainstay_replication_rollout_duration_seconds_count", &[("outcome", "Completed")]),
];

async fn totals(controller: &Controller) -> Vec<f64> {
    let mut totals = Vec::new();
    for (series, labels) in SERIES {
        totals.push(controller.total(series, labels).await);
    }
    totals
}

/// Asserts what a group says that is where its template wants it.
fn assert_settled(status: &ReplicaGroupStatus) {
    for (kind, expected) in [
        ("Ready", ("True", "AllAvailable")),
        ("Available", ("True", "MinimumPodsAvailable")),
        ("Progressing", ("True", "RolloutComplete")),
    ] {
        let condition = condition(status, kind);
        assert_eq!((condition.status.as_str(), condition.reason.as_str()), expected, "{kind}: {status:?}");
    }
    for kind in ["RolledBack", "Reconciling", "Stalled"] {
        assert_eq!(condition(status, kind).status, "False", "{kind}: {status:?}");
    }
    assert_eq!((&status.failed_revision, &status.rollout), (&None, &None));
}

/// Asserts that the record of a group's reports tells of its change to this revision.
async fn assert_told(record: &Recorder<ReplicaGroup>, revision: &str) {
    record.catch_up().await;
    let told = record.read(|states| {
        states.iter().filter_map(|(group, _)| group.status.clone()).any(|status| {
            let rollout = status.rollout.as_ref();
            reason(&status) == "RollingOut"
                && rollout.is_some_and(|rollout| rollout.revision == revision)
                && condition(&status, "Progressing").reason == "RollingOut"
        })
    });
    assert!(told, "no report said RollingOut to {revision}");
}

#[tokio::test]
async fn a_good_change_exchanges_all_pods_within_its_bounds_and_is_told() {
    let scenario = Scenario::start("rollout", &[Replication]).await;
    let Some(nodes) = FakeNodes::make(&scenario, &["zone-a", "zone-b", "zone-c"]).await else { return };
    let controller = scenario.controller();
    let draft = group("web", nodes.pod()).replicas(8).rolling(2, 1).version("1");
    let web = scenario.create(&draft).await;
    assert_settled(&web.completes("1").await);
    let (before, totals_before) = (web.pod_uids().await, totals(&controller).await);
    let record = Recorder::<Pod>::start(scenario.pods()).await;
    let reports = Recorder::<ReplicaGroup>::start(scenario.api()).await;

    web.change("2").await;
    let status = web.completes("2").await;
    assert_settled(&status);
    assert_eq!(status.current_revision, Some(web.revision("2").await));
    assert!(web.pod_uids().await.is_disjoint(&before), "old pods are left");
    record.stays_within(7..=10).await;
    assert_eq!(record.uids().len(), 16, "more pods were made than were to be exchanged");
    assert_told(&reports, &web.revision("2").await).await;

    let revisions = web.revisions().await;
    let numbers: Vec<_> = revisions.iter().map(|found| (found.number, found.version.as_str())).collect();
    assert_eq!(numbers, [(1, "1"), (2, "2")], "the history");
    assert_holds_the_template(&scenario, &web, &revisions[1].name).await;
    for event in ["RolloutStarted", "RolloutCompleted"] {
        let said = web.event(event).await;
        assert!(said.contains("web-"), "the event {event} names no revision: {said}");
    }
    for ((series, after), before) in SERIES.iter().zip(totals(&controller).await).zip(totals_before) {
        assert!(after > before, "{series:?} has not moved from {before}");
    }
}

/// Asserts that a ControllerRevision holds the group's template as it is, and belongs to the group.
async fn assert_holds_the_template(scenario: &Scenario, group: &Group, name: &str) {
    let revision = scenario.api::<ControllerRevision>().get(name).await.expect("the revision is there");
    let template = serde_json::to_value(&group.get().await.spec.template).expect("a template is JSON");
    // In the form in which the built-in kinds write theirs.
    let held = revision.data.as_ref().map(|data| &data.0["spec"]["template"]);
    assert_eq!(held, Some(&template));
    let owner = &revision.owner_references()[0];
    assert_eq!((owner.kind.as_str(), owner.uid.as_str()), ("ReplicaGroup", group.uid()));
    assert_eq!(revision.labels().get("app").map(String::as_str), Some("web"), "the labels of the template");
}

#[tokio::test]
async fn neither_surge_nor_outage_is_more_than_allowed_at_either_extreme() {
    let scenario = Scenario::start("extremes", &[Replication]).await;
    let Some(nodes) = FakeNodes::make(&scenario, &["zone-a", "zone-b"]).await else { return };
    let draft = |name, surge, unavailable| {
        group(name, nodes.pod()).replicas(4).rolling(surge, unavailable).version("1")
    };
    let record = async |group: &Group, name: &str| {
        group.completes("1").await;
        Recorder::<Pod>::start_of(scenario.pods(), &format!("app={name}")).await
    };
    let more = scenario.create(&draft("more", json!(1), json!(0))).await;
    let fewer = scenario.create(&draft("fewer", json!(0), json!("25%"))).await;
    let blue = scenario.create(&draft("blue", json!("100%"), json!(0))).await;
    let records = [record(&more, "more").await, record(&fewer, "fewer").await, record(&blue, "blue").await];
    for group in [&more, &fewer, &blue] {
        group.change("2").await;
    }
    for group in [&more, &fewer, &blue] {
        group.completes("2").await;
    }
    for (record, bounds) in records.iter().zip([4..=5, 3..=4, 4..=8]) {
        record.stays_within(bounds).await;
    }
}

#[tokio::test]
async fn a_second_change_in_the_middle_of_the_first_takes_over() {
    let scenario = Scenario::start("rollover", &[Replication]).await;
    let draft = group("over", pods::gated()).replicas(6).rolling(2, 0).version("1");
    let over = scenario.create(&draft).await;
    over.settles_at(&[("1", 6)]).await;
    scenario.make_ready(&over, "1").await;
    over.completes("1").await;
    let record = Recorder::<Pod>::start(scenario.pods()).await;
    let reports = Recorder::<ReplicaGroup>::start(scenario.api()).await;

    // One of the second version becomes ready, the next do not: it is stuck in the middle.
    over.change("2").await;
    over.settles_at(&[("1", 6), ("2", 2)]).await;
    scenario.make_ready(&over, "2").await;
    over.settles_at(&[("1", 4), ("2", 4)]).await;
    over.change("3").await;
    scenario.drive(&over, "3").await;
    record.stays_within(6..=8).await;
    // Not again: by then the second version had been given up.
    let second = over.revision("2").await;
    reports.catch_up().await;
    let was_current = reports.read(|states| {
        let current = |group: &ReplicaGroup| group.status.as_ref()?.current_revision.clone();
        states.iter().any(|(group, _)| current(group).as_ref() == Some(&second))
    });
    assert!(!was_current, "{second} was called current and never was complete");
    let numbers: Vec<_> = over.revisions().await.iter().map(|revision| revision.number).collect();
    assert_eq!(numbers, [1, 2, 3]);
}

#[tokio::test]
async fn a_change_that_is_taken_back_in_its_middle_leaves_the_old_pods_alone() {
    let scenario = Scenario::start("takeback", &[Replication]).await;
    let draft = group("back", pods::gated()).replicas(4).rolling(1, 1).version("1");
    let back = scenario.create(&draft).await;
    back.settles_at(&[("1", 4)]).await;
    scenario.make_ready(&back, "1").await;
    back.completes("1").await;
    let (before, first) = (back.pod_uids().await, back.revision("1").await);

    back.change("2").await;
    back.settles_at(&[("1", 3), ("2", 2)]).await;
    back.change("1").await;
    let status = scenario.drive(&back, "1").await;
    assert_eq!(status.update_revision, Some(first), "the revision was made anew");
    let kept = back.pod_uids().await.intersection(&before).count();
    assert_eq!(kept, 3, "pods of the old version were exchanged for others of the same");
}
