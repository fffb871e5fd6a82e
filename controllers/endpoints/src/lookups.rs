//! Looks up the DNS names of all pools and keeps their addresses.
//!
//! A name that several pools use is looked up once. [`Names`] decides when a name is looked up again, and what a
//! failure does to its addresses.

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeSet, HashMap},
    net::IpAddr,
    sync::Arc,
};

use futures::{
    StreamExt,
    future::{BoxFuture, FutureExt, ready},
    stream::FuturesUnordered,
};
use mainstay_probe::{Answer, Family, Names, ResolveError, Resolver};
use mainstay_runtime::{
    index::ObjectKey,
    metrics::{counters, histograms},
};
use parking_lot::Mutex;
use prometheus::{Histogram, IntCounterVec, Registry};
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

/// How many lookups may run at the same time.
const LIMIT: usize = 16;

/// After this many failures in a row, which take about eight minutes, nothing waits for the answer any more.
pub(crate) const GIVEN_UP: u32 = 20;

/// Seconds, from a millisecond to the time at which a lookup ends without an answer.
const DURATIONS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 10.0];

/// How lookups went.
#[derive(Clone, Debug)]
pub struct LookupMetrics {
    lookups: IntCounterVec,
    duration: Histogram,
}

impl LookupMetrics {
    /// Registers the series.
    ///
    /// # Panics
    /// When they are registered already.
    pub fn new(registry: &Registry) -> Self {
        let metrics = Self {
            lookups: counters(
                registry,
                "mainstay_endpoints_lookups_total",
                "Lookups of DNS names by result.",
                &["result"],
            ),
            duration: histograms(
                registry,
                "mainstay_endpoints_lookup_duration_seconds",
                "How long a lookup takes.",
                DURATIONS.to_vec(),
                &[],
            )
            .with_label_values::<&str>(&[]),
        };
        metrics.lookups.with_label_values(&["success"]);
        metrics
    }

    fn ended(&self, began: Instant, result: &Result<Answer, ResolveError>) {
        let result = result.as_ref().map_or_else(ResolveError::reason, |_| "success");
        self.lookups.with_label_values(&[result]).inc();
        self.duration.observe(began.elapsed().as_secs_f64());
    }
}

/// What is known of a name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lookup {
    /// The last good addresses, sorted.
    pub addresses: Vec<IpAddr>,
    /// The families for which no lookup of this process has been answered: its addresses of these families are
    /// unknown, and not none.
    pub unknown: Vec<Family>,
    /// Why the last lookup failed, as a sentence for a status; `None` when it succeeded.
    pub failure: Option<String>,
    /// Whether lookups have failed too often in a row for addresses that are to be removed to wait for an answer.
    pub given_up: bool,
}

impl Lookup {
    /// Whether the name may resolve to this address, as far as is known.
    pub fn is_unknown(&self, address: &IpAddr) -> bool {
        self.unknown.iter().any(|family| family.has(address))
    }
}

type Ask = dyn Fn(String) -> BoxFuture<'static, Result<Answer, ResolveError>> + Send + Sync;

/// Looks up the names of all pools.
pub struct Lookups {
    table: Mutex<Table>,
    /// What is due next may have changed.
    wake: Notify,
    ask: Box<Ask>,
    metrics: LookupMetrics,
    changed: Box<dyn Fn(&ObjectKey) + Send + Sync>,
}

struct Table {
    names: Names,
    wanted: HashMap<ObjectKey, BTreeSet<String>>,
}

impl Lookups {
    /// Uses `resolver`; without one, each lookup fails with its error. `changed` is called for each pool that wants a
    /// name when the addresses of the name change, when its lookups begin or cease to fail, and when its answer is no
    /// longer awaited. It may call back into the lookups.
    pub fn new(
        resolver: Result<Resolver, ResolveError>,
        metrics: LookupMetrics,
        changed: impl Fn(&ObjectKey) + Send + Sync + 'static,
    ) -> Self {
        let resolver = resolver.map(Arc::new);
        let ask = move |name: String| match resolver.clone() {
            Ok(resolver) => async move { resolver.look_up(&name).await }.boxed(),
            Err(error) => ready(Err(error)).boxed(),
        };
        Self::asking(ask, metrics, changed)
    }

