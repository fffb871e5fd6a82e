//! The store of the kind that passes are about, and its changes.
//!
//! kube-runtime's applier looks objects up in a reflector store, which tells nobody what an event changed.
//! [`follow`] fills such a store and reports each change with the object before it, also for what a list shows
//! to have vanished while the watch was down.

use std::{collections::HashMap, fmt::Debug, hash::Hash, pin::pin, sync::Arc};

use futures::{Stream, StreamExt};
use kube::{
    Resource,
    runtime::{
        reflector::{ObjectRef, Store, store::Writer},
        watcher::Event,
    },
};

/// Fills the store of `writer` from `events` until they end, which a watcher's never do. `changed` is called with
/// the store in its new state, with the object before and after the change.
pub async fn follow<K, E>(
    mut writer: Writer<K>,
    events: impl Stream<Item = Result<Event<K>, E>>,
    mut changed: impl FnMut(Option<&K>, Option<&K>),
) where
    K: Resource<DynamicType = ()> + Clone + Debug + Send + Sync + 'static,
    ObjectRef<K>: Hash + Eq,
    E: std::fmt::Display,
{
    let reader = writer.as_reader();
    let mut events = pin!(events);
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => take(&mut writer, &reader, &event, &mut changed),
            Err(error) => tracing::warn!(%error, "a watch failed and is tried again"),
        }
    }
}

fn take<K>(
    writer: &mut Writer<K>,
    reader: &Store<K>,
    event: &Event<K>,
    changed: &mut impl FnMut(Option<&K>, Option<&K>),
) where
    K: Resource<DynamicType = ()> + Clone + Debug + Send + Sync + 'static,
{
    match event {
        Event::Apply(object) => {
            let old = reader.get(&ObjectRef::from_obj(object));
            writer.apply_watcher_event(event);
            changed(old.as_deref(), Some(object));
        }
        Event::Delete(object) => {
            writer.apply_watcher_event(event);
            changed(Some(object), None);
        }
        Event::Init | Event::InitApply(_) => writer.apply_watcher_event(event),
        Event::InitDone => {
            let by_name = |objects: Vec<Arc<K>>| -> HashMap<ObjectRef<K>, Arc<K>> {
                objects.into_iter().map(|object| (ObjectRef::from_obj(&*object), object)).collect()
            };
            let mut before = by_name(reader.state());
            writer.apply_watcher_event(event);
            for (name, new) in by_name(reader.state()) {
                changed(before.remove(&name).as_deref(), Some(&new));
            }
            for gone in before.into_values() {
                changed(Some(&gone), None);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::{api::core::v1::ConfigMap, apimachinery::pkg::apis::meta::v1::ObjectMeta};
    use kube::runtime::reflector::store;

    use super::*;

    fn map(name: &str) -> ConfigMap {
        let metadata =
            ObjectMeta { name: Some(name.into()), namespace: Some("ns".into()), ..ObjectMeta::default() };
        ConfigMap { metadata, ..ConfigMap::default() }
    }

    #[tokio::test]
    async fn what_vanished_while_the_watch_was_down_is_reported() {
        let (_reader, writer) = store();
        let events = [
            Event::Init,
            Event::InitApply(map("a")),
            Event::InitApply(map("b")),
            Event::InitDone,
            Event::Init,
            Event::InitApply(map("b")),
            Event::InitDone,
            Event::Delete(map("b")),
        ];
        let events = futures::stream::iter(events.map(Ok::<_, std::convert::Infallible>));
        let mut changes = Vec::new();
        follow(writer, events, |old, new| {
            let name = |object: Option<&ConfigMap>| object.and_then(|object| object.metadata.name.clone());
            changes.push((name(old), name(new)));
        })
        .await;
        changes[..2].sort();
        let some = |name: &str| Some(name.to_owned());
        let expected = [
            (None, some("a")),
            (None, some("b")),
            (some("b"), some("b")),
            (some("a"), None),
            (some("b"), None),
        ];
        assert_eq!(changes, expected);
    }
}
