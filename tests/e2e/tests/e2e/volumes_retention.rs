//! When volume claims go and when they stay.

use std::collections::BTreeSet;

use k8s_openapi::{api::core::v1::PersistentVolumeClaim, apimachinery::pkg::apis::meta::v1::OwnerReference};
use kube::ResourceExt;
use mainstay_e2e::{
    Component::Replication,
    Draft, Files, Group, Recorder, Scenario, Volumes, eventually, group,
    pods::{self, is_active},
    unbound_claim,
};
use serde_json::json;

/// A group of so many real pods that write into a real volume of their own each.
fn store(volumes: &Volumes, replicas: usize) -> Draft {
    group("store", pods::storing()).replicas(replicas).rolling(0, 1).claims([volumes.claim("data")])
}

/// A group whose pods are never placed, nor its claims bound.
fn idle(replicas: usize) -> Draft {
    group("store", pods::gated()).replicas(replicas).rolling(0, 1).claims([unbound_claim("data")])
}

async fn slots(group: &Group) -> BTreeSet<String> {
    group.slots().await.into_keys().collect()
}

#[tokio::test]
async fn a_smaller_group_deletes_claims_it_needs_no_more_once_their_pods_are_gone() {
    let scenario = Scenario::start("smaller", &[Replication]).await;
    let Some(volumes) = Volumes::real(&scenario, 3) else { return };
    let draft = store(&volumes, 3).retention("Delete", "Retain");
    let store = scenario.create(&draft.with("spec.template.spec", pods::lingering())).await;
    store.ready().await;
    let (files, claims) = (Files::write(&scenario, &store).await, store.claim_uids().await);
    let record = Recorder::<PersistentVolumeClaim>::start(scenario.api()).await;
    store.scale(1).await;
    store.until("has two pods that terminate", |status| status.terminating_replicas == 2).await;
    // One that goes is wanted again after all: its claim must still be there.
    store.scale(2).await;
    store.reason("WaitingForVolumes").await;
    record.catch_up().await;
    let deleted = record.read(|states| {
        states.iter().any(|(claim, gone)| *gone || claim.metadata.deletion_timestamp.is_some())
    });
    assert!(!deleted, "a claim was deleted while its pod was there");

    let end = async |count: i32| {
        store.until("has pods that terminate", |status| status.terminating_replicas == count).await;
        for pod in store.pods().await.iter().filter(|pod| !is_active(pod)) {
            scenario.let_end(&pod.name_any()).await;
        }
    };
    end(2).await;
    store.ready().await;
    store.keeps_claims_of_pods_alone().await;
    let left = slots(&store).await;
    assert_eq!(left.len(), 2);
    assert!(left.is_subset(&files.slots()), "{left:?} of {files:?}");
    store.scale(1).await;
    end(1).await;
    store.ready().await;
    store.keeps_claims_of_pods_alone().await;
    let last = slots(&store).await;
    assert!(last.len() == 1 && last.is_subset(&left), "{last:?} of {left:?}");
    let now = store.claim_uids().await;
    assert!(now.iter().all(|(name, uid)| claims[name] == *uid), "{now:?}, before {claims:?}");
    store.event("ClaimsDeleted").await;
}

#[tokio::test]
async fn a_pod_that_is_only_replaced_keeps_its_claim_where_claims_are_deleted_too() {
    let scenario = Scenario::start("replaced", &[Replication]).await;
    let store = scenario.create(&idle(3).retention("Delete", "Delete")).await;
    store.has(3).await;
    let (before, claims) = (slots(&store).await, store.claim_uids().await);
    let record = Recorder::<PersistentVolumeClaim>::start(scenario.api()).await;
    for pod in store.pod_names().await {
        scenario.kubectl(&format!("delete pod {pod} --wait=false")).succeeded();
    }
    eventually("there are pods in the same slots", async || {
        let now = slots(&store).await;
        (now == before).then_some(()).ok_or(format!("{now:?}, before {before:?}"))
    })
    .await;
    store.has(3).await;
    record.catch_up().await;
    assert_eq!(store.claim_uids().await, claims);
    assert_eq!(record.uids().len(), 3, "claims were made");
}

#[tokio::test]
async fn a_group_that_grows_again_takes_over_what_it_has_kept() {
    let scenario = Scenario::start("regrown", &[Replication]).await;
    let Some(volumes) = Volumes::real(&scenario, 4) else { return };
    let store = scenario.create(&store(&volumes, 3)).await;
    store.ready().await;
    let (files, claims) = (Files::write(&scenario, &store).await, store.claim_uids().await);
    for replicas in [1, 3] {
        store.scale(replicas).await;
        store.ready().await;
        eventually("the pods beyond are gone", async || {
            let pods = store.pods().await.len();
            (pods == replicas).then_some(()).ok_or(format!("{pods} pods"))
        })
        .await;
        assert_eq!(store.claim_uids().await, claims, "with {replicas} pods");
    }
    files.are_read(&scenario, &store).await;
    store.scale(4).await;
    store.ready().await;
    assert_eq!(slots(&store).await.difference(&files.slots()).count(), 1, "the fourth has a slot of its own");
}

