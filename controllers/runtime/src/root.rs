//! The store of the kind that is reconciled, and its changes.
//!
//! kube-runtime's applier keeps objects in a reflector store, which does not report what an event changed. A [`Root`]
//! fills such a store and reports each change with the previous object, also for objects that a list shows to be
//! deleted while the watch was down.

use std::{
    collections::HashMap,
    fmt::{Debug, Display},
    sync::Arc,
};

use kube::{
    Resource,
    runtime::{
        reflector::{ObjectRef, Store, store::Writer},
        watcher::Event,
    },
};

use crate::{
    decode::{Decoded, Undecodable},
    key::ObjectKey,
    undecoded::Undecoded,
};

/// See [`crate::watch::Watch::root`].
pub(crate) struct Root<K: Resource<DynamicType = ()> + Clone + 'static, C, L> {
    writer: Writer<K>,
    reader: Store<K>,
    undecoded: Undecoded<K>,
    changed: C,
    lost: L,
}

impl<K, C, L> Root<K, C, L>
where
    K: Resource<DynamicType = ()> + Clone + Debug + Send + Sync + 'static,
    C: FnMut(Option<&K>, Option<&K>),
    L: FnMut(&K),
{
    pub(crate) fn new(writer: Writer<K>, undecoded: Undecoded<K>, changed: C, lost: L) -> Self {
        Self { reader: writer.as_reader(), writer, undecoded, changed, lost }
    }

    /// Applies the events of a watch. Its failures are logged; the watcher tries again with its own backoff.
    pub(crate) fn take_in<E: Display>(&mut self, event: Result<Event<Decoded<K>>, E>) {
        match event {
            Ok(event) => self.take(event),
            Err(error) => tracing::warn!(%error, "a watch failed and is tried again"),
        }
    }

    fn take(&mut self, event: Event<Decoded<K>>) {
        match event {
            Event::Apply(Decoded::Object(object)) => {
                let old = self.known(&ObjectKey::of(&object));
                let event = Event::Apply(object);
                self.writer.apply_watcher_event(&event);
                let Event::Apply(object) = &event else { return };
                (self.changed)(old.as_deref(), Some(object));
            }
            Event::Delete(Decoded::Object(object)) => self.gone(Arc::new(object)),
            Event::Delete(Decoded::Undecodable(object)) => {
                if let Some(last) = self.known(&object.key()) {
                    self.gone(last);
                }
            }
            Event::Init => {
                self.undecoded.begin_list();
                self.writer.apply_watcher_event(&Event::Init);
            }
            Event::InitApply(Decoded::Object(object)) => {
                self.writer.apply_watcher_event(&Event::InitApply(object));
            }
            Event::Apply(Decoded::Undecodable(object)) | Event::InitApply(Decoded::Undecodable(object)) => {
                self.lose(*object);
            }
            Event::InitDone => self.listed(),
        }
    }

    /// The object as it was known last, which it is no more.
    fn known(&self, key: &ObjectKey) -> Option<Arc<K>> {
        let undecodable = self.undecoded.take(key);
        self.reader.get(&key.reference()).or_else(|| undecodable?.last)
    }

    fn gone(&mut self, object: Arc<K>) {
        self.undecoded.take(&ObjectKey::of(&*object));
        self.remove(&object);
        (self.changed)(Some(&object), None);
    }

    fn remove(&mut self, object: &K) {
        self.writer.apply_watcher_event(&Event::Delete(object.clone()));
    }

    fn lose(&mut self, object: Undecodable) {
        let key = object.key();
        let is_news = !self.undecoded.contains(&key);
        let mut last = self.known(&key);
        // One of that name that was made anew is another.
        if let Some(other) = last.take_if(|last| last.meta().uid != object.metadata.uid) {
            self.gone(other);
        }
        if let Some(last) = &last {
            self.remove(last);
        }
        self.undecoded.put(object, last.clone());
        if let Some(last) = last.filter(|_| is_news) {
            (self.lost)(&last);
        }
    }

    /// A list replaces the store as a whole.
    fn listed(&mut self) {
        let by_name = |objects: Vec<Arc<K>>| -> HashMap<ObjectRef<K>, Arc<K>> {
            objects.into_iter().map(|object| (ObjectRef::from_obj(&*object), object)).collect()
        };
        let mut before = by_name(self.reader.state());
        self.writer.apply_watcher_event(&Event::InitDone);
        for (name, new) in by_name(self.reader.state()) {
            let undecodable = self.undecoded.take(&ObjectKey::of(&*new));
            let old = before.remove(&name).or_else(|| undecodable?.last);
            (self.changed)(old.as_deref(), Some(&new));
        }
        let undecodable = self.undecoded.end_list().into_iter().filter_map(|gone| gone.last);
        for gone in before.into_values().chain(undecodable) {
            (self.changed)(Some(&gone), None);
        }
    }
}

#[cfg(test)]
mod tests;
