//! Storms, doubts and nodes that come and go: nothing is believed too soon.

use std::time::Duration;

use kube::api::{Patch, PatchParams};
use mainstay_e2e::{Component::NodeHealth, FakeNodes, Scenario, Stand, eventually, policy};
use serde_json::json;
use tokio::time::{Instant, sleep};

const A: &str = "zone-a";
const B: &str = "zone-b";
const C: &str = "zone-c";

/// Looks for as long as `time` whether anything of a policy stands on a node.
pub(crate) async fn stays_clear(nodes: &FakeNodes, count: usize, time: Duration) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        for number in 0..count {
            let stand = Stand::of(&nodes.get(number).await);
            assert_eq!(stand, Stand::CLEAR, "on {}", nodes.name(number));
        }
        sleep(Duration::from_millis(500)).await;
    }
}

#[tokio::test]
async fn a_zone_that_falls_silent_is_a_storm_and_another_zone_is_still_served() {
    let scenario = Scenario::start("zone", &[NodeHealth]).await;
    let Some(nodes) = FakeNodes::make(&scenario, &[A, A, A, B, B, B, C, C]).await else { return };
    let draft = policy(&scenario, &nodes).with("spec.breakers.cluster.maxUnhealthy", "60%");
    let health = draft.create(&scenario.client).await;
    health.watches(8).await;
    nodes.silence(&[0, 1, 2]).await;
    let words = health.says("BreakerOpen", true, "TooManyUnhealthy").await;
    assert!(words.contains("zone zone-a: 3 of 3 nodes (limit 2)"), "{words}");
    health.event("BreakerOpened").await;
    health.until("all three wait", |status| status.nodes.waiting == 3).await;
    nodes.silence(&[6]).await;
    nodes.carries(6, &Stand { cordoned: true, taint: Some("NoSchedule".into()), taken: true }).await;
    stays_clear(&nodes, 3, Duration::from_secs(3)).await;
    nodes.revive(&[0, 1, 2, 6]).await;
    health.event("BreakerClosed").await;
    health.watches(8).await;
    stays_clear(&nodes, 8, Duration::from_secs(1)).await;
}

#[tokio::test]
async fn after_a_storm_what_is_left_is_taken_one_by_one() {
    let scenario = Scenario::start("backlog", &[NodeHealth]).await;
    let Some(nodes) = FakeNodes::make(&scenario, &[A, A, A, A, A, A, B, B]).await else { return };
    let draft = policy(&scenario, &nodes)
        .with("spec.breakers.zone.maxUnhealthy", 4)
        .with("spec.breakers.cluster.maxUnhealthy", 7)
        .with("spec.breakers.maxActionsPer", json!({"count": 2, "window": "20s"}));
    let health = draft.create(&scenario.client).await;
    health.watches(8).await;
    nodes.silence(&[0, 1, 2, 3, 4]).await;
    health.says("BreakerOpen", true, "TooManyUnhealthy").await;
    nodes.revive(&[2, 3, 4]).await;
    health.event("BreakerClosed").await;
    let closed = Instant::now();
    let taken = async |count: usize| {
        eventually(&format!("{count} nodes are taken"), async || {
            let mut taken = 0;
            for number in 0..2 {
                taken += usize::from(Stand::of(&nodes.get(number).await).taken);
            }
            (taken >= count).then_some(()).ok_or_else(|| format!("{taken} are"))
        })
        .await;
        closed.elapsed()
    };
    let (first, second) = (taken(1).await, taken(2).await);
    // Half a window for the first, and half a window more for the second, but for the time in which events come in.
    let expected = Duration::from_secs(7);
    assert!(first >= expected && second >= first + expected, "{first:?}, {second:?}");
}

#[tokio::test]
async fn a_kubelet_that_answers_delays_the_verdict_and_is_shown() {
    let scenario = Scenario::start("doubt", &[NodeHealth]).await;
    let Some(nodes) = FakeNodes::make(&scenario, &[A, B, C]).await else { return };
    let opinion = json!({"maxDelay": "10m"});
    let health = policy(&scenario, &nodes).with("spec.secondOpinion", opinion).create(&scenario.client).await;
    health.watches(3).await;
    // All fake nodes have the address of the real one.
    nodes.silence(&[1]).await;
    let status = health.finds(nodes.name(1), "Doubted").await;
    let words = status.unhealthy_nodes[0].waiting_for.clone().unwrap_or_default();
    assert!(words.contains("its kubelet answers at"), "{words}");
    assert_eq!(Stand::of(&nodes.get(1).await), Stand::CLEAR);
    // A port at which nobody answers is no opinion.
    health.patch(json!({"spec": {"secondOpinion": {"kubelet": {"port": 1}}}})).await;
    health.finds(nodes.name(1), "Acting").await;
}

