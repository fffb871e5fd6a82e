//! Connections to the API server that say nothing any more.

use std::{env, fs, time::Duration};

use http::Request;
use kube::{Api, ResourceExt, api::ListParams};
use mainstay_crds::ReplicaGroup;
use mainstay_e2e::{Component::Replication, Metrics, Outside, Scenario, group, pods, within};
use mainstay_faults::proxy::{Mood, Proxy};
use serde_json::Value;

/// What kube gives a silent watch (40 s, and five more), with a margin for a busy machine.
const NOTICED: Duration = Duration::from_secs(90);
/// What the groups of others may take to go.
const ENDS: Duration = Duration::from_secs(300);

/// A further replica of the replication controller that reaches the API server through a proxy, by TLS with the server
/// itself. It stands by: it watches as the leader does, and writes nothing.
fn standby(proxy: &Proxy, mut config: Value) -> Outside {
    let cluster = &mut config["clusters"][0]["cluster"];
    cluster["server"] = format!("https://{}", proxy.address()).into();
    // By which name the server has its certificate.
    cluster["tls-server-name"] = "kubernetes.default".into();
    Outside::start(Replication, &config, &["--leader-election-namespace=mainstay"])
}

/// The kubeconfig of this test, and the address of its server.
fn kubeconfig() -> (Value, String) {
    let path = env::var("KUBECONFIG").expect("KUBECONFIG names a cluster");
    let text = fs::read_to_string(path).expect("it can be read");
    let config: Value = serde_saphyr::from_str(&text).expect("YAML");
    let server = config["clusters"][0]["cluster"]["server"].as_str().expect("it has a server").to_owned();
    (config, server.trim_start_matches("https://").trim_end_matches('/').to_owned())
}

/// How many lists of all budgets the API server has answered: only controllers that start ask for one.
async fn lists(scenario: &Scenario) -> f64 {
    let request = Request::get("/metrics").body(Vec::new()).expect("a valid request");
    let text = scenario.client.request_text(request).await.expect("the API server measures itself");
    let labels = [("resource", "poddisruptionbudgets"), ("verb", "LIST"), ("scope", "cluster")];
    Metrics::parse(&text).sum("apiserver_request_total", &labels)
}

#[tokio::test]
async fn a_connection_that_swallows_bytes_is_noticed_and_its_watches_go_on_without_a_list() {
    let scenario = Scenario::alone("deaf", &[Replication]).await;
    let (config, server) = kubeconfig();
    let proxy = Proxy::bytes(&server).await.expect("a free port");
    let standby = standby(&proxy, config);
    let groups = async || Ok::<_, String>(standby.metrics().await?.sum("mainstay_replication_groups", &[]));
    scenario.create(&group("first", pods::gated()).replicas(0)).await;
    // Groups of tests that have ended may still be going, and those of tests without controllers come: one that goes unseen
    // would hide one that comes.
    within(ENDS, "the only group of a test is this one's, and the standby has seen it", async || {
        let all = Api::<ReplicaGroup>::all(scenario.client.clone());
        let all = all.list_metadata(&ListParams::default()).await.map_err(|error| error.to_string())?.items;
        let of_others = |namespace: &str| namespace.starts_with("e2e-") && namespace != scenario.namespace;
        let others = all.iter().filter(|group| of_others(&group.namespace().unwrap_or_default())).count();
        let seen = groups().await?;
        let settled = others == 0 && seen == f64::from(u32::try_from(all.len()).unwrap_or(u32::MAX));
        settled.then_some(()).ok_or(format!("{} groups, {others} of others, {seen} seen", all.len()))
    })
    .await;
    let (before, listed) = (groups().await.expect("it is measured"), lists(&scenario).await);

    // Connections that there are; new ones work.
    proxy.set(Mood::Silent);
    proxy.set(Mood::Honest);
    scenario.create(&group("second", pods::gated()).replicas(0)).await;
    within(NOTICED, "the standby has seen the second group", async || {
        let seen = groups().await?;
        if seen > before { Ok(()) } else { Err(format!("{seen} as before")) }
    })
    .await;
    within(NOTICED, "no watch is silent any more", async || {
        let metrics = standby.metrics().await?;
        let resources = ["pods", "nodes", "replicagroups", "controllerrevisions", "poddisruptionbudgets"];
        let ages =
            resources.map(|resource| metrics.sum("watch_last_event_age_seconds", &[("resource", resource)]));
        if ages.iter().all(|age| *age < 45.0) { Ok(()) } else { Err(format!("{ages:?}")) }
    })
    .await;
    assert_eq!(lists(&scenario).await, listed, "a watch goes on where it was");
}
