//! The only way to follow the objects of a kind: [`Manager::watch`].
//!
//! A watch that is begun here is
//! - supervised: where taking one object in panics, it stays as it was known, and the others go on; it is counted in
//!   `mainstay_watch_panics_total`. Where a watch fails as a whole it is restarted with a list, counted in
//!   `mainstay_watch_restarts_total`, and `/healthz` fails when that does not help or its task has ended: no store stands
//!   still while the probes are green;
//! - never deaf: a connection that swallows bytes is given up after [`WATCH`] and five seconds (client-go notices one within
//!   45 s), and the watch goes on where it was, without a list. How long a list and the start of a watch may take is bounded
//!   by the [client](crate::client);
//! - never fooled: lists are consistent reads, so that a list which was asked for after a write shows it. A streaming list
//!   (KEP-3157) would spare the server memory, but kube asks for one at `resourceVersion=0`, and a server answers that with
//!   whatever its cache has. A server whose etcd was restored to an older revision is listed anew ([`crate::supervise`]).

use std::{fmt::Debug, sync::Arc, time::Duration};

use futures::{FutureExt, Stream, StreamExt};
use k8s_openapi::NamespaceResourceScope;
use kube::{
    Api, Client, Resource,
    runtime::{
        WatchStreamExt, reflector,
        watcher::{self, Config, Event, watcher},
    },
};
use prometheus::Registry;
use serde::de::DeserializeOwned;

use crate::{
    batch::in_batches,
    decode::Decoded,
    index::{Change, Index, Indexed, map_event},
    manager::Manager,
    root::Root,
    supervise::{Health, supervise},
    undecoded::Undecoded,
};

/// The server ends a watch after this many seconds, and it continues with one request. kube ends a watch that is
/// silent for five seconds longer.
const WATCH: u32 = 40;

/// Follows one object, for as long as the stream is polled: what it is at first, each change, `None` while there is none. As
/// little deaf as [`Manager::watch`]; who polls it supervises it.
pub fn object<K>(api: Api<K>, name: &str) -> impl Stream<Item = watcher::Result<Option<K>>> + Send + use<K>
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let config = Config::default().timeout(WATCH).fields(&format!("metadata.name={name}"));
    let mut listed = None;
    let seen = watcher(api, config).default_backoff();
    seen.filter_map(move |event| {
        std::future::ready(match event {
            Ok(Event::Init) => {
                listed = None;
                None
            }
            Ok(Event::InitApply(object)) => {
                listed = Some(object);
                None
            }
            Ok(Event::InitDone) => Some(Ok(listed.take())),
            Ok(Event::Apply(object)) => Some(Ok(Some(object))),
            Ok(Event::Delete(_)) => Some(Ok(None)),
            Err(error) => Some(Err(error)),
        })
    })
}

/// A watch that is yet to begin. It ends with the process.
pub struct Watch<'a, W> {
    manager: &'a Manager,
    api: Api<W>,
    config: Config,
    rest: Option<Duration>,
}

impl Manager {
    /// Watches the objects of the cluster.
    pub fn watch<W: Resource<DynamicType = ()>>(&self) -> Watch<'_, W> {
        Watch::of(self, Api::all)
    }

    /// Watches those of a namespace.
    pub fn watch_in<W>(&self, namespace: &str) -> Watch<'_, W>
    where
        W: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Watch::of(self, |client| Api::namespaced(client, namespace))
    }
}

impl<'a, W> Watch<'a, W> {
    fn of(manager: &'a Manager, api: impl FnOnce(Client) -> Api<W>) -> Self {
        let config = Config::default().timeout(WATCH);
        Self { manager, api: api(manager.client.clone()), config, rest: None }
    }

    /// Those alone that this label selector picks.
    #[must_use]
    pub fn labels(mut self, selector: &str) -> Self {
        self.config = self.config.labels(selector);
        self
    }

    /// Those alone that this field selector picks.
    #[must_use]
    pub fn fields(mut self, selector: &str) -> Self {
        self.config = self.config.fields(selector);
        self
    }

    /// Lasts this many seconds instead of [`WATCH`].
    #[must_use]
    pub fn seconds(mut self, seconds: u32) -> Self {
        self.config = self.config.timeout(seconds);
        self
    }

    /// Takes events in batches, as [`in_batches`] does.
    #[must_use]
    pub fn in_batches(mut self, rest: Duration) -> Self {
        self.rest = Some(rest);
        self
    }
}

