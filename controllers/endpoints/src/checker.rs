//! Runs the checks of all pools when they are due, and keeps their results.
//!
//! It promises:
//!
//! - A target has at most one check under way, a pool at most [`Definition::max_concurrent`], and all pools together
//!   at most the limit, of which they have [fair shares](mainstay_runtime::places): a pool whose checks hang holds up no
//!   other.
//! - A result counts only for what it was asked for: one of a target that is wanted no longer, or of a port or a
//!   definition of before, is dropped.
//! - A check that panics says nothing; it is made again.
//! - A tick costs what is due, and not what there is.

mod metrics;
mod table;
#[cfg(test)]
mod tests;
mod types;

use std::{collections::HashMap, net::SocketAddr, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use mainstay_probe::{Check, Outcome};
use mainstay_runtime::{
    clock::{Clock, Moment},
    index::ObjectKey,
    jobs::Jobs,
    solo::{self, Beat, Solo},
};
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
    /// Checks by `ask`. At most `limit` checks of all pools run at the same time; zero counts as one. `changed` is called for a pool
    /// when the verdict of one of its targets changes or is known for the first time, and when the first check tells why one
    /// fails of which a former leader said so; never for a check that says nothing new. It may call back into the checker.
    pub fn new(
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

    /// Makes the checks as they come due, until `shutdown`. Checks that are under way then, or when the future is
    /// dropped, end with it. To be called once.
    pub async fn run(&self, beat: &Beat, shutdown: CancellationToken) {
        let mut checking = Checking { checker: self, under_way: Jobs::default() };
        solo::run(&mut checking, Duration::ZERO, &self.wake, beat, &self.clock, &shutdown).await;
    }

    async fn check(&self, job: &Job) -> Outcome {
        let _in_flight = self.metrics.begun(job.delay);
        let address = SocketAddr::new(job.target.address, job.port);
        let outcome = (self.ask)(Arc::clone(&job.check), address).await;
        self.metrics.ended(&job.check.kind, &outcome);
        outcome
    }

    fn ended(&self, job: &Job, outcome: Option<Outcome>) {
        let jitter = rand::random_range(-1.0..=1.0);
        let result = outcome.map(|outcome| outcome.result);
        let changed = self.table.lock().ended(job, result, self.clock.now(), jitter);
        if changed {
            (self.changed)(&job.pool);
        }
    }
}

/// The checks that are under way.
struct Checking<'a> {
    checker: &'a Checker,
    under_way: Jobs<'a, Arc<Job>, Outcome>,
}

impl Solo for Checking<'_> {
    fn pass(&mut self) -> Option<Moment> {
        let checker = self.checker;
        loop {
            let next = checker.table.lock().next(checker.clock.now());
            match next {
                Next::Begin(job) => {
                    let job = Arc::new(job);
                    self.under_way.start(Arc::clone(&job), async move { checker.check(&job).await });
                }
                Next::Wait(until) => return until,
            }
        }
    }

    async fn take_in(&mut self) {
        let (job, outcome) = self.under_way.next().await;
        self.checker.ended(&job, outcome);
    }
}
