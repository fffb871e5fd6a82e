//! The events of the watches, stamped with the process's own clock.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use mainstay_runtime::{
    clock::{Clock, Moment},
    index::Change,
};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::{
    heartbeat::Heartbeats,
    plan::Heartbeat,
    watched::{Lease, Node},
};

/// What the watches have seen. Written by their tasks, read by the reconcile.
#[derive(Debug)]
pub struct Observations {
    clock: Clock,
    seen: Mutex<Seen>,
    changed: Notify,
}

#[derive(Debug)]
struct Seen {
    heartbeats: Heartbeats,
    /// Since when each condition of each node has had its status.
    conditions: HashMap<Arc<str>, Vec<Held>>,
    /// The nodes whose signs of life are waited for.
    awaited: HashSet<Arc<str>>,
}

#[derive(Debug)]
struct Held {
    kind: Arc<str>,
    status: Arc<str>,
    since: Moment,
}

impl Observations {
    /// Nothing seen yet.
    pub fn new(clock: Clock) -> Self {
        let now = clock.now();
        let seen =
            Seen { heartbeats: Heartbeats::new(now), conditions: HashMap::new(), awaited: HashSet::new() };
        Self { clock, seen: Mutex::new(seen), changed: Notify::new() }
    }

    /// Is notified when something has changed that a reconcile should see.
    pub fn wake(&self) -> &Notify {
        &self.changed
    }

    /// A reconcile should look again.
    pub fn notify(&self) {
        self.changed.notify_one();
    }

    /// A Lease has changed.
    pub fn lease_changed(&self, change: &Change<'_, Lease>) {
        let now = self.clock.now();
        let mut seen = self.seen.lock();
        match (change.old, change.new) {
            (_, Some(lease)) => {
                let lives = seen.heartbeats.renewed(lease.node(), lease.renewed, lease.duration, now);
                if lives && seen.awaited.contains(lease.node()) {
                    self.notify();
                }
            }
            (Some(lease), None) => {
                seen.heartbeats.lease_gone(lease.node(), now);
                self.notify();
            }
            (None, None) => {}
        }
    }

    /// A live read has shown this of the Lease of `node`. Returns whether it is a sign of life.
    pub fn read(&self, node: &Arc<str>, renewed: Option<Timestamp>, lasts: Option<Duration>) -> bool {
        self.seen.lock().heartbeats.renewed(node, renewed, lasts, self.clock.now())
    }

    /// A live read has shown when the kubelet of `node` posted its status. Returns whether it is a sign of life.
    pub fn posted(&self, node: &Arc<str>, posted: Option<Timestamp>) -> bool {
        self.seen.lock().heartbeats.posted(node, posted, self.clock.now())
    }

    /// All Leases were read live. Returns how many nodes of which the watch has not told are seen to live.
    pub fn all_read(&self, leases: &[Lease]) -> usize {
        let now = self.clock.now();
        let mut seen = self.seen.lock();
        let lives =
            |lease: &&Lease| seen.heartbeats.renewed(lease.node(), lease.renewed, lease.duration, now);
        let heard = leases.iter().filter(lives).count();
        seen.heartbeats.all_read(now);
        self.notify();
        heard
    }

    /// A node has changed.
    pub fn node_changed(&self, change: &Change<'_, Node>) {
        let now = self.clock.now();
        let mut seen = self.seen.lock();
        let Some(node) = change.new else {
            if let Some(old) = change.old {
                seen.heartbeats.forget(old.name());
                seen.conditions.remove(old.name());
                self.notify();
            }
            return;
        };
        let is_another = change.old.is_some_and(|old| old.uid() != node.uid());
        if is_another {
            seen.conditions.remove(node.name());
        }
        seen.heartbeats.known(node.name(), node.uid(), now);
        if seen.heartbeats.posted(node.name(), node.posted, now) && seen.awaited.contains(node.name()) {
            self.notify();
        }
        let boot = |node: &Arc<Node>| Some(Arc::clone(&node.facts.boot_id)).filter(|boot| !boot.is_empty());
        let before = change.old.and_then(boot);
        if before.is_some() && boot(node).is_some_and(|boot| before != Some(boot)) {
            seen.heartbeats.booted(node.name(), now);
        }
        if !is_another && change.old.is_some_and(|old| old.facts == node.facts) {
            return;
        }
        let held = seen.conditions.entry(Arc::clone(node.name())).or_default();
        let since = |kind: &str, status: &str| {
            held.iter()
                .find(|held| &*held.kind == kind && &*held.status == status)
                .map_or(now, |held| held.since)
        };
        *held = node
            .facts
            .conditions
            .iter()
            .map(|condition| Held {
                kind: Arc::clone(&condition.kind),
                status: Arc::clone(&condition.status),
                since: since(&condition.kind, &condition.status),
            })
            .collect();
        self.notify();
    }

    /// The API server has answered. Returns whether it was away, so that the timers of all nodes restart.
    pub fn pulse(&self) -> bool {
        let now = self.clock.now();
        let mut seen = self.seen.lock();
        let was_away = seen.heartbeats.pulse(now);
        if was_away {
            self.notify();
        }
        was_away
    }

    /// This process begins to listen: what it has not heard before says nothing.
    pub fn restart(&self) {
        let now = self.clock.now();
        let mut seen = self.seen.lock();
        seen.heartbeats.restart(now);
    }

    /// Whether nothing can be said of any node: the API server is away, or the watch of Leases may be deaf.
    pub fn is_blind(&self, now: Moment) -> bool {
        self.seen.lock().heartbeats.is_blind(now)
    }

    /// Whether the watch of Leases may be deaf, so that all of them are to be read live.
    pub fn is_deaf(&self, now: Moment) -> bool {
        self.seen.lock().heartbeats.is_deaf(now)
    }

    /// The heartbeat of the node. `None`: it is not known.
    pub fn heartbeat(&self, node: &str) -> Option<Heartbeat> {
        self.seen.lock().heartbeats.of(node)
    }

    /// The node's last renewal that was seen, or without a Lease when it last posted its status, by its own clock.
    pub fn renewal(&self, node: &str) -> Option<Timestamp> {
        self.seen.lock().heartbeats.renewal(node)
    }

    /// Since when the condition of the node has had this status; no longer than since `listening`.
    pub fn held_since(&self, node: &str, kind: &str, status: &str, listening: Moment) -> Option<Moment> {
        let seen = self.seen.lock();
        let mut held = seen.conditions.get(node)?.iter();
        let held = held.find(|held| &*held.kind == kind && &*held.status == status)?;
        Some(held.since.max(listening))
    }

    /// A renewal by one of these nodes is reported at once.
    pub fn wait_for(&self, nodes: HashSet<Arc<str>>) {
        self.seen.lock().awaited = nodes;
    }
}
