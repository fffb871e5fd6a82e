//! The controller's own metrics.

use mainstay_runtime::metrics::{WriteFailures, counter, counters, gauge, histograms};
use prometheus::{HistogramVec, IntCounter, IntCounterVec, IntGauge, Registry};

use crate::{
    apply::{Applied, ApplyError},
    rollout::{Reason, RolloutEvent},
};

/// From a second to a day: a change may be one pod, or a canary that lasts overnight.
const DURATIONS: [f64; 11] =
    [1.0, 5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3600.0, 4.0 * 3600.0, 24.0 * 3600.0];

/// What the controller did to pods.
#[derive(Debug, Clone)]
pub struct Metrics {
    created: IntCounter,
    deleted: IntCounterVec,
    adopted: IntCounter,
    changed: IntCounter,
    released: IntCounter,
    timed_out: IntCounter,
    claims_created: IntCounter,
    claims_deleted: IntCounter,
    failures: WriteFailures,
    started: IntCounter,
    completed: IntCounter,
    failed: IntCounterVec,
    rolled_back: IntCounter,
    duration: HistogramVec,
    /// How many groups there are.
    pub groups: IntGauge,
}

impl Metrics {
    /// Registers the series.
    ///
    /// # Panics
    /// When they are registered already.
    pub fn new(registry: &Registry) -> Self {
        let counter = |name, help| counter(registry, name, help);
        Self {
            created: counter("mainstay_replication_pods_created_total", "Pods created."),
            deleted: counters(
                registry,
                "mainstay_replication_pods_deleted_total",
                "Pods deleted, by the rule that chose them.",
                &["reason"],
            ),
            changed: counter(
                "mainstay_replication_pods_changed_in_place_total",
                "Pods whose images were changed in place.",
            ),
            adopted: counter("mainstay_replication_pods_adopted_total", "Orphans adopted."),
            released: counter("mainstay_replication_pods_released_total", "Pods released."),
            timed_out: counter(
                "mainstay_replication_pre_delete_timeouts_total",
                "Pods whose pre-delete hook timed out.",
            ),
            claims_created: counter(
                "mainstay_replication_volume_claims_created_total",
                "PersistentVolumeClaims created.",
            ),
            claims_deleted: counter(
                "mainstay_replication_volume_claims_deleted_total",
                "PersistentVolumeClaims deleted.",
            ),
            failures: WriteFailures::new(registry, "replication"),
            started: counter("mainstay_replication_rollouts_started_total", "Rollouts started."),
            completed: counter("mainstay_replication_rollouts_completed_total", "Rollouts completed."),
            failed: counters(
                registry,
                "mainstay_replication_rollouts_failed_total",
                "Rollouts failed, by reason.",
                &["reason"],
            ),
            rolled_back: counter(
                "mainstay_replication_rollouts_rolled_back_total",
                "Failed rollouts of which all pods are rolled back.",
            ),
            duration: histograms(
                registry,
                "mainstay_replication_rollout_duration_seconds",
                "Duration of rollouts (outcome Completed) and of rollbacks from the failure on \
                 (RolledBack).",
                DURATIONS.to_vec(),
                &["outcome"],
            ),
            groups: gauge(registry, "mainstay_replication_groups", "ReplicaGroups."),
        }
        .with_zeros()
    }

    /// Makes the series that have a label exist before anything has happened, so that their first step is seen.
    fn with_zeros(self) -> Self {
        Reason::ALL.iter().for_each(|reason| drop(self.failed.with_label_values(&[reason.as_str()])));
        ["Completed", "RolledBack"]
            .iter()
            .for_each(|outcome| drop(self.duration.with_label_values(&[outcome])));
        self
    }

    pub(crate) fn applied(&self, applied: &Applied) {
        let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        self.created.inc_by(count(applied.created));
        self.changed.inc_by(count(applied.changed));
        self.adopted.inc_by(count(applied.adopted));
        self.released.inc_by(count(applied.released));
        self.timed_out.inc_by(count(applied.timed_out.len()));
        self.claims_created.inc_by(count(applied.claims_created));
        self.claims_deleted.inc_by(count(applied.claims_deleted));
        for (_, why) in &applied.deleted {
            self.deleted.with_label_values(&[why.as_str()]).inc();
        }
    }

    pub(crate) fn changed(&self, news: &RolloutEvent) {
        let took = |outcome, took: std::time::Duration| {
            self.duration.with_label_values(&[outcome]).observe(took.as_secs_f64());
        };
        match news {
            RolloutEvent::Started => self.started.inc(),
            RolloutEvent::StepReached { .. } => {}
            RolloutEvent::Completed { took: time } => {
                self.completed.inc();
                took("Completed", *time);
            }
            RolloutEvent::Failed { reason, .. } => self.failed.with_label_values(&[reason.as_str()]).inc(),
            RolloutEvent::RolledBack { took: time } => {
                self.rolled_back.inc();
                took("RolledBack", *time);
            }
        }
    }

    pub(crate) fn failed(&self, error: &ApplyError) {
        self.failures.note(error.operation(), error.request());
    }
}
