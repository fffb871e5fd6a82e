//! The loop: which object is reconciled when, and what becomes of a reconcile that fails, panics or takes too long.
//!
//! A reconcile is cheap and complete: it looks at the whole object and everything that belongs to it. Two of one key never
//! overlap, and start a pace apart ([`Reconciler::pace`]), so that a key with a thousand changes a second costs what ten
//! reconciles cost; the first change after a rest is served at once.

use std::{fmt::Debug, future::Future, sync::Arc, time::Duration};

use futures::{StreamExt, stream::FuturesUnordered};
use kube::{Resource, runtime::reflector::Store};
use tokio::time::Instant;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tracing::Instrument;

pub use crate::{
    failure::ReconcileError,
    outcome::{Concern, Outcomes, Turn},
    queue::Lane,
    work::Work,
};
use crate::{key::ObjectKey, outcome::WHOLE};

/// Reconciles of one key start at least this far apart.
pub const PACE: Duration = Duration::from_millis(100);

/// Each object is looked at so often although nothing has been heard of it (controller-runtime's `SyncPeriod` is 10 hours;
/// client-go's informers of kube-controller-manager resync after 12 to 24).
pub const RESYNC: Duration = Duration::from_secs(600);

/// The domain half of a controller.
pub trait Reconciler: Send + Sync + 'static {
    /// The kind that is reconciled.
    type Object: Resource<DynamicType = ()> + Clone + Debug + Send + Sync + 'static;

    /// Brings what belongs to `object` to what its spec asks for, or as near to it as is granted by `turn`.
    fn reconcile(
        self: Arc<Self>,
        object: Arc<Self::Object>,
        turn: Turn,
    ) -> impl Future<Output = Outcomes> + Send + 'static;

    /// Forgets what is remembered of an object that is gone, or whose name another has taken.
    fn forget(&self, key: &ObjectKey);

    /// How long the key rests after a reconcile of `object`: more than [`PACE`] for those of which one costs much.
    fn pace(&self, _object: &Self::Object) -> Duration {
        PACE
    }
}

/// Makes each object of `store` due once in [`RESYNC`], one after the other and none together with all others, for as long as
/// it is polled: the net under every change that was lost.
pub async fn resync<K>(work: Arc<Work>, store: Store<K>)
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    loop {
        // The keys alone: a round takes minutes, and each object that changes meanwhile would be held twice.
        let keys: Vec<_> = store.state().iter().map(|object| ObjectKey::of(&**object)).collect();
        let count = u32::try_from(keys.len()).unwrap_or(u32::MAX).max(1);
        // As many processes as there are objects do not ask for theirs at the same time.
        let rest = RESYNC.mul_f64(rand::random_range(0.9..1.1)) / count;
        if keys.is_empty() {
            tokio::time::sleep(rest).await;
        }
        for key in keys {
            tokio::time::sleep(rest).await;
            work.trigger_in(Lane::Time, &key);
        }
    }
}

/// How [`run`] bounds reconciles.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// How many keys are served at the same time.
    pub concurrency: u16,
    /// A reconcile that takes longer is ended.
    pub timeout: Duration,
}

/// Serves the keys of `work` until `shutdown`, then lets what is under way end. Dropping the future ends it at once.
pub async fn run<R: Reconciler>(
    reconciler: Arc<R>,
    store: Store<R::Object>,
    work: Arc<Work>,
    bounds: Bounds,
    shutdown: CancellationToken,
) {
    work.start(bounds.concurrency.into());
    let mut under_way = FuturesUnordered::new();
    loop {
        let may_begin = under_way.len() < usize::from(bounds.concurrency) && !shutdown.is_cancelled();
        tokio::select! {
            biased;
            () = shutdown.cancelled(), if under_way.is_empty() => return,
            // One that ends is concluded before another begins: its key may be due again.
            Some(()) = under_way.next(), if !under_way.is_empty() => {}
            key = work.next(), if may_begin => {
                under_way.push(serve(Arc::clone(&reconciler), store.clone(), Arc::clone(&work), key, bounds.timeout));
            }
            () = shutdown.cancelled(), if may_begin => {}
        }
    }
}

async fn serve<R: Reconciler>(
    reconciler: Arc<R>,
    store: Store<R::Object>,
    work: Arc<Work>,
    key: ObjectKey,
    limit: Duration,
) {
    // Looked up only now, after the key was taken out of the queue: a later change puts it in again.
    let is_known = |object: &Arc<R::Object>| work.is_of(&key, &**object) == Some(true);
    let Some(object) = store.get(&key.reference()).filter(is_known) else { return work.skip(&key) };
    let (began, pace, turn) = (Instant::now(), reconciler.pace(&object), work.turn(&key));
    let span = tracing::info_span!("reconcile", namespace = %key.namespace, name = %key.name);
    // A task of its own turns a panic into an error of this key.
    let whole_waits = turn.held(WHOLE).is_some();
    let reconciling = reconciler.reconcile(object, turn).instrument(span.clone());
    let mut task = AbortOnDropHandle::new(tokio::spawn(reconciling));
    let metrics = work.metrics();
    metrics.active_workers.inc();
    let outcomes = match tokio::time::timeout(limit, &mut task).await {
        // While the whole waits nothing was tried that may panic.
        Ok(Ok(outcomes)) if whole_waits => outcomes,
        Ok(Ok(outcomes)) => outcomes.with_whole(),
        Ok(Err(crash)) => {
            metrics.panics.inc();
            span.in_scope(|| tracing::error!(%crash, "the reconcile panicked; only this object is affected"));
            Outcomes::whole_failed("Panicked")
        }
        Err(_) => {
            metrics.timeouts.inc();
            span.in_scope(|| {
                tracing::error!(seconds = limit.as_secs(), "the reconcile took too long and was ended");
            });
            task.abort();
            // Nothing of it may go on while the next one runs, or after its object was forgotten.
            let _ = task.await;
            Outcomes::whole_failed("TimedOut")
        }
    };
    metrics.active_workers.dec();
    let took = began.elapsed().as_secs_f64();
    metrics.time.observe(took);
    metrics.work_time.observe(took);
    span.in_scope(|| outcomes.log());
    work.conclude(&key, pace, outcomes);
}

#[cfg(test)]
mod tests;
