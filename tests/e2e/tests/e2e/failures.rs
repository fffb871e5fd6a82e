//! Refused writes: what the group says of them, and how it goes on.

use std::time::Duration;

use k8s_openapi::api::core::v1::ResourceQuota;
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
};
use mainstay_crds::ReplicaGroupStatus;
use mainstay_e2e::{Component::Replication, Group, Scenario, condition, eventually, group, pods, within};
use serde_json::{Value, json};

const QUOTA_REFUSALS: (&str, &[(&str, &str)]) =
    ("mainstay_replication_write_failures_total", &[("operation", "create"), ("reason", "QuotaExceeded")]);

/// Asserts that the status speaks of a refused create, in the server's words.
fn assert_refused(status: &ReplicaGroupStatus, reason: &str, words: &str) {
    for (kind, expected) in [("ReplicaFailure", "FailedCreate"), ("Stalled", reason)] {
        let condition = condition(status, kind);
        assert_eq!((condition.status.as_str(), condition.reason.as_str()), ("True", expected), "{kind}");
        assert!(condition.message.contains(words), "{kind} does not say {words:?}: {}", condition.message);
    }
    assert_eq!(condition(status, "Ready").status, "False");
    assert_eq!(condition(status, "Reconciling").status, "False", "a stalled group waits for somebody");
}

/// Asserts that nothing is left of a failure.
fn assert_repaired(status: &ReplicaGroupStatus) {
    for kind in ["ReplicaFailure", "Stalled"] {
        let condition = condition(status, kind);
        assert_eq!((condition.status.as_str(), condition.message.as_str()), ("False", ""), "{kind}");
    }
}

async fn assert_failed_create(group: &Group, words: &str) {
    let said = group.event("FailedCreate").await;
    assert!(said.contains(words), "the event does not say {words:?}: {said}");
}

/// A quota of two pods.
async fn enforce_quota(scenario: &Scenario) -> Api<ResourceQuota> {
    let quotas = scenario.api::<ResourceQuota>();
    let quota = json!({"metadata": {"name": "few"}, "spec": {"hard": {"pods": "2"}}});
    let quota = serde_json::from_value(quota).expect("a quota");
    quotas.create(&PostParams::default(), &quota).await.expect("the quota is created");
    eventually("the quota is enforced", async || {
        let status = quotas.get("few").await.map_err(|error| error.to_string())?.status.unwrap_or_default();
        status.hard.filter(|hard| !hard.is_empty()).ok_or("not yet".to_owned())
    })
    .await;
    quotas
}

async fn raise_quota(quotas: &Api<ResourceQuota>) {
    let raised = Patch::Merge(json!({"spec": {"hard": {"pods": "10"}}}));
    quotas.patch("few", &PatchParams::default(), &raised).await.expect("the quota is raised");
}

#[tokio::test]
async fn a_rollout_waits_for_room_in_a_quota_for_longer_than_its_deadline() {
    let scenario = Scenario::start("rolloutquota", &[Replication]).await;
    let web = scenario.create(&group("web", pods::pause()).replicas(2).rolling(1, 0).version("1")).await;
    web.completes("1").await;
    let quotas = enforce_quota(&scenario).await;
    web.patch(json!({"spec": {"progressDeadlineSeconds": 3}})).await;
    web.change("2").await;
    web.reason("QuotaExceeded").await;
    tokio::time::sleep(Duration::from_secs(8)).await;
    let status = web.reason("QuotaExceeded").await;
    assert_eq!((&status.failed_revision, status.updated_replicas), (&None, 0), "{status:?}");
    // A busy machine may take longer than that to start a pod.
    web.patch(json!({"spec": {"progressDeadlineSeconds": 600}})).await;
    raise_quota(&quotas).await;
    web.completes("2").await;
}

