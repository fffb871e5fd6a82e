//! The status as it is written: beside everything else, not more often than it helps, and never over what a predecessor has
//! remembered.
//!
//! [`StatusWriter::put`] says what the status should be and returns at once: [`StatusWriter::run`] writes it, at a pace and with a
//! backoff of its own, so that a status that is refused or slow delays nothing. [`StatusWriter::record`] is for what must stand
//! before something is done because of it.

use std::{borrow::Cow, collections::HashMap, sync::Arc, time::Duration};

use futures::{StreamExt, stream::FuturesUnordered};
use kube::{Client, Resource, core::object::HasStatus};
use parking_lot::Mutex;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::{sync::Notify, time::Instant};

use crate::{
    backoff::{Backoff, Growth},
    behind::Behind,
    concern::STATUS,
    failure::RequestError,
    key::ObjectKey,
    queue::{Lane, Queue, sleep_until},
    request::ObjectPath,
    work::Work,
    writes::Writes,
};

/// After this time a store that shows an older version than the one that was written is not behind.
const RESTORED: Duration = Duration::from_secs(60);
/// How long the store may show another status than the one that was written.
const ECHO: Duration = Duration::from_secs(5);
/// A write that has not ended in this time is tried again.
const AGAIN: Duration = Duration::from_secs(60);
/// How many statuses are written at the same time.
const AT_ONCE: usize = 8;

/// Where a status is written to.
#[derive(Clone)]
struct Target {
    path: ObjectPath,
    head: Value,
    version: Option<String>,
}

fn version(object: &impl Resource) -> Option<&str> {
    object.meta().resource_version.as_deref()
}

impl Target {
    fn of<K: Resource<DynamicType = ()>>(object: &K) -> Self {
        let key = ObjectKey::of(object);
        Self {
            // The UID keeps the status from being written to a later object of the same name.
            head: json!({
                "apiVersion": K::api_version(&()),
                "kind": K::kind(&()),
                "metadata": {"name": &*key.name, "uid": object.meta().uid},
            }),
            path: ObjectPath::of::<K>(&key),
            version: object.meta().resource_version.clone(),
        }
    }

    /// Returns the version that the object has with it.
    async fn write<S: Serialize>(
        &self,
        writes: &Writes<'_>,
        status: &S,
        first: bool,
    ) -> Result<Option<u64>, RequestError> {
        let mut patch = self.head.clone();
        patch["status"] = json!(status);
        if first {
            // What a predecessor has remembered must have been seen before it is written over.
            patch["metadata"]["resourceVersion"] = json!(self.version);
        }
        Ok(writes.apply_status(&self.path, patch).await?.version())
    }
}

/// Held while a status is written: two of one object must not overtake each other.
type Alone = Arc<tokio::sync::Mutex<()>>;

/// A status that was written.
#[derive(Clone)]
struct Written<S> {
    status: S,
    at: Instant,
    version: Option<u64>,
}

impl<S> Written<S> {
    /// Whether `object` is as it was before this was written.
    fn is_news_to(&self, object: &impl Resource) -> bool {
        let shown = version(object).and_then(|version| version.parse::<u64>().ok());
        match (self.version, shown) {
            // A server whose etcd was restored to an older state does not come to show it.
            (Some(written), Some(shown)) => shown < written && self.at.elapsed() < RESTORED,
            _ => self.at.elapsed() < ECHO,
        }
    }
}

struct Entry<S> {
    written: Option<Written<S>>,
    pending: Option<(S, Target)>,
    writing: Alone,
}

impl<S> Default for Entry<S> {
    fn default() -> Self {
        Self { written: None, pending: None, writing: Arc::default() }
    }
}

struct State<S> {
    entries: HashMap<ObjectKey, Entry<S>>,
    queue: Queue,
}

/// Writes the status of objects of one kind and remembers what was written last.
pub struct StatusWriter<S> {
    writes: Writes<'static>,
    pace: Duration,
    state: Mutex<State<S>>,
    /// What is pending and was refused. Its number is a metric, so what is pending no more is forgotten here too.
    refused: Arc<Backoff<ObjectKey>>,
    /// Objects whose first status was made from an old version of them.
    behind: Behind,
    wake: Notify,
}