#[tokio::test]
async fn a_pod_that_became_ready_after_the_last_renewal_speaks_for_its_node() {
    let scenario = Scenario::start("witness", &[NodeHealth]).await;
    let Some(nodes) = FakeNodes::make(&scenario, &[A, B, C]).await else { return };
    scenario.orphan("witness", "witness", nodes.pod_on(1)).await;
    let opinion = json!({"pods": true, "kubelet": {"enabled": false}, "maxDelay": "10m"});
    let health = policy(&scenario, &nodes).with("spec.secondOpinion", opinion).create(&scenario.client).await;
    health.watches(3).await;
    nodes.silence(&[1]).await;
    // The last renewal that `silence` writes lies in the future of the node's clock, and so does the pod's word.
    let later = k8s_openapi::jiff::Timestamp::now() + Duration::from_secs(7200);
    let later = later.strftime("%FT%TZ").to_string();
    let ready = json!({"conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": later}]});
    scenario.patch_pod_status("witness", ready).await;
    let status = health.finds(nodes.name(1), "Doubted").await;
    let words = status.unhealthy_nodes[0].waiting_for.clone().unwrap_or_default();
    assert!(words.contains("one of its pods became ready"), "{words}");
}

#[tokio::test]
async fn a_node_whose_clock_is_an_hour_off_is_well_and_its_death_is_noticed() {
    let scenario = Scenario::start("skew", &[NodeHealth]).await;
    let Some(nodes) = FakeNodes::make(&scenario, &[A, B, C]).await else { return };
    let health = policy(&scenario, &nodes).create(&scenario.client).await;
    health.watches(3).await;
    nodes.silence(&[1]).await;
    // From now on the node renews under a clock that jumps by half an hour, back and forth.
    let leases = nodes.leases();
    let end = Instant::now() + Duration::from_secs(40);
    let mut round = 0_u64;
    while Instant::now() < end {
        round += 1;
        let skew = Duration::from_secs(3600 + (round % 2) * 1800);
        let renewed = (k8s_openapi::jiff::Timestamp::now() + skew).strftime("%FT%T.000000Z").to_string();
        let patch = Patch::Merge(json!({"spec": {"renewTime": renewed}}));
        leases.patch(nodes.name(1), &PatchParams::default(), &patch).await.expect("the Lease is renewed");
        assert_eq!(Stand::of(&nodes.get(1).await), Stand::CLEAR);
        sleep(Duration::from_secs(4)).await;
    }
    health.finds(nodes.name(1), "Acting").await;
}

#[tokio::test]
async fn a_node_that_flaps_is_kept_out_of_use_for_a_while() {
    let scenario = Scenario::start("flaps", &[NodeHealth]).await;
    let Some(nodes) = FakeNodes::make(&scenario, &[A, B, C]).await else { return };
    let flapping = json!({"count": 2, "window": "1h", "quarantine": "20s", "maxQuarantine": "1m"});
    let health = policy(&scenario, &nodes).with("spec.flapping", flapping).create(&scenario.client).await;
    health.watches(3).await;
    nodes.silence(&[1]).await;
    health.finds(nodes.name(1), "Acting").await;
    nodes.revive(&[1]).await;
    nodes.event(&scenario, 1, "NodeHandedBack").await;
    nodes.silence(&[1]).await;
    health.finds(nodes.name(1), "Acting").await;
    nodes.revive(&[1]).await;
    let status = health.finds(nodes.name(1), "Quarantined").await;
    assert_eq!(status.unhealthy_nodes[0].next_step.as_deref(), Some("HandBack"));
    assert!(Stand::of(&nodes.get(1).await).cordoned);
    assert!(nodes.event(&scenario, 1, "NodeQuarantined").await.contains("2 times"));
    nodes.carries(1, &Stand::CLEAR).await;
    health.watches(3).await;
}
