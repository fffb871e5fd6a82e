//! One node dies: it is taken, its pods move, and it is handed back when it lives again.

use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt;
use mainstay_e2e::{
    Component::{Endpoints, NodeHealth, Replication},
    FakeNodes, Group, Health, Scenario, Stand, eventually, group, kubectl, policy, pool, run,
};
use serde_json::json;

const A: &str = "zone-a";
const B: &str = "zone-b";
const C: &str = "zone-c";

fn taken() -> Stand {
    Stand { cordoned: true, taint: Some("NoSchedule".into()), taken: true }
}

/// A group of three pods, spread over the nodes.
async fn spread(scenario: &Scenario, nodes: &FakeNodes) -> Group {
    let mut pod = nodes.pod();
    pod["topologySpreadConstraints"] = json!([{
        "maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": {"app": "web"}},
    }]);
    let group = scenario.create(&group("web", pod).replicas(3)).await;
    group.ready().await;
    group
}

/// The names of the nodes that the group's pods of now are on.
async fn hosts(group: &Group) -> Vec<String> {
    let pods = group.pods().await.into_iter().filter(|pod| pod.metadata.deletion_timestamp.is_none());
    pods.filter_map(|pod| pod.spec?.node_name).collect()
}

async fn moves_away(group: &Group, node: &str) {
    eventually(&format!("three pods run, and none on {node}"), async || {
        let hosts = hosts(group).await;
        let away = hosts.len() == 3 && hosts.iter().all(|host| host != node);
        away.then_some(()).ok_or_else(|| format!("{hosts:?}"))
    })
    .await;
}

#[tokio::test]
async fn a_dead_node_is_taken_its_pods_move_and_it_is_handed_back() {
    let scenario = Scenario::start("dead", &[NodeHealth, Replication, Endpoints]).await;
    let Some(nodes) = FakeNodes::make(&scenario, &[A, B, C]).await else { return };
    let web = spread(&scenario, &nodes).await;
    let service = scenario.create(&pool("web").pods("web", 0)).await;
    service.uses(3).await;
    // So that not even the time of the flap is left on the node.
    let draft = policy(&scenario, &nodes).with("spec.flapping.count", 0);
    let health = draft.create(&scenario.client).await;
    health.watches(3).await;
    let before = nodes.get(1).await;

    nodes.silence(&[1]).await;
    nodes.carries(1, &taken()).await;
    moves_away(&web, nodes.name(1)).await;
    service.uses(3).await;
    let status = health.finds(nodes.name(1), "Acting").await;
    let listed = &status.unhealthy_nodes[0];
    assert_eq!(listed.zone.as_deref(), Some(B));
    assert!(listed.reason.as_ref().is_some_and(|reason| reason.contains("has not been renewed for 15s")));
    assert!(nodes.event(&scenario, 1, "NodeTaken").await.contains(&scenario.namespace));
    assert!(health.event("NodeTaken").await.contains(nodes.name(1)));
    for number in [0, 2] {
        assert_eq!(Stand::of(&nodes.get(number).await), Stand::CLEAR);
    }

    nodes.revive(&[1]).await;
    nodes.carries(1, &Stand::CLEAR).await;
    health.watches(3).await;
    health.event("NodeHandedBack").await;
    let after = nodes.get(1).await;
    assert_eq!(own_taints(&after), own_taints(&before));
    assert_eq!(after.annotations(), before.annotations());
}

/// The taints of a node but those that Kubernetes itself sets and removes.
fn own_taints(node: &Node) -> Vec<String> {
    let taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    let own = taints.map(|taint| taint.key.clone()).filter(|key| !key.starts_with("node.kubernetes.io/"));
    own.collect()
}

#[tokio::test]
async fn a_cordon_of_a_person_is_left_to_that_person() {
    let scenario = Scenario::start("cordoned", &[NodeHealth]).await;
    let Some(nodes) = FakeNodes::make(&scenario, &[A, B, C]).await else { return };
    nodes.patch(0, json!({"spec": {"unschedulable": true}})).await;
    let health = policy(&scenario, &nodes).create(&scenario.client).await;
    health.watches(3).await;
    nodes.silence(&[0]).await;
    nodes.carries(0, &taken()).await;
    nodes.revive(&[0]).await;
    nodes.carries(0, &Stand { cordoned: true, ..Stand::CLEAR }).await;
    health.watches(3).await;
}

