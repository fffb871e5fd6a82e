//! The rules of the cluster, which scenarios change.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

use serde_json::Value;

use super::timers::Timers;

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
    /// Addresses at which no server answers a check.
    pub dead: BTreeSet<IpAddr>,
    /// What the DNS says of names; of others it says that they do not exist.
    pub dns: BTreeMap<String, Vec<IpAddr>>,
    /// Whether there is a scheduler.
    pub schedules: bool,
    /// What has waited since when.
    pub(super) timers: Timers,
    /// The addresses of pods, by UID.
    pub(super) addresses: BTreeMap<String, String>,
}

impl Default for Cluster {
    fn default() -> Self {
        Self {
            life: Box::new(|_| Life::default()),
            silent: BTreeSet::new(),
            dead: BTreeSet::new(),
            dns: BTreeMap::new(),
            schedules: true,
            timers: Timers::default(),
            addresses: BTreeMap::new(),
        }
    }
}
