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

mod deployments;
mod garbage;
mod kubelet;
mod nodes;
mod scheduler;
pub mod timers;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use serde_json::Value;
use tokio::time::{Instant, sleep_until};

use self::timers::Timers;
use crate::model::server::Server;

/// What becomes of a pod on its node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Life {
    /// How long it takes to start.
    pub starts: Duration,
    /// How it goes on.
    pub then: Then,
    /// How long it takes to end once it is told to; `None` when it never does.
    pub ends: Option<Duration>,
}

/// How a pod goes on after its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// It is ready after this time.
    Ready(Duration),
    /// It runs and is never ready.
    NeverReady,
    /// Its container crashes again and again.
    Crashes,
    /// It fails after this time.
    Fails(Duration),
    /// Its image cannot be pulled.
    NoImage,
}

impl Default for Life {
    fn default() -> Self {
        let second = Duration::from_secs(1);
        Self { starts: second, then: Then::Ready(second), ends: Some(second) }
    }
}

/// The rules of the cluster that a scenario may change while it runs.
pub struct Cluster {
    /// What becomes of a pod.
    pub life: Box<dyn Fn(&Value) -> Life + Send>,
    /// Nodes whose kubelets do nothing.
    pub silent: BTreeSet<String>,
    /// Whether there is a scheduler.
    pub schedules: bool,
    timers: Timers,
    /// The addresses of pods, by UID.
    addresses: BTreeMap<String, String>,
}

impl Default for Cluster {
    fn default() -> Self {
        Self {
            life: Box::new(|_| Life::default()),
            silent: BTreeSet::new(),
            schedules: true,
            timers: Timers::default(),
            addresses: BTreeMap::new(),
        }
    }
}

impl Cluster {
    /// Lets all actors do what is due, until none has anything to do. Returns when one has next.
    pub fn step(&mut self, server: &mut Server) -> Option<Instant> {
        let store = &mut server.store;
        loop {
            let before = store.version();
            self.timers.begin();
            if self.schedules {
                scheduler::step(store, &mut self.timers);
            }
            kubelet::step(store, self);
            nodes::step(store, &self.silent, &mut self.timers);
            deployments::step(store, &mut self.timers);
            garbage::step(store, &mut self.timers);
            if store.version() == before {
                return self.timers.next();
            }
        }
    }
}

/// Lets the actors live for as long as the future is polled.
pub async fn live(server: Arc<Mutex<Server>>, cluster: Arc<Mutex<Cluster>>) {
    let mut changes = server.lock().store.changes();
    loop {
        let next = cluster.lock().step(&mut server.lock());
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