#[tokio::test]
async fn a_dry_run_decides_and_writes_nothing() {
    let scenario = Scenario::start("dry", &[NodeHealth]).await;
    let Some(nodes) = FakeNodes::make(&scenario, &[A, B, C]).await else { return };
    let web = spread(&scenario, &nodes).await;
    let health = policy(&scenario, &nodes).with("spec.dryRun", true).create(&scenario.client).await;
    health.watches(3).await;
    let pods = web.pod_uids().await;
    nodes.silence(&[1]).await;
    health.finds(nodes.name(1), "Acting").await;
    assert!(nodes.event(&scenario, 1, "NodeTaken").await.contains("dry run"));
    health.says("DryRun", true, "DryRun").await;
    assert_eq!(Stand::of(&nodes.get(1).await), Stand::CLEAR);
    assert_eq!(web.pod_uids().await, pods);
    // From the moment on that it is no dry run, what was decided is done.
    health.patch(json!({"spec": {"dryRun": false}})).await;
    nodes.carries(1, &taken()).await;
    moves_away(&web, nodes.name(1)).await;
}

#[tokio::test]
async fn a_condition_that_holds_takes_a_node_whose_lease_is_renewed() {
    let scenario = Scenario::start("condition", &[NodeHealth]).await;
    let Some(nodes) = FakeNodes::make(&scenario, &[A, B, C]).await else { return };
    let conditions = json!([{"type": "KernelDeadlock", "status": "True", "for": "2s"}]);
    let health = policy(&scenario, &nodes).with("spec.conditions", conditions).create(&scenario.client).await;
    health.watches(3).await;
    let deadlock = |status: &str| json!({"conditions": [{"type": "KernelDeadlock", "status": status, "reason": "Test", "message": "test"}]});
    nodes.patch_status(2, deadlock("True")).await;
    nodes.carries(2, &taken()).await;
    let status = health.finds(nodes.name(2), "Acting").await;
    let reason = status.unhealthy_nodes[0].reason.clone().unwrap_or_default();
    assert!(reason.contains("KernelDeadlock is True"), "{reason}");
    nodes.patch_status(2, deadlock("False")).await;
    nodes.carries(2, &Stand::CLEAR).await;
}

#[tokio::test]
async fn a_budget_holds_pods_until_the_deadline_of_the_drain() {
    let scenario = Scenario::start("budget", &[NodeHealth]).await;
    let Some(nodes) = FakeNodes::make(&scenario, &[A, B, C]).await else { return };
    scenario.orphan("held", "held", nodes.pod_on(1)).await;
    let budget = json!({
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "held"},
        "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "held"}}},
    });
    scenario.kubectl_create(&budget, &[]).succeeded();
    let drain = json!({"after": "0s", "deadline": "3s", "onDeadline": "Wait"});
    let health = policy(&scenario, &nodes)
        .with("spec.actions.drain", drain)
        .with("spec.actions.podsNotReady.enabled", false)
        .create(&scenario.client)
        .await;
    health.watches(3).await;
    nodes.silence(&[1]).await;
    let words = nodes.event(&scenario, 1, "PodEvictionBlocked").await;
    assert!(words.contains(&format!("{}/held", scenario.namespace)), "{words}");
    let going = || async {
        let pod = scenario.pods().get_opt("held").await.expect("the pod is read");
        pod.is_none_or(|pod| pod.metadata.deletion_timestamp.is_some())
    };
    health
        .until("pods are waited for", |status| {
            let node = status.unhealthy_nodes.first();
            node.and_then(|node| node.waiting_for.as_ref())
                .is_some_and(|words| words.contains("pods to be evicted: 1"))
        })
        .await;
    assert!(!going().await, "the budget is honoured");
    health.patch(json!({"spec": {"actions": {"drain": {"onDeadline": "Delete"}}}})).await;
    eventually("the pod is deleted past its budget", async || {
        going().await.then_some(()).ok_or_else(|| "it stands".to_owned())
    })
    .await;
}

