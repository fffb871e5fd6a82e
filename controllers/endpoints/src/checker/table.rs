//! Which targets there are, which of them is checked next, and what the results mean. No I/O and no clock.

use std::{
    collections::{HashMap, hash_map::Entry as Place},
    hash::{DefaultHasher, Hash, Hasher},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use mainstay_probe::{Check, Failure};
use mainstay_runtime::{
    clock::Moment,
    index::ObjectKey,
    places::{self, Places},
};

use super::types::{Definition, State, Target, Wanted};
use crate::health::{Record, Settings, Verdict};

/// The targets of all pools.
pub(super) struct Table {
    places: Places<ObjectKey, Target>,
    pools: HashMap<ObjectKey, Pool>,
}

/// A check to make.
pub(super) struct Job {
    pub(super) pool: ObjectKey,
    pub(super) target: Target,
    pub(super) port: u16,
    pub(super) check: Arc<Check>,
    /// For how long it has been due.
    pub(super) delay: Duration,
}

/// What to do next.
pub(super) enum Next {
    /// This check, whose end is to be [told](Table::ended).
    Begin(Job),
    /// Nothing until then, or until something else changes.
    Wait(Option<Moment>),
}

struct Pool {
    definition: Arc<Definition>,
    /// What the definition asks.
    check: Arc<Check>,
    targets: HashMap<Target, Entry>,
}

struct Entry {
    record: Record,
    failure: Option<Failure>,
    /// Whether a check of this process has ended.
    seen: bool,
    port: u16,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Waiting,
    UnderWay,
    /// Under way, and the result will not count: something else is wanted by now, and due after the end.
    Outdated,
    /// Under way, and no longer wanted.
    Forgotten,
}

impl Table {
    pub(super) fn new(limit: usize) -> Self {
        Self { places: Places::new(limit), pools: HashMap::new() }
    }

    pub(super) fn want(
        &mut self,
        key: &ObjectKey,
        definition: Arc<Definition>,
        targets: HashMap<Target, Wanted>,
        now: Moment,
    ) {
        let Self { places, pools } = self;
        let pool = pools.entry(key.clone()).or_insert_with(|| Pool::new(Arc::clone(&definition)));
        let redefined = pool.define(definition);
        pool.forget_all_but(|target| targets.contains_key(target), |target| places.remove(key, target));
        for (target, wanted) in targets {
            let phase = phase(key, &target.address);
            match pool.want(&target, wanted, redefined, now, phase) {
                Some((due, true)) => places.begin(key, target, due),
                Some((due, false)) => places.hasten(key, target, due),
                None => {}
            }
        }
        places.bound(key, pool.definition.max_concurrent);
        self.tidy(key);
    }

    pub(super) fn forget(&mut self, key: &ObjectKey) {
        if let Some(pool) = self.pools.get_mut(key) {
            pool.forget_all_but(|_| false, |target| self.places.remove(key, target));
        }
        self.tidy(key);
    }

    pub(super) fn states(&self, key: &ObjectKey) -> HashMap<Target, State> {
        let targets = self.pools.get(key).into_iter().flat_map(|pool| &pool.targets);
        let wanted = targets.filter(|(_, entry)| entry.stage != Stage::Forgotten);
        wanted.map(|(target, entry)| (target.clone(), entry.state())).collect()
    }

    pub(super) fn next(&mut self, now: Moment) -> Next {
        match self.places.next(now) {
            places::Next::Begin { owner: pool, key: target, due } => {
                let known = self.pools.get_mut(&pool).expect("only targets of a pool are due");
                let (check, port) = known.begin(&target);
                Next::Begin(Job { pool, target, port, check, delay: now.saturating_sub(due) })
            }
            places::Next::Wait(until) => Next::Wait(until),
        }
    }

    /// Takes in how a check ended, with a `jitter` from -1 to 1 for the next; `None`: it has said nothing. Returns whether the
    /// verdict changed, or it is known for the first time why one fails that a former leader said so of.
    pub(super) fn ended(
        &mut self,
        job: &Job,
        result: Option<Result<(), Failure>>,
        now: Moment,
        jitter: f64,
    ) -> bool {
        let Job { pool: key, target, .. } = job;
        let pool = self.pools.get_mut(key).expect("a pool stays as long as checks of it are under way");
        let (changed, due) = pool.ended(target, result, now, jitter);
        if let Some(due) = due {
            self.places.put(key, target.clone(), due);
        }
        self.places.ended(key, target);
        self.tidy(key);
        changed
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.pools.is_empty() && self.places.is_empty()
    }

    /// Forgets a pool without targets.
    fn tidy(&mut self, key: &ObjectKey) {
        if self.pools.get(key).is_some_and(|pool| pool.targets.is_empty()) {
            self.pools.remove(key);
        }
    }
}

impl Pool {
    fn new(definition: Arc<Definition>) -> Self {
        Self { check: check(&definition), definition, targets: HashMap::new() }
    }

    /// Returns whether the definition is another one than before.
    fn define(&mut self, definition: Arc<Definition>) -> bool {
        if Arc::ptr_eq(&self.definition, &definition) {
            return false;
        }
        self.check = check(&definition);
        self.definition = definition;
        true
    }

    /// Calls `forget` for each target that is not wanted.
    fn forget_all_but(&mut self, wanted: impl Fn(&Target) -> bool, mut forget: impl FnMut(&Target)) {
        self.targets.retain(|target, entry| {
            if wanted(target) {
                return true;
            }
            forget(target);
            let waits = entry.stage == Stage::Waiting;
            entry.stage = Stage::Forgotten;
            !waits
        });
    }

    /// Returns when the target is due at the latest, if something about it is new, and whether nothing is known of it.
    fn want(
        &mut self,
        target: &Target,
        wanted: Wanted,
        redefined: bool,
        now: Moment,
        phase: f64,
    ) -> Option<(Moment, bool)> {
        let settings = &self.definition.settings;
        let mut place = match self.targets.entry(target.clone()) {
            Place::Vacant(place) => {
                return Some(place.insert(Entry::new(wanted, now, settings, phase)).first());
            }
            Place::Occupied(place) => place,
        };
        let entry = place.get_mut();
        if entry.stage == Stage::Forgotten {
            *entry = Entry { stage: Stage::Outdated, ..Entry::new(wanted, now, settings, phase) };
            return Some(entry.first());
        }
        if !redefined && entry.port == wanted.port {
            return None;
        }
        entry.port = wanted.port;
        if entry.stage != Stage::Waiting {
            entry.stage = Stage::Outdated;
        }
        Some((Record::new(now, settings, phase).due(), false))
    }

    /// What to ask the target, and at which port.
    fn begin(&mut self, target: &Target) -> (Arc<Check>, u16) {
        let entry = self.targets.get_mut(target).expect("only targets of the pool are due");
        entry.stage = Stage::UnderWay;
        (Arc::clone(&self.check), entry.port)
    }

    /// Returns whether the verdict changed, and when the target is due again if it is not known yet.
    fn ended(
        &mut self,
        target: &Target,
        result: Option<Result<(), Failure>>,
        now: Moment,
        jitter: f64,
    ) -> (bool, Option<Moment>) {
        let entry = self.targets.get_mut(target).expect("a target stays as long as its check is under way");
        let settings = &self.definition.settings;
        match (std::mem::replace(&mut entry.stage, Stage::Waiting), result) {
            (Stage::Forgotten, _) => {
                self.targets.remove(target);
                (false, None)
            }
            (Stage::UnderWay, Some(result)) => {
                let changed = entry.record.observe(result.is_ok(), now, settings, jitter);
                entry.failure = result.err();
                let is_first = !std::mem::replace(&mut entry.seen, true);
                let is_explained =
                    is_first && entry.failure.is_some() && entry.record.verdict() == Verdict::Failing;
                (changed || is_explained, Some(entry.record.due()))
            }
            (Stage::UnderWay, None) => (false, Some(now.saturating_add(settings.unhealthy_interval))),
            (Stage::Waiting | Stage::Outdated, _) => (false, None),
        }
    }
}

impl Entry {
    fn new(wanted: Wanted, now: Moment, settings: &Settings, phase: f64) -> Self {
        let record = match wanted.resumed {
            Some(verdict @ (Verdict::Passing | Verdict::Failing)) => {
                Record::resumed(verdict, now, settings, phase)
            }
            Some(Verdict::Unknown) | None => Record::new(now, settings, phase),
        };
        Self { record, failure: None, seen: false, port: wanted.port, stage: Stage::Waiting }
    }

    /// When it is due as a new target, and whether nothing is known of it.
    fn first(&self) -> (Moment, bool) {
        (self.record.due(), self.record.verdict() == Verdict::Unknown)
    }

    fn state(&self) -> State {
        State { verdict: self.record.verdict(), since: self.record.since(), failure: self.failure.clone() }
    }
}

fn check(definition: &Definition) -> Arc<Check> {
    Arc::new(Check { kind: definition.kind.clone(), timeout: definition.settings.timeout })
}

/// Where in a span of time, from 0 to 1, a target is checked: the same each time, and spread over those of a pool.
fn phase(pool: &ObjectKey, address: &IpAddr) -> f64 {
    let mut hasher = DefaultHasher::new();
    (pool, address).hash(&mut hasher);
    hasher.finish() as f64 / u64::MAX as f64
}
