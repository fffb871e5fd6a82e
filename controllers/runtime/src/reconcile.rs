//! The loop around kube-runtime's applier, with what it lacks: a timeout and panic isolation a pass, backoff a
//! key, a pace, queue times, and an orderly end.
//!
//! A pass is cheap and complete: it looks at the whole object and everything that belongs to it. Passes over one
//! key never overlap, and start a pace apart ([`Reconciler::pace`]), so that a key with a thousand changes a
//! second costs what ten passes cost; the first change after a rest is served at once.

use std::{
    collections::HashMap,
    convert::Infallible,
    fmt::Debug,
    future::Future,
    sync::{Arc, OnceLock},
    time::Duration,
};

use futures::{FutureExt, Stream, StreamExt};
use kube::{
    Resource,
    runtime::{
        applier,
        controller::{self, Action, Config, ReconcileRequest},
        reflector::{ObjectRef, Store},
    },
};
use parking_lot::Mutex;
use thiserror::Error;
use tokio::time::Instant;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tracing::Instrument;

use crate::{
    backoff::{Backoff, Growth},
    failure::RequestError,
    key::ObjectKey,
    metrics::{LoopMetrics, PassResult},
    trigger::Triggers,
};

/// Passes over one key are at least this far apart.
pub const PACE: Duration = Duration::from_millis(100);

/// Each object is looked at so often although nothing has been heard of it (controller-runtime's `SyncPeriod` is 10 hours;
/// client-go's informers of kube-controller-manager resync after 12 to 24).
pub const RESYNC: Duration = Duration::from_secs(600);

/// An error of a pass: it always comes down to a request.
pub trait PassError: std::error::Error + Send + 'static {
    /// Why the request did not succeed.
    fn request(&self) -> &RequestError;
}

impl PassError for RequestError {
    fn request(&self) -> &RequestError {
        self
    }
}

/// Why a pass failed whose own writes fail with `E`.
#[derive(Debug, Error)]
pub enum PassFailure<E> {
    /// A write failed.
    #[error(transparent)]
    Apply(#[from] E),
    /// The status could not be written.
    #[error("could not write the status: {0}")]
    Status(#[source] RequestError),
}

impl<E: PassError> PassError for PassFailure<E> {
    fn request(&self) -> &RequestError {
        match self {
            Self::Apply(error) => error.request(),
            Self::Status(error) => error,
        }
    }
}

/// The domain half of a controller.
pub trait Reconciler: Send + Sync + 'static {
    /// The kind that a pass is about.
    type Object: Resource<DynamicType = ()> + Clone + Debug + Send + Sync + 'static;
    /// What a pass fails with.
    type Error: PassError;

    /// One pass over `object`. With `held` its writes must wait that long, because the last ones failed; it may
    /// still observe and report. Returns when time alone makes another pass worthwhile.
    fn reconcile(
        self: Arc<Self>,
        object: Arc<Self::Object>,
        held: Option<Duration>,
    ) -> impl Future<Output = Result<Option<Duration>, Self::Error>> + Send + 'static;

    /// How long the key rests after a pass over `object`: more than [`PACE`] for those over which a pass costs much.
    fn pace(&self, _object: &Self::Object) -> Duration {
        PACE
    }
}

/// What the loop remembers of its keys. All of it may be lost: a restart ends in the same state.
#[derive(Debug)]
pub struct Work {
    /// The keys with unserved changes.
    pub triggers: Triggers<ObjectKey>,
    /// The keys whose writes wait.
    pub backoff: Backoff<ObjectKey>,
    passes: Mutex<HashMap<ObjectKey, LastPass>>,
    /// Since when the loop runs. Keys wait in a standby for as long as it stands by.
    running: OnceLock<Instant>,
    metrics: LoopMetrics,
}

#[derive(Debug, Clone, Copy)]
enum LastPass {
    Running(Instant),
    Ended { at: Instant, pace: Duration },
}

impl Work {
    /// Makes an empty memory and the stream that [`run`] takes.
    pub fn new(metrics: LoopMetrics) -> (Arc<Self>, impl Stream<Item = ObjectKey>) {
        let (triggers, keys) = Triggers::new();
        let backoff = Backoff::new(Growth::default());
        (
            Arc::new(Self { triggers, backoff, passes: Mutex::default(), running: OnceLock::new(), metrics }),
            keys,
        )
    }

    /// Something about `key` has changed.
    pub fn trigger(&self, key: &ObjectKey) {
        if self.triggers.trigger(key) {
            self.metrics.adds.inc();
        }
    }