#[tokio::test]
async fn pods_that_stay_by_their_own_word_and_those_of_daemons_are_not_evicted() {
    let scenario = Scenario::start("stay", &[NodeHealth]).await;
    let Some(nodes) = FakeNodes::make(&scenario, &[A, B, C]).await else { return };
    let mut staying = nodes.pod_on(1);
    staying["tolerations"] = json!([{"operator": "Exists"}]);
    scenario.orphan("stays", "stays", staying).await;
    scenario.orphan("goes", "goes", nodes.pod_on(1)).await;
    let health = policy(&scenario, &nodes).create(&scenario.client).await;
    health.watches(3).await;
    nodes.silence(&[1]).await;
    eventually("the one pod goes", async || {
        let pod = scenario.pods().get_opt("goes").await.map_err(|error| error.to_string())?;
        let going = pod.is_none_or(|pod| pod.metadata.deletion_timestamp.is_some());
        going.then_some(()).ok_or_else(|| "it stands".to_owned())
    })
    .await;
    let stays = scenario.pods().get("stays").await.expect("the other pod is there");
    assert!(stays.metadata.deletion_timestamp.is_none());
}

#[tokio::test]
async fn two_policies_of_one_node_both_say_so_and_the_strictest_has_it() {
    let scenario = Scenario::start("overlap", &[NodeHealth]).await;
    let Some(nodes) = FakeNodes::make(&scenario, &[A, B, C]).await else { return };
    let strict = policy(&scenario, &nodes).create(&scenario.client).await;
    let name = format!("{}-lax", scenario.namespace);
    let lax =
        policy(&scenario, &nodes).with("metadata.name", name.as_str()).with("spec.unreachableAfter", "40s");
    let lax = lax.create(&scenario.client).await;
    strict.watches(3).await;
    assert!(strict.says("Overlap", true, "OtherPolicies").await.contains(&name));
    assert!(lax.says("Overlap", true, "OtherPolicies").await.contains(&scenario.namespace));
    assert!(lax.says("Ready", false, "NoNodes").await.contains("another policy that comes first"));
    drop(strict);
    lax.watches(3).await;
    lax.says("Overlap", false, "Alone").await;
}

#[tokio::test]
async fn a_lease_that_is_renewed_too_rarely_is_said_and_not_judged() {
    let scenario = Scenario::start("rarely", &[NodeHealth]).await;
    let Some(nodes) = FakeNodes::make(&scenario, &[A, B, C]).await else { return };
    let draft = policy(&scenario, &nodes).with("spec.unreachableAfter", "5s");
    let health = draft.create(&scenario.client).await;
    // The Leases of new nodes come one after the other.
    health.until("judges none of them", |status| status.nodes.unjudged == 3).await;
    let words = health.says("Ready", false, "UnreachableAfterTooShort").await;
    assert!(words.contains("renewed every 10s") && words.contains("at least 15s"), "{words}");
}

#[tokio::test]
async fn wrong_values_are_refused_with_a_sentence() {
    let scenario = Scenario::start("wrong", &[NodeHealth]).await;
    let Some(nodes) = FakeNodes::make(&scenario, &[A]).await else { return };
    let refused = |path: &str, value: serde_json::Value| {
        let draft = policy(&scenario, &nodes).with(path, value);
        let refused = run("kubectl", &["create", "--filename=-"], &draft.object().to_string());
        assert!(!refused.ok, "{path} is taken");
        refused.stderr
    };
    assert!(refused("spec.unreachableAfter", json!("1s")).contains("must be at least 2s"));
    assert!(
        refused("spec.startupGrace", json!("5s")).contains("must not be shorter than spec.unreachableAfter")
    );
    assert!(
        refused("spec.breakers.zone.maxUnhealthy", json!("many")).contains("spec.breakers.zone.maxUnhealthy")
    );
    assert!(refused("spec.flapping.maxQuarantine", json!("1s")).contains("must not be shorter"));
    let hasty = json!({"kubelet": {"timeout": "0s"}});
    assert!(refused("spec.secondOpinion", hasty).contains("must be more than 0s"));
    let templates =
        json!({"templates": [{"apiVersion": "x/v1", "kind": "X", "name": "x", "namespace": "x"}]});
    assert!(refused("spec.remediation", templates).contains("kind"));
}

#[tokio::test]
async fn a_policy_that_is_deleted_hands_back_what_it_took() {
    let scenario = Scenario::start("gone", &[NodeHealth]).await;
    let Some(nodes) = FakeNodes::make(&scenario, &[A, B, C]).await else { return };
    let health: Health = policy(&scenario, &nodes).create(&scenario.client).await;
    health.watches(3).await;
    nodes.silence(&[2]).await;
    nodes.carries(2, &taken()).await;
    kubectl(&format!("delete nodehealthpolicy {}", scenario.namespace)).succeeded();
    nodes.carries(2, &Stand::CLEAR).await;
}
