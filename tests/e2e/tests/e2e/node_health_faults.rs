//! Faults around the controller itself: no node is believed dead that is not, and nothing that was taken is lost.

use std::time::Duration;

use k8s_openapi::api::core::v1::Node;
use kube::{
    Api, ResourceExt,
    api::{ListParams, Patch, PatchParams},
};
use mainstay_cluster::Cluster;
use mainstay_e2e::{
    Component::NodeHealth, FakeClock, FakeNodes, Scenario, Stand, eventually, is_ready_node, local, policy,
    run, within,
};
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::node_health_storms::stays_clear;

const ZONES: [&str; 3] = ["zone-a", "zone-b", "zone-c"];
/// How far a controller's clock is set ahead.
const AHEAD: Duration = Duration::from_secs(2 * 3600);
const LONG: Duration = Duration::from_secs(240);

fn taken() -> Stand {
    Stand { cordoned: true, taint: Some("NoSchedule".into()), taken: true }
}

/// Puts the cluster right when a test ends in any way.
struct Repair<F: FnMut()>(F);

impl<F: FnMut()> Drop for Repair<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// The local cluster, with a line that says so where there is none.
fn cluster() -> Option<&'static Cluster> {
    let cluster = local();
    if cluster.is_none() {
        eprintln!("skipped: only the local cluster can be hurt in this way");
    }
    cluster
}

/// Runs what blocks without holding up the test's own tasks.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.expect("the work does not panic")
}

/// Waits until all nodes of the cluster are ready, so that the tests that follow find them so.
async fn all_ready(scenario: &Scenario) {
    let nodes: Api<Node> = Api::all(scenario.client.clone());
    within(LONG, "all nodes are ready", async || {
        let listed = nodes.list(&ListParams::default()).await.map_err(|error| error.to_string())?;
        let not = listed.iter().filter(|node| !is_ready_node(node));
        let not: Vec<_> = not.map(ResourceExt::name_any).collect();
        not.is_empty().then_some(()).ok_or_else(|| format!("not ready: {not:?}"))
    })
    .await;
}

#[tokio::test]
async fn an_api_server_that_was_frozen_marks_no_node() {
    let Some(cluster) = cluster() else { return };
    let scenario = Scenario::alone_in_the_cluster("frozen").await;
    let Some(nodes) = FakeNodes::make(&scenario, &ZONES).await else { return };
    let health = policy(&scenario, &nodes).create(&scenario.client).await;
    health.watches(3).await;
    let server = cluster.component("kube-apiserver").expect("the API server runs").process.pid.to_string();
    let freeze = |signal: &str| run("kill", &[signal, &server], "").succeeded();
    {
        let _thaw = Repair(|| drop(freeze("-CONT")));
        freeze("-STOP");
        // The time itself is the fault.
        sleep(Duration::from_secs(30)).await;
    }
    let end = Instant::now() + Duration::from_secs(40);
    while Instant::now() < end {
        for number in 0..ZONES.len() {
            assert_eq!(Stand::of(&nodes.get(number).await), Stand::CLEAR, "on {}", nodes.name(number));
        }
        sleep(Duration::from_millis(500)).await;
    }
    health.watches(3).await;
    // It still sees.
    nodes.silence(&[1]).await;
    nodes.carries(1, &taken()).await;
    nodes.revive(&[1]).await;
    all_ready(&scenario).await;
}

#[tokio::test]
async fn the_controllers_clock_may_be_set_forth_and_back() {
    let Some(_) = cluster() else { return };
    let scenario = Scenario::alone("clock", &[NodeHealth]).await;
    let Some(nodes) = FakeNodes::make(&scenario, &ZONES).await else { return };
    let controller = scenario.health_controller();
    let clock = FakeClock::install(&controller).await;
    let health = policy(&scenario, &nodes).create(&scenario.client).await;
    health.watches(3).await;
    clock.set(AHEAD).await;
    // Longer than a node may be silent.
    stays_clear(&nodes, 3, Duration::from_secs(20)).await;
    nodes.silence(&[1]).await;
    nodes.carries(1, &taken()).await;
    clock.set(Duration::ZERO).await;
    assert_eq!(Stand::of(&nodes.get(1).await), taken(), "it is still silent");
    nodes.revive(&[1]).await;
    nodes.carries(1, &Stand::CLEAR).await;
    stays_clear(&nodes, 3, Duration::from_secs(20)).await;
    health.watches(3).await;
}

