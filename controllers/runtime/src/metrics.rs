//! Prometheus metrics under the names of controller-runtime and its workqueue, so that existing dashboards work with
//! Mainstay too (controller-runtime: `pkg/internal/controller/metrics`, `pkg/metrics/workqueue.go`).
//!
//! Every series exists from the start with the value 0: `rate()` sees the first increment.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, OnceLock},
    time::Duration,
};

use prometheus::{
    Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry,
    core::Collector,
    exponential_buckets,
    proto::{LabelPair, MetricFamily},
};

use crate::{
    backoff::Backoff,
    concern::{Concern, STATUS},
    failure::RequestError,
    key::ObjectKey,
};

/// Registers a collector.
///
/// # Panics
/// When a series of that name is registered already: two of them would be a mistake in the program.
pub fn register<C: Collector + Clone + 'static>(registry: &Registry, collector: C) -> C {
    registry.register(Box::new(collector.clone())).expect("each series is registered once");
    collector
}

/// A counter with labels.
///
/// # Panics
/// As [`register`], and when the name or a label is no valid one.
pub fn counters(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    register(registry, IntCounterVec::new(Opts::new(name, help), labels).expect("a valid name and labels"))
}

/// A gauge with labels.
///
/// # Panics
/// As [`counters`].
pub fn gauges(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
    register(registry, IntGaugeVec::new(Opts::new(name, help), labels).expect("a valid name and labels"))
}

/// Sets each series of a gauge with one label to the value of its label, and removes all others. A series that goes on is never
/// absent meanwhile: an alert on it would start again.
pub fn set_each(gauges: &IntGaugeVec, values: &BTreeMap<String, i64>) {
    let families = gauges.collect();
    let shown =
        families.iter().flat_map(MetricFamily::get_metric).filter_map(|series| series.get_label().first());
    for gone in shown.map(LabelPair::value).filter(|label| !values.contains_key(*label)) {
        // Another thread may have removed it.
        let _ = gauges.remove_label_values(&[gone]);
    }
    for (label, value) in values {
        gauges.with_label_values(&[label]).set(*value);
    }
}

/// A histogram with labels.
///
/// # Panics
/// As [`counters`].
pub fn histograms(
    registry: &Registry,
    name: &str,
    help: &str,
    buckets: Vec<f64>,
    labels: &[&str],
) -> HistogramVec {
    let options = HistogramOpts::new(name, help).buckets(buckets);
    register(registry, HistogramVec::new(options, labels).expect("a valid name and labels"))
}

/// A counter without labels.
///
/// # Panics
/// As [`counters`].
pub fn counter(registry: &Registry, name: &str, help: &str) -> IntCounter {
    counters(registry, name, help, &[]).with_label_values::<&str>(&[])
}

/// A gauge without labels.
///
/// # Panics
/// As [`counters`].
pub fn gauge(registry: &Registry, name: &str, help: &str) -> IntGauge {
    gauges(registry, name, help, &[]).with_label_values::<&str>(&[])
}

/// The series `mainstay_<controller>_write_failures_total` of a controller.
#[derive(Debug, Clone)]
pub struct WriteFailures(IntCounterVec);

impl WriteFailures {
    /// Registers the series.
    ///
    /// # Panics
    /// As [`counters`].
    pub fn new(registry: &Registry, controller: &str) -> Self {
        let name = format!("mainstay_{controller}_write_failures_total");
        let help = "Failed writes, and the reads that go before them, by operation and reason.";
        Self(counters(registry, &name, help, &["operation", "reason"]))
    }

    /// An operation has failed.
    pub fn note(&self, operation: &'static str, error: &RequestError) {
        self.0.with_label_values(&[operation, error.reason()]).inc();
    }
}

/// How a reconcile ended, as the label `result` of `controller_runtime_reconcile_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReconcileResult {
    /// Done until something changes.
    Success,
    /// Done, and due again at a known time.
    RequeueAfter,
    /// Failed; tried again after a backoff.
    Error,
}