impl<W> Watch<'_, W>
where
    W: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    fn health(&self) -> Arc<Health> {
        let selector = self.config.label_selector.as_deref().or(self.config.field_selector.as_deref());
        self.manager.watches.add(&W::plural(&()), selector.unwrap_or_default())
    }

    fn start(self, health: Arc<Health>, mut take: impl FnMut(watcher::Result<Event<W>>) + Send + 'static) {
        let Self { manager, api, config, rest } = self;
        let events = move || {
            let events = watcher(api.clone(), config.clone()).default_backoff();
            match rest {
                Some(rest) => in_batches(events, rest).boxed(),
                None => events.boxed(),
            }
        };
        manager.follow(async move { supervise(health, events, &mut take).await });
    }

    /// Fills `store` with what `slim` makes of the objects. `changed` is called for each change, after the store shows it.
    /// The process leads no sooner than the first list is complete.
    pub fn fill<T: Indexed>(
        self,
        store: &Index<T>,
        mut slim: impl FnMut(W) -> T + Send + 'static,
        mut changed: impl FnMut(Change<'_, T>) + Send + 'static,
    ) {
        self.manager.when_synced(store.clone());
        let (store, health) = (store.clone(), self.health());
        let guard = Arc::clone(&health);
        self.start(health, move |event| {
            let (slim, changed) = (&mut slim, &mut changed);
            store.take_in(
                event,
                |object| guard.ward(|| slim(object)),
                |change| {
                    guard.ward(|| changed(change));
                },
            );
        });
    }

    /// The same for a kind that reconciles are about, whose objects can always be decoded.
    pub fn follow(
        self,
        writer: reflector::store::Writer<W>,
        mut changed: impl FnMut(Option<&W>, Option<&W>) + Send + 'static,
    ) where
        W: Sync,
    {
        let ready = writer.as_reader();
        self.manager.when(async move { drop(ready.wait_until_ready().await) }.boxed());
        // What cannot fail to be decoded is counted for nobody.
        let health = self.health();
        let guard = Arc::clone(&health);
        let changed = move |old: Option<&W>, new: Option<&W>| {
            guard.ward(|| changed(old, new));
        };
        let mut root = Root::new(writer, Undecoded::new(&Registry::new()), changed, |_: &W| {});
        self.start(health, move |event| root.take_in(event.map(|event| map_event(event, Decoded::Object))));
    }
}

impl<K> Watch<'_, Decoded<K>>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    /// As [`Self::fill`], for a kind whose objects may be undecodable. Such an object stays as it was known last. `changed` is
    /// called with neither for one that is gone and was never known: what it might have said is no reason for anything more.
    pub fn fill_decoded<T: Indexed>(
        self,
        store: &Index<T>,
        undecoded: &Undecoded<K>,
        mut slim: impl FnMut(K) -> T + Send + 'static,
        mut changed: impl FnMut(Change<'_, T>) + Send + 'static,
    ) {
        self.manager.when_synced(store.clone());
        let (store, undecoded, health) = (store.clone(), undecoded.clone(), self.health());
        let guard = Arc::clone(&health);
        self.start(health, move |event| {
            let (slim, changed) = (&mut slim, &mut changed);
            let changed = |change: Change<'_, T>| {
                guard.ward(|| changed(change));
            };
            store.take_in_decoded(&undecoded, event, |object| guard.ward(|| slim(object)), changed);
        });
    }

    /// Fills the store of the kind that reconciles are about, and tells those of its objects that cannot be decoded so while this
    /// process leads. Such an object is not in the store, so that no reconcile is about it. But it is there: it is not reported as
    /// gone, so that nothing of it is forgotten or undone.
    ///
    /// `changed` is called with the store in its new state, with the object before and after the change; `lost` when an object
    /// cannot be decoded any more, with what it was before: what is known of it is not known to hold.
    pub fn root(
        self,
        writer: reflector::store::Writer<K>,
        field_manager: &'static str,
        mut changed: impl FnMut(Option<&K>, Option<&K>) + Send + 'static,
        mut lost: impl FnMut(&K) + Send + 'static,
    ) -> Undecoded<K> {
        let (manager, ready, health) = (self.manager, writer.as_reader(), self.health());
        let (guard, other) = (Arc::clone(&health), Arc::clone(&health));
        let changed = move |old: Option<&K>, new: Option<&K>| {
            guard.ward(|| changed(old, new));
        };
        let lost = move |object: &K| {
            other.ward(|| lost(object));
        };
        manager.when(async move { drop(ready.wait_until_ready().await) }.boxed());
        let undecoded = Undecoded::new(&manager.registry);
        let mut root = Root::new(writer, undecoded.clone(), changed, lost);
        self.start(health, move |event| root.take_in(event));
        manager.while_leading(undecoded.clone().tell(manager.client.clone(), field_manager).boxed());
        undecoded
    }
}
