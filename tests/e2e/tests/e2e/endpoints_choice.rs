//! Which members of a tier are used, and how they come and go.

use k8s_openapi::api::{core::v1::Pod, discovery::v1::EndpointSlice};
use kube::ResourceExt;
use mainstay_e2e::{
    Component::Endpoints, DRAINING, OUT, Pool, Recorder, STANDBY, Scenario, Traffic, USED, client,
    eventually, pods, pool,
};
use serde_json::{Value, json};

/// Waits until tier 0 has so many healthy members of so many, and says which tier is in use.
async fn tier_when_healthy(pool: &Pool, healthy: i32, members: i32) -> Option<i32> {
    let seen = |status: &mainstay_crds::EndpointPoolStatus| {
        status.tiers.first().is_some_and(|best| (best.healthy, best.members) == (healthy, members))
    };
    pool.until(&format!("{healthy} of {members} members of tier 0 are healthy"), seen).await.tier
}

#[tokio::test]
async fn a_tier_is_returned_to_above_the_upper_share_alone_and_not_before_its_time() {
    let scenario = Scenario::start("return", &[Endpoints]).await;
    let mut main = Vec::new();
    for name in ["a", "b", "c"] {
        main.push(scenario.server(name, "main").await);
    }
    let standby = scenario.server("d", "standby").await;
    let failover = json!({"belowPercent": 60, "returnPercent": 100, "returnSeconds": 0});
    let draft =
        pool("web").pods("main", 0).pods("standby", 1).checked().with("spec.failover", failover.clone());
    let web = scenario.create(&draft).await;
    let used = [USED; 3];
    let has = async |conditions: [[bool; 3]; 3], other: [bool; 3]| {
        let main = main.iter().map(String::as_str).zip(conditions);
        web.has(&main.chain([(standby.as_str(), other)]).collect::<Vec<_>>()).await;
    };
    has(used, STANDBY).await;

    // Two of three are enough to stay.
    scenario.serving("a", false).await;
    has([OUT, USED, USED], STANDBY).await;
    assert_eq!(tier_when_healthy(&web, 2, 3).await, Some(0));
    scenario.serving("b", false).await;
    has([OUT, OUT, STANDBY], USED).await;
    assert_eq!(tier_when_healthy(&web, 1, 3).await, Some(1));
    // And too few to come back.
    scenario.serving("b", true).await;
    assert_eq!(tier_when_healthy(&web, 2, 3).await, Some(1));
    // All three are enough, but not at once.
    web.patch(json!({"spec": {"failover": {"returnSeconds": 86400}}})).await;
    scenario.serving("a", true).await;
    assert_eq!(tier_when_healthy(&web, 3, 3).await, Some(1));
    has([STANDBY; 3], USED).await;
    web.patch(json!({"spec": {"failover": failover}})).await;
    has(used, STANDBY).await;
    web.says("FailedOver", false, "BestTierInUse").await;
}

#[tokio::test]
async fn a_tier_that_is_scaled_up_stays_in_use_and_one_that_crashes_does_not() {
    let scenario = Scenario::start("scaled", &[Endpoints]).await;
    let main = [scenario.server("a", "main").await, scenario.server("b", "main").await];
    let standby = scenario.server("s", "standby").await;
    let web = scenario.create(&pool("web").pods("main", 0).pods("standby", 1)).await;
    web.has(&[(&main[0], USED), (&main[1], USED), (&standby, STANDBY)]).await;
    let record = Recorder::<EndpointSlice>::start(scenario.api()).await;

    // Each is ready when the test says so.
    let mut spec = pods::web();
    spec["readinessGates"] = json!([{"conditionType": STARTED}]);
    for name in ["c", "d", "e", "f"] {
        scenario.orphan(name, "main", spec.clone()).await;
    }
    web.until("has four members that start", |status| status.members.not_ready == 4).await;
    for name in ["c", "d", "e", "f"] {
        started(&scenario, name, true).await;
    }
    web.uses(6).await;
    record.catch_up().await;
    let is_used = |slice: &EndpointSlice| {
        let mut endpoints = slice.endpoints.iter().flatten();
        endpoints.any(|endpoint| endpoint.addresses.contains(&standby) && conditions(endpoint)[0])
    };
    let used = record.read(|states| states.iter().filter(|(slice, _)| is_used(slice)).count());
    assert_eq!(used, 0, "tier 1 was used though two healthy members of tier 0 were all that it had had");

    for name in ["c", "d", "e", "f"] {
        started(&scenario, name, false).await;
    }
    web.until("uses tier 1", |status| status.tier == Some(1)).await;
}