impl<S: Clone + PartialEq + Serialize + Send + Sync + 'static> StatusWriter<S> {
    /// Writes with this client under this field manager. Changes that are not urgent follow at `pace`.
    pub fn new(client: Client, manager: &str, pace: Duration) -> Self {
        Self {
            writes: Writes::new(client, manager),
            pace,
            state: Mutex::new(State { entries: HashMap::new(), queue: Queue::default() }),
            refused: Arc::new(Backoff::new(Growth::default())),
            behind: Behind::default(),
            wake: Notify::new(),
        }
    }

    /// The status as this process wrote it last, where `object` does not show it yet. Afterwards the object's own is the last:
    /// a write of which the answer was lost is in it too.
    pub fn last(&self, object: &impl Resource) -> Option<S> {
        let state = self.state.lock();
        let written = state.entries.get(&ObjectKey::of(object))?.written.as_ref();
        written.filter(|written| written.is_news_to(object)).map(|written| written.status.clone())
    }

    /// The status that takes the place of the one in `object`, where the store is behind what this process has put or written.
    pub fn ahead_of(&self, object: &impl Resource) -> Option<S> {
        let state = self.state.lock();
        let entry = state.entries.get(&ObjectKey::of(object))?;
        let written = entry.written.as_ref().filter(|written| written.is_news_to(object));
        let pending = entry.pending.as_ref().map(|(status, _)| status);
        pending.or(written.map(|written| &written.status)).cloned()
    }

    /// The object as it will be shown: with [that status](Self::ahead_of), if there is one.
    pub fn current<'a, K>(&self, object: &'a K) -> Cow<'a, K>
    where
        K: Resource + HasStatus<Status = S> + Clone,
    {
        let Some(status) = self.ahead_of(object) else { return Cow::Borrowed(object) };
        let mut object = object.clone();
        *object.status_mut() = Some(status);
        Cow::Owned(object)
    }

    /// Whether `shown` is the status that this process wrote last: an event that brings it is no news.
    pub fn wrote(&self, key: &ObjectKey, shown: Option<&S>) -> bool {
        let state = self.state.lock();
        let written = state.entries.get(key).and_then(|entry| entry.written.as_ref());
        written.is_some_and(|written| shown == Some(&written.status))
    }

    /// Forgets an object that is gone.
    pub fn forget(&self, key: &ObjectKey) {
        let mut state = self.state.lock();
        state.entries.remove(key);
        state.queue.remove(key);
        drop(state);
        self.refused.forget(key);
        self.behind.forget(key);
    }

    /// Has `status` written, in place of what was put before, unless it is what stands in `object`. While nothing urgent
    /// changes it follows at the pace.
    pub fn put<K>(&self, object: &K, standing: Option<&S>, status: S, is_urgent: impl FnOnce(&S, &S) -> bool)
    where
        K: Resource<DynamicType = ()>,
    {
        let key = ObjectKey::of(object);
        let mut state = self.state.lock();
        let State { entries, queue } = &mut *state;
        let entry = entries.entry(key.clone()).or_default();
        let news = entry.written.as_ref().filter(|written| written.is_news_to(object));
        let stands = match &entry.pending {
            // The first one names the version that it was made from, which is a later one now.
            Some((pending, target)) => {
                *pending == status
                    && (entry.written.is_some() || target.version.as_deref() == version(object))
            }
            None => news.map(|written| &written.status).or(standing) == Some(&status),
        };
        if stands {
            return;
        }
        let waits = |written: &Written<S>| {
            let is_urgent = written.status != status && is_urgent(&written.status, &status);
            (!is_urgent).then(|| written.at + self.pace)
        };
        let due = entry.written.as_ref().and_then(waits);
        entry.pending = Some((status, Target::of(object)));
        let held = self.refused.held(&key).max(self.behind.left(&key, version(object)));
        queue.put(&key, Lane::Change, due.max(held.map(|left| Instant::now() + left)));
        drop(state);
        self.wake.notify_one();
    }

    /// Writes what is put, for as long as it is polled; at most as long as this process leads. Where the server refuses the
    /// first status of an object because its store is behind, the key is triggered.
    pub async fn run(self: Arc<Self>, work: Arc<Work>) {
        work.metrics().count_statuses(&self.refused);
        self.state.lock().queue.divide(AT_ONCE);
        let mut writes = FuturesUnordered::new();
        loop {
            let due = {
                let mut state = self.state.lock();
                while writes.len() < AT_ONCE
                    && let Some(key) = state.queue.take()
                {
                    writes.push(self.serve(key, &work));
                }
                state.queue.next_due().filter(|_| writes.len() < AT_ONCE)
            };
            tokio::select! {
                Some(()) = writes.next(), if !writes.is_empty() => {}
                () = self.wake.notified() => {}
                () = sleep_until(due) => {}
            }
        }
    }

    /// Writes what is due, one after the other, for tests that play a process's requests one by one. Returns when the rest is.
    pub async fn flush(&self, work: &Work) -> Option<Duration> {
        loop {
            let due = self.state.lock().queue.take();
            let Some(key) = due else { break };
            self.write_pending(&key, work).await;
        }
        let next = self.state.lock().queue.next_due();
        next.map(|due| due.saturating_duration_since(Instant::now()))
    }

    async fn serve(&self, key: ObjectKey, work: &Work) {
        self.write_pending(&key, work).await;
        self.state.lock().queue.served(&key);
    }

    async fn write_pending(&self, key: &ObjectKey, work: &Work) {
        let Some(writing) = self.writing(key) else { return };
        let _alone = writing.lock().await;
        // It stays pending until it is written, also where this future is dropped before.
        let pending = self.with(key, &writing, |entry| {
            entry.pending.clone().map(|(status, target)| (status, target, entry.written.is_none()))
        });
        let Some((status, target, first)) = pending.flatten() else { return };
        self.state.lock().queue.put(key, Lane::Time, Some(Instant::now() + AGAIN));
        match target.write(&self.writes, &status, first).await {
            Ok(version) => self.wrote_now(key, &writing, status, version),
            Err(RequestError::NotFound(_)) => self.wrote_now(key, &writing, status, None),
            // The store is behind, and with it what was decided.
            Err(RequestError::Conflict(_)) if first => {
                self.behind.note(key, target.version.as_deref());
                self.settled(key, &writing, &status, None);
                work.trigger(key);
            }
            Err(error) => {
                tracing::warn!(namespace = %key.namespace, name = %key.name, %error, "could not write the status");
                work.metrics().concern_failed(STATUS, error.reason());
                let mut state = self.state.lock();
                let is_meant =
                    |entry: &Entry<S>| Arc::ptr_eq(&entry.writing, &writing) && entry.pending.is_some();
                if state.entries.get(key).is_some_and(is_meant) {
                    let again = Instant::now() + self.refused.fail(key, error.retry_after());
                    state.queue.put(key, Lane::Time, Some(again));
                }
            }
        }
    }

    /// `status` is pending no more; another one that was put meanwhile is due.
    fn settled(&self, key: &ObjectKey, writing: &Alone, status: &S, written: Option<Written<S>>) {
        let mut state = self.state.lock();
        let State { entries, queue } = &mut *state;
        // What was written of an object that is forgotten says nothing of the next one of its name.
        let Some(entry) = entries.get_mut(key).filter(|entry| Arc::ptr_eq(&entry.writing, writing)) else {
            return;
        };
        entry.pending.take_if(|(pending, _)| pending == status);
        if entry.pending.is_some() {
            queue.put(key, Lane::Change, None);
        } else {
            queue.remove(key);
        }
        if written.is_some() || entry.pending.is_none() {
            self.refused.forget(key);
        }
        entry.written = written.or(entry.written.take());
    }

    fn wrote_now(&self, key: &ObjectKey, writing: &Alone, status: S, version: Option<u64>) {
        let written = Written { status: status.clone(), at: Instant::now(), version };
        self.settled(key, writing, &status, Some(written));
    }

    /// The status of this object is not written any more: what was put is not known to hold.
    pub fn withdraw(&self, key: &ObjectKey) {
        let mut state = self.state.lock();
        if let Some(entry) = state.entries.get_mut(key) {
            entry.pending = None;
        }
        state.queue.remove(key);
        self.refused.forget(key);
    }

    fn writing(&self, key: &ObjectKey) -> Option<Alone> {
        self.state.lock().entries.get(key).map(|entry| Arc::clone(&entry.writing))
    }

    /// Looks at the entry of `key`, unless it was forgotten since `writing` was taken from it.
    fn with<T>(&self, key: &ObjectKey, writing: &Alone, look: impl FnOnce(&mut Entry<S>) -> T) -> Option<T> {
        let mut state = self.state.lock();
        let entry = state.entries.get_mut(key)?;
        Arc::ptr_eq(&entry.writing, writing).then(|| look(entry))
    }

    /// Writes `status` if it differs from the one that stands in `object`, and waits for it. While nothing urgent changes it
    /// follows at the pace; the return value says when the rest is due.
    ///
    /// # Errors
    /// When the server refuses it. An object that is gone has no status, and that is no error.
    pub async fn record<K>(
        &self,
        object: &K,
        standing: Option<&S>,
        status: S,
        is_urgent: impl FnOnce(&S, &S) -> bool,
    ) -> Result<Option<Duration>, RequestError>
    where
        K: Resource<DynamicType = ()>,
    {
        let key = ObjectKey::of(object);
        let writing = Arc::clone(&self.state.lock().entries.entry(key.clone()).or_default().writing);
        let _alone = writing.lock().await;
        let last = self.with(&key, &writing, |entry| {
            entry.pending = None;
            self.refused.forget(&key);
            entry.written.clone()
        });
        let last = last.flatten();
        let news = last.as_ref().filter(|last| last.is_news_to(object));
        if news.map_or(standing == Some(&status), |last| last.status == status) {
            return Ok(None);
        }
        if let Some(left) = self.behind.left(&key, version(object)) {
            return Ok(Some(left));
        }
        let first = last.is_none();
        if let Some(Written { status: last, at, .. }) = last {
            let wait = self.pace.checked_sub(at.elapsed()).filter(|wait| !wait.is_zero());
            // Where it equals the last one the store has yet to show what was written.
            if wait.is_some() && (last == status || !is_urgent(&last, &status)) {
                return Ok(wait);
            }
        }
        match Target::of(object).write(&self.writes, &status, first).await {
            // The store is behind, and with it what was decided.
            Err(RequestError::Conflict(_)) => return Ok(Some(self.behind.note(&key, version(object)))),
            Ok(version) => self.wrote_now(&key, &writing, status, version),
            Err(RequestError::NotFound(_)) => self.wrote_now(&key, &writing, status, None),
            Err(error) => return Err(error),
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests;
