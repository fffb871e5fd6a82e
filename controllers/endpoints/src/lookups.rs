//! Looks up the DNS names of all pools and keeps their addresses.
//!
//! A name that several pools want is looked up once, in the turn of the pool that comes first: pools have
//! [fair shares](mainstay_runtime::places) of the lookups that are under way. When a name is asked again, and what a failure
//! does to its addresses, are rules of [`Names`].

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeSet, HashMap},
    net::IpAddr,
    time::Duration,
};

use futures::future::BoxFuture;
use mainstay_probe::{Answer, Answered, Family, Names, ResolveError};
use mainstay_runtime::{
    clock::{Clock, Moment},
    index::ObjectKey,
    jobs::Jobs,
    metrics::{counters, histograms},
    places::{Next, Places},
    solo::{self, Beat, Solo},
};
use parking_lot::Mutex;
use prometheus::{Histogram, IntCounterVec, Registry};
use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::settings::MAX_MEMBERS;

/// How many lookups may run at the same time.
const LIMIT: usize = 16;

/// This many addresses of a name are known in any case. Of all names of a pool, which are 1024 at most, no more are known beside
/// those than the pool may have members: an answer of others decides how many there are.
const ALWAYS: usize = 16;

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
    /// How many more the answer had, for which the pools had no room.
    pub left_out: usize,
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
    clock: Clock,
    changed: Box<dyn Fn(&ObjectKey) + Send + Sync>,
}

struct Table {
    names: Names,
    wanted: HashMap<ObjectKey, BTreeSet<String>>,
    /// The pools that want each name.
    pools: HashMap<String, BTreeSet<ObjectKey>>,
    /// Each name is in the line of each pool that wants it, unless its lookup is under way.
    places: Places<ObjectKey, String>,
    /// When each name is due; `None` while its lookup is under way.
    due: HashMap<String, Option<Moment>>,
    /// How many addresses of a name's last answer were left out.
    left_out: HashMap<String, usize>,
}

impl Lookups {
    /// Looks names up by `ask`. `changed` is called for each pool that wants a
    /// name when the addresses of the name change, when its lookups begin or cease to fail, and when its answer is no
    /// longer awaited. It may call back into the lookups.
    pub fn new(
        ask: impl Fn(String) -> BoxFuture<'static, Result<Answer, ResolveError>> + Send + Sync + 'static,
        metrics: LookupMetrics,
        clock: Clock,
        changed: impl Fn(&ObjectKey) + Send + Sync + 'static,
    ) -> Self {
        Self {
            table: Mutex::new(Table {
                names: Names::default(),
                wanted: HashMap::new(),
                pools: HashMap::new(),
                places: Places::new(LIMIT),
                due: HashMap::new(),
                left_out: HashMap::new(),
            }),
            wake: Notify::new(),
            ask: Box::new(ask),
            metrics,
            clock,
            changed: Box::new(changed),
        }
    }

    /// From now on the pool wants exactly these names. New ones are looked up at once; what is known of the others
    /// stays, and a name that no pool wants any more is forgotten.
    pub fn want<'a>(&self, pool: &ObjectKey, names: impl IntoIterator<Item = &'a str>) {
        let names: BTreeSet<String> = names.into_iter().map(str::to_owned).collect();
        self.table.lock().want(pool, names, self.clock.now());
        self.wake.notify_one();
    }

    /// What is known of `name`; nothing of one that no pool wants.
    pub fn get(&self, name: &str) -> Lookup {
        let table = self.table.lock();
        let known = table.names.get(name);
        Lookup {
            addresses: known.addresses.to_vec(),
            left_out: table.left_out.get(name).copied().unwrap_or_default(),
            unknown: known.unknown.to_vec(),
            failure: known.failure.map(ToString::to_string),
            given_up: known.failures >= GIVEN_UP,
        }
    }

    /// Records an answer for a name, as if a lookup had ended with it.
    #[cfg(test)]
    pub(crate) fn answer(&self, name: &str, addresses: &[IpAddr]) {
        let valid_for = Duration::from_secs(60);
        self.answered(name, Ok(Answer { addresses: addresses.to_vec(), valid_for, unanswered: None }));
    }

    /// Records this many failures in a row, as if lookups had ended with them.
    #[cfg(test)]
    pub(crate) fn fail(&self, name: &str, times: u32) {
        (0..times).for_each(|_| self.answered(name, Err(ResolveError::TimedOut)));
    }

    /// The pool wants no names any more.
    pub fn forget(&self, pool: &ObjectKey) {
        self.want(pool, []);
    }

    /// Makes the lookups as they come due, until `shutdown`. Those that are under way then, or when the future is
    /// dropped, end with it. To be called once.
    pub async fn run(&self, beat: &Beat, shutdown: CancellationToken) {
        let mut asking = Asking { lookups: self, under_way: Jobs::default() };
        solo::run(&mut asking, Duration::ZERO, &self.wake, beat, &self.clock, &shutdown).await;
    }

    async fn look_up(&self, name: String) -> Result<Answer, ResolveError> {
        let began = Instant::now();
        let result = (self.ask)(name).await;
        self.metrics.ended(began, &result);
        result
    }

    fn answered(&self, name: &str, result: Result<Answer, ResolveError>) {
        let changed = self.table.lock().answered(name, result, self.clock.now());
        changed.iter().for_each(|pool| (self.changed)(pool));
    }
}