/// The readiness gate of a pod that a test makes ready.
const STARTED: &str = "e2e.mainstay.dev/started";

/// Says whether a pod has started.
async fn started(scenario: &Scenario, pod: &str, has: bool) {
    let condition = json!({"type": STARTED, "status": if has { "True" } else { "False" }});
    scenario.patch_pod_status(pod, json!({"conditions": [condition]})).await;
}

#[tokio::test]
async fn no_more_are_taken_out_than_the_pool_allows() {
    let scenario = Scenario::start("ejected", &[Endpoints]).await;
    let mut servers = Vec::new();
    for name in ["a", "b", "c"] {
        servers.push(scenario.server(name, "web").await);
    }
    let draft = pool("web").pods("web", 0).checked();
    let web = scenario.create(&draft.with("spec.maxEjectedPercent", 34)).await;
    let has = async |conditions: [[bool; 3]; 3]| {
        web.has(&servers.iter().map(String::as_str).zip(conditions).collect::<Vec<_>>()).await;
    };
    has([USED; 3]).await;
    scenario.serving("b", false).await;
    has([USED, OUT, USED]).await;
    // The one that has failed for longest stays out.
    scenario.serving("a", false).await;
    has([[true, false, false], OUT, USED]).await;
    web.says("Panic", false, "AsExpected").await;
    scenario.serving("b", true).await;
    has([OUT, USED, USED]).await;
}

#[tokio::test]
async fn slow_start_lets_new_members_in_one_step_after_the_other() {
    let scenario = Scenario::start("slow", &[Endpoints]).await;
    let addresses: Vec<_> = (1..=8).map(|number| format!("192.0.2.{number}")).collect();
    let web = scenario.create(&pool("web").addresses("outside", &addresses[..4])).await;
    web.uses(4).await;
    let record = Recorder::<EndpointSlice>::start(scenario.api()).await;
    let list: Vec<_> = addresses.iter().map(|ip| json!({"ip": ip})).collect();
    web.patch(json!({"spec": {
        "slowStart": {"percent": 25, "periodSeconds": 1},
        "members": [{"name": "outside", "addresses": list}],
    }}))
    .await;
    web.uses(8).await;
    record.catch_up().await;
    let mut used = record.read(|states| {
        let is_ready = |endpoint: &&_| conditions(endpoint)[0];
        let used = |slice: &EndpointSlice| slice.endpoints.iter().flatten().filter(is_ready).count();
        states.iter().map(|(slice, _)| used(slice)).collect::<Vec<_>>()
    });
    used.dedup();
    assert_eq!(used, [4, 5, 6, 7, 8]);
}

/// Ready, serving, terminating.
fn conditions(endpoint: &k8s_openapi::api::discovery::v1::Endpoint) -> [bool; 3] {
    let conditions = endpoint.conditions.clone().unwrap_or_default();
    [conditions.ready, conditions.serving, conditions.terminating].map(Option::unwrap_or_default)
}

/// A server that is ready by its probe, and goes only when everybody has had the time to see it go; beside it one that
/// answers checks on this port. It waits for its gate.
fn gated_server(judge_port: u16) -> Value {
    let (mut spec, judged) = (pods::graceful_web(), pods::judged());
    let mut judge = judged["containers"][1].clone();
    judge["args"][1] = format!("--port={judge_port}").into();
    judge["lifecycle"] = spec["containers"][0]["lifecycle"].clone();
    spec["containers"].as_array_mut().expect("a pod has a list of containers").push(judge);
    spec["readinessGates"] = json!([{"conditionType": "mainstay.dev/endpoint-ready"}]);
    spec
}

