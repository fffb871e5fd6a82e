//! Slim copies of watched objects, indexed, with the version that they have reached.
//!
//! kube-runtime's `Store` is a map by name: finding the pods of one owner means iterating over all pods of the
//! cluster. An [`Index`] keeps the objects in buckets that their type names (owner, node, …), so that a reconcile
//! costs only what its own objects cost. It also knows up to which version it has followed the API server, which the
//! [write gate](crate::gate) compares with the versions that writes returned.

mod watch_time;

use std::{collections::HashMap, hash::Hash, sync::Arc, time::Duration};

use kube::{Resource, runtime::watcher};
use parking_lot::RwLock;
use tokio::{sync::watch, time::Instant};

use self::watch_time::WatchTime;
pub use crate::key::ObjectKey;
use crate::{
    decode::{Decoded, Undecodable},
    slim::Header,
    undecoded::Undecoded,
};

/// What an [`Index`] needs to know of an object.
pub trait Indexed: Send + Sync + 'static {
    /// Names a set of objects that reconciles ask for together.
    type Bucket: Hash + Eq + Clone + Send + Sync;

    /// What every object has.
    fn header(&self) -> &Header;
    /// The buckets that it lies in.
    fn buckets(&self) -> Vec<Self::Bucket>;
    /// Whether reconciles see the same in `other`, of another version: a change from one to the other is not reported.
    fn is_same(&self, other: &Self) -> bool;

    /// [`Header::key`].
    fn key(&self) -> &ObjectKey {
        &self.header().key
    }
    /// [`Header::version`].
    fn version(&self) -> Option<u64> {
        self.header().version
    }
}

/// One object's change, as a watch reported it.
#[derive(Debug, Clone, Copy)]
pub struct Change<'a, T> {
    /// The object before, if the index knew it.
    pub old: Option<&'a Arc<T>>,
    /// The object after, unless it is gone.
    pub new: Option<&'a Arc<T>>,
}

struct Inner<T: Indexed> {
    objects: HashMap<ObjectKey, Arc<T>>,
    buckets: HashMap<T::Bucket, HashMap<ObjectKey, Arc<T>>>,
    /// The highest version seen in any object of the kind since the last list was asked for: a server that was restored
    /// to an older state begins with lower ones.
    version: u64,
    /// A list in progress: what it has delivered so far, and when it was requested.
    listing: Option<(Instant, HashMap<ObjectKey, Arc<T>>)>,
    /// When the last completed list was asked for.
    listed: Option<Instant>,
    watched: WatchTime,
}

/// All objects of a kind that a watch has shown, in buckets. Cloning shares the contents.
pub struct Index<T: Indexed> {
    inner: Arc<RwLock<Inner<T>>>,
    synced: watch::Sender<bool>,
}

impl<T: Indexed> Clone for Index<T> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner), synced: self.synced.clone() }
    }
}

impl<T: Indexed> Default for Index<T> {
    fn default() -> Self {
        let inner = Inner {
            objects: HashMap::new(),
            buckets: HashMap::new(),
            version: 0,
            listing: None,
            listed: None,
            watched: WatchTime::start(),
        };
        Self { inner: Arc::new(RwLock::new(inner)), synced: watch::Sender::new(false) }
    }
}

impl<T: Indexed> Inner<T> {
    fn put(&mut self, object: Arc<T>) -> Option<Arc<T>> {
        self.version = self.version.max(object.version().unwrap_or_default());
        let old = self.take(object.key());
        for bucket in object.buckets() {
            self.buckets.entry(bucket).or_default().insert(object.key().clone(), Arc::clone(&object));
        }
        self.objects.insert(object.key().clone(), object);
        old
    }

    fn take(&mut self, key: &ObjectKey) -> Option<Arc<T>> {
        let old = self.objects.remove(key)?;
        for bucket in old.buckets() {
            if let Some(members) = self.buckets.get_mut(&bucket) {
                members.remove(key);
                if members.is_empty() {
                    self.buckets.remove(&bucket);
                }
            }
        }
        Some(old)
    }
}