#[tokio::test]
async fn a_controller_that_is_killed_in_each_step_goes_on() {
    let scenario = Scenario::alone("killed", &[NodeHealth]).await;
    let Some(nodes) = FakeNodes::make(&scenario, &ZONES).await else { return };
    let controller = scenario.health_controller();
    let health = policy(&scenario, &nodes)
        .with("spec.actions.drain.after", "5s")
        .with("spec.healthyFor", "5s")
        .create(&scenario.client)
        .await;
    health.watches(3).await;
    let kill = async || {
        let leader = controller.leader().await;
        controller.victim(&leader).await.kill().await;
    };
    scenario.orphan("moves", "moves", nodes.pod_on(1)).await;
    nodes.silence(&[1]).await;
    // Between the last sign of life and the verdict.
    kill().await;
    nodes.carries(1, &taken()).await;
    // Between the cordon and the drain: what stands is kept, and the drain comes all the same.
    kill().await;
    eventually("the pod is evicted", async || {
        assert_eq!(Stand::of(&nodes.get(1).await), taken());
        let pod = scenario.pods().get_opt("moves").await.map_err(|error| error.to_string())?;
        let going = pod.is_none_or(|pod| pod.metadata.deletion_timestamp.is_some());
        going.then_some(()).ok_or_else(|| "it stands".to_owned())
    })
    .await;
    nodes.revive(&[1]).await;
    // While the node recovers.
    health.finds(nodes.name(1), "Recovering").await;
    kill().await;
    nodes.carries(1, &Stand::CLEAR).await;
    health.watches(3).await;
}

#[tokio::test]
async fn when_no_node_of_the_cluster_answers_everything_is_handed_back() {
    let Some(cluster) = cluster() else { return };
    let scenario = Scenario::alone_in_the_cluster("all").await;
    let Some(nodes) = FakeNodes::make(&scenario, &ZONES).await else { return };
    let health = policy(&scenario, &nodes).create(&scenario.client).await;
    health.watches(3).await;
    nodes.silence(&[1]).await;
    nodes.carries(1, &taken()).await;
    {
        let _start = Repair(|| {
            for zone in ZONES {
                cluster.zone_start(zone).unwrap_or_else(|error| eprintln!("{error}"));
            }
            drop(cluster.start("kubelet", &[]).map_err(|error| eprintln!("{error}")));
        });
        blocking(move || {
            for zone in ZONES {
                cluster.zone_stop(zone).expect("the zone stops");
            }
            cluster.stop("kubelet").expect("the kubelet stops");
        })
        .await;
        health.says("BreakerOpen", true, "NoNodeAnswers").await;
        nodes.carries(1, &Stand::CLEAR).await;
    }
    nodes.revive(&[1]).await;
    health.watches(3).await;
    all_ready(&scenario).await;
}

#[tokio::test]
async fn a_kubelet_that_stops_is_noticed_and_its_node_is_handed_back_when_it_starts() {
    let Some(cluster) = cluster() else { return };
    let scenario = Scenario::alone_in_the_cluster("kubelet").await;
    let nodes: Api<Node> = Api::all(scenario.client.clone());
    let listed =
        nodes.list(&ListParams::default().labels("type!=kwok")).await.expect("nodes are listed").items;
    let [real] = listed.as_slice() else { panic!("one real node, not {}", listed.len()) };
    let name = real.name_any();
    let (label, mark) = ("e2e.mainstay.dev/real", scenario.namespace.clone());
    let labelled = |value: serde_json::Value| Patch::Merge(json!({"metadata": {"labels": {label: value}}}));
    nodes.patch(&name, &PatchParams::default(), &labelled(json!(mark))).await.expect("the node is labelled");
    let Some(fake) = FakeNodes::make(&scenario, &["zone-a"]).await else { return };
    let health = policy(&scenario, &fake)
        .with("spec.nodeSelector", json!({"matchLabels": {label: mark}}))
        // The controllers under test run there.
        .with("spec.actions.drain.enabled", false)
        .with("spec.secondOpinion", json!({"kubelet": {"type": "TCP"}, "maxDelay": "10m"}))
        .create(&scenario.client)
        .await;
    health.watches(1).await;
    let carries = async |stand: Stand| {
        eventually(&format!("{name} carries {stand:?}"), async || {
            let seen = Stand::of(&nodes.get(&name).await.map_err(|error| error.to_string())?);
            (seen == stand).then_some(()).ok_or_else(|| format!("{seen:?}"))
        })
        .await;
    };
    {
        let _start = Repair(|| drop(cluster.start("kubelet", &[]).map_err(|error| eprintln!("{error}"))));
        blocking(move || cluster.stop("kubelet").expect("the kubelet stops")).await;
        carries(taken()).await;
    }
    carries(Stand::CLEAR).await;
    health.watches(1).await;
    all_ready(&scenario).await;
    nodes.patch(&name, &PatchParams::default(), &labelled(json!(null))).await.expect("the label is removed");
    scenario.health_controller().leader().await;
}
