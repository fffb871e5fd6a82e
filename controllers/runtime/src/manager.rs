//! What a controller is built with, and what it returns; [`crate::process`] runs it.

use std::{sync::Arc, time::Duration};

use futures::{FutureExt, future::BoxFuture};
use kube::{Client, runtime::reflector::Store};
use parking_lot::Mutex;
use prometheus::Registry;
use tokio::task::JoinSet;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    flags::Flags,
    index::{Index, Indexed},
    reconcile::{self, Bounds, Reconciler, Work},
    serve::Probe,
    solo::Beat,
    supervise::Watches,
};

/// A loop that has served nothing for this many time limits of a reconcile while keys wait is stuck.
const STUCK: u32 = 3;

/// How long reconciles may go on after SIGTERM (controller-runtime's graceful shutdown: 30 s).
pub const GRACE: Duration = Duration::from_secs(30);

/// What a controller is built with.
pub struct Manager {
    /// The connection to the API server.
    pub client: Client,
    /// Where series are registered.
    pub registry: Registry,
    /// The flags that every controller takes.
    pub flags: Flags,
    /// This process, unlike any other.
    pub identity: String,
    /// Ends when no new work may be taken.
    pub shutdown: CancellationToken,
    /// Its watches.
    pub(crate) watches: Watches,
    /// The tasks of its watches, which end with it.
    following: Mutex<JoinSet<()>>,
    /// What must have come about before this process may lead.
    before: Mutex<Vec<BoxFuture<'static, ()>>>,
    /// What runs beside the loop while this process leads.
    beside: Mutex<Vec<BoxFuture<'static, ()>>>,
    /// The loops of their own.
    beats: Mutex<Vec<Beat>>,
    /// What this process does not end before.
    lasting: TaskTracker,
}

impl Manager {
    /// A manager for one controller.
    pub(crate) fn new(
        (client, registry): (Client, Registry),
        (flags, identity): (Flags, String),
        shutdown: CancellationToken,
        watches: Watches,
    ) -> Self {
        Self {
            client,
            registry,
            flags,
            identity,
            shutdown,
            watches,
            following: Mutex::default(),
            before: Mutex::default(),
            beside: Mutex::default(),
            beats: Mutex::default(),
            lasting: TaskTracker::new(),
        }
    }

    /// Runs `watch`, leader or not, for as long as this manager lives.
    pub(crate) fn follow(&self, watch: impl Future<Output = ()> + Send + 'static) {
        self.following.lock().spawn(watch);
    }

    /// What was to have come about before this process may lead.
    pub(crate) fn synced(&self) -> impl Future<Output = ()> + use<> {
        let before: Vec<_> = self.before.lock().drain(..).collect();
        futures::future::join_all(before).map(drop)
    }

    /// What was to run while this process leads; it ends with `run`.
    pub(crate) fn with_all(&self, run: BoxFuture<'static, ()>) -> BoxFuture<'static, ()> {
        let beside: Vec<_> = self.beside.lock().drain(..).collect();
        let beside = futures::future::join_all(beside).then(|_| std::future::pending::<()>());
        futures::future::select(run, beside.boxed()).map(drop).boxed()
    }

    /// Whether the loops of their own are alive.
    pub(crate) fn beats(&self) -> Probe {
        let beats = std::mem::take(&mut *self.beats.lock());
        Arc::new(move || beats.iter().try_for_each(Beat::live))
    }

    /// Ends when all that [outlasts](Self::outlasts) the loop has ended.
    pub(crate) async fn outlasted(&self) {
        self.lasting.close();
        self.lasting.wait().await;
    }

    /// The namespace that the process runs in.
    pub fn namespace(&self) -> String {
        let own = std::env::var("POD_NAMESPACE");
        own.unwrap_or_else(|_| self.client.default_namespace().to_owned())
    }

    /// Has this process lead no sooner than `ready` has ended.
    pub(crate) fn when(&self, ready: BoxFuture<'static, ()>) {
        self.before.lock().push(ready);
    }

    /// Has this process lead no sooner than a store has been filled once.
    pub(crate) fn when_synced<T: Indexed>(&self, store: Index<T>) {
        self.when(async move { store.synced().await }.boxed());
    }

    /// Has `task` polled while this process leads, beside the loop, with which it ends.
    pub fn while_leading(&self, task: BoxFuture<'static, ()>) {
        self.beside.lock().push(task);
    }

    /// The beat of a loop of this name, which makes `/healthz` fail when it is stuck.
    pub fn beat(&self, name: &'static str) -> Beat {
        let beat = Beat::new(name);
        self.beats.lock().push(beat.clone());
        beat
    }

    /// Runs `task`, leader or not, and has the process end no sooner than it, unless the Lease is lost. It has to end within
    /// [`GRACE`] after [`Self::shutdown`].
    pub fn outlasts(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.lasting.spawn(task);
    }

    /// The loop that has `reconciler` serve the keys of `work`, with all that belongs to one.
    pub fn reconcile<R: Reconciler>(
        &self,
        reconciler: Arc<R>,
        store: Store<R::Object>,
        work: &Arc<Work>,
    ) -> impl Future<Output = ()> + Send + use<R> {
        let forgetful = Arc::clone(&reconciler);
        work.on_forget(move |key| forgetful.forget(key));
        self.while_leading(reconcile::resync(Arc::clone(work), store.clone()).boxed());
        let Flags { max_concurrent_reconciles: concurrency, reconcile_timeout: timeout, .. } = self.flags;
        let bounds = Bounds { concurrency, timeout };
        reconcile::run(reconciler, store, Arc::clone(work), bounds, self.shutdown.clone())
    }

    /// A controller whose `run` serves the keys of `work`: it lives as long as keys do not wait in vain. `refresh` is
    /// called before a scrape.
    pub fn controller(
        &self,
        work: &Arc<Work>,
        run: impl Future<Output = ()> + Send + 'static,
        refresh: impl Fn() + Send + Sync + 'static,
    ) -> Controller {
        let (refreshed, alive, limit) =
            (Arc::clone(work), Arc::clone(work), self.flags.reconcile_timeout * STUCK);
        Controller {
            run: run.boxed(),
            refresh: Arc::new(move || {
                refreshed.refresh_metrics();
                refresh();
            }),
            live: Arc::new(move || {
                let stuck = alive.stuck(limit);
                (!stuck)
                    .then_some(())
                    .ok_or_else(|| format!("objects wait, but none was reconciled for {limit:?}"))
            }),
            ready: Arc::new(|| Ok(())),
        }
    }
}

/// What a controller hands to the manager.
pub struct Controller {
    /// The loop; polled while this process leads. Ends after [`Manager::shutdown`].
    pub run: BoxFuture<'static, ()>,
    /// Brings computed series up to date before a scrape.
    pub refresh: Arc<dyn Fn() + Send + Sync>,
    /// Whether the loop makes progress.
    pub live: Probe,
    /// Whether it can do what others ask of it, as an admission webhook is asked. This process may lead without.
    pub ready: Probe,
}

impl Controller {
    /// The same controller, ready only when `ready` says so as well.
    #[must_use]
    pub fn ready_when(self, ready: Probe) -> Self {
        Self { ready, ..self }
    }
}
