//! One controller process: flags, logs, client, probes, metrics, leadership, orderly shutdown.
//!
//! A process starts watching at once and is ready when its stores have synced, leader or not: a standby takes over
//! with full caches. Other conditions of readiness do not prevent a process from leading. On SIGTERM or Ctrl-C it
//! starts no new work, lets its reconciles end for up to [`GRACE`], releases the Lease, waits for what
//! [outlasts](Manager::outlasts) the loop and exits with 0. When it loses the Lease it stops at once and exits with 1, like
//! users of client-go: nothing that it began under the old Lease may continue.

use std::{
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::{FutureExt, future::BoxFuture};
use kube::{Client, runtime::reflector::Store};
use parking_lot::Mutex;
use prometheus::Registry;
use thiserror::Error;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    client::{self, ConnectError},
    flags::{Flags, LogFormat},
    heard::Heard,
    index::{Index, Indexed},
    leader::{Elector, Settings, SettingsError},
    metrics::gauges,
    reconcile::{self, Bounds, Reconciler, Work},
    serve::{self, Probe, ServeError},
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

/// Why a process could not start or go on.
#[derive(Debug, Error)]
pub enum RunError {
    /// `--log-level` cannot be read.
    #[error("--log-level: {0}; write a level such as info, or a filter such as info,mainstay_runtime=debug")]
    LogLevel(#[from] tracing_subscriber::filter::ParseError),
    /// There is no usable client.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The flags of leader election contradict each other.
    #[error(transparent)]
    Leader(#[from] SettingsError),
    /// A server could not start.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// The process may not listen for signals.
    #[error("cannot listen for signals: {0}")]
    Signals(std::io::Error),
    /// Another process may be writing now.
    #[error("lost the Lease; stopping at once so that two processes never write")]
    LeadershipLost,
    /// The loop ended by itself, which it never should.
    #[error("the reconcile loop ended by itself")]
    LoopEnded,
}

/// Runs the controller `name` until a signal; the exit code is the process's.
pub async fn run<B>(name: &'static str, flags: Flags, build: B) -> ExitCode
where
    B: AsyncFnOnce(&Manager) -> Controller,
{
    if let Err(error) = start_logs(&flags) {
        eprintln!("{name}: {error}");
        return ExitCode::FAILURE;
    }
    let lasting = TaskTracker::new();
    match serve(name, flags, lasting.clone(), build).await {
        Ok(()) => {
            lasting.close();
            lasting.wait().await;
            ExitCode::SUCCESS
        }
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn start_logs(flags: &Flags) -> Result<(), RunError> {
    // kube-runtime's own span repeats what ours says; a filter that names it brings it back.
    let filter = format!("kube_runtime=warn,{}", flags.log_level);
    let filter = tracing_subscriber::EnvFilter::try_new(filter)?;
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_target(false);
    match flags.log_format {
        LogFormat::Text => logs.with_ansi(false).init(),
        LogFormat::Json => logs.json().init(),
    }
    Ok(())
}

async fn serve<B>(name: &'static str, flags: Flags, lasting: TaskTracker, build: B) -> Result<(), RunError>
where
    B: AsyncFnOnce(&Manager) -> Controller,
{
    tracing::info!(controller = name, version = env!("CARGO_PKG_VERSION"), "starting");
    let registry = process_registry();
    let heard = Heard::new(&registry);
    let client = client::connect(&registry, heard.clone()).await?;
    let (shutdown, watches) = (CancellationToken::new(), Watches::new(&registry, heard));
    cancel_on_signal(shutdown.clone())?;
    let manager = Manager {
        client,
        registry,
        flags,
        identity: identity(),
        shutdown,
        watches,
        before: Mutex::default(),
        beside: Mutex::default(),
        beats: Mutex::default(),
        lasting,
    };
    let mut elector = elector(name, &manager)?;
    let leads =
        gauges(&manager.registry, "leader_election_master_status", "1 while this process leads.", &["name"]);
    let leads = leads.with_label_values(&[name]);

    let Controller { run, refresh, live, ready } = build(&manager).await;
    let synced = futures::future::join_all(manager.before.lock().drain(..).collect::<Vec<_>>());
    let run = with_all(run, manager.beside.lock().drain(..).collect());
    let has_synced = Arc::new(AtomicBool::new(false));
    let (watches, beats) = (manager.watches.clone(), std::mem::take(&mut *manager.beats.lock()));
    let beat = move || beats.iter().try_for_each(Beat::live);
    let live: Probe = Arc::new(move || watches.live().and_then(|()| beat()).and_then(|()| live()));
    listen(&manager, refresh, live, readiness(Arc::clone(&has_synced), ready)).await?;

    let shutdown = manager.shutdown.clone();
    tokio::select! {
        _ = synced => has_synced.store(true, Ordering::Release),
        () = shutdown.cancelled() => return Ok(()),
    }
    tracing::info!("stores have synced");

    let Some(elector) = &mut elector else {
        leads.set(1);
        return until_shutdown(run, &shutdown).await;
    };
    tokio::select! {
        () = elector.acquire() => leads.set(1),
        () = shutdown.cancelled() => return Ok(()),
    }
    // Dropping the loop ends its reconciles: nothing is written after this select.
    let ended = tokio::select! {
        () = elector.keep() => Err(RunError::LeadershipLost),
        ended = until_shutdown(run, &shutdown) => ended,
    };
    leads.set(0);
    if ended.is_ok()
        && let Err(error) = elector.release().await
    {
        tracing::warn!(%error, "could not release the Lease; it expires by itself");
    }
    ended
}

/// The loop, with what runs beside it until it ends.
fn with_all(run: BoxFuture<'static, ()>, beside: Vec<BoxFuture<'static, ()>>) -> BoxFuture<'static, ()> {
    let beside = futures::future::join_all(beside);
    futures::future::select(run, beside.then(|_| std::future::pending::<()>()).boxed()).map(drop).boxed()
}

async fn until_shutdown(run: BoxFuture<'static, ()>, shutdown: &CancellationToken) -> Result<(), RunError> {
    let grace = async {
        shutdown.cancelled().await;
        tokio::time::sleep(GRACE).await;
    };
    tokio::select! {
        () = run => if shutdown.is_cancelled() { Ok(()) } else { Err(RunError::LoopEnded) },
        () = grace => {
            tracing::warn!(seconds = GRACE.as_secs(), "reconciles are still in progress and are ended");
            Ok(())
        }
    }
}

fn process_registry() -> Registry {
    let registry = Registry::new();
    let process = prometheus::process_collector::ProcessCollector::for_self();
    registry.register(Box::new(process)).expect("the first collector of a new registry");
    registry
}

fn cancel_on_signal(shutdown: CancellationToken) -> Result<(), RunError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(RunError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(RunError::Signals)?;
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping: finishing the work in progress");
        shutdown.cancel();
    });
    Ok(())
}

/// The pod's name where there is one, and a part that no other process has: two processes of one name must not
/// take each other for themselves.
fn identity() -> String {
    let host = ["POD_NAME", "HOSTNAME"].into_iter().find_map(|name| std::env::var(name).ok());
    format!("{}_{:08x}", host.as_deref().unwrap_or("mainstay"), rand::random::<u32>())
}

fn elector(name: &str, manager: &Manager) -> Result<Option<Elector>, RunError> {
    let Flags { lease_duration, renew_deadline, retry_period, .. } = manager.flags;
    if !manager.flags.leader_elect {
        return Ok(None);
    }
    let namespace = manager.flags.leader_election_namespace.clone();
    let settings = Settings {
        namespace: namespace.unwrap_or_else(|| manager.namespace()),
        name: manager.flags.leader_election_id.clone().unwrap_or_else(|| name.to_owned()),
        identity: manager.identity.clone(),
        lease_duration,
        renew_deadline,
        retry_period,
    };
    Ok(Some(Elector::new(manager.client.clone(), settings)?))
}

async fn listen(
    manager: &Manager,
    refresh: Arc<dyn Fn() + Send + Sync>,
    live: Probe,
    ready: Probe,
) -> Result<(), RunError> {
    if let Some(address) = manager.flags.metrics_bind_address.0 {
        serve::metrics(address, manager.registry.clone(), refresh).await?;
    }
    if let Some(address) = manager.flags.health_probe_bind_address.0 {
        serve::probes(address, live, ready).await?;
    }
    Ok(())
}

/// Ready is who has synced, and can do what others ask of it.
fn readiness(has_synced: Arc<AtomicBool>, ready: Probe) -> Probe {
    Arc::new(move || {
        if !has_synced.load(Ordering::Acquire) {
            return Err("the stores have not synced with the API server yet".to_owned());
        }
        ready()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_not_ready_says_why() {
        let has_synced = Arc::new(AtomicBool::new(false));
        let answers = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&answers);
        let answer = move || asked.load(Ordering::Acquire).then_some(()).ok_or("no certificate".to_owned());
        let ready = readiness(Arc::clone(&has_synced), Arc::new(answer));
        assert_eq!(ready(), Err("the stores have not synced with the API server yet".to_owned()));
        has_synced.store(true, Ordering::Release);
        assert_eq!(ready(), Err("no certificate".to_owned()));
        answers.store(true, Ordering::Release);
        assert_eq!(ready(), Ok(()));
    }
}
