//! The one way to follow the objects of a kind: [`Manager::watch`].
//!
//! A watch that is begun here is
//! - supervised: where taking an event in panics, the watch begins anew with a list. It is counted in
//!   `mainstay_watch_restarts_total`, and `/healthz` fails when that does not help or its task has ended: no store stands
//!   still while the probes are green;
//! - never deaf: a connection that swallows bytes is given up after [`WATCH`] and five seconds (client-go notices one within
//!   45 s), and the watch goes on where it was, without a list. How long a list and the start of a watch may take is bounded
//!   by the [client](crate::client);
//! - never fooled: lists are consistent reads, so that a list which was asked for after a write shows it. A streaming list
//!   (KEP-3157) would spare the server memory, but kube asks for one at `resourceVersion=0`, and a server answers that with
//!   whatever its cache has. A server whose etcd was restored to an older revision is listed anew ([`AHEAD`]).

use std::{
    fmt::Debug,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use futures::{FutureExt, StreamExt, stream::BoxStream};
use k8s_openapi::NamespaceResourceScope;
use kube::{
    Api, Client, Resource,
    runtime::{
        WatchStreamExt, reflector,
        watcher::{self, Config, Event, watcher},
    },
};
use parking_lot::Mutex;
use prometheus::{IntCounter, IntCounterVec, Registry};
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use crate::{
    batch::in_batches,
    decode::Decoded,
    index::{Change, Index, Indexed, map_event},
    manager::Manager,
    metrics::counters,
    root::Root,
    undecoded::Undecoded,
};

/// The server ends a watch after so many seconds, and it goes on with one request. kube gives one up that is silent for five
/// seconds longer.
const WATCH: u32 = 40;
/// A server that refuses so many times in a row to go on from a version which it says is yet to come has been restored to
/// an older one. One that is merely behind its peers catches up meanwhile: it waits three seconds before it refuses.
const AHEAD: u32 = 3;
/// Before a watch that has broken down begins anew: at first, and at most where no list was taken in since.
const PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(30)];
/// A watch that has not shown anything for so long since it broke down makes `/healthz` fail.
const HEAL: Duration = Duration::from_secs(120);

/// The watches of a process. Cloning shares them.
#[derive(Clone)]
pub(crate) struct Watches {
    restarts: IntCounterVec,
    all: Arc<Mutex<Vec<Arc<Health>>>>,
}

impl Watches {
    pub(crate) fn new(registry: &Registry) -> Self {
        let help = "Watches that began anew with a list because taking an event in failed, or the server was restored.";
        Self {
            restarts: counters(registry, "mainstay_watch_restarts_total", help, &["resource"]),
            all: Arc::default(),
        }
    }

    fn add(&self, resource: String) -> Arc<Health> {
        let restarts = self.restarts.with_label_values(&[resource.as_str()]);
        let health = Arc::new(Health { resource, restarts, broken: Mutex::default() });
        self.all.lock().push(Arc::clone(&health));
        health
    }

    /// Whether all of them run, or a sentence that says which does not.
    pub(crate) fn live(&self) -> Result<(), String> {
        let all = self.all.lock();
        let ill = all.iter().find(|health| match *health.broken.lock() {
            Some(Broken::Since(since)) => since.elapsed() > HEAL,
            Some(Broken::Ended) => true,
            None => false,
        });
        ill.map_or(Ok(()), |health| Err(format!("the watch of {} does not run", health.resource)))
    }
}

#[derive(Clone, Copy)]
enum Broken {
    Since(Instant),
    Ended,
}

struct Health {
    resource: String,
    restarts: IntCounter,
    broken: Mutex<Option<Broken>>,
}

impl Health {
    /// Returns whether it had run since it broke down last.
    fn breaks(&self) -> bool {
        let mut broken = self.broken.lock();
        let healed = broken.is_none();
        broken.get_or_insert(Broken::Since(Instant::now()));
        healed
    }
}

/// A task that ends in whatever way says so.
struct Running(Arc<Health>);

impl Drop for Running {
    fn drop(&mut self) {
        *self.0.broken.lock() = Some(Broken::Ended);
    }
}

/// Why a watch begins anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    Panicked,
    Ahead,
    Ended,
}

