//! Volumes of the pods' own, which outlive them. Pods and volumes are real.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Volume};
use kube::ResourceExt;
use mainstay_e2e::{
    Component::Replication, Draft, File, Files, Recorder, Scenario, Volumes, condition, eventually, group,
    pods, slot,
};
use serde_json::json;

/// A group of so many pods that write into a volume of their own each.
fn store(volumes: &Volumes, replicas: usize) -> Draft {
    group("store", pods::storing()).replicas(replicas).rolling(0, 1).claims([volumes.claim("data")])
}

#[tokio::test]
async fn a_replacement_waits_for_the_volume_of_the_pod_that_goes_and_reads_what_that_one_wrote() {
    let scenario = Scenario::start("volumes", &[Replication]).await;
    let Some(volumes) = Volumes::real(&scenario, 4) else { return };
    let draft = store(&volumes, 2).with("spec.template.spec", pods::lingering());
    let store = scenario.create(&draft).await;
    store.ready().await;
    let files = Files::write(&scenario, &store).await;
    let claims = store.claim_uids().await;
    assert_eq!(claims.len(), 2, "{claims:?}");
    // They may be made in more than one reconcile.
    let said = store.event("ClaimsCreated").await;
    assert!(said.contains(['1', '2']), "the event does not say how many: {said}");

    let record = Recorder::<Pod>::start(scenario.pods()).await;
    let (held, victim) = store.slots().await.pop_first().unwrap();
    scenario.kubectl(&format!("delete pod {} --wait=false", victim.name_any())).succeeded();
    let status = store.reason("WaitingForVolumes").await;
    assert_eq!(condition(&status, "Ready").status, "False");
    assert_eq!(condition(&status, "Stalled").status, "False", "nobody need do anything");
    // A report on a new generation shows that a reconcile was made over it.
    store.patch(json!({"spec": {"minReadySeconds": 1}})).await;
    store.reason("WaitingForVolumes").await;
    assert_eq!(store.pods().await.len(), 2, "a pod was made that cannot have its volume");

    scenario.let_end(&victim.name_any()).await;
    store.ready().await;
    files.are_read(&scenario, &store).await;
    assert_ne!(store.slots().await[&held].uid(), victim.uid());
    assert_eq!(store.claim_uids().await, claims);
    record.shares_no_slot().await;
    assert_eq!(record.uids().len(), 3);
}

#[tokio::test]
async fn claims_have_the_names_labels_and_zone_that_the_manual_says_and_are_mounted_for_the_template() {
    let scenario = Scenario::start("claims", &[Replication]).await;
    let Some(volumes) = Volumes::real(&scenario, 4) else { return };
    let mut labelled = volumes.claim("data");
    labelled["metadata"]["labels"] = json!({"e2e.mainstay.dev/kept": "yes"});
    labelled["metadata"]["annotations"] = json!({"e2e.mainstay.dev/noted": "yes"});
    let draft = store(&volumes, 2)
        .claims([labelled, volumes.claim("log")])
        // The claim takes the place of this one.
        .with("spec.template.spec.volumes", json!([{"name": "data", "emptyDir": {}}]));
    let store = scenario.create(&draft).await;
    store.ready().await;

    for (slot, pod) in store.slots().await {
        let claim_of = |volume: Volume| Some((volume.name, volume.persistent_volume_claim?.claim_name));
        let volumes = pod.spec.clone().and_then(|spec| spec.volumes).unwrap_or_default();
        let mounted: BTreeSet<_> = volumes.into_iter().filter_map(claim_of).collect();
        let expected = ["data", "log"].map(|name| (name.to_owned(), format!("{name}-store-{slot}")));
        assert_eq!(mounted, BTreeSet::from(expected), "the volumes of {}", pod.name_any());
        assert_eq!(slot.len(), 5, "{slot}");
    }
    let claims = store.claims().await;
    assert_eq!(claims.len(), 4);
    for claim in &claims {
        assert!(claim.owner_references().is_empty(), "{} goes with the group", claim.name_any());
        let is_data = claim.name_any().starts_with("data-");
        assert_eq!(claim.labels().contains_key("e2e.mainstay.dev/kept"), is_data);
        assert_eq!(claim.annotations().contains_key("e2e.mainstay.dev/noted"), is_data);
    }
    eventually("the claims say in which zone they are used", async || {
        let zone = |claim: &PersistentVolumeClaim| claim.annotations().get("mainstay.dev/zone").cloned();
        let zones: Vec<_> = store.claims().await.iter().map(zone).collect();
        // The real node's.
        (zones == vec![Some("zone-a".to_owned()); 4]).then_some(()).ok_or(format!("{zones:?}"))
    })
    .await;

    let record = Recorder::<PersistentVolumeClaim>::start(scenario.api()).await;
    for paused in [true, false] {
        store.patch(json!({"spec": {"paused": paused}})).await;
        store.ready().await;
    }
    record.catch_up().await;
    assert_eq!(record.read(<[_]>::len), 4, "claims were written, though nothing was to be done");
}