    /// Takes up a change of the kind that passes are about, after its store shows it. `forget` is called for one that is gone,
    /// and for one that another has taken the name of.
    pub fn root_changed<K>(&self, old: Option<&K>, new: Option<&K>, forget: impl FnOnce(&ObjectKey))
    where
        K: Resource<DynamicType = ()>,
    {
        let Some(object) = new.or(old) else { return };
        let key = ObjectKey::of(object);
        let differ = |old: &K, new: &K| old.meta().uid != new.meta().uid;
        if old.zip(new).is_none_or(|(old, new)| differ(old, new)) && old.is_some() {
            self.forget(&key);
            forget(&key);
        }
        let Some(new) = new else { return };
        if old.is_some_and(|old| old.meta().generation != new.meta().generation) {
            // A changed spec may be a right one: it is tried at once.
            self.backoff.forget(&key);
        }
        self.trigger(&key);
    }

    /// Forgets a key that is gone.
    pub fn forget(&self, key: &ObjectKey) {
        self.triggers.forget(key);
        self.backoff.forget(key);
        self.passes.lock().remove(key);
    }

    /// Whether the loop runs, keys have waited for `limit` and none was served in that time: the loop is stuck.
    pub fn stuck(&self, limit: Duration) -> bool {
        if self.running.get().is_none_or(|since| since.elapsed() < limit) {
            return false;
        }
        let served_lately = || {
            self.passes.lock().values().any(|pass| match pass {
                LastPass::Running(since) | LastPass::Ended { at: since, .. } => since.elapsed() < limit,
            })
        };
        self.triggers.longest_wait().is_some_and(|wait| wait > limit) && !served_lately()
    }

    /// Brings the gauges that are computed from the clock up to date; for the moment of a scrape.
    pub fn refresh_metrics(&self) {
        let passes = self.passes.lock();
        let ages = passes.values().filter_map(|pass| match pass {
            LastPass::Running(since) => Some(since.elapsed().as_secs_f64()),
            LastPass::Ended { .. } => None,
        });
        let (total, oldest) =
            ages.fold((0.0, 0.0_f64), |(total, oldest), age| (total + age, oldest.max(age)));
        self.metrics.unfinished.set(total);
        self.metrics.longest_running.set(oldest);
        self.metrics.depth.set(i64::try_from(self.triggers.depth()).unwrap_or(i64::MAX));
    }

    /// How long the key must still rest before its next pass.
    fn rest(&self, key: &ObjectKey) -> Option<Duration> {
        match self.passes.lock().get(key) {
            Some(LastPass::Ended { at, pace }) => {
                pace.checked_sub(at.elapsed()).filter(|left| !left.is_zero())
            }
            _ => None,
        }
    }

    fn note(&self, key: &ObjectKey, pass: LastPass) {
        self.passes.lock().insert(key.clone(), pass);
    }
}

/// Makes each object of `store` due once in [`RESYNC`], one after the other and none together with all others, for as long as
/// it is polled: the net under every change that nobody was told of.
pub async fn resync<K>(work: Arc<Work>, store: Store<K>)
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    loop {
        let objects = store.state();
        let count = u32::try_from(objects.len()).unwrap_or(u32::MAX).max(1);
        // As many processes as there are objects do not ask for theirs at the same time.
        let rest = RESYNC.mul_f64(rand::random_range(0.9..1.1)) / count;
        if objects.is_empty() {
            tokio::time::sleep(rest).await;
        }
        for key in objects.iter().map(|object| ObjectKey::of(&**object)) {
            tokio::time::sleep(rest).await;
            if store.get(&key.reference()).is_some() {
                work.trigger(&key);
            }
        }
    }
}

/// How [`run`] bounds its passes.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// How many keys are served at the same time.
    pub concurrency: u16,
    /// A pass that takes longer is ended.
    pub timeout: Duration,
}

