//! What a loop knows of its keys, in one place.
//!
//! A key is known from the moment the store shows its object until the object is gone; what is triggered of others is
//! dropped, so that the memory is no larger than the list of objects. What is remembered of an object ends with it: when it
//! is gone, or another has taken its name, everything is forgotten, and where a reconcile of it is under way, as soon as that
//! has ended. So no reconcile writes memory of an object that is gone, and none begins with that of a namesake.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, OnceLock},
    time::Duration,
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};

use crate::{
    backoff::{Growth, Held},
    concern::{Concern, Failure, Part},
    key::{ObjectKey, Uid, uid},
    metrics::{LoopMetrics, ReconcileResult},
    outcome::{Failed, Outcomes, Standing, Turn},
    queue::{Lane, Queue, sleep_until},
};

/// What is called for an object that is gone or that another has taken the name of.
type Forget = Box<dyn Fn(&ObjectKey) + Send + Sync>;

/// The keys of a loop. All of it may be lost: a restart ends in the same state.
pub struct Work {
    state: Mutex<State>,
    wake: Notify,
    forget: OnceLock<Forget>,
    /// Since when the loop runs. Keys wait in a standby for as long as it stands by.
    running: OnceLock<Instant>,
    metrics: LoopMetrics,
}

#[derive(Default)]
struct State {
    keys: HashMap<ObjectKey, Memory>,
    /// The names of the keys of each namespace.
    namespaces: HashMap<Arc<str>, BTreeSet<Arc<str>>>,
    queue: Queue,
    /// When a reconcile began or ended last.
    served: Option<Instant>,
}

/// What is known of one key.
#[derive(Default)]
struct Memory {
    /// The UID of the object that has the key.
    uid: Uid,
    /// The first change that no reconcile has served yet, and the most urgent lane of all of them.
    waits: Option<(Instant, Lane)>,
    /// Since when it is reconciled.
    under_way: Option<Instant>,
    /// Until when it rests.
    rests: Option<Instant>,
    /// When time alone makes it due.
    due: Option<Instant>,
    /// Each part that failed when it was last tried.
    failed: BTreeMap<Part, Known>,
    /// Whether the object's spec has changed since the reconcile under way began.
    outdated: bool,
    /// What is to be done when the reconcile under way has ended.
    after: Option<After>,
}

/// What is known of a part that failed.
struct Known {
    failure: Failure,
    /// Why the request did, as a label.
    reason: &'static str,
    held: Held,
}

#[derive(Clone, PartialEq, Eq)]
enum After {
    /// The object is gone.
    Forget,
    /// Another has taken its name: this one.
    BeginAnew(Uid),
}

impl State {
    fn add(&mut self, key: &ObjectKey) -> &mut Memory {
        let names = self.namespaces.entry(Arc::clone(&key.namespace)).or_default();
        names.insert(Arc::clone(&key.name));
        self.keys.entry(key.clone()).or_default()
    }

    fn remove(&mut self, key: &ObjectKey) {
        self.keys.remove(key);
        self.queue.remove(key);
        if let Some(names) = self.namespaces.get_mut(&key.namespace) {
            names.remove(&key.name);
            if names.is_empty() {
                self.namespaces.remove(&key.namespace);
            }
        }
    }

    /// Puts the key where its memory says.
    fn place(&mut self, key: &ObjectKey) {
        let Some(memory) = self.keys.get(key).filter(|memory| memory.under_way.is_none()) else { return };
        match (memory.waits, memory.due) {
            (Some((_, lane)), _) => self.queue.put(key, lane, memory.rests),
            (None, Some(due)) => self.queue.put(key, Lane::Time, memory.rests.max(Some(due))),
            (None, None) => self.queue.remove(key),
        }
    }
}

/// Whether two states of an object differ in nothing but its status, as far as their metadata tells.
fn is_same(old: &ObjectMeta, new: &ObjectMeta) -> bool {
    old.labels == new.labels
        && old.annotations == new.annotations
        && old.finalizers == new.finalizers
        && old.owner_references == new.owner_references
        && old.deletion_timestamp == new.deletion_timestamp
}

