//! Keeps watches running, or ends the process whose watch does not run.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use futures::{StreamExt, stream::BoxStream};
use kube::runtime::watcher::{self, Event};
use parking_lot::Mutex;
use prometheus::{IntCounter, IntCounterVec, Registry};
use tokio::time::Instant;

use crate::{heard::Heard, metrics::counters};

/// A server that refuses this many times in a row to continue from a version because it is in the future has been
/// restored to an older one. One that is merely behind its peers catches up meanwhile: it waits three seconds before
/// it refuses.
const AHEAD: u32 = 3;
/// The pause before a failed watch restarts: at first, and at most while no list was processed since.
const PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(30)];
/// A watch that has delivered nothing for this time since it failed makes `/healthz` fail.
const HEAL: Duration = Duration::from_secs(120);

/// The watches of a process. Cloning shares them.
#[derive(Clone)]
pub(crate) struct Watches {
    restarts: IntCounterVec,
    panics: IntCounterVec,
    heard: Heard,
    all: Arc<Mutex<Vec<Arc<Health>>>>,
}

impl Watches {
    pub(crate) fn new(registry: &Registry, heard: Heard) -> Self {
        let help = "Watches that began anew with a list because taking an event in failed, or the server was restored.";
        let restarts = counters(registry, "mainstay_watch_restarts_total", help, &["resource"]);
        let help =
            "Objects that could not be taken in, or whose change could not be followed, because of a bug.";
        let panics = counters(registry, "mainstay_watch_panics_total", help, &["resource"]);
        Self { restarts, panics, heard, all: Arc::default() }
    }

    /// One more watch, of the objects of `resource` that `selector` picks. It is silent until it has begun.
    pub(crate) fn add(&self, resource: &str, selector: &str) -> Arc<Health> {
        self.heard.note(resource, selector);
        let [restarts, panics] = [&self.restarts, &self.panics].map(|all| all.with_label_values(&[resource]));
        let health =
            Arc::new(Health { resource: resource.to_owned(), restarts, panics, broken: Mutex::default() });
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
        ill.map_or(Ok(()), |health| Err(format!("the watch of {} is not running", health.resource)))
    }
}

#[derive(Clone, Copy)]
enum Broken {
    Since(Instant),
    Ended,
}

pub(crate) struct Health {
    resource: String,
    restarts: IntCounter,
    panics: IntCounter,
    broken: Mutex<Option<Broken>>,
}

impl Health {
    /// Runs what is done about one object. Where that panics there is no value, and the object alone is concerned.
    pub(crate) fn ward<T>(&self, act: impl FnOnce() -> T) -> Option<T> {
        let done = catch_unwind(AssertUnwindSafe(act));
        if done.is_err() {
            self.panics.inc();
            tracing::error!(resource = %self.resource, "one object could not be taken in; the others go on");
        }
        done.ok()
    }

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

/// Why a watch restarts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    Panicked,
    Ahead,
    Ended,
}

/// Has each event of `events` processed until the end of the process, and restarts the watch when that is necessary.
pub(crate) async fn supervise<W>(
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
        // A server that was restored is no fault of this process, which would be no better after a restart.
        let healed = why == Why::Ahead || health.breaks();
        pause = if healed { first } else { last.min(pause * 2) };
        tracing::error!(resource = %health.resource, ?why, "a watch starts again with a list");
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

#[cfg(test)]
mod tests;
