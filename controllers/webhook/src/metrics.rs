//! The webhook's metrics, under the names of controller-runtime where it has them (`pkg/webhook/internal/metrics`).

use std::time::Instant;

use mainstay_runtime::metrics::{counters, gauges, histograms};
use prometheus::{Histogram, IntCounter, IntCounterVec, IntGauge, Registry};

use crate::kept::Validity;

/// Of a request whose client closed the connection before there was an answer (nginx's code for it).
const GONE: u16 = 499;
/// Of one whose handler panicked.
const PANICKED: u16 = 500;
/// The API server waits for no webhook longer than 30 s.
const BUCKETS: [f64; 13] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0];

/// The series of one webhook.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    path: &'static str,
    requests: IntCounterVec,
    latency: Histogram,
    in_flight: IntGauge,
    /// Objects that were not admitted.
    pub(crate) refusals: IntCounter,
    not_before: IntGauge,
    not_after: IntGauge,
}

impl Metrics {
    /// Registers the series of the webhook at `path`.
    pub(crate) fn new(registry: &Registry, path: &'static str) -> Self {
        let (labels, of) = (&["webhook"], &[path]);
        let gauge = |name, help| gauges(registry, name, help, labels).with_label_values(of);
        let requests = counters(
            registry,
            "controller_runtime_webhook_requests_total",
            "Admission requests by HTTP status code.",
            &["webhook", "code"],
        );
        for code in ["200", "500"] {
            requests.with_label_values(&[path, code]);
        }
        let latency = "controller_runtime_webhook_latency_seconds";
        let refusals = "mainstay_webhook_refusals_total";
        Self {
            path,
            requests,
            latency: histograms(
                registry,
                latency,
                "How long admission requests take.",
                BUCKETS.into(),
                labels,
            )
            .with_label_values(of),
            in_flight: gauge(
                "controller_runtime_webhook_requests_in_flight",
                "Admission requests in progress.",
            ),
            refusals: counters(registry, refusals, "Objects that were not admitted.", labels)
                .with_label_values(of),
            not_before: gauge(
                "mainstay_webhook_certificate_not_before_timestamp_seconds",
                "From when the certificate in use is valid; 0 without one.",
            ),
            not_after: gauge(
                "mainstay_webhook_certificate_not_after_timestamp_seconds",
                "Until when the certificate in use is valid; 0 without one.",
            ),
        }
    }

    /// The certificate in use is valid for this time.
    pub(crate) fn valid(&self, Validity { not_before, not_after }: Validity) {
        self.not_before.set(not_before.as_second());
        self.not_after.set(not_after.as_second());
    }

    /// A request has come. It is counted when what this returns is dropped.
    pub(crate) fn begin(&self) -> UnderWay<'_> {
        self.in_flight.inc();
        UnderWay { metrics: self, began: Instant::now(), code: None }
    }
}

/// A request under way.
pub(crate) struct UnderWay<'a> {
    metrics: &'a Metrics,
    began: Instant,
    /// The status code of the answer, once there is one.
    pub(crate) code: Option<u16>,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let without = || if std::thread::panicking() { PANICKED } else { GONE };
        let code = self.code.unwrap_or_else(without).to_string();
        let Metrics { path, requests, latency, in_flight, .. } = self.metrics;
        requests.with_label_values(&[*path, code.as_str()]).inc();
        latency.observe(self.began.elapsed().as_secs_f64());
        in_flight.dec();
    }
}
