//! No value of a Secret is anywhere but in Secrets.

use mainstay_e2e::{Component, Scenario, config_rollout, deployment, is_nowhere, reader, stage};
use serde_json::json;

/// Values that are found wherever they are.
const PLANTED: [&str; 3] = ["planted-first-8f3a1c", "planted-second-77b0de", "planted-third-c41e90"];

#[tokio::test]
async fn no_value_or_hash_of_one_is_in_a_status_event_log_metric_or_annotation() {
    let scenario = Scenario::start("leak", &Component::ALL).await;
    scenario.mode("one").await;
    scenario.secret("web", &[("token", PLANTED[0])]).await;
    for name in ["canary", "web"] {
        scenario.apply(&deployment(name, reader()));
    }
    let mut stages = json!([stage("canary", &["canary"]), stage("rest", &["web"])]);
    let rollout = scenario.create(&config_rollout("web").with("spec.stages", stages.clone())).await;
    rollout.completes(1).await;
    // A change, one that fails, a key that is missing, and a source that is gone.
    scenario.secret("web", &[("token", PLANTED[1])]).await;
    rollout.completes(2).await;
    stages[0]["gate"] = json!({"deadlineSeconds": 5});
    rollout.patch(json!({"spec": {"stages": stages}})).await;
    scenario.mode("bad").await;
    scenario.secret("web", &[("token", PLANTED[2])]).await;
    rollout
        .until("has gone back", |status| status.failed_revision.is_some() && status.rollout.is_none())
        .await;
    scenario.secret("web", &[("another", PLANTED[2])]).await;
    rollout.says("SourcesReady", false, "KeyMissing").await;
    scenario.kubectl("delete secret web").succeeded();
    rollout.says("SourcesReady", false, "SourceMissing").await;

    let kinds = "configrollouts,configmaps,deployments,replicasets,pods,events,events.events.k8s.io,controllerrevisions";
    is_nowhere(&scenario, kinds, "", &["SourceMissing", "mainstay_config_rollout"], &PLANTED).await;
}
