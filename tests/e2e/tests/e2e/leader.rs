//! Two replicas, one writer.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::api::{coordination::v1::Lease, core::v1::Pod};
use kube::ResourceExt;
use mainstay_e2e::{
    Component::Replication, Controller, NAME, NAMESPACE, Recorder, Scenario, eventually, group, kubectl,
    pods, rolled_out, within,
};
use tokio::time::{sleep, timeout};

/// The pods that say of themselves that they lead.
async fn leaders(controller: &Controller) -> Vec<String> {
    let mut leaders = Vec::new();
    for pod in controller.pod_names().await {
        let labels = [("name", NAME)];
        if controller.metrics(&pod).await.sum("leader_election_master_status", &labels) == 1.0 {
            leaders.push(pod);
        }
    }
    leaders
}

fn holder(lease: &Lease) -> &str {
    lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_deref()).unwrap_or_default()
}

#[tokio::test]
async fn when_the_leader_is_killed_in_the_middle_of_a_scale_up_nothing_is_doubled() {
    const MANY: usize = 300;
    let scenario = Scenario::alone("takeover", &[Replication]).await;
    let controller = scenario.controller();
    let killed = controller.leader().await;
    assert_eq!(leaders(&controller).await, std::slice::from_ref(&killed), "one pod leads");
    let lease = controller.leases().get(NAME).await.unwrap();
    let victim = controller.victim(&killed).await;
    let grown = scenario.create(&group("grown", pods::gated()).replicas(0)).await;
    grown.ready().await;

    let record = Recorder::<Pod>::start(scenario.pods()).await;
    grown.scale(MANY).await;
    let begun = async {
        while record.read(<[_]>::len) < 20 {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(Duration::from_secs(60), begun).await.expect("the scale-up begins");
    victim.kill().await;
    let left = grown.pods().await.len();
    assert!(left < MANY, "the leader had finished before it was killed");

    // The other pod, or the killed one with a new process: whoever finds first that the Lease has run out.
    eventually("another process leads", async || {
        let now = controller.leases().get(NAME).await.map_err(|error| error.to_string())?;
        let taken = !holder(&now).is_empty() && holder(&now) != holder(&lease);
        taken.then_some(()).ok_or(format!("{} leads", holder(&now)))
    })
    .await;
    grown.has(MANY).await;
    record.catch_up().await;
    assert_eq!(record.uids().len(), MANY, "{left} pods were there when the leader died");
    assert_eq!(leaders(&controller).await.len(), 1);
    rolled_out(NAME).succeeded();
}

#[tokio::test]
async fn a_rollout_of_the_controller_hands_over_and_doubles_nothing() {
    const STEP: usize = 20;
    let scenario = Scenario::alone("handover", &[Replication]).await;
    let controller = scenario.controller();
    let before = controller.leader().await;
    let grown = scenario.create(&group("grown", pods::gated()).replicas(STEP)).await;
    grown.has(STEP).await;
    let record = Recorder::<Pod>::start(scenario.pods()).await;
    let leases = Recorder::start(controller.leases()).await;
    kubectl(&format!("rollout restart deployment/{NAME} --namespace={NAMESPACE}")).succeeded();

    // The group grows all through the rollout.
    let mut replicas = STEP;
    within(Duration::from_secs(240), "a new pod leads, and the old ones are gone", async || {
        replicas += 1;
        grown.scale(replicas).await;
        grown.has(replicas).await;
        let (holder, pods) = (controller.holder().await?, controller.pod_names().await);
        let done = holder != before && pods.len() == 2 && !pods.contains(&before);
        done.then_some(()).ok_or(format!("{holder} leads, the pods are {pods:?}, {before} led before"))
    })
    .await;
    rolled_out(NAME).succeeded();
    replicas += STEP;
    grown.scale(replicas).await;
    grown.has(replicas).await;
    record.catch_up().await;
    assert_eq!(record.uids().len(), replicas);

    // Given up, not run out: that would take the lease's 15 s.
    leases.catch_up().await;
    let holders: Vec<String> = leases.read(|states| {
        let ours = states.iter().filter(|(lease, _)| lease.name_any() == NAME);
        ours.map(|(lease, _)| holder(lease).to_owned()).collect()
    });
    let first = holders.first().unwrap();
    let next = holders.iter().find(|holder| *holder != first);
    assert_eq!(next.map(String::as_str), Some(""), "the old leader did not give the Lease up: {holders:?}");
}

#[tokio::test]
async fn both_replicas_are_ready_and_only_one_works() {
    let scenario = Scenario::alone("standby", &[Replication]).await;
    let controller = scenario.controller();
    let leader = controller.leader().await;
    let passes = async || {
        let mut passes = BTreeMap::new();
        for pod in controller.pod_names().await {
            let count = controller.metrics(&pod).await.sum("controller_runtime_reconcile_total", &[]);
            passes.insert(pod, count);
        }
        passes
    };
    let before = passes().await;
    assert_eq!(before.len(), 2);
    for pod in before.keys() {
        controller.get(pod, 8081, "healthz").await.unwrap();
        controller.get(pod, 8081, "readyz").await.unwrap();
    }
    scenario.create(&group("worked", pods::gated()).replicas(2)).await.has(2).await;
    let after = passes().await;
    let worked: Vec<_> =
        after.iter().filter(|(pod, count)| **count > before[*pod]).map(|(pod, _)| pod).collect();
    assert_eq!(worked, [&leader]);
    let pod = controller.pods().get(&leader).await.unwrap();
    assert_eq!(pod.annotations()["prometheus.io/port"], "8080");
}
