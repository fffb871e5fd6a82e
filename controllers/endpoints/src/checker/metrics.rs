//! The metrics of the checks.

use std::time::Duration;

use mainstay_probe::{Kind, Outcome};
use mainstay_runtime::metrics::{counters, gauges, histograms};
use prometheus::{Histogram, HistogramVec, IntCounterVec, IntGauge, Registry};

/// Seconds, from a millisecond to ten seconds.
const DURATIONS: [f64; 13] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// How checks went and how many there are.
#[derive(Clone, Debug)]
pub struct CheckMetrics {
    checks: IntCounterVec,
    duration: HistogramVec,
    delay: Histogram,
    in_flight: IntGauge,
}

/// Counts a check as in progress until it is dropped.
pub(super) struct InFlight<'a>(&'a IntGauge);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl CheckMetrics {
    /// Registers the series.
    ///
    /// # Panics
    /// When they are registered already.
    pub fn new(registry: &Registry) -> Self {
        let histograms =
            |name, help, labels: &[&str]| histograms(registry, name, help, DURATIONS.to_vec(), labels);
        let metrics = Self {
            checks: counters(
                registry,
                "mainstay_endpoints_checks_total",
                "Checks by type and result.",
                &["type", "result"],
            ),
            duration: histograms(
                "mainstay_endpoints_check_duration_seconds",
                "How long a check takes.",
                &["type"],
            ),
            delay: histograms(
                "mainstay_endpoints_check_delay_seconds",
                "How late checks began, because too many others were running or the process was busy.",
                &[],
            )
            .with_label_values::<&str>(&[]),
            in_flight: gauges(registry, "mainstay_endpoints_checks_in_flight", "Checks in progress.", &[])
                .with_label_values::<&str>(&[]),
        };
        for kind in ["http", "tcp", "grpc"] {
            metrics.checks.with_label_values(&[kind, "success"]);
            metrics.duration.with_label_values(&[kind]);
        }
        metrics
    }

    pub(super) fn begun(&self, delay: Duration) -> InFlight<'_> {
        self.delay.observe(delay.as_secs_f64());
        self.in_flight.inc();
        InFlight(&self.in_flight)
    }

    #[cfg(test)]
    pub(super) fn in_flight(&self) -> i64 {
        self.in_flight.get()
    }

    pub(super) fn ended(&self, kind: &Kind, outcome: &Outcome) {
        let kind = match kind {
            Kind::Http(_) => "http",
            Kind::Tcp => "tcp",
            Kind::Grpc(_) => "grpc",
        };
        let result = outcome.result.as_ref().map_or_else(|failure| failure.reason(), |()| "success");
        self.checks.with_label_values(&[kind, result]).inc();
        self.duration.with_label_values(&[kind]).observe(outcome.took.as_secs_f64());
    }
}
