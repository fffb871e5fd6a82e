//! The targets, which of them is checked next, and what the results mean. No I/O and no clock.
//!
//! Each pool has its targets in the order in which they are due. The table has the pools that may begin a check in the
//! order of their first due target: a pool at its limit is not among them.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, hash_map::Entry as Place},
    hash::{DefaultHasher, Hash, Hasher},
    mem,
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use mainstay_probe::{Check, Failure};
use mainstay_runtime::index::ObjectKey;

use super::types::{Definition, State, Target, Wanted};
use mainstay_runtime::clock::Moment;

use crate::health::{Record, Settings, Verdict};

/// The targets of all pools.
pub(super) struct Table {
    limit: usize,
    under_way: usize,
    pools: HashMap<ObjectKey, Pool>,
    /// The pools that may begin a check, by the time of their first and by their number.
    order: BTreeMap<(Moment, u64), ObjectKey>,
    /// How many pools were made.
    made: u64,
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
    number: u64,
    definition: Arc<Definition>,
    /// What the definition asks.
    check: Arc<Check>,
    targets: HashMap<Target, Entry>,
    /// The targets whose check is not in progress.
    due: BTreeSet<(Moment, Target)>,
    /// How many of the others there are.
    under_way: usize,
    /// Where the table's order has this pool.
    ordered: Option<Moment>,
}

struct Entry {
    record: Record,
    failure: Option<Failure>,
    port: u16,
    /// When it is checked next; while it is waiting, also its place in [`Pool::due`].
    due: Moment,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Waiting,
    UnderWay,
    /// In progress, but the result will not count: something else is wanted by now.
    Outdated,
    /// In progress, and no longer wanted. Kept until the end of the check, so that the limits hold and no second check
    /// begins meanwhile.
    Forgotten,
}

impl Table {
    pub(super) fn new(limit: usize) -> Self {
        let limit = limit.max(1);
        Self { limit, under_way: 0, pools: HashMap::new(), order: BTreeMap::new(), made: 0 }
    }

    pub(super) fn want(
        &mut self,
        key: &ObjectKey,
        definition: Arc<Definition>,
        targets: HashMap<Target, Wanted>,
        now: Moment,
    ) {
        let pool = self.pools.entry(key.clone()).or_insert_with(|| {
            self.made += 1;
            Pool::new(self.made, Arc::clone(&definition))
        });
        let redefined = pool.define(definition);
        pool.forget_all_but(|target| targets.contains_key(target));
        for (target, wanted) in targets {
            let phase = phase(key, &target.1);
            pool.want(target, wanted, redefined, now, phase);
        }
        self.order(key);
    }

    pub(super) fn forget(&mut self, key: &ObjectKey) {
        if let Some(pool) = self.pools.get_mut(key) {
            pool.forget_all_but(|_| false);
        }
        self.order(key);
    }

    pub(super) fn states(&self, key: &ObjectKey) -> HashMap<Target, State> {
        let targets = self.pools.get(key).into_iter().flat_map(|pool| &pool.targets);
        let wanted = targets.filter(|(_, entry)| entry.stage != Stage::Forgotten);
        wanted.map(|(target, entry)| (target.clone(), entry.state())).collect()
    }

    pub(super) fn next(&mut self, now: Moment) -> Next {
        if self.under_way >= self.limit {
            return Next::Wait(None);
        }
        let Some((&(due, _), key)) = self.order.first_key_value() else { return Next::Wait(None) };
        if due > now {
            return Next::Wait(Some(due));
        }
        let key = key.clone();
        let pool = self.pools.get_mut(&key).expect("only pools of the table are in its order");
        let job = pool.begin(&key, now);
        self.under_way += 1;
        self.order(&key);
        Next::Begin(job)
    }

    /// Records the result of a check, with a `jitter` from -1 to 1 for the next. Returns whether the verdict changed.
    pub(super) fn ended(&mut self, job: &Job, result: Result<(), Failure>, now: Moment, jitter: f64) -> bool {
        self.under_way -= 1;
        let pool = self.pools.get_mut(&job.pool).expect("a pool stays as long as checks of it are under way");
        let changed = pool.ended(&job.target, result, now, jitter);
        self.order(&job.pool);
        changed
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.under_way == 0 && self.pools.is_empty() && self.order.is_empty()
    }