/// The series of one controller's loop.
#[derive(Debug, Clone)]
pub struct LoopMetrics {
    success: IntCounter,
    requeue_after: IntCounter,
    error: IntCounter,
    pub(crate) errors: IntCounter,
    pub(crate) terminal_errors: IntCounter,
    pub(crate) panics: IntCounter,
    pub(crate) timeouts: IntCounter,
    pub(crate) time: Histogram,
    pub(crate) active_workers: IntGauge,
    pub(crate) depth: IntGauge,
    pub(crate) adds: IntCounter,
    pub(crate) queue_time: Histogram,
    pub(crate) work_time: Histogram,
    pub(crate) unfinished: Gauge,
    pub(crate) longest_running: Gauge,
    pub(crate) retries: IntCounter,
    concern_failures: IntCounterVec,
    failing: IntGaugeVec,
    /// The statuses that are refused while they are written beside the loop.
    statuses: Arc<OnceLock<Arc<Backoff<ObjectKey>>>>,
    /// Reconciles whose writes waited because the store had not seen the last ones.
    pub stale_skips: IntCounter,
}

impl LoopMetrics {
    /// Registers the series of `controller` (a kind in lower case, as controller-runtime labels it). Each loop of a process
    /// has another.
    ///
    /// # Panics
    /// As [`register`].
    pub fn new(registry: &Registry, controller: &str, concurrency: u16) -> Self {
        let series = Series { registry, controller };
        let queue_time = "From the first unserved change of an object to the start of its reconcile.";
        let [success, requeue_after, error] = ["success", "requeue_after", "error"].map(|result| {
            let options = series.options("controller_runtime_reconcile_total", "Reconciles by result.");
            series.counter_of(options.const_label("result", result))
        });
        series
            .gauge(
                "controller_runtime_max_concurrent_reconciles",
                "How many objects may be reconciled at the same time.",
            )
            .set(concurrency.into());
        Self {
            success,
            requeue_after,
            error,
            errors: series.counter("controller_runtime_reconcile_errors_total", "Reconciles that failed."),
            terminal_errors: series.counter(
                "controller_runtime_terminal_reconcile_errors_total",
                "Reconciles that failed with an error that a retry cannot change.",
            ),
            panics: series.counter("controller_runtime_reconcile_panics_total", "Reconciles that panicked."),
            timeouts: series
                .counter("controller_runtime_reconcile_timeouts_total", "Reconciles that timed out."),
            time: series.time("controller_runtime_reconcile_time_seconds", "How long reconciles take."),
            active_workers: series.gauge("controller_runtime_active_workers", "Reconciles in progress."),
            depth: series.queue_gauge("workqueue_depth", "Objects waiting to be reconciled."),
            adds: series.counter_of(series.queue("workqueue_adds_total", "Objects put in the queue.")),
            queue_time: series.queue_time("workqueue_queue_duration_seconds", queue_time),
            work_time: series.queue_time("workqueue_work_duration_seconds", "How long reconciles take."),
            unfinished: series.queue_seconds(
                "workqueue_unfinished_work_seconds",
                "Age of all reconciles in progress, \
                                                                     added up.",
            ),
            longest_running: series.queue_seconds(
                "workqueue_longest_running_processor_seconds",
                "Age of the oldest reconcile in progress.",
            ),
            retries: series
                .counter_of(series.queue("workqueue_retries_total", "Reconciles scheduled after a failure.")),
            concern_failures: series.counters(
                "mainstay_reconcile_concern_failures_total",
                "Failures of parts of reconciles, each of which is tried again by itself.",
                &["concern", "reason"],
            ),
            failing: series.gauges(
                "mainstay_reconcile_concerns_failing",
                "Objects of which this part failed when it was last tried.",
                &["concern"],
            ),
            statuses: Arc::default(),
            stale_skips: series.counter(
                "stale_sync_skips_total",
                "Reconciles put off because the cache had not yet seen the controller's own last write.",
            ),
        }
    }

    /// A reconcile of a loop of its own succeeded.
    pub fn passed(&self, took: Duration) {
        self.finished(ReconcileResult::Success);
        self.time.observe(took.as_secs_f64());
        self.work_time.observe(took.as_secs_f64());
    }

    pub(crate) fn concern_failed(&self, concern: Concern, reason: &str) {
        self.concern_failures.with_label_values(&[concern.name, reason]).inc();
    }

    pub(crate) fn failed(&self, needs_change: bool) {
        self.retries.inc();
        self.errors.inc();
        if needs_change {
            self.terminal_errors.inc();
        }
    }

