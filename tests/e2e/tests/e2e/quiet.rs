//! When nothing changes, nothing is written.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::{
    NamespaceResourceScope,
    api::{apps::v1::Deployment, core::v1::Secret, discovery::v1::EndpointSlice},
};
use kube::{Resource, ResourceExt};
use mainstay_crds::{ConfigRollout, EndpointPool, ReplicaGroup};
use mainstay_e2e::{
    Component, Controller, FakeNodes, Metrics, OUT, STANDBY, Scenario, USED, account_policy, config_rollout,
    deployment, group, pods, policy, pool, reader, within,
};
use serde::de::DeserializeOwned;
use tokio::time::sleep;

const WINDOW: Duration = Duration::from_secs(10);

/// A leader reads and writes its Lease every 2 s (`--retry-period`); in a window one more of each may fall.
const RENEWALS: f64 = 6.0;

/// The server ends a watch after some minutes. All of a controller may be begun anew in the same window, and none has
/// more than eight.
const WATCHES: f64 = 8.0;

fn requests(metrics: &Metrics, method: &str) -> f64 {
    metrics.sum("rest_client_requests_total", &[("method", method)])
}

async fn versions<K>(scenario: &Scenario) -> BTreeMap<String, Option<String>>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + std::fmt::Debug,
{
    let listed = scenario.api::<K>().list(&Default::default()).await.expect("objects are listed");
    listed.iter().map(|object| (object.name_any(), object.resource_version())).collect()
}

/// Waits until the leader has sent nothing for a while but what keeps its Lease and so many reads of its own, and
/// `unchanged` has stood.
async fn falls_quiet(
    controller: &Controller,
    own_reads: f64,
    unchanged: impl AsyncFn() -> Vec<BTreeMap<String, Option<String>>>,
) {
    let leader = controller.leader().await;
    // Namespaces of tests before this one may still be going, and on a shared cluster others may work: one quiet
    // window is enough, and a controller that is never quiet has none.
    within(Duration::from_secs(120), "10 s go by in which only the Lease is written", async || {
        let (before, versions_before) = (controller.metrics(&leader).await, unchanged().await);
        // The time itself is what is waited for.
        sleep(WINDOW).await;
        let (after, versions_after) = (controller.metrics(&leader).await, unchanged().await);
        let sent = |method| requests(&after, method) - requests(&before, method);
        let [put, get, patch, post, delete] = ["PUT", "GET", "PATCH", "POST", "DELETE"].map(sent);
        let seen = format!("PUT {put}, GET {get}, PATCH {patch}, POST {post}, DELETE {delete}");
        assert!(put > 0.0, "the leader has not renewed its Lease: {seen}");
        let quiet = put <= RENEWALS && get <= RENEWALS + WATCHES + own_reads && patch + post + delete == 0.0;
        (quiet && versions_before == versions_after).then_some(()).ok_or(seen)
    })
    .await;
}

#[tokio::test]
async fn a_settled_controller_sends_nothing_but_its_lease() {
    let scenario = Scenario::alone("quiet", &[Component::Replication]).await;
    scenario.create(&group("running", pods::pause()).replicas(2)).await.ready().await;
    scenario.create(&group("waiting", pods::gated()).replicas(5)).await.reason("PodsNotReady").await;
    falls_quiet(&scenario.controller(), 0.0, async || vec![versions::<ReplicaGroup>(&scenario).await]).await;
}

#[tokio::test]
async fn checks_that_say_what_they_said_before_write_nothing() {
    let scenario = Scenario::alone("checked", &[Component::Endpoints]).await;
    let (first, second) = (scenario.server("a", "web").await, scenario.server("b", "web").await);
    let standby = scenario.server("c", "standby").await;
    let draft = pool("web").pods("web", 0).pods("standby", 1).checked();
    let web = scenario.create(&draft).await;
    scenario.serving("b", false).await;
    web.has(&[(&first, USED), (&second, OUT), (&standby, STANDBY)]).await;
    web.until("says who fails", |status| status.members.failing == 1).await;
    let controller = scenario.endpoints_controller();
    falls_quiet(&controller, 0.0, async || {
        vec![versions::<EndpointPool>(&scenario).await, versions::<EndpointSlice>(&scenario).await]
    })
    .await;
}

#[tokio::test]
async fn a_policy_whose_nodes_are_well_writes_nothing() {
    let scenario = Scenario::alone("well", &[Component::NodeHealth]).await;
    let Some(nodes) = FakeNodes::make(&scenario, &["zone-a", "zone-b", "zone-c"]).await else { return };
    let health = policy(&scenario, &nodes).create(&scenario.client).await;
    health.watches(3).await;
    // It asks the API server once a second whether it answers.
    let pulses = WINDOW.as_secs_f64() + 2.0;
    falls_quiet(&scenario.health_controller(), pulses, async || {
        let policy = health.get().await;
        vec![BTreeMap::from([(policy.name_any(), policy.resource_version())])]
    })
    .await;
}

#[tokio::test]
async fn a_rollout_whose_targets_have_its_revision_sends_nothing() {
    let scenario = Scenario::alone("current", &[Component::ConfigRollout]).await;
    scenario.mode("one").await;
    scenario.secret("web", &[("token", "first")]).await;
    scenario.apply(&deployment("web", reader()));
    let rollout = scenario.create(&config_rollout("web")).await;
    rollout.completes(1).await;
    falls_quiet(&scenario.config_controller(), 0.0, async || {
        vec![versions::<ConfigRollout>(&scenario).await, versions::<Deployment>(&scenario).await]
    })
    .await;
}

#[tokio::test]
async fn a_policy_whose_namespaces_have_everything_sends_nothing() {
    let scenario = Scenario::alone("given", &[Component::Accounts]).await;
    scenario.pick(&scenario, true);
    let policy = account_policy(&scenario).create(&scenario.client).await;
    policy.ready(1).await;
    falls_quiet(&scenario.accounts_controller(), 0.0, async || {
        let policy = policy.get().await;
        let policy = BTreeMap::from([(policy.name_any(), policy.resource_version())]);
        vec![versions::<Secret>(&scenario).await, policy]
    })
    .await;
}
