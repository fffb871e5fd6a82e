//! Rollouts and PodDisruptionBudgets.

use k8s_openapi::api::{core::v1::Pod, policy::v1::PodDisruptionBudget};
use kube::api::{Patch, PatchParams, PostParams};
use mainstay_e2e::{
    Component::Replication, FakeNodes, Recorder, Scenario, condition, eventually, group, pods,
};
use serde_json::json;

/// Creates a budget that asks for so many pods of the group `app`, and waits until it is in force.
async fn guard(scenario: &Scenario, app: &str, least: i32) {
    let budget: PodDisruptionBudget = serde_json::from_value(json!({
        "metadata": {"name": "guard"},
        "spec": {"minAvailable": least, "selector": {"matchLabels": {"app": app}}},
    }))
    .expect("a budget");
    let budgets = scenario.api::<PodDisruptionBudget>();
    budgets.create(&PostParams::default(), &budget).await.expect("the budget is created");
    eventually("the budget is in force", async || {
        let budget = budgets.get("guard").await.map_err(|error| error.to_string())?;
        let desired = budget.status.and_then(|status| status.desired_healthy);
        (desired == Some(least)).then_some(()).ok_or(format!("{desired:?}"))
    })
    .await;
}

async fn set(scenario: &Scenario, least: i32) {
    let patch = Patch::Merge(json!({"spec": {"minAvailable": least}}));
    let budgets = scenario.api::<PodDisruptionBudget>();
    budgets.patch("guard", &PatchParams::default(), &patch).await.expect("the budget is patched");
}

#[tokio::test]
async fn a_budget_holds_a_rollout_and_lets_it_go_on_but_is_not_asked_about_scaling() {
    let scenario = Scenario::start("budget", &[Replication]).await;
    let Some(nodes) = FakeNodes::make(&scenario, &["zone-a", "zone-b"]).await else { return };
    let draft = group("guarded", nodes.pod()).replicas(4).rolling(1, 1).version("1");
    let guarded = scenario.create(&draft).await;
    guarded.completes("1").await;
    let before = guarded.pod_uids().await;
    guard(&scenario, "guarded", 100).await;
    let record = Recorder::<Pod>::start(scenario.pods()).await;

    guarded.change("2").await;
    let status = guarded.reason("DisruptionBudget").await;
    let ready = condition(&status, "Ready");
    for part in ["violate", "disruption budget"] {
        assert!(ready.message.contains(part), "Ready does not say {part:?}: {}", ready.message);
    }
    guarded.settles_at(&[("1", 4), ("2", 1)]).await;
    assert!(guarded.pod_uids().await.is_superset(&before), "the budget was not kept");

    // A pod that is too many is not evicted but deleted.
    guarded.scale(3).await;
    let least = eventually("there are fewer pods", async || {
        let now: usize = guarded.versions().await.values().sum();
        if now <= 4 { Ok(now) } else { Err(format!("{now} pods")) }
    })
    .await;
    assert!(least >= 3, "{least} pods are left");
    guarded.reason("DisruptionBudget").await;

    set(&scenario, 2).await;
    guarded.completes("2").await;
    record.stays_within(2..=5).await;
}

#[tokio::test]
async fn a_budget_does_not_keep_out_the_version_that_repairs_a_broken_group() {
    let scenario = Scenario::start("repair", &[Replication]).await;
    let broken = scenario.create(&group("broken", pods::gated()).replicas(3).version("1")).await;
    broken.settles_at(&[("1", 3)]).await;
    scenario.make_ready(&broken, "1").await;
    broken.completes("1").await;
    guard(&scenario, "broken", 2).await;
    for pod in broken.pod_names().await {
        scenario.set_ready(&pod, false).await;
    }
    broken.until("sees that no pod is ready", |status| status.ready_replicas == 0).await;

    broken.change("2").await;
    scenario.drive(&broken, "2").await;
}
