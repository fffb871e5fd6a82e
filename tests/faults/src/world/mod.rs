//! The cluster around the server: actors that do what Kubernetes' own components do. Each is a step that looks at the objects,
//! changes them, and says when it wants to look again.
//!
//! | actor | what it does |
//! |---|---|
//! | [`scheduler`] | gives each pod a node |
//! | [`kubelet`] | starts pods, makes them ready or fail, and ends them |
//! | [`nodes`] | renews the nodes' Leases, and marks those that are silent |
//! | [`deployments`] | keeps the ReplicaSets and pods of Deployments |
//! | [`garbage`] | deletes what has lost its owner |

mod cluster;
mod deployments;
mod garbage;
mod kubelet;
mod nodes;
mod scheduler;
mod timers;

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};

pub use self::cluster::{Cluster, Life, Then};
use crate::model::server::Server;

/// Lets all actors do what is due, until none has anything to do. Returns when one has next.
pub fn step(cluster: &mut Cluster, server: &mut Server) -> Option<Instant> {
    let store = &mut server.store;
    loop {
        let before = store.version();
        cluster.timers.begin();
        if cluster.schedules {
            scheduler::step(store, &mut cluster.timers);
        }
        kubelet::step(store, cluster);
        nodes::step(store, &cluster.silent, &mut cluster.timers);
        deployments::step(store, &mut cluster.timers);
        garbage::step(store, &mut cluster.timers);
        if store.version() == before {
            return cluster.timers.next();
        }
    }
}

/// Lets the actors live for as long as the future is polled.
pub async fn live(server: Arc<Mutex<Server>>, cluster: Arc<Mutex<Cluster>>) {
    let mut changes = server.lock().store.changes();
    loop {
        let next = step(&mut cluster.lock(), &mut server.lock());
        changes.borrow_and_update();
        tokio::select! {
            biased;
            _ = changes.changed() => {}
            () = sleep_until(next.unwrap_or_else(far)) => {}
        }
    }
}

fn far() -> Instant {
    Instant::now() + Duration::from_secs(86_400)
}