    fn asking(
        ask: impl Fn(String) -> BoxFuture<'static, Result<Answer, ResolveError>> + Send + Sync + 'static,
        metrics: LookupMetrics,
        changed: impl Fn(&ObjectKey) + Send + Sync + 'static,
    ) -> Self {
        Self {
            table: Mutex::new(Table { names: Names::new(Instant::now()), wanted: HashMap::new() }),
            wake: Notify::new(),
            ask: Box::new(ask),
            metrics,
            changed: Box::new(changed),
        }
    }

    /// From now on the pool wants exactly these names. New ones are looked up at once; what is known of the others
    /// stays, and a name that no pool wants any more is forgotten.
    pub fn want<'a>(&self, pool: &ObjectKey, names: impl IntoIterator<Item = &'a str>) {
        let names: BTreeSet<String> = names.into_iter().map(str::to_owned).collect();
        self.table.lock().want(pool, names);
        self.wake.notify_one();
    }

    /// What is known of `name`; nothing of one that no pool wants.
    pub fn get(&self, name: &str) -> Lookup {
        let table = self.table.lock();
        let known = table.names.get(name);
        Lookup {
            addresses: known.addresses.to_vec(),
            unknown: known.unknown.to_vec(),
            failure: known.failure.map(ToString::to_string),
            given_up: known.failures >= GIVEN_UP,
        }
    }

    /// Records an answer for a name, as if a lookup had ended with it.
    #[cfg(test)]
    pub(crate) fn answer(&self, name: &str, addresses: &[IpAddr]) {
        let answer = Answer {
            addresses: addresses.to_vec(),
            valid_for: std::time::Duration::from_secs(60),
            unanswered: None,
        };
        self.ended(name, Ok(answer));
    }

    /// Records this many failures in a row, as if lookups had ended with them.
    #[cfg(test)]
    pub(crate) fn fail(&self, name: &str, times: u32) {
        (0..times).for_each(|_| self.ended(name, Err(ResolveError::TimedOut)));
    }

    /// The pool wants no names any more.
    pub fn forget(&self, pool: &ObjectKey) {
        self.want(pool, []);
    }

    /// Runs the lookups when they are due, until `shutdown`. Those that are in progress then, or when the future is
    /// dropped, end with it. Must be called only once.
    pub async fn run(&self, shutdown: CancellationToken) {
        let mut under_way = FuturesUnordered::new();
        loop {
            let free = LIMIT - under_way.len();
            let (begun, next) = self.table.lock().begin(free, Instant::now());
            under_way.extend(begun.into_iter().map(|name| self.look_up(name)));
            let due = async {
                match next {
                    Some(next) => sleep_until(next).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.wake.notified() => {}
                () = due => {}
                Some((name, result)) = under_way.next() => self.ended(&name, result),
            }
        }
    }

    async fn look_up(&self, name: String) -> (String, Result<Answer, ResolveError>) {
        let began = Instant::now();
        let result = (self.ask)(name.clone()).await;
        self.metrics.ended(began, &result);
        (name, result)
    }

    fn ended(&self, name: &str, result: Result<Answer, ResolveError>) {
        let changed = self.table.lock().ended(name, result, Instant::now());
        changed.iter().for_each(|pool| (self.changed)(pool));
    }
}

impl Table {
    fn want(&mut self, pool: &ObjectKey, names: BTreeSet<String>) {
        let before = match names.is_empty() {
            true => self.wanted.remove(pool),
            false => self.wanted.insert(pool.clone(), names),
        };
        if before.as_ref() != self.wanted.get(pool) {
            self.names.want(self.wanted.values().flatten().cloned());
        }
    }

    /// The names whose lookup begins now, at most `free`, and when the next comes due if one may begin then.
    fn begin(&mut self, free: usize, now: Instant) -> (Vec<String>, Option<Instant>) {
        if free == 0 {
            return (Vec::new(), None);
        }
        let mut due = self.names.due(now);
        due.truncate(free);
        due.iter().for_each(|name| self.names.began(name));
        let next = self.names.next().filter(|_| due.len() < free);
        (due, next)
    }

    /// Records the result of a lookup. Returns the pools for which something has changed.
    fn ended(&mut self, name: &str, result: Result<Answer, ResolveError>, now: Instant) -> Vec<ObjectKey> {
        let failing = |names: &Names| {
            let failures = names.get(name).failures;
            (failures > 0, failures >= GIVEN_UP)
        };
        let before = failing(&self.names);
        let changed = self.names.answered(name, result, now);
        if !changed && failing(&self.names) == before {
            return Vec::new();
        }
        let wanting = self.wanted.iter().filter(|(_, names)| names.contains(name));
        wanting.map(|(pool, _)| pool.clone()).collect()
    }
}