#[tokio::test]
async fn a_change_goes_from_pod_to_pod_and_leaves_each_slot_its_volume() {
    let scenario = Scenario::start("exchange", &[Replication]).await;
    let Some(volumes) = Volumes::real(&scenario, 5) else { return };
    let store = scenario.create(&store(&volumes, 3).version("1")).await;
    store.completes("1").await;
    let (files, claims) = (Files::write(&scenario, &store).await, store.claim_uids().await);
    let record = Recorder::<Pod>::start(scenario.pods()).await;

    let container = store.container_with(json!({"env": [{"name": "VERSION", "value": "2"}]})).await;
    store.change_with("2", json!({"spec": {"containers": [container]}})).await;
    store.completes("2").await;
    files.are_read(&scenario, &store).await;
    assert_eq!(store.claim_uids().await, claims, "claims were made or deleted");
    record.stays_within(2..=3).await;
    record.shares_no_slot().await;
    assert_eq!(record.uids().len(), 6, "more pods were made than were to be exchanged");
}

#[tokio::test]
async fn a_surge_has_one_volume_more_which_later_ones_use_again() {
    let scenario = Scenario::start("surge", &[Replication]).await;
    let Some(volumes) = Volumes::real(&scenario, 6) else { return };
    let store = scenario.create(&store(&volumes, 3).rolling(1, 0).version("1")).await;
    store.completes("1").await;
    let pods = Recorder::<Pod>::start(scenario.pods()).await;
    let claims = Recorder::<PersistentVolumeClaim>::start(scenario.api()).await;
    for version in ["2", "3"] {
        store.change(version).await;
        store.completes(version).await;
    }
    claims.catch_up().await;
    let counted = (claims.most_slots_at_once(), claims.uids().len());
    assert_eq!(counted, (4, 4), "one slot more than pods, and always the same");
    pods.shares_no_slot().await;
    pods.stays_within(3..=4).await;
}

#[tokio::test]
async fn what_a_surge_needed_is_deleted_after_it_where_that_is_wanted() {
    let scenario = Scenario::start("surplus", &[Replication]).await;
    let Some(volumes) = Volumes::real(&scenario, 6) else { return };
    let draft = store(&volumes, 3).rolling(1, 0).retention("Delete", "Retain").version("1");
    let store = scenario.create(&draft).await;
    store.completes("1").await;
    let claims = Recorder::<PersistentVolumeClaim>::start(scenario.api()).await;
    store.change("2").await;
    store.completes("2").await;
    store.keeps_claims_of_pods_alone().await;
    assert_eq!(store.claims().await.len(), 3);
    claims.catch_up().await;
    assert_eq!(claims.most_at_once(), 4);
    assert_eq!(claims.uids().len(), 4, "a claim was deleted that the next pod needed");
}

#[tokio::test]
async fn without_reuse_a_replacement_begins_with_an_empty_volume() {
    let scenario = Scenario::start("never", &[Replication]).await;
    let Some(volumes) = Volumes::real(&scenario, 6) else { return };
    let draft = store(&volumes, 2).with("spec.volumeClaims.reuse", "Never");
    let store = scenario.create(&draft).await;
    store.ready().await;
    let first = store.slots().await;
    let (_, victim) = first.first_key_value().unwrap();
    let file = File::write(&scenario, victim, "for nobody else").await;
    let replace = async |victim: &Pod| {
        let before = store.slots().await;
        store.replaces(victim).await;
        let mut now = store.slots().await;
        now.retain(|slot, _| !before.contains_key(slot));
        assert_eq!(now.len(), 1, "not one new slot beside {before:?}");
        now.pop_first().unwrap().1
    };
    let second = replace(victim).await;
    file.is_missing(&scenario, &second).await;
    assert_eq!(store.claim_slots().await.len(), 3, "the claim of the pod that is gone is kept");

    store.patch(json!({"spec": {"volumeClaims": {"retention": {"whenScaled": "Delete"}}}})).await;
    let third = replace(&second).await;
    store.keeps_claims_of_pods_alone().await;
    assert!(store.claim_slots().await.contains(slot(&third)));
    store.event("ClaimsDeleted").await;
}

#[tokio::test]
async fn a_claim_that_somebody_deletes_is_not_used_again() {
    let scenario = Scenario::start("unwanted", &[Replication]).await;
    let Some(volumes) = Volumes::real(&scenario, 4) else { return };
    let store = scenario.create(&store(&volumes, 2)).await;
    store.ready().await;
    let mut slots = store.slots().await;
    let (gone, victim) = slots.pop_first().unwrap();
    let file = File::write(&scenario, &victim, "to be thrown away").await;
    // As long as a pod uses it, the cluster keeps it.
    scenario.kubectl(&format!("delete pvc data-store-{gone} --wait=false")).succeeded();
    store.replaces(&victim).await;
    let mut now = store.slots().await;
    for kept in slots.keys() {
        assert!(now.remove(kept).is_some(), "the other pod has changed: {now:?}");
    }
    let (fresh, pod) = now.pop_first().unwrap();
    assert_ne!(fresh, gone);
    file.is_missing(&scenario, &pod).await;
    eventually("the deleted claim is gone", async || {
        let left = store.claim_slots().await;
        (!left.contains(&gone)).then_some(()).ok_or(format!("{left:?}"))
    })
    .await;
}
