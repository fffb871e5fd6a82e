//! The controller's own metrics.

use std::collections::{BTreeSet, HashMap};

use mainstay_crds::MemberCounts;
use mainstay_runtime::{
    failure::RequestError,
    index::ObjectKey,
    metrics::{WriteFailures, counter, counters, gauge, gauges, histograms},
};
use parking_lot::Mutex;
use prometheus::{Histogram, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry};

/// From a hundredth of a second to a minute. The API server tells times in whole seconds, so one second says "at once".
const READY_TO_WRITTEN: [f64; 11] = [0.01, 0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0];

/// A write of a slice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// A new one.
    Create,
    /// A changed one.
    Update,
    /// One less.
    Delete,
}

impl Operation {
    const ALL: [Self; 3] = [Self::Create, Self::Update, Self::Delete];

    fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
        }
    }
}

/// What one pool adds to the gauges.
#[derive(Debug, Clone, Default)]
pub struct Gauged {
    /// Its members by state.
    pub members: MemberCounts,
    /// Why it does not serve, in one word; `None` when it does.
    pub not_ready: Option<&'static str>,
    /// Whether it is in panic.
    pub panic: bool,
    /// Whether a better tier than the one in use has members.
    pub failed_over: bool,
}

impl Gauged {
    /// Of a pool that has no endpoints, for this reason.
    pub fn none(reason: &'static str) -> Self {
        Self { not_ready: Some(reason), ..Self::default() }
    }
}

/// Why pools do not serve: most of that is an outage, and the first two can be meant. The other reasons of
/// `Ready` have a series once there was such a pool.
const REASONS: [&str; 8] = [
    "NoMembers",
    "ServiceTaken",
    "MembersRefused",
    "NoneHealthy",
    "AwaitingChecks",
    "AwaitingLookups",
    "ServiceNotFound",
    "ServiceHasSelector",
];

/// What the gauges add up.
#[derive(Debug, Default)]
struct Pools {
    known: HashMap<ObjectKey, Gauged>,
    /// The reasons that have a series.
    reasons: BTreeSet<&'static str>,
}

/// What the controller does for pools.
#[derive(Debug)]
pub struct Metrics {
    slice_writes: IntCounterVec,
    failures: WriteFailures,
    ready_to_written: Histogram,
    tier_changes: IntCounter,
    panics: IntCounter,
    gates: IntCounter,
    pools: IntGauge,
    members: IntGaugeVec,
    not_ready: IntGaugeVec,
    in_panic: IntGauge,
    failed_over: IntGauge,
    of_pools: Mutex<Pools>,
}

impl Metrics {
    /// Registers the series.
    ///
    /// # Panics
    /// When they are registered already.
    pub fn new(registry: &Registry) -> Self {
        let counter = |name, help| counter(registry, name, help);
        let gauge = |name, help| gauge(registry, name, help);
        let slice_writes = counters(
            registry,
            "mainstay_endpoints_slice_writes_total",
            "EndpointSlices written, by operation.",
            &["operation"],
        );
        Operation::ALL.iter().for_each(|operation| drop(slice_writes.with_label_values(&[operation.name()])));
        let ready_to_written = histograms(
            registry,
            "mainstay_endpoints_ready_to_written_seconds",
            "From the time at which a pod became ready, which the API server records in whole seconds, \
             until the slice with its endpoint was written.",
            READY_TO_WRITTEN.to_vec(),
            &[],
        );
        Self {
            slice_writes,
            failures: WriteFailures::new(registry, "endpoints"),
            ready_to_written: ready_to_written.with_label_values::<&str>(&[]),
            tier_changes: counter("mainstay_endpoints_tier_changes_total", "Changes of the active tier."),
            panics: counter("mainstay_endpoints_panics_total", "How often panic mode started."),
            gates: counter("mainstay_endpoints_gates_opened_total", "Readiness gates opened."),
            pools: gauge("mainstay_endpoints_pools", "EndpointPools."),
            members: gauges(
                registry,
                "mainstay_endpoints_members",
                "Members of all pools by state.",
                &["state"],
            ),
            not_ready: gauges(
                registry,
                "mainstay_endpoints_pools_not_ready",
                "Pools that have no endpoint that gets traffic, by the reason.",
                &["reason"],
            ),
            in_panic: gauge(
                "mainstay_endpoints_pools_in_panic",
                "Pools in panic mode, which use failing \
                                                                  members.",
            ),
            failed_over: gauge(
                "mainstay_endpoints_pools_failed_over",
                "Pools whose best tier is not active.",
            ),
            of_pools: Mutex::new(Pools { reasons: REASONS.into(), ..Pools::default() }),
        }
    }

    pub(crate) fn wrote(&self, operation: Operation) {
        self.slice_writes.with_label_values(&[operation.name()]).inc();
    }

    /// A write failed.
    pub(crate) fn failed(&self, operation: &'static str, error: &RequestError) {
        self.failures.note(operation, error);
    }

    pub(crate) fn written_after(&self, seconds: f64) {
        self.ready_to_written.observe(seconds.max(0.0));
    }

    pub(crate) fn tier_changed(&self) {
        self.tier_changes.inc();
    }

    pub(crate) fn panic_began(&self) {
        self.panics.inc();
    }

    pub(crate) fn gates_opened(&self, count: usize) {
        self.gates.inc_by(u64::try_from(count).unwrap_or(u64::MAX));
    }

    pub(crate) fn set(&self, pool: &ObjectKey, gauged: Gauged) {
        let mut of_pools = self.of_pools.lock();
        of_pools.reasons.extend(gauged.not_ready);
        of_pools.known.insert(pool.clone(), gauged);
    }

    /// How many pools are known not to be ready for this reason.
    #[cfg(test)]
    pub(crate) fn not_ready(&self, reason: &str) -> i64 {
        self.refresh(0);
        self.not_ready.with_label_values(&[reason]).get()
    }

    pub(crate) fn forget(&self, pool: &ObjectKey) {
        self.of_pools.lock().known.remove(pool);
    }

    /// Adds the pools up, for the moment of a scrape.
    pub fn refresh(&self, pools: usize) {
        let Pools { known: of_pools, reasons } = &*self.of_pools.lock();
        let count = |is: fn(&Gauged) -> bool| of_pools.values().filter(|pool| is(pool)).count();
        let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.pools.set(number(pools));
        for &reason in reasons {
            let such = of_pools.values().filter(|pool| pool.not_ready == Some(reason)).count();
            self.not_ready.with_label_values(&[reason]).set(number(such));
        }
        self.in_panic.set(number(count(|pool| pool.panic)));
        self.failed_over.set(number(count(|pool| pool.failed_over)));
        for (state, members) in STATES {
            let total: i64 = of_pools.values().map(|pool| i64::from(members(&pool.members))).sum();
            self.members.with_label_values(&[state]).set(total);
        }
    }
}

type Counted = fn(&MemberCounts) -> i32;

/// The states of members, as the label has them.
const STATES: [(&str, Counted); 8] = [
    ("in_use", |members| members.in_use),
    ("standby", |members| members.standby),
    ("failing", |members| members.failing),
    ("not_ready", |members| members.not_ready),
    ("unchecked", |members| members.unchecked),
    ("waiting", |members| members.waiting),
    ("leaving", |members| members.leaving),
    ("refused", |members| members.refused),
];