    /// How many objects there are of which each concern fails.
    pub(crate) fn failing(&self, objects: &HashMap<Concern, i64>) {
        self.failing.reset();
        for (concern, count) in objects {
            self.failing.with_label_values(&[concern.name]).set(*count);
        }
        let refused = self.statuses.get().map_or(0, |statuses| statuses.len());
        if refused > 0 {
            self.failing.with_label_values(&[STATUS.name]).add(refused.try_into().unwrap_or(i64::MAX));
        }
    }

    /// Has the failing statuses counted as well that are written beside the loop.
    pub(crate) fn count_statuses(&self, refused: &Arc<Backoff<ObjectKey>>) {
        let _ = self.statuses.set(Arc::clone(refused));
    }

    pub(crate) fn finished(&self, result: ReconcileResult) {
        match result {
            ReconcileResult::Success => self.success.inc(),
            ReconcileResult::RequeueAfter => self.requeue_after.inc(),
            ReconcileResult::Error => self.error.inc(),
        }
    }
}

/// Makes series of one loop. They differ from those of another loop by the value of a label alone, which is what the
/// registry tells them apart by.
struct Series<'a> {
    registry: &'a Registry,
    controller: &'a str,
}

const VALID: &str = "a valid name and labels";

impl Series<'_> {
    fn options(&self, name: &str, help: &str) -> Opts {
        Opts::new(name, help).const_label("controller", self.controller)
    }

    fn queue(&self, name: &str, help: &str) -> Opts {
        self.options(name, help).const_label("name", self.controller)
    }

    fn counter_of(&self, options: Opts) -> IntCounter {
        register(self.registry, IntCounter::with_opts(options).expect(VALID))
    }

    fn counter(&self, name: &str, help: &str) -> IntCounter {
        self.counter_of(self.options(name, help))
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        let counters = IntCounterVec::new(self.options(name, help), labels);
        register(self.registry, counters.expect(VALID))
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        register(self.registry, IntGaugeVec::new(self.options(name, help), labels).expect(VALID))
    }

    fn gauge(&self, name: &str, help: &str) -> IntGauge {
        register(self.registry, IntGauge::with_opts(self.options(name, help)).expect(VALID))
    }

    fn queue_gauge(&self, name: &str, help: &str) -> IntGauge {
        register(self.registry, IntGauge::with_opts(self.queue(name, help)).expect(VALID))
    }

    fn queue_seconds(&self, name: &str, help: &str) -> Gauge {
        register(self.registry, Gauge::with_opts(self.queue(name, help)).expect(VALID))
    }

    fn histogram(&self, options: Opts, buckets: Vec<f64>) -> Histogram {
        let options = HistogramOpts { common_opts: options, buckets };
        register(self.registry, Histogram::with_opts(options).expect(VALID))
    }

    fn time(&self, name: &str, help: &str) -> Histogram {
        let buckets = vec![
            0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0,
        ];
        self.histogram(self.options(name, help), buckets)
    }

    fn queue_time(&self, name: &str, help: &str) -> Histogram {
        // client-go's workqueue buckets: 10 ns to 10 s in powers of ten, here from 10 µs.
        let buckets = exponential_buckets(1e-5, 10.0, 8).expect("a positive start and factor");
        self.histogram(self.queue(name, help), buckets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_series_exist_before_the_first_pass() {
        let registry = Registry::new();
        let metrics = LoopMetrics::new(&registry, "replicagroup", 8);
        // A second loop has its own.
        let _other = LoopMetrics::new(&registry, "namespace", 1);
        metrics.finished(ReconcileResult::Error);
        let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
        for line in [
            "controller_runtime_reconcile_total{controller=\"replicagroup\",result=\"error\"} 1",
            "controller_runtime_reconcile_total{controller=\"replicagroup\",result=\"success\"} 0",
            "controller_runtime_reconcile_panics_total{controller=\"replicagroup\"} 0",
            "controller_runtime_max_concurrent_reconciles{controller=\"replicagroup\"} 8",
            "workqueue_depth{controller=\"replicagroup\",name=\"replicagroup\"} 0",
            "workqueue_queue_duration_seconds_count{controller=\"replicagroup\",name=\"replicagroup\"} 0",
            "stale_sync_skips_total{controller=\"replicagroup\"} 0",
            "stale_sync_skips_total{controller=\"namespace\"} 0",
        ] {
            assert!(text.contains(line), "{line} is missing from\n{text}");
        }
    }
}
