//! A change of leader changes no endpoint.

use std::collections::BTreeMap;

use k8s_openapi::api::discovery::v1::EndpointSlice;
use mainstay_e2e::{
    Component::Endpoints, Controller, NAMESPACE, OUT, Pool, Recorder, STANDBY, Scenario, USED, eventually,
    kubectl, pool, rolled_out,
};
use serde_json::json;

/// Who led before, and how many checks each of the others had made by then.
struct Before {
    controller: Controller,
    leader: String,
    held: String,
    checks: BTreeMap<String, f64>,
}

impl Before {
    async fn note(scenario: &Scenario) -> Self {
        let controller = scenario.endpoints_controller();
        let leader = controller.leader().await;
        let mut checks = BTreeMap::new();
        for pod in controller.pod_names().await.into_iter().filter(|pod| *pod != leader) {
            let made = made(&controller, &pod).await;
            checks.insert(pod, made);
        }
        let held = holder(&controller).await.expect("a pod leads");
        Self { controller, leader, held, checks }
    }

    /// Waits until another process leads, and has checked each of two or three members more than once.
    async fn is_over(&self) {
        eventually("another process leads and has checked all of them more than once", async || {
            let now = holder(&self.controller).await?;
            if now.is_empty() || now == self.held {
                return Err(format!("{now:?} leads"));
            }
            let pod = self.controller.holder().await?;
            let before = self.checks.get(&pod).copied().unwrap_or_default();
            let made = made(&self.controller, &pod).await - before;
            (made >= 9.0).then_some(()).ok_or(format!("{now} has made {made} checks since"))
        })
        .await;
    }

    /// Waits until all pods are there again, for the tests that follow.
    fn recovers(&self) {
        rolled_out(&self.controller.name()).succeeded();
    }
}

/// The process that holds the Lease.
async fn holder(controller: &Controller) -> Result<String, String> {
    let lease = controller.leases().get(&controller.name()).await.map_err(|error| error.to_string())?;
    Ok(lease.spec.and_then(|spec| spec.holder_identity).unwrap_or_default())
}

async fn made(controller: &Controller, pod: &str) -> f64 {
    controller.metrics(pod).await.sum("mainstay_endpoints_checks_total", &[])
}

async fn version(pool: &Pool) -> Option<String> {
    pool.slices().await[0].metadata.resource_version.clone()
}

#[tokio::test]
async fn a_new_leader_changes_no_traffic() {
    let scenario = Scenario::alone("handover", &[Endpoints]).await;
    let (first, second) = (scenario.server("a", "web").await, scenario.server("b", "web").await);
    let standby = scenario.server("c", "standby").await;
    let draft =
        pool("web").pods("web", 0).pods("standby", 1).checked().with("spec.failover.belowPercent", 40);
    let web = scenario.create(&draft).await;
    scenario.serving("a", false).await;
    let endpoints = [(first.as_str(), OUT), (second.as_str(), USED), (standby.as_str(), STANDBY)];
    web.has(&endpoints).await;
    let written = version(&web).await;

    let before = Before::note(&scenario).await;
    kubectl(&format!("delete pod {} --namespace={NAMESPACE} --wait=false", before.leader)).succeeded();
    before.is_over().await;
    web.has(&endpoints).await;
    assert_eq!(version(&web).await, written, "the slice was written though nothing had changed");
    before.recovers();
}

#[tokio::test]
async fn a_leader_that_is_killed_in_a_failover_leaves_it_to_the_next() {
    let scenario = Scenario::alone("killed", &[Endpoints]).await;
    let (first, second) = (scenario.server("a", "web").await, scenario.server("b", "web").await);
    let standby = scenario.server("c", "standby").await;
    let draft = pool("web").pods("web", 0).pods("standby", 1).checked();
    // It would be returned to at once, if what was known of the failing one were lost.
    let failover = json!({"belowPercent": 60, "returnPercent": 60, "returnSeconds": 0});
    let web = scenario.create(&draft.with("spec.failover", failover)).await;
    web.has(&[(&first, USED), (&second, USED), (&standby, STANDBY)]).await;
    scenario.serving("a", false).await;
    let endpoints = [(first.as_str(), OUT), (second.as_str(), STANDBY), (standby.as_str(), USED)];
    web.has(&endpoints).await;
    let since = web.until("uses tier 1", |status| status.tier == Some(1)).await.tier_since;
    let written = version(&web).await;

    let before = Before::note(&scenario).await;
    before.controller.victim(&before.leader).await.kill().await;
    // The other pod, or the killed one with a new process: whoever finds first that the Lease has run out.
    before.is_over().await;
    web.has(&endpoints).await;
    assert_eq!(version(&web).await, written, "the slice was written though nothing had changed");
    let status = web.until("uses tier 1", |status| status.tier == Some(1)).await;
    assert_eq!(status.tier_since, since);
    scenario.serving("a", true).await;
    web.has(&[(&first, USED), (&second, USED), (&standby, STANDBY)]).await;
    before.recovers();
}

#[tokio::test]
async fn a_leader_that_is_killed_leaves_the_addresses_of_names_to_the_next() {
    let scenario = Scenario::alone("names", &[Endpoints]).await;
    let mut names = Vec::new();
    for app in ["primary", "replica"] {
        let service = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": app},
            "spec": {"clusterIP": "None", "selector": {"app": app}, "ports": [{"port": 8080}]},
        });
        scenario.kubectl_create(&service, &[]).succeeded();
        names.push(format!("{app}.{}.svc.cluster.local", scenario.namespace));
    }
    let (first, second) = (scenario.server("a", "primary").await, scenario.server("b", "replica").await);
    let set = |tier: usize| json!({"name": format!("tier-{tier}"), "tier": tier, "dnsNames": [names[tier]]});
    let db = scenario.create(&pool("db").set(set(0)).set(set(1)).checked()).await;
    let endpoints = [(first.as_str(), USED), (second.as_str(), STANDBY)];
    db.has(&endpoints).await;
    db.until("uses tier 0", |status| status.tier == Some(0)).await;
    let record = Recorder::<EndpointSlice>::start(scenario.api()).await;

    let before = Before::note(&scenario).await;
    before.controller.victim(&before.leader).await.kill().await;
    before.is_over().await;
    db.has(&endpoints).await;
    record.catch_up().await;
    let seen = record.read(|states| states[record.listed()..].to_vec());
    assert!(seen.is_empty(), "the new leader, which had looked nothing up yet, wrote {seen:?}");
    before.recovers();
}