#[tokio::test]
async fn a_rollout_waits_for_the_checks_of_the_new_pods_and_loses_no_request() {
    let scenario = Scenario::start("rollout", &[Endpoints]).await;
    client(&scenario).await;
    let web = scenario.create(&pool("web").pods("web", 0).checked()).await;
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {
            "replicas": 2,
            "strategy": {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": gated_server(8090)},
        },
    });
    scenario.kubectl_create(&deployment, &[]).succeeded();
    let completes = "rollout status deployment/web --timeout=90s";
    scenario.kubectl(completes).succeeded();
    web.uses(2).await;
    let traffic = Traffic::through(&scenario, "web").await;
    let pods = async || scenario.pods().list(&kube::api::ListParams::default().labels("app=web")).await;
    let names = |pods: &[Pod]| pods.iter().map(ResourceExt::name_any).collect::<Vec<_>>();
    let old = names(&pods().await.unwrap().items);

    // Nobody answers checks of the new pods, whose containers are all ready.
    let template = |spec: Value| json!({"spec": {"template": {"spec": spec}}}).to_string();
    let patch = |spec: Value| {
        let namespace = format!("--namespace={}", scenario.namespace);
        let words = ["patch", "deployment/web", &namespace, "--type=merge", "--patch-file=/dev/stdin"];
        mainstay_e2e::run("kubectl", &words, &template(spec)).succeeded()
    };
    patch(gated_server(8092));
    eventually("a new pod is ready but for its gate", async || {
        let items = pods().await.map_err(|error| error.to_string())?.items;
        let is_true = |pod: &Pod, kind: &str| {
            let mut conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
            conditions.any(|condition| condition.type_ == kind && condition.status == "True")
        };
        let waits = |pod: &&Pod| is_true(pod, "ContainersReady") && !is_true(pod, "Ready");
        let (waiting, all) = (items.iter().filter(waits).count(), names(&items));
        let are_left = old.iter().all(|name| all.contains(name));
        (waiting == 1 && are_left && all.len() == 3).then_some(()).ok_or(format!("{waiting} wait of {all:?}"))
    })
    .await;
    let failing = |status: &mainstay_crds::EndpointPoolStatus| {
        (status.members.in_use, status.members.not_ready, status.members.total) == (2, 1, 3)
    };
    web.until("uses the old pods", failing).await;

    patch(gated_server(8090));
    scenario.kubectl(completes).succeeded();
    web.until("uses the new pods alone", |status| (status.members.in_use, status.members.total) == (2, 2))
        .await;
    assert!(traffic.end().await > 0, "no request was lost");
}

#[tokio::test]
async fn a_pod_that_terminates_stands_as_serving_until_it_is_gone() {
    let scenario = Scenario::start("terminates", &[Endpoints]).await;
    client(&scenario).await;
    let mut addresses = Vec::new();
    for name in ["a", "b"] {
        scenario.orphan(name, "web", pods::graceful_web()).await;
        scenario.kubectl(&format!("wait --for=condition=Ready pod/{name} --timeout=60s")).succeeded();
        addresses.push(scenario.pods().get(name).await.unwrap().status.unwrap().pod_ip.unwrap());
    }
    let web = scenario.create(&pool("web").pods("web", 0)).await;
    web.has(&[(&addresses[0], USED), (&addresses[1], USED)]).await;
    let traffic = Traffic::through(&scenario, "web").await;
    let record = Recorder::<EndpointSlice>::start(scenario.api()).await;
    scenario.kubectl("delete pod a --wait=false").succeeded();
    web.has(&[(&addresses[1], USED)]).await;
    traffic.only("b").await;
    assert!(traffic.end().await > 0, "no request was lost");
    record.catch_up().await;
    let mut stood = record.read(|states| {
        let endpoints = states.iter().flat_map(|(slice, _)| slice.endpoints.iter().flatten());
        let ours = endpoints.filter(|endpoint| endpoint.addresses.contains(&addresses[0]));
        ours.map(conditions).collect::<Vec<_>>()
    });
    stood.dedup();
    assert_eq!(stood[..2], [USED, DRAINING], "{stood:?}");
}
