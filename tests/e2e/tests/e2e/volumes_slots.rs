//! Which slot a pod takes, and what keeps it from one. Claims are bound where a zone matters, and mounted nowhere.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, ResourceQuota};
use kube::{
    ResourceExt,
    api::{Patch, PatchParams, PostParams},
};
use mainstay_e2e::{
    Component::Replication,
    Counts, Draft, FakeNodes, Group, Recorder, Scenario, Volumes, condition, counts, eventually, group,
    pods::{self, is_active},
    slot, unbound_claim,
};
use serde_json::json;

/// A group whose pods are never placed, nor its claims bound.
fn idle(replicas: usize) -> Draft {
    group("store", pods::gated()).replicas(replicas).rolling(0, 1).claims([unbound_claim("data")])
}

async fn slots(group: &Group) -> BTreeSet<String> {
    group.slots().await.into_keys().collect()
}

/// The numbers of the nodes that the pods are on, in order.
async fn places(group: &Group, nodes: &FakeNodes, count: usize) -> Vec<usize> {
    let number = |pod: Pod| {
        let node = pod.spec?.node_name?;
        (0..count).find(|number| nodes.name(*number) == node)
    };
    let mut places: Vec<_> = group.pods().await.into_iter().filter_map(number).collect();
    places.sort_unstable();
    places
}

/// Waits until so many claims are annotated with each of these zones, and none with another or with none.
async fn says_zones(group: &Group, expected: &[(&str, usize)]) {
    let expected = counts(expected);
    eventually("the claims say in which zone they are used", async || {
        let mut zones = Counts::new();
        for claim in group.claims().await {
            let zone = claim.annotations().get("mainstay.dev/zone").cloned().unwrap_or_default();
            *zones.entry(zone).or_default() += 1;
        }
        (zones == expected).then_some(()).ok_or(format!("{zones:?}"))
    })
    .await;
}

async fn no_pods(group: &Group) {
    eventually("all pods are gone", async || {
        let left = group.pod_names().await;
        left.is_empty().then_some(()).ok_or(format!("{left:?}"))
    })
    .await;
}

#[tokio::test]
async fn a_replacement_takes_the_volume_of_the_zone_that_lacks_a_pod() {
    let scenario = Scenario::start("zonal", &[Replication]).await;
    let Some(nodes) = FakeNodes::make(&scenario, &["zone-a", "zone-b"]).await else { return };
    // Three volumes in one zone and one in the other, all of them used: that is where the pods must be.
    let volumes = Volumes::fake(&scenario, &nodes, &[3, 1]);
    let draft = group("store", nodes.pod())
        .replicas(4)
        .rolling(0, 1)
        .claims([volumes.claim("data")])
        // A replacement that is made earlier cannot have the volume of the pod that terminates.
        .with("spec.podReplacement", "WhenTerminated");
    let store = scenario.create(&draft).await;
    store.ready().await;
    assert_eq!(places(&store, &nodes, 2).await, [0, 0, 0, 1]);
    says_zones(&store, &[("zone-a", 3), ("zone-b", 1)]).await;

    store.scale(2).await;
    store.has(2).await;
    assert_eq!(places(&store, &nodes, 2).await, [0, 1]);
    // Two free slots of the one zone tempt each time; by chance alone, all four would hit with 1 in 81.
    for _ in 0..4 {
        let pods = store.slots().await;
        let here = |pod: &&Pod| pod.spec.as_ref().unwrap().node_name.as_deref() == Some(nodes.name(1));
        let victim = pods.values().find(here).unwrap();
        store.replaces(victim).await;
        assert_eq!(places(&store, &nodes, 2).await, [0, 1]);
        assert!(store.slots().await.contains_key(slot(victim)));
    }
    // Those that are chosen together reckon with each other.
    store.scale(0).await;
    no_pods(&store).await;
    store.scale(2).await;
    store.ready().await;
    assert_eq!(places(&store, &nodes, 2).await, [0, 1]);
}

#[tokio::test]
async fn an_evicted_pod_leaves_its_slot_to_its_replacement_and_is_left_as_evidence() {
    let scenario = Scenario::start("ended", &[Replication]).await;
    let store = scenario.create(&idle(2)).await;
    store.has(2).await;
    let (before, claims) = (slots(&store).await, store.claim_uids().await);
    let record = Recorder::<Pod>::start(scenario.pods()).await;
    let victim = store.pods().await.remove(0);
    scenario.fail(&victim.name_any()).await;
    eventually("two pods are active again", async || {
        let pods = store.pods().await;
        let active = pods.iter().filter(|pod| is_active(pod)).count();
        let said = store.get().await.status.unwrap_or_default();
        ((active, pods.len()) == (2, 3))
            .then_some(())
            .ok_or(format!("{active} of {} are, {said:?}", pods.len()))
    })
    .await;
    record.shares_no_slot().await;
    assert_eq!(slots(&store).await, before);
    assert_eq!(store.claim_uids().await, claims);
}