/// The lookups that are under way, each of a name in the turn of a pool.
struct Asking<'a> {
    lookups: &'a Lookups,
    under_way: Jobs<'a, (ObjectKey, String), Result<Answer, ResolveError>>,
}

impl Solo for Asking<'_> {
    fn pass(&mut self) -> Option<Moment> {
        let lookups = self.lookups;
        loop {
            let next = lookups.table.lock().begin(lookups.clock.now());
            match next {
                Next::Begin { owner, key: name, .. } => {
                    self.under_way.start((owner, name.clone()), lookups.look_up(name));
                }
                Next::Wait(until) => return until,
            }
        }
    }

    async fn take_in(&mut self) {
        let ((pool, name), result) = self.under_way.next().await;
        self.lookups.table.lock().places.ended(&pool, &name);
        let defect =
            || Err(ResolveError::Server("the lookup panicked; this is a defect of Mainstay".to_owned()));
        self.lookups.answered(&name, result.unwrap_or_else(defect));
    }
}

impl Table {
    fn want(&mut self, pool: &ObjectKey, names: BTreeSet<String>, now: Moment) {
        let before = self.wanted.remove(pool).unwrap_or_default();
        for name in before.difference(&names) {
            self.places.remove(pool, name);
            let pools = self.pools.get_mut(name).expect("each name that is wanted has its pools");
            pools.remove(pool);
            if pools.is_empty() {
                self.pools.remove(name);
                self.names.forget(name);
                self.left_out.remove(name);
                // One whose lookup is under way is forgotten with its end.
                if self.due.get(name).is_some_and(Option::is_some) {
                    self.due.remove(name);
                }
            }
        }
        for name in names.difference(&before) {
            self.pools.entry(name.clone()).or_default().insert(pool.clone());
            self.names.know(name);
            if let Some(due) = *self.due.entry(name.clone()).or_insert(Some(now)) {
                self.places.put(pool, name.clone(), due);
            }
        }
        if !names.is_empty() {
            self.wanted.insert(pool.clone(), names);
        }
    }

    fn wanting(&self, name: &str) -> Vec<ObjectKey> {
        self.pools.get(name).into_iter().flatten().cloned().collect()
    }

    /// The lookup that begins now, if there is one.
    fn begin(&mut self, now: Moment) -> Next<ObjectKey, String> {
        let next = self.places.next(now);
        if let Next::Begin { owner, key: name, .. } = &next {
            self.due.insert(name.clone(), None);
            for other in self.wanting(name).iter().filter(|pool| *pool != owner) {
                self.places.remove(other, name);
            }
        }
        next
    }

    /// Cuts an answer to what the pools that want the name have room for. What is known already stays first.
    fn cut(&mut self, name: &str, mut answer: Answer) -> Answer {
        self.left_out.remove(name);
        let count = answer.addresses.len();
        if count <= ALWAYS || !self.pools.contains_key(name) {
            return answer;
        }
        let room = self.room(name).max(ALWAYS);
        if count > room {
            let known = self.names.get(name).addresses;
            answer.addresses.sort_by_key(|address| (known.binary_search(address).is_err(), *address));
            answer.addresses.truncate(room);
            answer.addresses.sort_unstable();
            self.left_out.insert(name.to_owned(), count - room);
        }
        answer
    }

    /// How many addresses of a name the pool that has the most room for them has room for.
    fn room(&self, name: &str) -> usize {
        let others = |pool: &ObjectKey| {
            let names = self.wanted.get(pool).into_iter().flatten().filter(|other| *other != name);
            names.map(|other| self.names.get(other).addresses.len()).sum::<usize>()
        };
        let pools = self.pools.get(name).into_iter().flatten();
        pools.map(|pool| MAX_MEMBERS.saturating_sub(others(pool))).max().unwrap_or_default()
    }

    /// Takes in how a lookup ended. Returns the pools for which that is news.
    fn answered(&mut self, name: &str, result: Result<Answer, ResolveError>, now: Moment) -> Vec<ObjectKey> {
        let failing = |names: &Names| {
            let failures = names.get(name).failures;
            (failures > 0, failures >= GIVEN_UP)
        };
        let before = failing(&self.names);
        let result = result.map(|answer| self.cut(name, answer));
        let Some(Answered { changed, again }) = self.names.answered(name, result) else {
            self.due.remove(name);
            return Vec::new();
        };
        let (due, pools) = (now + again, self.wanting(name));
        self.due.insert(name.to_owned(), Some(due));
        for pool in &pools {
            self.places.put(pool, name.to_owned(), due);
        }
        if changed || failing(&self.names) != before { pools } else { Vec::new() }
    }
}
