//! The controller dies while it makes volume claims and pods.

use std::{collections::BTreeSet, time::Duration};

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use mainstay_e2e::{
    Component::Replication, NAME, NAMESPACE, Recorder, Scenario, eventually, group, kubectl, pods, slot,
    unbound_claim,
};
use tokio::time::{sleep, timeout};

#[tokio::test]
async fn claims_that_a_controller_made_before_it_died_are_used_by_the_next() {
    const MANY: usize = 150;
    let scenario = Scenario::alone("claimcrash", &[Replication]).await;
    let controller = scenario.controller();
    let victim = controller.victim(&controller.leader().await).await;
    let draft = group("store", pods::gated()).replicas(0).rolling(0, 1);
    let store = scenario.create(&draft.claims(["data", "log"].map(unbound_claim))).await;
    store.ready().await;

    let claims = Recorder::<PersistentVolumeClaim>::start(scenario.api()).await;
    let record = Recorder::<Pod>::start(scenario.pods()).await;
    store.scale(MANY).await;
    let begun = async {
        while claims.read(<[_]>::len) < 20 {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(Duration::from_secs(60), begun).await.expect("claims are made");
    victim.kill().await;
    let (made, left) = (store.claims().await.len(), store.pods().await.len());
    assert!(left < MANY, "the leader had finished before it was killed");
    eprintln!("the leader died with {made} claims made, and {left} pods");

    store.has(MANY).await;
    let slots: BTreeSet<_> = store.slots().await.into_keys().collect();
    assert_eq!(slots.len(), MANY);
    let claimed = store.claims().await;
    assert_eq!(claimed.iter().map(slot).collect::<BTreeSet<_>>(), slots.iter().map(String::as_str).collect());
    claims.catch_up().await;
    assert_eq!(claims.uids().len(), 2 * MANY, "claims were doubled, or deleted and made anew");
    record.shares_no_slot().await;
    eventually("the controller has both its pods again", async || {
        let rollout = format!("rollout status deployment/{NAME} --namespace={NAMESPACE} --timeout=5s");
        let finished = kubectl(&rollout);
        finished.ok.then_some(()).ok_or(finished.stderr)
    })
    .await;
}