/// Whether both are one version of one object. A server that was restored to an older state may give a version twice.
fn is_unchanged<T: Indexed>(known: &T, new: &T) -> bool {
    known.version().is_some()
        && known.version() == new.version()
        && known.header().uid == new.header().uid
        && known.is_same(new)
}

/// Reports a change that reconciles can see.
fn report<T: Indexed>(old: Option<&Arc<T>>, new: Option<&Arc<T>>, changed: &mut impl FnMut(Change<'_, T>)) {
    if !old.zip(new).is_some_and(|(old, new)| old.is_same(new)) {
        changed(Change { old, new });
    }
}

impl<T: Indexed> Index<T> {
    /// Applies a watch event and reports each change that it made. A list replaces the contents as a whole when it is
    /// complete: until then the index shows its previous contents.
    pub fn apply(&self, event: watcher::Event<T>, mut changed: impl FnMut(Change<'_, T>)) {
        match event {
            watcher::Event::Apply(object) => {
                let new = Arc::new(object);
                let old = self.inner.write().put(Arc::clone(&new));
                report(old.as_ref(), Some(&new), &mut changed);
            }
            watcher::Event::Delete(object) => {
                let old = {
                    let mut inner = self.inner.write();
                    inner.version = inner.version.max(object.version().unwrap_or_default());
                    inner.take(object.key())
                };
                let last = Arc::new(object);
                changed(Change { old: old.as_ref().or(Some(&last)), new: None });
            }
            watcher::Event::Init => {
                let mut inner = self.inner.write();
                inner.watched.list_begins();
                inner.listing = Some((Instant::now(), HashMap::new()));
            }
            watcher::Event::InitApply(object) => {
                let mut inner = self.inner.write();
                let Inner { objects, listing, .. } = &mut *inner;
                let Some((_, seen)) = listing else { return };
                // Most of a list is known already: it takes no memory a second time.
                let stands = objects.get(object.key()).filter(|known| is_unchanged(&***known, &object));
                let object = stands.map(Arc::clone).unwrap_or_else(|| Arc::new(object));
                seen.insert(object.key().clone(), object);
            }
            watcher::Event::InitDone => self.replace(changed),
        }
    }

    fn replace(&self, mut changed: impl FnMut(Change<'_, T>)) {
        let mut changes = Vec::new();
        {
            let mut inner = self.inner.write();
            let Some((asked, seen)) = inner.listing.take() else { return };
            let gone: Vec<_> = inner.objects.keys().filter(|key| !seen.contains_key(*key)).cloned().collect();
            changes.extend(gone.iter().map(|key| (inner.take(key), None)));
            inner.version = 0;
            for new in seen.into_values() {
                let old = inner.put(Arc::clone(&new));
                changes.push((old, Some(new)));
            }
            inner.listed = Some(asked);
            inner.watched.list_ends();
        }
        for (old, new) in &changes {
            report(old.as_ref(), new.as_ref(), &mut changed);
        }
        self.synced.send_replace(true);
    }

    /// Takes over what a watch brings. Its failures are logged; the watcher tries again with its own backoff. An object of which
    /// `slim` makes nothing stays as it was.
    pub fn take_in<W: Resource<DynamicType = ()>>(
        &self,
        event: watcher::Result<watcher::Event<W>>,
        slim: impl FnMut(W) -> Option<T>,
        changed: impl FnMut(Change<'_, T>),
    ) {
        match event {
            Ok(event) => self.take_slim(event, slim, changed),
            Err(error) => self.failed(&error),
        }
    }

    fn take_slim<W: Resource<DynamicType = ()>>(
        &self,
        event: watcher::Event<W>,
        mut slim: impl FnMut(W) -> Option<T>,
        changed: impl FnMut(Change<'_, T>),
    ) {
        let event = match event {
            watcher::Event::Init => watcher::Event::Init,
            watcher::Event::InitDone => watcher::Event::InitDone,
            watcher::Event::Apply(object) => {
                let Some(object) = slim(object) else { return };
                watcher::Event::Apply(object)
            }
            watcher::Event::Delete(object) => {
                let key = ObjectKey::of(&object);
                let Some(object) = slim(object) else { return self.remove(&key, changed) };
                watcher::Event::Delete(object)
            }
            watcher::Event::InitApply(object) => {
                let (key, uid) = (ObjectKey::of(&object), object.meta().uid.clone());
                let Some(object) = slim(object) else { return self.keep(&key, uid.as_deref()) };
                watcher::Event::InitApply(object)
            }
        };
        self.apply(event, changed);
    }

    fn failed(&self, error: &watcher::Error) {
        self.inner.write().watched.breaks(error);
        tracing::warn!(%error, "a watch failed and is tried again");
    }

    /// The same for a kind whose objects may be undecodable ([`crate::watch::Watch::fill_decoded`]).
    pub fn take_in_decoded<W: Resource<DynamicType = ()>>(
        &self,
        undecoded: &Undecoded<W>,
        event: watcher::Result<watcher::Event<Decoded<W>>>,
        slim: impl FnMut(W) -> Option<T>,
        mut changed: impl FnMut(Change<'_, T>),
    ) {
        let event = match event {
            Ok(event) => event,
            Err(error) => return self.failed(&error),
        };
        let keep = |object: &Undecodable| self.keep(&object.key(), object.metadata.uid.as_deref());
        let event = undecoded.sift(event, keep, |key| self.remove(key, &mut changed));
        if let Some(event) = event {
            self.take_slim(event, slim, changed);
        }
    }

    /// A list shows an object without what an index keeps of it: that stays.
    fn keep(&self, key: &ObjectKey, uid: Option<&str>) {
        let mut inner = self.inner.write();
        let Inner { objects, listing, .. } = &mut *inner;
        let (Some((_, seen)), Some(known)) = (listing, objects.get(key)) else { return };
        if Some(&*known.header().uid) == uid {
            seen.insert(known.key().clone(), Arc::clone(known));
        }
    }

    fn remove(&self, key: &ObjectKey, mut changed: impl FnMut(Change<'_, T>)) {
        let old = self.inner.write().take(key);
        changed(Change { old: old.as_ref(), new: None });
    }

    /// Waits until the first list is complete.
    pub async fn synced(&self) {
        // The sender lives as long as `self`, so waiting cannot fail.
        let _ = self.synced.subscribe().wait_for(|synced| *synced).await;
    }

    /// The object of that name.
    pub fn get(&self, key: &ObjectKey) -> Option<Arc<T>> {
        self.inner.read().objects.get(key).cloned()
    }

    /// All objects of a bucket, in no particular order.
    pub fn bucket(&self, bucket: &T::Bucket) -> Vec<Arc<T>> {
        self.inner
            .read()
            .buckets
            .get(bucket)
            .map(|members| members.values().cloned().collect())
            .unwrap_or_default()
    }

    /// How many objects a bucket holds.
    pub fn count(&self, bucket: &T::Bucket) -> usize {
        self.inner.read().buckets.get(bucket).map_or(0, HashMap::len)
    }

    /// Whether the index has followed the server up to `version`, or shows a list that was asked for after `since`.
    pub fn reached(&self, version: u64, since: Instant) -> bool {
        self.inner.read().version >= version || self.listed_after(since)
    }

    /// For how long in total the index has followed the server: a clock that stops while the watch is broken. It may
    /// go back, by as much as was counted before it was known that the watch did not run. A watch that hangs silently
    /// is not noticed by this.
    pub fn watched(&self) -> Duration {
        self.inner.read().watched.so_far()
    }

    /// Whether the index shows a list that was asked for after `since`, and with it all that was written before.
    pub fn listed_after(&self, since: Instant) -> bool {
        self.inner.read().listed.is_some_and(|listed| listed > since)
    }
}

pub(crate) fn map_event<W, T>(event: watcher::Event<W>, mut slim: impl FnMut(W) -> T) -> watcher::Event<T> {
    match event {
        watcher::Event::Apply(object) => watcher::Event::Apply(slim(object)),
        watcher::Event::Delete(object) => watcher::Event::Delete(slim(object)),
        watcher::Event::Init => watcher::Event::Init,
        watcher::Event::InitApply(object) => watcher::Event::InitApply(slim(object)),
        watcher::Event::InitDone => watcher::Event::InitDone,
    }
}

#[cfg(test)]
mod tests;
