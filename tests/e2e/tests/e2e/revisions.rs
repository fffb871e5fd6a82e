//! The history of a template, and the way back to any of it.

use k8s_openapi::api::apps::v1::ControllerRevision;
use kube::{ResourceExt, api::DeleteParams};
use mainstay_e2e::{Component::Replication, FakeNodes, Group, Recorder, Scenario, eventually, group, reason};
use serde_json::json;

/// Numbers and versions of the group's revisions.
async fn history(group: &Group) -> Vec<(i64, String)> {
    group.revisions().await.into_iter().map(|revision| (revision.number, revision.version)).collect()
}

/// Waits until these are the revisions that are left.
async fn is_left(group: &Group, expected: &[(i64, &str)]) {
    let expected: Vec<_> =
        expected.iter().map(|(number, version)| (*number, (*version).to_owned())).collect();
    eventually(&format!("{expected:?} are left"), async || {
        let left = history(group).await;
        (left == expected).then_some(()).ok_or(format!("{left:?}"))
    })
    .await;
}

#[tokio::test]
async fn a_group_goes_back_by_name_and_by_its_template_which_is_the_newest_then() {
    let scenario = Scenario::start("history", &[Replication]).await;
    let Some(nodes) = FakeNodes::make(&scenario, &["zone-a"]).await else { return };
    let aged = scenario.create(&group("aged", nodes.pod()).replicas(3).version("1")).await;
    aged.completes("1").await;
    aged.change("2").await;
    aged.completes("2").await;
    let record = Recorder::<ControllerRevision>::start(scenario.api()).await;
    let (first, second) = (aged.revision("1").await, aged.revision("2").await);

    aged.patch(json!({"spec": {"rollbackTo": first}})).await;
    let status = aged.completes("1").await;
    assert_eq!(status.update_revision.as_ref(), Some(&first));
    // For as long as it is set, the pods follow it and not the template, which may change.
    aged.scale(4).await;
    aged.settles_at(&[("1", 4)]).await;
    aged.patch(json!({"spec": {"rollbackTo": null}})).await;
    let status = aged.completes("2").await;
    assert_eq!(status.update_revision.as_ref(), Some(&second));

    aged.change("1").await;
    let status = aged.completes("1").await;
    assert_eq!(status.update_revision, Some(first));
    is_left(&aged, &[(2, "2"), (3, "1")]).await;
    record.catch_up().await;
    let written = record.read(<[_]>::len) - record.listed();
    assert_eq!(written, 1, "a revision was written for more than its new number");
}

#[tokio::test]
async fn a_group_goes_back_to_the_previous_revision_without_steps_and_stays_there() {
    let scenario = Scenario::start("previous", &[Replication]).await;
    let Some(nodes) = FakeNodes::make(&scenario, &["zone-a"]).await else { return };
    let draft = group("canary", nodes.pod()).replicas(4).version("1");
    let canary = scenario.create(&draft.with("spec.rollbackTo", "previous")).await;
    let first = canary.until("says that there is none", |status| reason(status) == "UnknownRevision").await;
    assert_eq!(first.rollback_revision, None);
    canary.patch(json!({"spec": {"rollbackTo": null}})).await;
    canary.completes("1").await;
    scenario.kubectl("annotate replicagroup canary kubernetes.io/change-cause=CVE-2026-1").succeeded();
    canary.change("2").await;
    canary.completes("2").await;
    let causes = scenario
        .kubectl("get controllerrevisions --output=jsonpath={.items[*].metadata.annotations.kubernetes\\.io/change-cause}");
    assert_eq!(causes.succeeded(), "CVE-2026-1");

    let goal = canary.revision("1").await;
    let steps = json!({"steps": [{"weight": 25, "pause": {}}]});
    canary.patch(json!({"spec": {"rollbackTo": "previous", "update": steps}})).await;
    let status = canary.completes("1").await;
    assert_eq!((status.rollback_revision, status.update_revision), (Some(goal.clone()), Some(goal.clone())));
    // The template is put right later, and must not bring back what was left.
    canary.change("1").await;
    let status = canary.completes("1").await;
    assert_eq!((status.rollback_revision, status.update_revision), (Some(goal.clone()), Some(goal)));
}

#[tokio::test]
async fn old_revisions_are_pruned_down_to_the_limit() {
    let scenario = Scenario::start("prune", &[Replication]).await;
    let Some(nodes) = FakeNodes::make(&scenario, &["zone-a"]).await else { return };
    let draft = group("pruned", nodes.pod()).version("1").with("spec.revisionHistoryLimit", 2);
    let pruned = scenario.create(&draft).await;
    pruned.completes("1").await;
    for version in ["2", "3", "4", "5"] {
        pruned.change(version).await;
        pruned.completes(version).await;
    }
    is_left(&pruned, &[(3, "3"), (4, "4"), (5, "5")]).await;
    pruned.patch(json!({"spec": {"revisionHistoryLimit": 0}})).await;
    is_left(&pruned, &[(5, "5")]).await;
    // Numbers go on where they were.
    pruned.change("6").await;
    pruned.completes("6").await;
    is_left(&pruned, &[(6, "6")]).await;
}

#[tokio::test]
async fn a_revision_that_is_needed_is_not_pruned_and_one_that_is_lost_comes_back() {
    let scenario = Scenario::start("needed", &[Replication]).await;
    let Some(nodes) = FakeNodes::make(&scenario, &["zone-a"]).await else { return };
    let draft = group("needed", nodes.pod())
        .replicas(4)
        .with("spec.revisionHistoryLimit", 0)
        .with("spec.update.partition", 2)
        .version("1");
    let needed = scenario.create(&draft).await;
    needed.completes("1").await;
    needed.change("2").await;
    needed.progressing("PartitionReached").await;
    assert_eq!(history(&needed).await, [(1, "1".into()), (2, "2".into())]);

    // The template says what is in it, so its loss is no harm.
    let second = needed.revision("2").await;
    let revisions = scenario.api::<ControllerRevision>();
    let uid = revisions.get(&second).await.unwrap().uid();
    revisions.delete(&second, &DeleteParams::default()).await.unwrap();
    eventually("the revision has been made anew", async || {
        let now = revisions.get(&second).await.map_err(|error| error.to_string())?;
        (now.uid() != uid).then_some(()).ok_or("not yet".to_owned())
    })
    .await;
    needed.settles_at(&[("1", 2), ("2", 2)]).await;
    needed.patch(json!({"spec": {"update": {"partition": 0}}})).await;
    needed.completes("2").await;
}

#[tokio::test]
async fn revisions_go_with_their_group() {
    let scenario = Scenario::start("gone", &[Replication]).await;
    let gone = scenario.create(&group("gone", mainstay_e2e::pods::gated()).replicas(0).version("1")).await;
    gone.revision("1").await;
    gone.change("2").await;
    gone.revision("2").await;
    scenario.kubectl("delete rg/gone").succeeded();
    eventually("no revision is left", async || {
        let left = history(&gone).await;
        left.is_empty().then_some(()).ok_or(format!("{left:?}"))
    })
    .await;
}