/// Runs passes for the keys of the stream until `shutdown`, then lets the passes under way end. Dropping the
/// future ends them at once.
pub async fn run<R: Reconciler>(
    reconciler: Arc<R>,
    store: Store<R::Object>,
    work: Arc<Work>,
    keys: impl Stream<Item = ObjectKey>,
    bounds: Bounds,
    shutdown: CancellationToken,
) where
    R::Object: Resource<DynamicType = ()>,
{
    // A second run in one process would go on with the first one's keys; the first start is what counts.
    let _ = work.running.set(Instant::now());
    let queue = keys.take_until(shutdown.cancelled_owned());
    let queue = queue.map(|key| Ok::<_, Infallible>(ReconcileRequest::from(key.reference::<R::Object>())));
    let reconcile = |object: Arc<R::Object>, _: Arc<()>| {
        let (reconciler, work, store) = (Arc::clone(&reconciler), Arc::clone(&work), store.clone());
        let object = ObjectRef::from_obj(&*object);
        async move { Ok::<_, Infallible>(pass(reconciler, work, store, object, bounds.timeout).await) }
            .boxed()
    };
    let never = |_: Arc<R::Object>, error: &Infallible, _: Arc<()>| match *error {};
    let config = Config::default().concurrency(bounds.concurrency);
    let outcomes = applier(reconcile, never, Arc::new(()), store.clone(), queue, config);
    let outcomes = outcomes.for_each(|outcome| {
        if let Err(controller::Error::ObjectNotFound(object)) = outcome {
            skip(&work, &store, &ObjectKey::from(&*object));
        }
        futures::future::ready(())
    });
    outcomes.await;
}

/// A key was due whose object is gone: nothing is to be done, and the key waits no longer. Had it gone on waiting,
/// a later object of the same name would never be queued.
fn skip<K>(work: &Work, store: &Store<K>, key: &ObjectKey)
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    work.triggers.serve(key);
    // An object that has come since then found the key waiting, so its change was not queued.
    if store.get(&key.reference()).is_some() {
        work.trigger(key);
    }
}

async fn pass<R: Reconciler>(
    reconciler: Arc<R>,
    work: Arc<Work>,
    store: Store<R::Object>,
    object: ObjectRef<R::Object>,
    limit: Duration,
) -> Action {
    let key = ObjectKey::from(&object);
    if let Some(rest) = work.rest(&key) {
        return Action::requeue(rest);
    }
    let metrics = &work.metrics;
    if let Some(waited) = work.triggers.serve(&key) {
        metrics.queue_time.observe(waited.as_secs_f64());
    }
    // Looked up only now: a change that came before the line above is not queued again, so it must be seen here.
    let Some(object) = store.get(&object) else { return Action::await_change() };
    let held = work.backoff.held(&key);
    let (began, pace) = (Instant::now(), reconciler.pace(&object));
    work.note(&key, LastPass::Running(began));
    metrics.active_workers.inc();
    // A task of its own turns a panic into an error of this key.
    let span = tracing::info_span!("pass", namespace = %key.namespace, name = %key.name);
    let task =
        AbortOnDropHandle::new(tokio::spawn(reconciler.reconcile(object, held).instrument(span.clone())));
    let ended = tokio::time::timeout(limit, task).await;
    metrics.active_workers.dec();
    let took = began.elapsed().as_secs_f64();
    metrics.time.observe(took);
    metrics.work_time.observe(took);
    work.note(&key, LastPass::Ended { at: Instant::now(), pace });
    span.in_scope(|| conclude(&work, &key, held, ended.map_err(|_| limit)))
}

type Ended<E> = Result<Result<Result<Option<Duration>, E>, tokio::task::JoinError>, Duration>;

fn conclude<E: PassError>(work: &Work, key: &ObjectKey, held: Option<Duration>, ended: Ended<E>) -> Action {
    let metrics = &work.metrics;
    let retry_after = match ended {
        Ok(Ok(Ok(due))) => {
            if held.is_none() {
                work.backoff.forget(key);
            }
            let due = [due, work.backoff.held(key)].into_iter().flatten().min();
            metrics.finished(due.map_or(PassResult::Success, |_| PassResult::RequeueAfter));
            return due.map_or_else(Action::await_change, Action::requeue);
        }
        Ok(Ok(Err(error))) => {
            metrics.errors.inc();
            let request = error.request();
            if request.needs_change() {
                metrics.terminal_errors.inc();
            }
            tracing::warn!(reason = request.reason(), %error, "the reconcile failed");
            request.retry_after()
        }
        Ok(Err(crash)) => {
            metrics.panics.inc();
            tracing::error!(%crash, "the reconcile panicked; only this object is affected");
            None
        }
        Err(limit) => {
            metrics.timeouts.inc();
            tracing::error!(seconds = limit.as_secs(), "the reconcile timed out and was ended");
            None
        }
    };
    metrics.finished(PassResult::Error);
    metrics.retries.inc();
    Action::requeue(work.backoff.fail(key, retry_after))
}

#[cfg(test)]
mod tests;