impl Work {
    /// No key is known at first.
    pub fn new(metrics: LoopMetrics) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::default(),
            wake: Notify::new(),
            forget: OnceLock::new(),
            running: OnceLock::new(),
            metrics,
        })
    }

    /// Has `forget` called for each object that is gone or that another has taken the name of, never while one of that name
    /// is reconciled. What was given first counts.
    pub fn on_forget(&self, forget: impl Fn(&ObjectKey) + Send + Sync + 'static) {
        let _ = self.forget.set(Box::new(forget));
    }

    /// Something that is of `key` alone has changed.
    pub fn trigger(&self, key: &ObjectKey) {
        self.trigger_in(Lane::Change, key);
    }

    /// Something about `key` has changed.
    pub fn trigger_in(&self, lane: Lane, key: &ObjectKey) {
        let mut state = self.state.lock();
        let Some(memory) = state.keys.get_mut(key) else { return };
        match &mut memory.waits {
            Some((_, standing)) if *standing <= lane => return,
            Some((_, standing)) => *standing = lane,
            None => {
                memory.waits = Some((Instant::now(), lane));
                self.metrics.adds.inc();
            }
        }
        state.place(key);
        drop(state);
        self.wake.notify_one();
    }

    /// Takes up a change of the kind that is reconciled, after its store shows it. A status that is an echo of what this
    /// process has written is no reason to reconcile it.
    pub fn root_changed<K>(&self, old: Option<&K>, new: Option<&K>, is_echo: impl FnOnce(&K) -> bool)
    where
        K: Resource<DynamicType = ()>,
    {
        let Some(object) = new.or(old) else { return };
        let key = ObjectKey::of(object);
        match (old, new) {
            (Some(_), None) => return self.end(&key, After::Forget),
            (_, Some(new)) if self.is_of(&key, new) == Some(false) => {
                self.end(&key, After::BeginAnew(uid(new)))
            }
            (Some(old), Some(new)) if old.meta().generation != new.meta().generation => self.outdate(&key),
            (Some(old), Some(new)) if is_same(old.meta(), new.meta()) && is_echo(new) => return,
            _ => {}
        }
        self.know(&key, uid(object));
        self.trigger(&key);
    }

    fn know(&self, key: &ObjectKey, uid: Uid) {
        let mut state = self.state.lock();
        let memory = state.add(key);
        match &memory.after {
            Some(_) => memory.after = Some(After::BeginAnew(uid)),
            None => memory.uid = uid,
        }
    }

    /// Whether what is known of the key, if anything, is of this object: a store shows another before the change is taken up.
    pub(crate) fn is_of(&self, key: &ObjectKey, object: &impl Resource) -> Option<bool> {
        self.state.lock().keys.get(key).map(|memory| memory.uid == uid(object))
    }

    /// Forgets what is known of an object, at once or when the reconcile of it has ended.
    fn end(&self, key: &ObjectKey, after: After) {
        let mut state = self.state.lock();
        state.queue.remove(key);
        if let Some(memory) = state.keys.get_mut(key).filter(|memory| memory.under_way.is_some()) {
            (memory.after, memory.waits) = (Some(after), None);
            return;
        }
        state.remove(key);
        drop(state);
        self.forget(key);
    }

    fn forget(&self, key: &ObjectKey) {
        self.forget.get().into_iter().for_each(|forget| forget(key));
    }

    /// A changed spec may be a right one: everything of `key` is tried at once, and what failed says nothing of it.
    pub fn outdate(&self, key: &ObjectKey) {
        if let Some(memory) = self.state.lock().keys.get_mut(key) {
            memory.failed.clear();
            memory.outdated = memory.under_way.is_some();
        }
    }

    /// Retries `key` at once if a part failed for this reason and `is_due` by its message. Returns whether any had.
    pub fn retry_failed_for(&self, reason: &str, key: &ObjectKey, is_due: impl Fn(&str) -> bool) -> bool {
        let any = self.state.lock().keys.get_mut(key).is_some_and(|memory| {
            let is_due = |known: &&mut Known| known.reason == reason && is_due(&known.failure.message);
            memory.failed.values_mut().filter(is_due).map(|known| known.held = Held::default()).count() > 0
        });
        if any {
            self.trigger(key);
        }
        any
    }

    /// What the reconcile of `key` is granted that begins now. It is under way until [`Self::conclude`].
    pub fn turn(&self, key: &ObjectKey) -> Turn {
        let mut state = self.state.lock();
        let Some(memory) = state.keys.get_mut(key) else { return Turn::default() };
        memory.under_way.get_or_insert_with(Instant::now);
        let standing = |known: &Known| Standing { failure: known.failure.clone(), left: known.held.left() };
        Turn::new(memory.failed.iter().map(|(part, known)| (part.clone(), standing(known))).collect())
    }

    /// The keys of a namespace.
    pub fn keys_of(&self, namespace: &str) -> Vec<ObjectKey> {
        let state = self.state.lock();
        let names = state.namespaces.get(namespace).into_iter().flatten();
        names.map(|name| ObjectKey { namespace: namespace.into(), name: Arc::clone(name) }).collect()
    }

    pub(crate) fn metrics(&self) -> &LoopMetrics {
        &self.metrics
    }

    /// The loop begins with this many workers. A second one in this process would go on with the first one's keys; the first
    /// start is what counts.
    pub(crate) fn start(&self, workers: usize) {
        let _ = self.running.set(Instant::now());
        self.state.lock().queue.divide(workers);
    }

    /// The key whose turn it is. It is under way until [`Self::conclude`] or [`Self::skip`].
    pub(crate) async fn next(&self) -> ObjectKey {
        loop {
            let due = {
                let mut state = self.state.lock();
                if let Some(key) = state.queue.take() {
                    self.begin(&mut state, &key);
                    return key;
                }
                state.queue.next_due()
            };
            tokio::select! {
                () = self.wake.notified() => {}
                () = sleep_until(due) => {}
            }
        }
    }

    fn begin(&self, state: &mut State, key: &ObjectKey) {
        let now = Instant::now();
        state.served = Some(now);
        let Some(memory) = state.keys.get_mut(key) else { return };
        (memory.under_way, memory.due, memory.outdated) = (Some(now), None, false);
        if let Some((since, _)) = memory.waits.take() {
            self.metrics.queue_time.observe(since.elapsed().as_secs_f64());
        }
    }

    /// The key that was taken has no object: an undecodable one, or one that is gone.
    pub(crate) fn skip(&self, key: &ObjectKey) {
        self.settle(key, |_| {});
    }

    /// The reconcile of `key` has ended so, and is followed by none for `pace`. Returns when time alone makes it due.
    pub fn conclude(&self, key: &ObjectKey, pace: Duration, outcomes: Outcomes) -> Option<Instant> {
        let is_error = outcomes.failed();
        self.count(&outcomes);
        self.settle(key, |memory| {
            memory.failed.retain(|part, _| outcomes.leaves(part) || outcomes.failed.contains_key(part));
            for (part, Failed { failure, reason, retry_after, .. }) in outcomes.failed {
                let held = memory.failed.get(&part).map(|known| known.held).unwrap_or_default();
                let mut known = Known { failure, reason, held };
                known.held.fail(Growth::default(), retry_after);
                memory.failed.insert(part, known);
            }
            if std::mem::take(&mut memory.outdated) {
                memory.failed.clear();
            }
            let held = memory.failed.values().filter_map(|known| known.held.left());
            let now = Instant::now();
            memory.due = held.chain(outcomes.due).min().map(|due| now + due);
            memory.rests = Some(now + pace);
            self.metrics.finished(match (is_error, memory.due) {
                (true, _) => ReconcileResult::Error,
                (false, Some(_)) => ReconcileResult::RequeueAfter,
                (false, None) => ReconcileResult::Success,
            });
        });
        self.state.lock().keys.get(key)?.due
    }

    /// A reconcile of which several parts fail is one that failed.
    fn count(&self, outcomes: &Outcomes) {
        for ((concern, _), failed) in &outcomes.failed {
            self.metrics.concern_failed(*concern, failed.reason);
        }
        if outcomes.failed() {
            self.metrics.failed(outcomes.failed.values().any(|failed| failed.needs_change));
        }
    }

    fn settle(&self, key: &ObjectKey, note: impl FnOnce(&mut Memory)) {
        let mut state = self.state.lock();
        state.served = Some(Instant::now());
        state.queue.served(key);
        let Some(memory) = state.keys.get_mut(key) else { return };
        memory.under_way = None;
        note(memory);
        let after = memory.after.take();
        if after.is_some() {
            state.remove(key);
            drop(state);
            // The loop is between two reconciles here: it begins none of this key before this returns.
            self.forget(key);
        } else {
            state.place(key);
        }
        if let Some(After::BeginAnew(uid)) = after {
            self.know(key, uid);
            self.trigger(key);
        }
    }

    /// Whether the loop runs, keys have waited for `limit` and none was served in that time: the loop is stuck.
    pub fn stuck(&self, limit: Duration) -> bool {
        if self.running.get().is_none_or(|since| since.elapsed() < limit) {
            return false;
        }
        let state = self.state.lock();
        let waits = state.keys.values().filter_map(|memory| memory.waits).map(|(since, _)| since).min();
        let idle = state.served.is_none_or(|served| served.elapsed() > limit);
        waits.is_some_and(|since| since.elapsed() > limit) && idle
    }

    /// How many keys wait, those that rest and those under way included.
    pub fn depth(&self) -> usize {
        self.state.lock().keys.values().filter(|memory| memory.waits.is_some()).count()
    }

    /// Brings the gauges that are computed from the clock up to date; for the moment of a scrape.
    pub fn refresh_metrics(&self) {
        let (mut depth, mut total, mut oldest) = (0, 0.0, 0.0_f64);
        let mut failing: HashMap<Concern, i64> = HashMap::new();
        {
            let state = self.state.lock();
            for memory in state.keys.values() {
                depth += i64::from(memory.waits.is_some());
                if let Some(since) = memory.under_way {
                    let age = since.elapsed().as_secs_f64();
                    (total, oldest) = (total + age, oldest.max(age));
                }
                let mut concerns: Vec<_> = memory.failed.keys().map(|(concern, _)| *concern).collect();
                concerns.dedup();
                concerns.into_iter().for_each(|concern| *failing.entry(concern).or_default() += 1);
            }
        }
        self.metrics.unfinished.set(total);
        self.metrics.longest_running.set(oldest);
        self.metrics.depth.set(depth);
        self.metrics.failing(&failing);
    }
}
