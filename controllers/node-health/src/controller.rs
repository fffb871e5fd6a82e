//! The wiring: which watches fill which stores, and when the leader reconciles.

use std::{sync::Arc, time::Duration};

use futures::FutureExt;
use kube::runtime::reflector;
use mainstay_crds::{NodeHealthPolicy, NodeHealthPolicyStatus};
use mainstay_runtime::{
    clock::Clock,
    events::Events,
    index::{Index, ObjectKey},
    manager::{Controller, Manager},
    metrics::LoopMetrics,
    report::StatusWriter,
    undecoded::Undecoded,
};

use crate::{
    announce::Announcer,
    metrics::Metrics,
    names::FIELD_MANAGER,
    observations::Observations,
    reconcile::{NodeHealth, STATUS_PACE},
    watched::{LEASES, Lease, Node, WatchedLease, WatchedNode},
};

/// The value of the label `controller` of the loop's series.
const LOOP: &str = "nodehealthpolicy";

/// The pause between two batches of Lease events. A thousand nodes renew a hundred Leases a second, and no node is
/// suspected before some seconds without renewal.
const LEASES_REST: Duration = Duration::from_millis(250);
/// How many seconds a watch of Leases lasts. A connection that died silently is noticed when the watch ends, long
/// after a node that is not seen for this time was judged.
const LEASES_WATCH: u32 = 30;

/// Starts the watches and returns the loop.
pub async fn build(manager: &Manager) -> Controller {
    let clock = Clock::start();
    let observations = Arc::new(Observations::new(clock));
    let status_writer = Arc::new(StatusWriter::new(manager.client.clone(), FIELD_MANAGER, STATUS_PACE));
    let (policies, policy_writer) = reflector::store();
    let undecoded = watch_policies(manager, policy_writer, &observations, &status_writer);
    let node_health = NodeHealth {
        client: manager.client.clone(),
        clock,
        observations,
        nodes: Index::default(),
        policies,
        undecoded,
        status_writer,
        announcer: Announcer::new(Events::start(manager.client.clone(), FIELD_MANAGER, &manager.identity)),
        metrics: Arc::new(Metrics::new(&manager.registry)),
        // One reconcile looks at everything.
        loop_metrics: LoopMetrics::new(&manager.registry, LOOP, 1),
        max_in_flight: manager.flags.max_in_flight_writes.into(),
        beat: manager.beat(LOOP),
    };
    let leases = Index::default();
    watch_nodes(manager, &node_health, &leases);

    Controller {
        run: node_health.run(manager.shutdown.clone()).boxed(),
        refresh: Arc::new(|| {}),
        live: Arc::new(|| Ok(())),
        ready: Arc::new(|| Ok(())),
    }
}

/// Starts the watch of policies.
fn watch_policies(
    manager: &Manager,
    policies: reflector::store::Writer<NodeHealthPolicy>,
    observations: &Arc<Observations>,
    status_writer: &Arc<StatusWriter<NodeHealthPolicyStatus>>,
) -> Undecoded<NodeHealthPolicy> {
    let (seen, lost, status_writer) =
        (Arc::clone(observations), Arc::clone(observations), Arc::clone(status_writer));
    let changed = move |old: Option<&NodeHealthPolicy>, new: Option<&NodeHealthPolicy>| {
        if let (Some(old), None) = (old, new) {
            status_writer.forget(&ObjectKey::of(old));
        }
        seen.notify();
    };
    manager.watch().root(policies, FIELD_MANAGER, changed, move |_| lost.notify())
}

/// Starts the other watches.
fn watch_nodes(manager: &Manager, node_health: &NodeHealth, leases: &Index<Lease>) {
    let observations = Arc::clone(&node_health.observations);
    manager
        .watch::<WatchedNode>()
        .fill(&node_health.nodes, Node::from, move |change| observations.node_changed(&change));

    let renewals = manager.watch_in::<WatchedLease>(LEASES).seconds(LEASES_WATCH).in_batches(LEASES_REST);
    let observations = Arc::clone(&node_health.observations);
    renewals.fill(leases, Lease::from, move |change| observations.lease_changed(&change));
}
