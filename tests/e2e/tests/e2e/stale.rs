//! A controller that is started while the API server answers lists from the past.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Pod;
use kube::{Client, ResourceExt};
use mainstay_e2e::{
    Component::Replication, Group, Outside, Recorder, Scenario, Stopped, eventually, group, pods,
};
use mainstay_faults::proxy::{Mood, Proxy};

/// The replication controller, run where a test can start and kill it, behind a proxy. No other one runs meanwhile.
struct Behind {
    proxy: Proxy,
    _stopped: Stopped,
}

impl Behind {
    async fn a_proxy(scenario: &Scenario) -> Self {
        let stopped = Stopped::begin(&scenario.controller()).await;
        let client = Client::try_default().await.expect("KUBECONFIG names a cluster");
        Self { proxy: Proxy::requests(client).await.expect("a free port"), _stopped: stopped }
    }

    fn start(&self) -> Outside {
        Outside::start(Replication, &self.proxy.kubeconfig(), &["--leader-elect=false"])
    }

    /// Starts the controller with lists as of this version, until it has reconciled several times and is refused nothing.
    async fn start_in_the_past(&self, version: &str) -> Outside {
        self.proxy.set(Mood::Stale(version.to_owned()));
        let controller = self.start();
        eventually("the controller has reconciled what it takes for the present", async || {
            let metrics = controller.metrics().await?;
            let passes = metrics.sum("controller_runtime_reconcile_total", &[]);
            (passes >= 3.0).then_some(()).ok_or(format!("{passes} reconciles"))
        })
        .await;
        controller
    }
}

/// The version that the group has now: a list of this version shows it so, and all that was written before.
async fn version(group: &Group) -> String {
    group.get().await.resource_version().expect("it comes from the API server")
}

async fn active(group: &Group) -> BTreeSet<String> {
    group.pods().await.iter().filter(|pod| pods::is_active(pod)).map(ResourceExt::name_any).collect()
}

#[tokio::test]
async fn pods_that_an_old_list_does_not_show_are_not_made_twice() {
    let scenario = Scenario::alone("stalepods", &[Replication]).await;
    let behind = Behind::a_proxy(&scenario).await;
    let record = Recorder::<Pod>::start(scenario.pods()).await;
    let first = behind.start();
    let grown = scenario.create(&group("grown", pods::gated()).replicas(0)).await;
    grown.has(0).await;
    drop(first);
    grown.scale(5).await;
    let before_the_pods = version(&grown).await;
    let second = behind.start();
    grown.has(5).await;
    drop(second);

    let third = behind.start_in_the_past(&before_the_pods).await;
    record.catch_up().await;
    assert_eq!(record.uids().len(), 5, "it made pods that it did not see");
    behind.proxy.set(Mood::Honest);
    // It is seen to work again.
    grown.scale(6).await;
    grown.has(6).await;
    record.catch_up().await;
    assert_eq!(record.uids().len(), 6);
    drop(third);
}

#[tokio::test]
async fn a_group_that_an_old_list_shows_smaller_loses_no_pod() {
    let scenario = Scenario::alone("stalegroup", &[Replication]).await;
    let behind = Behind::a_proxy(&scenario).await;
    let first = behind.start();
    let grown = scenario.create(&group("grown", pods::gated()).replicas(5)).await;
    grown.has(5).await;
    drop(first);
    grown.scale(2).await;
    let when_it_was_small = version(&grown).await;
    grown.scale(5).await;
    let before = active(&grown).await;

    let second = behind.start_in_the_past(&when_it_was_small).await;
    assert_eq!(active(&grown).await, before, "it deleted what was no longer to be deleted");
    behind.proxy.set(Mood::Honest);
    grown.scale(6).await;
    grown.has(6).await;
    assert!(active(&grown).await.is_superset(&before), "a pod was replaced");
    drop(second);
}