#[tokio::test]
async fn a_used_slot_that_has_lost_one_of_its_claims_is_left_alone() {
    let scenario = Scenario::start("partial", &[Replication]).await;
    let Some(nodes) = FakeNodes::make(&scenario, &["zone-a"]).await else { return };
    let volumes = Volumes::fake(&scenario, &nodes, &[4]);
    let draft = group("store", nodes.pod()).claims(["data", "log"].map(|name| volumes.claim(name)));
    let store = scenario.create(&draft).await;
    store.ready().await;
    says_zones(&store, &[("zone-a", 2)]).await;
    let gone = slots(&store).await.pop_first().unwrap();
    store.scale(0).await;
    no_pods(&store).await;
    scenario.kubectl(&format!("delete pvc log-store-{gone}")).succeeded();
    store.scale(1).await;
    store.ready().await;
    let fresh = slots(&store).await.pop_first().unwrap();
    assert_ne!(fresh, gone, "its data would be used with an empty log");
    let claims: Vec<_> = store.claim_uids().await.into_keys().collect();
    let mut expected = vec![format!("data-store-{gone}")];
    expected.extend(["data", "log"].map(|name| format!("{name}-store-{fresh}")));
    expected.sort_unstable();
    assert_eq!(claims, expected);
}

#[tokio::test]
async fn a_claim_that_a_quota_refuses_is_reported_and_made_as_soon_as_there_is_room() {
    let scenario = Scenario::start("claimquota", &[Replication]).await;
    let quotas = scenario.api::<ResourceQuota>();
    let quota = json!({"metadata": {"name": "few"}, "spec": {"hard": {"persistentvolumeclaims": "3"}}});
    quotas.create(&PostParams::default(), &serde_json::from_value(quota).unwrap()).await.unwrap();
    eventually("the quota is enforced", async || {
        let status = quotas.get("few").await.unwrap().status.unwrap_or_default();
        status.hard.filter(|hard| !hard.is_empty()).ok_or("not yet".to_owned())
    })
    .await;
    let record = Recorder::<PersistentVolumeClaim>::start(scenario.api()).await;
    let pods = Recorder::<Pod>::start(scenario.pods()).await;
    // Two claims a pod: the second pod has one of them too few.
    let draft = idle(2).claims(["data", "log"].map(unbound_claim));
    let starved = scenario.create(&draft).await;
    let status = starved.reason("ClaimFailed").await;
    for kind in ["Ready", "ReplicaFailure"] {
        let condition = condition(&status, kind);
        let expected = if kind == "Ready" { "False" } else { "True" };
        assert_eq!(condition.status, expected, "{kind}: {condition:?}");
        assert!(condition.message.contains("exceeded quota: few"), "{kind}: {}", condition.message);
    }
    starved.until("uses the quota up", |status| status.replicas == 1).await;

    let raised = Patch::Merge(json!({"spec": {"hard": {"persistentvolumeclaims": "4"}}}));
    quotas.patch("few", &PatchParams::default(), &raised).await.unwrap();
    let status = starved.has(2).await;
    assert_eq!(condition(&status, "ReplicaFailure").status, "False");
    record.catch_up().await;
    assert_eq!(record.uids().len(), 4, "claims were made that no pod uses");
    pods.shares_no_slot().await;
    for (slot, pod) in starved.slots().await {
        let claims = starved.claims().await;
        let ours: Vec<_> = claims
            .iter()
            .filter(|claim| mainstay_e2e::slot(*claim) == slot)
            .map(ResourceExt::name_any)
            .collect();
        assert_eq!(ours, ["data", "log"].map(|name| format!("{name}-store-{slot}")), "{}", pod.name_any());
    }
}

#[tokio::test]
async fn a_claim_of_a_stranger_that_bears_the_name_is_not_touched() {
    let scenario = Scenario::start("stranger", &[Replication]).await;
    // No label says that it is the group's, so it is none of its.
    let claim = json!({
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "data-store-other"},
        "spec": unbound_claim("data")["spec"],
    });
    scenario.kubectl_create(&claim, &[]).succeeded();
    let store = scenario.create(&idle(2).retention("Delete", "Delete")).await;
    store.has(2).await;
    assert!(!slots(&store).await.contains("other"));
    store.scale(0).await;
    store.has(0).await;
    eventually("the group's claims are gone", async || {
        let left = store.claim_slots().await;
        left.is_empty().then_some(()).ok_or(format!("{left:?}"))
    })
    .await;
    scenario.kubectl("delete rg/store --cascade=foreground").succeeded();
    scenario.kubectl("get pvc/data-store-other").succeeded();
}