#[tokio::test]
async fn a_full_quota_is_reported_and_room_in_it_used_at_once() {
    let scenario = Scenario::start("quota", &[Replication]).await;
    let quotas = enforce_quota(&scenario).await;
    let controller = scenario.controller();
    let (series, labels) = QUOTA_REFUSALS;
    let before = controller.total(series, labels).await;
    let starved = scenario.create(&group("starved", pods::gated()).replicas(5)).await;
    let status = starved.reason("QuotaExceeded").await;
    assert_refused(&status, "QuotaExceeded", "exceeded quota: few");
    assert_failed_create(&starved, "exceeded quota: few").await;
    assert_eq!(starved.until("uses the quota up", |status| status.replicas == 2).await.replicas, 2);

    // After the eighth refusal in a row the next attempt is more than 10 s away.
    eventually("many attempts have been refused", async || {
        let refused = controller.total(series, labels).await - before;
        (refused >= 8.0).then_some(()).ok_or(format!("{refused} refusals"))
    })
    .await;
    raise_quota(&quotas).await;
    within(Duration::from_secs(8), "the raised quota is used before the next attempt is due", async || {
        let pods = starved.pods().await.len();
        (pods == 5).then_some(()).ok_or(format!("{pods} pods"))
    })
    .await;
    assert_repaired(&starved.has(5).await);
}

#[tokio::test]
async fn a_limit_range_that_forbids_the_pod_is_reported_until_the_template_is_changed() {
    let scenario = Scenario::start("limits", &[Replication]).await;
    let limits = json!({
        "apiVersion": "v1",
        "kind": "LimitRange",
        "metadata": {"name": "small"},
        "spec": {"limits": [{"type": "Container", "max": {"memory": "64Mi"}}]},
    });
    scenario.kubectl_create(&limits, &[]).succeeded();
    let large = json!([{"name": "a", "image": pods::PAUSE, "resources": {"limits": {"memory": "1Gi"}}}]);
    let draft = group("large", pods::gated()).replicas(2).with("spec.template.spec.containers", large);
    let large = scenario.create(&draft).await;
    let status = large.reason("Forbidden").await;
    assert_refused(&status, "Forbidden", "maximum memory usage per Container is 64Mi");
    assert_failed_create(&large, "maximum memory usage per Container is 64Mi").await;

    let small = json!([{"name": "a", "image": pods::PAUSE, "resources": {"limits": {"memory": "32Mi"}}}]);
    large.patch(json!({"spec": {"template": {"spec": {"containers": small}}}})).await;
    assert_repaired(&large.has(2).await);
}

#[tokio::test]
async fn pod_security_that_forbids_the_pod_is_reported_until_it_allows_it() {
    let scenario = Scenario::start("podsecurity", &[Replication]).await;
    let enforce = |level: &str| {
        let label = format!("pod-security.kubernetes.io/enforce={level}");
        scenario.kubectl(&format!("label --overwrite namespace {} {label}", scenario.namespace)).succeeded();
    };
    enforce("restricted");
    let lax = scenario.create(&group("lax", pods::gated()).replicas(2)).await;
    let status = lax.reason("Forbidden").await;
    assert_refused(&status, "Forbidden", "violates PodSecurity \"restricted:latest\"");
    enforce("privileged");
    assert_repaired(&lax.has(2).await);
}

#[tokio::test]
async fn an_invalid_template_is_reported_and_holds_nobody_else_up() {
    let scenario = Scenario::start("invalid", &[Replication]).await;
    let mounts = |name: &str| -> Value {
        let mount = json!({"name": name, "mountPath": "/data"});
        json!([{"name": "a", "image": pods::PAUSE, "volumeMounts": [mount]}])
    };
    let draft = group("broken", pods::gated())
        .replicas(2)
        .with("spec.template.spec.volumes", json!([{"name": "data", "emptyDir": {}}]))
        .with("spec.template.spec.containers", mounts("date"));
    let broken = scenario.create(&draft).await;
    let status = broken.reason("InvalidTemplate").await;
    assert_refused(&status, "InvalidTemplate", "spec.containers[0].volumeMounts[0].name");
    assert_failed_create(&broken, "spec.containers[0].volumeMounts[0].name").await;
    assert!(broken.pods().await.is_empty());

    scenario.create(&group("healthy", pods::gated()).replicas(3)).await.has(3).await;
    broken.reason("InvalidTemplate").await;

    broken.patch(json!({"spec": {"template": {"spec": {"containers": mounts("data")}}}})).await;
    assert_repaired(&broken.has(2).await);
}
