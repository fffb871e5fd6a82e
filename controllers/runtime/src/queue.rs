//! Which keys are due, and which is served next.
//!
//! The queue is a set: a key is in it once, however often it changes, and one that is gone is taken out of it, so that the
//! queue of a standby, which serves nothing, is no longer than the list of its objects. client-go's queue is one line, in
//! which a change of one object waits behind a sweep over all of them (controller-runtime has priorities since 0.20). Here a
//! change is served before a [sweep](Lane::Sweep), a sweep before what time alone makes due, and within a lane one namespace
//! after the other: no tenant's thousand objects stand before another's one. Nor does a tenant whose admission webhook hangs
//! hold all workers: of those that a namespace has, half stay free for others.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use tokio::time::Instant;

use crate::key::ObjectKey;

/// One of this number of turns goes to the lanes in reverse order, so that no lane starves.
const TURNS: u32 = 8;

/// Why a key is due: a lane is served before those that follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    /// It has changed, or something that is of it alone.
    Change,
    /// Something has changed that concerns many, such as a node.
    Sweep,
    /// Time alone: a retry, a deadline, the resync.
    Time,
}

/// One lane: the keys of each namespace in the order in which they came, and the namespaces in turn.
#[derive(Debug, Default)]
struct Line {
    turns: BTreeMap<u64, Arc<str>>,
    namespaces: HashMap<Arc<str>, Waiting>,
    last: u64,
}

/// What waits of a namespace.
#[derive(Debug, Default)]
struct Waiting {
    turn: u64,
    keys: BTreeMap<u64, ObjectKey>,
}

impl Line {
    /// Gives the namespace the last turn.
    fn queue(&mut self, namespace: &Arc<str>) {
        self.last += 1;
        self.turns.insert(self.last, Arc::clone(namespace));
        self.namespaces.entry(Arc::clone(namespace)).or_default().turn = self.last;
    }

    fn push(&mut self, ticket: u64, key: &ObjectKey) {
        if !self.namespaces.contains_key(&key.namespace) {
            self.queue(&key.namespace);
        }
        self.namespaces.entry(Arc::clone(&key.namespace)).or_default().keys.insert(ticket, key.clone());
    }

    /// The next key of the first namespace in turn that `may` have one served.
    fn pop(&mut self, may: impl Fn(&str) -> bool) -> Option<ObjectKey> {
        let (&turn, _) = self.turns.iter().find(|(_, namespace)| may(namespace))?;
        let namespace = self.turns.remove(&turn)?;
        let waiting = self.namespaces.get_mut(&namespace)?;
        let (_, next) = waiting.keys.pop_first()?;
        if waiting.keys.is_empty() {
            self.namespaces.remove(&namespace);
        } else {
            self.queue(&namespace);
        }
        Some(next)
    }

    fn remove(&mut self, ticket: u64, key: &ObjectKey) {
        let Some(waiting) = self.namespaces.get_mut(&key.namespace) else { return };
        waiting.keys.remove(&ticket);
        if waiting.keys.is_empty() {
            self.turns.remove(&waiting.turn);
            self.namespaces.remove(&key.namespace);
        }
    }
}

/// Where a key of the queue is.
#[derive(Debug, Clone, Copy)]
enum Place {
    Line(Lane, u64),
    Later(Lane, Instant),
}

/// The keys that are due, now or later.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    places: HashMap<ObjectKey, Place>,
    lines: [Line; 3],
    later: BTreeSet<(Instant, ObjectKey)>,
    tickets: u64,
    turns: u32,
    /// How many keys of each namespace were taken and are not yet [`served`](Self::served).
    taken: HashMap<Arc<str>, usize>,
    /// How many a namespace may have taken.
    share: Option<usize>,
}

impl Queue {
    /// Divides this many workers, of which none is busy: a namespace has half of them at most, and one at least. Objects of
    /// the cluster have all.
    pub(crate) fn divide(&mut self, workers: usize) {
        self.share = Some((workers / 2).max(1));
        self.taken.clear();
    }

    /// Puts `key` into `lane`, where it is served at `at` or later, wherever it was before.
    pub(crate) fn put(&mut self, key: &ObjectKey, lane: Lane, at: Option<Instant>) {
        self.remove(key);
        let place = match at {
            Some(at) if at > Instant::now() => {
                self.later.insert((at, key.clone()));
                Place::Later(lane, at)
            }
            _ => {
                self.tickets += 1;
                self.lines[lane as usize].push(self.tickets, key);
                Place::Line(lane, self.tickets)
            }
        };
        self.places.insert(key.clone(), place);
    }

    /// Takes `key` out.
    pub(crate) fn remove(&mut self, key: &ObjectKey) {
        match self.places.remove(key) {
            Some(Place::Line(lane, ticket)) => self.lines[lane as usize].remove(ticket, key),
            Some(Place::Later(_, at)) => drop(self.later.remove(&(at, key.clone()))),
            None => {}
        }
    }

    /// Takes the key out whose turn it is, until [`Self::served`].
    pub(crate) fn take(&mut self) -> Option<ObjectKey> {
        let now = Instant::now();
        while let Some((at, key)) = self.later.pop_first() {
            if at > now {
                self.later.insert((at, key));
                break;
            }
            let Some(Place::Later(lane, _)) = self.places.remove(&key) else { continue };
            self.put(&key, lane, None);
        }
        self.turns = (self.turns + 1) % TURNS;
        let (taken, share) = (&self.taken, self.share.unwrap_or(usize::MAX));
        let may =
            |namespace: &str| namespace.is_empty() || taken.get(namespace).is_none_or(|taken| *taken < share);
        let key = match self.turns {
            0 => self.lines.iter_mut().rev().find_map(|line| line.pop(may)),
            _ => self.lines.iter_mut().find_map(|line| line.pop(may)),
        }?;
        self.places.remove(&key);
        if self.share.is_some() {
            *self.taken.entry(Arc::clone(&key.namespace)).or_default() += 1;
        }
        Some(key)
    }

    /// The key that was taken takes no worker any more.
    pub(crate) fn served(&mut self, key: &ObjectKey) {
        let Some(taken) = self.taken.get_mut(&key.namespace) else { return };
        *taken = taken.saturating_sub(1);
        if *taken == 0 {
            self.taken.remove(&key.namespace);
        }
    }

    /// When the next key is due that is not due yet.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.later.first().map(|(at, _)| *at)
    }
}

/// Waits until then; without end where there is no such time.
pub(crate) async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
