//! Runs the checks of all pools when they are due, and keeps their results.
//!
//! It promises:
//!
//! - A target has at most one check in progress, a pool at most [`Definition::max_concurrent`], and all pools together
//!   at most the limit. Of the targets that may be checked, the one that has been due for longest comes first; a pool
//!   whose checks hang delays no other pool, as long as the limit is not reached.
//! - A result counts only for the target that it was requested for: a result of a target that is no longer wanted, or
//!   of an earlier port or definition, is dropped.
//! - A tick costs work only for the targets that are due.

mod metrics;
mod table;
#[cfg(test)]
mod tests;
mod types;

use std::{collections::HashMap, net::SocketAddr, sync::Arc};

use futures::{
    StreamExt,
    future::{BoxFuture, FutureExt},
    stream::FuturesUnordered,
};
use mainstay_probe::{Check, Outcome};
use mainstay_runtime::{clock::Clock, index::ObjectKey};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use self::table::{Job, Next, Table};
pub use self::{
    metrics::CheckMetrics,
    types::{Definition, State, Target, Wanted},
};

type Ask = dyn Fn(Arc<Check>, SocketAddr) -> BoxFuture<'static, Outcome> + Send + Sync;

/// Checks the targets of all pools.
pub struct Checker {
    table: Mutex<Table>,
    /// What is due next may have changed.
    wake: Notify,
    ask: Box<Ask>,
    metrics: CheckMetrics,
    clock: Clock,
    changed: Box<dyn Fn(&ObjectKey) + Send + Sync>,
}

impl Checker {
    /// At most `limit` checks of all pools run at the same time; zero counts as one. `changed` is called for a pool
    /// when the verdict of one of its targets changes or is known for the first time, and never for a check that does
    /// not change a verdict. It may call back into the checker.
    pub fn new(
        limit: usize,
        metrics: CheckMetrics,
        clock: Clock,
        changed: impl Fn(&ObjectKey) + Send + Sync + 'static,
    ) -> Self {
        let ask = |check: Arc<Check>, address| async move { check.run(address).await }.boxed();
        Self::asking(ask, limit, metrics, clock, changed)
    }

    fn asking(
        ask: impl Fn(Arc<Check>, SocketAddr) -> BoxFuture<'static, Outcome> + Send + Sync + 'static,
        limit: usize,
        metrics: CheckMetrics,
        clock: Clock,
        changed: impl Fn(&ObjectKey) + Send + Sync + 'static,
    ) -> Self {
        Self {
            table: Mutex::new(Table::new(limit)),
            wake: Notify::new(),
            ask: Box::new(ask),
            metrics,
            clock,
            changed: Box::new(changed),
        }
    }

    /// From now on exactly these targets of the pool are checked, so defined. Known ones keep their verdict.
    ///
    /// A new target is checked within a second, or within the interval if that is shorter; one with a resumed verdict
    /// within the interval. So is, at the latest within a second, one whose port or definition is another. A definition
    /// is the same only when it is the same `Arc`: keep it as long as the spec of the check is the same.
    pub fn want(&self, pool: &ObjectKey, definition: Arc<Definition>, targets: HashMap<Target, Wanted>) {
        self.table.lock().want(pool, definition, targets, self.clock.now());
        self.wake.notify_one();
    }

    /// What is known of the targets that the pool wants.
    pub fn states(&self, pool: &ObjectKey) -> HashMap<Target, State> {
        self.table.lock().states(pool)
    }

    /// Checks no target of the pool any more, and forgets what is known of them.
    pub fn forget(&self, pool: &ObjectKey) {
        self.table.lock().forget(pool);
        self.wake.notify_one();
    }

    /// Runs the checks when they are due, until `shutdown`. Checks that are in progress then, or when the future is
    /// dropped, end with it. Must be called only once.
    pub async fn run(&self, shutdown: CancellationToken) {
        let mut under_way = FuturesUnordered::new();
        loop {
            let next = loop {
                let next = self.table.lock().next(self.clock.now());
                match next {
                    Next::Begin(job) => under_way.push(self.check(job)),
                    Next::Wait(until) => break until,
                }
            };
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.wake.notified() => {}
                () = self.clock.until(next) => {}
                Some((job, outcome)) = under_way.next() => self.ended(&job, outcome),
            }
        }
    }

    async fn check(&self, job: Job) -> (Job, Outcome) {
        let _in_flight = self.metrics.begun(job.delay);
        let address = SocketAddr::new(job.target.1, job.port);
        let outcome = (self.ask)(Arc::clone(&job.check), address).await;
        self.metrics.ended(&job.check.kind, &outcome);
        (job, outcome)
    }

    fn ended(&self, job: &Job, outcome: Outcome) {
        let jitter = rand::random_range(-1.0..=1.0);
        let changed = self.table.lock().ended(job, outcome.result, self.clock.now(), jitter);
        if changed {
            (self.changed)(&job.pool);
        }
    }
}
