//! The state of each rollout between reconciles. A restart may lose it.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;
use mainstay_runtime::index::ObjectKey;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::plan::{
    Changed, Evidence, Findings, Number, Observed, SourceKey, SourceVersion, State, TargetKey, TargetState,
};

/// What is remembered, by rollout.
#[derive(Debug, Default)]
pub struct Memories(Mutex<HashMap<ObjectKey, Memory>>);

impl Memories {
    /// Reads or changes what is remembered of a rollout.
    pub(crate) fn of<T>(&self, rollout: &ObjectKey, take: impl FnOnce(&mut Memory) -> T) -> T {
        take(self.0.lock().entry(rollout.clone()).or_default())
    }

    /// Forgets a rollout that is gone.
    pub(crate) fn forget(&self, rollout: &ObjectKey) {
        self.0.lock().remove(rollout);
    }
}

/// What is remembered of a rollout.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    /// What was decided last, and is in the status.
    pub(crate) state: Option<State>,
    /// What reading the sources has shown.
    pub(crate) findings: Findings,
    /// The sources as they were seen last, and since when they wait to be read.
    seen: BTreeMap<SourceKey, SourceVersion>,
    pub(crate) changed: Option<Changed>,
    /// The objects that something referred to when that was searched for, and when.
    pub(crate) kept: Option<(Vec<(SourceKey, Number)>, Instant)>,
    /// What the pods of targets that have passed have shown last.
    pub(crate) watched: BTreeMap<TargetKey, Watched>,
}

/// What the pods of a target have shown since a change, and when.
#[derive(Debug, Clone)]
pub(crate) struct Watched {
    pub(crate) change: Option<Timestamp>,
    pub(crate) at: Instant,
    pub(crate) evidence: Evidence,
}

impl Memory {
    /// Records what is observed of the sources.
    pub(crate) fn note(&mut self, observed: &Observed, now: Timestamp) {
        let used = observed.sources.iter().filter(|(source, _)| observed.uses.contains_key(source));
        let seen: BTreeMap<_, _> = used.map(|(source, version)| (source.clone(), version.clone())).collect();
        if seen != self.seen {
            let first = self.changed.map_or(now, |changed| changed.first);
            self.changed = Some(Changed { first, last: now });
            self.seen = seen;
        }
        self.findings.retain(|source, _| observed.uses.contains_key(source));
    }

    /// Changes what is remembered of a target.
    pub(crate) fn change(&mut self, target: &TargetKey, change: impl FnOnce(&mut TargetState)) {
        if let Some(remembered) = self.state.as_mut().and_then(|state| state.targets.get_mut(target)) {
            change(remembered);
        }
    }
}
