//! The controller's own series.

use mainstay_runtime::metrics::{counters, gauges};
use prometheus::{IntCounter, IntCounterVec, IntGauge, Registry};

use crate::apply::{Applied, ApplyError};

/// What the controller did to pods.
#[derive(Debug, Clone)]
pub struct Metrics {
    created: IntCounter,
    deleted: IntCounterVec,
    adopted: IntCounter,
    released: IntCounter,
    failures: IntCounterVec,
    /// How many groups there are.
    pub groups: IntGauge,
}

impl Metrics {
    /// Registers the series.
    ///
    /// # Panics
    /// When they are registered already.
    pub fn new(registry: &Registry) -> Self {
        let counter = |name, help| counters(registry, name, help, &[]).with_label_values::<&str>(&[]);
        Self {
            created: counter("mainstay_replication_pods_created_total", "Pods created."),
            deleted: counters(
                registry,
                "mainstay_replication_pods_deleted_total",
                "Pods deleted to scale down, by the rule that chose them.",
                &["reason"],
            ),
            adopted: counter("mainstay_replication_pods_adopted_total", "Orphans adopted."),
            released: counter("mainstay_replication_pods_released_total", "Pods released."),
            failures: counters(
                registry,
                "mainstay_replication_write_failures_total",
                "Failed writes by operation and reason.",
                &["operation", "reason"],
            ),
            groups: gauges(registry, "mainstay_replication_groups", "ReplicaGroups.", &[])
                .with_label_values::<&str>(&[]),
        }
    }

    pub(crate) fn applied(&self, applied: &Applied) {
        let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        self.created.inc_by(count(applied.created));
        self.adopted.inc_by(count(applied.adopted));
        self.released.inc_by(count(applied.released));
        for (_, why) in &applied.deleted {
            self.deleted.with_label_values(&[why.as_str()]).inc();
        }
    }

    pub(crate) fn failed(&self, error: &ApplyError) {
        self.failures.with_label_values(&[error.operation(), error.request().reason()]).inc();
    }
}
