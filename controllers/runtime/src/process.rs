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
};

use futures::future::BoxFuture;
use http::{Request, Response};
use kube::client::{Body, ClientBuilder};
use prometheus::Registry;
use thiserror::Error;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tower::{BoxError, Service};

use crate::{
    client::{self, ConnectError},
    flags::{Flags, LogFormat},
    heard::Heard,
    leader::{Elector, Settings, SettingsError},
    manager::{Controller, GRACE, Manager},
    metrics::gauges,
    serve::{self, Probe, ServeError},
    supervise::Watches,
};

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
    match connect_and_serve(name, flags, build).await {
        Ok(()) => ExitCode::SUCCESS,
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

async fn connect_and_serve<B>(name: &'static str, flags: Flags, build: B) -> Result<(), RunError>
where
    B: AsyncFnOnce(&Manager) -> Controller,
{
    tracing::info!(controller = name, version = env!("CARGO_PKG_VERSION"), "starting");
    let client = client::connect().await?;
    let shutdown = CancellationToken::new();
    cancel_on_signal(shutdown.clone())?;
    serve(name, flags, client, shutdown, build).await
}

/// Runs the controller `name` with this connection until `shutdown`. All of it ends with the future: dropping that is
/// what the end of the process is to the cluster.
///
/// # Errors
/// Why it could not start or go on.
pub async fn serve<S, B, C>(
    name: &'static str,
    flags: Flags,
    client: ClientBuilder<S>,
    shutdown: CancellationToken,
    build: C,
) -> Result<(), RunError>
where
    S: Service<Request<Body>, Response = Response<B>, Error = BoxError> + Send + 'static,
    S::Future: Send + 'static,
    B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
    C: AsyncFnOnce(&Manager) -> Controller,
{
    let registry = process_registry();
    let heard = Heard::new(&registry);
    let client = client::bounded(client, &registry, heard.clone());
    let watches = Watches::new(&registry, heard);
    let manager = Manager::new((client, registry), (flags, identity()), shutdown, watches);
    let elector = elector(name, &manager)?;
    let controller = build(&manager).await;
    lead(name, &manager, elector, controller).await?;
    manager.outlasted().await;
    Ok(())
}

async fn lead(
    name: &'static str,
    manager: &Manager,
    mut elector: Option<Elector>,
    controller: Controller,
) -> Result<(), RunError> {
    let leads =
        gauges(&manager.registry, "leader_election_master_status", "1 while this process leads.", &["name"]);
    let leads = leads.with_label_values(&[name]);

    let Controller { run, refresh, live, ready } = controller;
    let (synced, run) = (manager.synced(), manager.with_all(run));
    let has_synced = Arc::new(AtomicBool::new(false));
    let (watches, beat) = (manager.watches.clone(), manager.beats());
    let live: Probe = Arc::new(move || watches.live().and_then(|()| beat()).and_then(|()| live()));
    listen(manager, refresh, live, readiness(Arc::clone(&has_synced), ready)).await?;

    let shutdown = manager.shutdown.clone();
    tokio::select! {
        () = synced => has_synced.store(true, Ordering::Release),
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
