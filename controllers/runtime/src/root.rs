//! The store of the kind that passes are about, and its changes.
//!
//! kube-runtime's applier looks objects up in a reflector store, which tells nobody what an event changed.
//! [`follow`] fills such a store and reports each change with the object before it, also for what a list shows
//! to have vanished while the watch was down.
//!
//! [`start`] does so for a kind of ours, whose objects may be undecodable. Such an object is not in the store, so that
//! no pass is about it. But it is there: it is not reported as gone, so that nothing of it is forgotten or undone.

use std::{collections::HashMap, fmt::Debug, pin::pin, sync::Arc};

use futures::{FutureExt, Stream, StreamExt, TryStreamExt};
use kube::{
    Api, Resource,
    runtime::{
        WatchStreamExt,
        reflector::{ObjectRef, Store, store::Writer},
        watcher::{Config, Event, watcher},
    },
};
use prometheus::Registry;
use serde::de::DeserializeOwned;

use crate::{
    decode::{Decoded, Undecodable},
    index::map_event,
    key::ObjectKey,
    manager::Manager,
    undecoded::Undecoded,
};

/// Follows all objects of the kind that passes are about, until the process ends, and tells those that cannot be
/// decoded so while this process leads. `changed` is called as by [`follow`]; `lost` when an object cannot be decoded any
/// more, with what it was before: what is known of it is not known to hold.
pub fn start<K>(
    manager: &Manager,
    config: Config,
    writer: Writer<K>,
    field_manager: &'static str,
    changed: impl FnMut(Option<&K>, Option<&K>) + Send + 'static,
    lost: impl FnMut(&K) + Send + 'static,
) -> Undecoded<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let undecoded = Undecoded::new(&manager.registry);
    let events = watcher(Api::<Decoded<K>>::all(manager.client.clone()), config).default_backoff();
    tokio::spawn(follow_decoded(writer, undecoded.clone(), events, changed, lost));
    manager.while_leading(undecoded.clone().tell(manager.client.clone(), field_manager).boxed());
    undecoded
}

/// Fills the store of `writer` from `events` until they end, which a watcher's never do. `changed` is called with
/// the store in its new state, with the object before and after the change.
pub async fn follow<K, E>(
    writer: Writer<K>,
    events: impl Stream<Item = Result<Event<K>, E>>,
    changed: impl FnMut(Option<&K>, Option<&K>),
) where
    K: Resource<DynamicType = ()> + Clone + Debug + Send + Sync + 'static,
    E: std::fmt::Display,
{
    let events = events.map_ok(|event| map_event(event, Decoded::Object));
    // What cannot fail to be decoded is counted for nobody.
    follow_decoded(writer, Undecoded::new(&Registry::new()), events, changed, |_| {}).await;
}

async fn follow_decoded<K, E>(
    writer: Writer<K>,
    undecoded: Undecoded<K>,
    events: impl Stream<Item = Result<Event<Decoded<K>>, E>>,
    changed: impl FnMut(Option<&K>, Option<&K>),
    lost: impl FnMut(&K),
) where
    K: Resource<DynamicType = ()> + Clone + Debug + Send + Sync + 'static,
    E: std::fmt::Display,
{
    let mut root = Root { reader: writer.as_reader(), writer, undecoded, changed, lost };
    let mut events = pin!(events);
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => root.take(event),
            Err(error) => tracing::warn!(%error, "a watch failed and is tried again"),
        }
    }
}

struct Root<K: Resource<DynamicType = ()> + Clone + 'static, C, L> {
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