    /// Puts a pool where it belongs after it has changed; one without targets goes.
    fn order(&mut self, key: &ObjectKey) {
        let Some(pool) = self.pools.get_mut(key) else { return };
        if let Some(ordered) = pool.ordered.take() {
            self.order.remove(&(ordered, pool.number));
        }
        if pool.targets.is_empty() {
            self.pools.remove(key);
        } else if let Some(due) = pool.next() {
            pool.ordered = Some(due);
            self.order.insert((due, pool.number), key.clone());
        }
    }
}

impl Pool {
    fn new(number: u64, definition: Arc<Definition>) -> Self {
        Self {
            number,
            check: check(&definition),
            definition,
            targets: HashMap::new(),
            due: BTreeSet::new(),
            under_way: 0,
            ordered: None,
        }
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

    fn forget_all_but(&mut self, wanted: impl Fn(&Target) -> bool) {
        self.targets.retain(|target, entry| {
            if wanted(target) {
                return true;
            }
            if entry.stage == Stage::Waiting {
                self.due.remove(&(entry.due, target.clone()));
                return false;
            }
            entry.stage = Stage::Forgotten;
            true
        });
    }

    fn want(&mut self, target: Target, wanted: Wanted, redefined: bool, now: Moment, phase: f64) {
        let settings = &self.definition.settings;
        let mut place = match self.targets.entry(target) {
            Place::Vacant(place) => {
                let entry = Entry::new(wanted, now, settings, phase);
                self.due.insert((entry.due, place.key().clone()));
                place.insert(entry);
                return;
            }
            Place::Occupied(place) => place,
        };
        let target = place.key().clone();
        let entry = place.get_mut();
        if entry.stage == Stage::Forgotten {
            *entry = Entry { stage: Stage::Outdated, ..Entry::new(wanted, now, settings, phase) };
        } else if redefined || entry.port != wanted.port {
            entry.port = wanted.port;
            let soon = Record::new(now, settings, phase).due();
            match entry.stage {
                Stage::Waiting if soon < entry.due => {
                    self.due.remove(&(entry.due, target.clone()));
                    self.due.insert((soon, target));
                    entry.due = soon;
                }
                Stage::Waiting => {}
                _ => (entry.stage, entry.due) = (Stage::Outdated, soon),
            }
        }
    }

    /// When the first target may be checked; `None` when there is none, or the pool is at its limit.
    fn next(&self) -> Option<Moment> {
        let free = self.under_way < self.definition.max_concurrent.max(1);
        self.due.first().filter(|_| free).map(|(due, _)| *due)
    }

    fn begin(&mut self, key: &ObjectKey, now: Moment) -> Job {
        let (due, target) = self.due.pop_first().expect("a pool in the order has a target that waits");
        let entry = self.targets.get_mut(&target).expect("only targets of the pool are due");
        entry.stage = Stage::UnderWay;
        self.under_way += 1;
        let (pool, check, port) = (key.clone(), Arc::clone(&self.check), entry.port);
        Job { pool, target, port, check, delay: now.saturating_sub(due) }
    }

    fn ended(&mut self, target: &Target, result: Result<(), Failure>, now: Moment, jitter: f64) -> bool {
        self.under_way -= 1;
        let entry = self.targets.get_mut(target).expect("a target stays as long as its check is under way");
        let stage = mem::replace(&mut entry.stage, Stage::Waiting);
        if stage == Stage::Forgotten {
            self.targets.remove(target);
            return false;
        }
        let mut changed = false;
        if stage == Stage::UnderWay {
            changed = entry.record.observe(result.is_ok(), now, &self.definition.settings, jitter);
            entry.failure = result.err();
            entry.due = entry.record.due();
        }
        self.due.insert((entry.due, target.clone()));
        changed
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
        Self { due: record.due(), record, failure: None, port: wanted.port, stage: Stage::Waiting }
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