#[tokio::test]
async fn claims_that_are_retained_outlive_the_group_and_serve_the_next_of_its_name() {
    let scenario = Scenario::start("outlive", &[Replication]).await;
    let Some(volumes) = Volumes::real(&scenario, 4) else { return };
    let draft = store(&volumes, 2);
    let first = scenario.create(&draft).await;
    first.ready().await;
    let (files, claims) = (Files::write(&scenario, &first).await, first.claim_uids().await);
    scenario.kubectl("delete rg/store --cascade=foreground").succeeded();
    assert_eq!(first.claim_uids().await, claims, "the claims went with the group");
    assert!(scenario.pods().list(&Default::default()).await.unwrap().items.is_empty());

    let second = scenario.create(&draft).await;
    second.ready().await;
    assert_eq!(second.claim_uids().await, claims);
    files.are_read(&scenario, &second).await;
}

#[tokio::test]
async fn claims_go_with_the_group_where_that_is_wanted_whenever_it_was_said() {
    let scenario = Scenario::start("along", &[Replication]).await;
    let store = scenario.create(&idle(2).retention("Retain", "Delete")).await;
    store.has(2).await;
    let owned = async |by: &str| {
        eventually(&format!("the claims are owned by {by:?}"), async || {
            let claims = store.claims().await;
            let kind = |owner: &OwnerReference| {
                if owner.uid == store.uid() { owner.kind.clone() } else { format!("another {}", owner.kind) }
            };
            let owner = |claim: &PersistentVolumeClaim| {
                claim.owner_references().iter().map(kind).collect::<Vec<_>>().join(",")
            };
            let owners: Vec<_> = claims.iter().map(owner).collect();
            (owners == [by; 3]).then_some(()).ok_or(format!("{owners:?}"))
        })
        .await;
    };
    // A free slot belongs to the group as those of its pods do.
    store.scale(3).await;
    store.has(3).await;
    store.scale(2).await;
    store.has(2).await;
    owned("ReplicaGroup").await;
    for (retention, owner) in [("Retain", ""), ("Delete", "ReplicaGroup")] {
        store.patch(json!({"spec": {"volumeClaims": {"retention": {"whenDeleted": retention}}}})).await;
        owned(owner).await;
    }
    scenario.kubectl("delete rg/store").succeeded();
    store.keeps_claims_of_pods_alone().await;
    assert!(store.pods().await.is_empty());
}

#[tokio::test]
async fn an_orphaning_deletion_leaves_claims_with_the_pods() {
    let scenario = Scenario::start("left", &[Replication]).await;
    let draft = idle(2).retention("Delete", "Delete");
    let first = scenario.create(&draft).await;
    first.has(2).await;
    let (pods, before, claims) = (first.pod_uids().await, slots(&first).await, first.claim_uids().await);
    scenario.kubectl("delete rg/store --cascade=orphan").succeeded();
    assert_eq!(first.claim_uids().await, claims);
    let second = scenario.create(&draft).await;
    // The status counts pods from the moment that they are to be adopted.
    eventually("the pods are adopted", async || {
        let seen = second.pod_uids().await;
        if seen == pods { Ok(()) } else { Err(format!("{seen:?} are, {pods:?} were left")) }
    })
    .await;
    second.has(2).await;
    assert_eq!(slots(&second).await, before);
    assert_eq!(second.claim_uids().await, claims);
}

#[tokio::test]
async fn a_copy_of_a_claim_outlives_the_slot_and_the_group() {
    let scenario = Scenario::start("copy", &[Replication]).await;
    let store = scenario.create(&idle(2).retention("Delete", "Delete")).await;
    store.has(2).await;
    let claims = store.claims().await;
    // As `kubectl get -o yaml` shows them, under another name.
    for claim in &claims {
        let mut copy = PersistentVolumeClaim { status: None, ..claim.clone() };
        copy.metadata.name = Some(format!("backup-{}", claim.name_any()));
        (copy.metadata.uid, copy.metadata.resource_version) = (None, None);
        copy.metadata.managed_fields = None;
        scenario.api().create(&Default::default(), &copy).await.expect("the copy is made");
    }
    let copies = async || {
        let mut claims = store.claims().await;
        claims.retain(|claim| claim.name_any().starts_with("backup-"));
        claims
    };
    eventually("the group owns no copy", async || {
        let owned = copies().await.iter().filter(|copy| !copy.owner_references().is_empty()).count();
        (owned == 0).then_some(()).ok_or(format!("{owned} are owned"))
    })
    .await;
    store.scale(1).await;
    eventually("the claim of the pod that went is deleted", async || {
        let left = store.claims().await.len();
        (left == 3).then_some(()).ok_or(format!("{left} claims"))
    })
    .await;
    scenario.kubectl("delete rg/store --cascade=foreground").succeeded();
    eventually("the claims of the group are gone", async || {
        let left = store.claims().await.len();
        (left == 2).then_some(()).ok_or(format!("{left} claims"))
    })
    .await;
    assert_eq!(copies().await.len(), 2, "a copy was deleted");
}