/// Has each event of `events` taken in until the end of the process, begun anew where that is the way on.
async fn supervise<W>(
    health: Arc<Health>,
    events: impl Fn() -> BoxStream<'static, watcher::Result<Event<W>>>,
    mut take: impl FnMut(watcher::Result<Event<W>>),
) {
    let running = Running(health);
    let health = &running.0;
    let [first, last] = PAUSES;
    let mut pause = first;
    loop {
        let why = follow(events(), |event| {
            let listed = matches!(event, Ok(Event::InitDone));
            take(event);
            if listed {
                *health.broken.lock() = None;
            }
        });
        let why = why.await;
        health.restarts.inc();
        let healed = health.breaks();
        pause = if healed { first } else { last.min(pause * 2) };
        tracing::error!(resource = %health.resource, ?why, "a watch begins anew with a list");
        tokio::time::sleep(pause).await;
    }
}

async fn follow<W>(
    mut events: BoxStream<'static, watcher::Result<Event<W>>>,
    mut take: impl FnMut(watcher::Result<Event<W>>),
) -> Why {
    let mut ahead = 0;
    while let Some(event) = events.next().await {
        ahead = if event.as_ref().is_err_and(is_ahead) { ahead + 1 } else { 0 };
        // What is half done by it is made whole by the list that follows.
        if catch_unwind(AssertUnwindSafe(|| take(event))).is_err() {
            return Why::Panicked;
        }
        if ahead == AHEAD {
            return Why::Ahead;
        }
    }
    Why::Ended
}

/// Whether the server has not reached the version yet from which a watch is to go on (apiserver:
/// `storage.NewTooLargeResourceVersionError`).
fn is_ahead(error: &watcher::Error) -> bool {
    let watcher::Error::WatchStartFailed(kube::Error::Api(status)) = error else { return false };
    let causes = status.details.iter().flat_map(|details| &details.causes);
    causes.into_iter().any(|cause| cause.reason == "ResourceVersionTooLarge")
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

    /// Lasts for so many seconds instead of [`WATCH`].
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
    fn start(self, mut take: impl FnMut(watcher::Result<Event<W>>) + Send + 'static) {
        let Self { manager, api, config, rest } = self;
        let events = move || {
            let events = watcher(api.clone(), config.clone()).default_backoff();
            match rest {
                Some(rest) => in_batches(events, rest).boxed(),
                None => events.boxed(),
            }
        };
        let health = manager.watches.add(W::plural(&()).into_owned());
        tokio::spawn(async move { supervise(health, events, &mut take).await });
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
        let store = store.clone();
        self.start(move |event| store.take_in(event, &mut slim, &mut changed));
    }

    /// The same for a kind that passes are about, whose objects can always be decoded.
    pub fn follow(
        self,
        writer: reflector::store::Writer<W>,
        changed: impl FnMut(Option<&W>, Option<&W>) + Send + 'static,
    ) where
        W: Sync,
    {
        let ready = writer.as_reader();
        self.manager.when(async move { drop(ready.wait_until_ready().await) }.boxed());
        // What cannot fail to be decoded is counted for nobody.
        let mut root = Root::new(writer, Undecoded::new(&Registry::new()), changed, |_: &W| {});
        self.start(move |event| root.take_in(event.map(|event| map_event(event, Decoded::Object))));
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
        let (store, undecoded) = (store.clone(), undecoded.clone());
        self.start(move |event| store.take_in_decoded(&undecoded, event, &mut slim, &mut changed));
    }

    /// Fills the store of the kind that passes are about, and tells those of its objects that cannot be decoded so while this
    /// process leads. Such an object is not in the store, so that no pass is about it. But it is there: it is not reported as
    /// gone, so that nothing of it is forgotten or undone.
    ///
    /// `changed` is called with the store in its new state, with the object before and after the change; `lost` when an object
    /// cannot be decoded any more, with what it was before: what is known of it is not known to hold.
    pub fn root(
        self,
        writer: reflector::store::Writer<K>,
        field_manager: &'static str,
        changed: impl FnMut(Option<&K>, Option<&K>) + Send + 'static,
        lost: impl FnMut(&K) + Send + 'static,
    ) -> Undecoded<K> {
        let (manager, ready) = (self.manager, writer.as_reader());
        manager.when(async move { drop(ready.wait_until_ready().await) }.boxed());
        let undecoded = Undecoded::new(&manager.registry);
        let mut root = Root::new(writer, undecoded.clone(), changed, lost);
        self.start(move |event| root.take_in(event));
        manager.while_leading(undecoded.clone().tell(manager.client.clone(), field_manager).boxed());
        undecoded
    }
}

#[cfg(test)]
mod tests;
