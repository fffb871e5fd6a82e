//! The controller's own metrics.

use std::time::Duration;

use mainstay_runtime::metrics::{WriteFailures, counter, counters, gauge, gauges, histograms};
use prometheus::{HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry};

use crate::{apply::ApplyError, plan::RolloutEvent};
use mainstay_runtime::reconcile::ReconcileError;

/// From half a second to a day.
const DURATIONS: [f64; 11] =
    [0.5, 1.0, 5.0, 15.0, 60.0, 120.0, 300.0, 900.0, 3600.0, 4.0 * 3600.0, 24.0 * 3600.0];
/// The results of rollouts.
const RESULTS: [&str; 3] = ["Completed", "Failed", "RolledBack"];

/// What the controller did.
#[derive(Debug, Clone)]
pub struct Metrics {
    made: IntCounter,
    collected: IntCounter,
    moved: IntCounter,
    started: IntCounter,
    ended: IntCounterVec,
    rolled_back: IntCounter,
    reverted: IntCounter,
    duration: HistogramVec,
    failures: WriteFailures,
    /// How many targets are updating, of all rollouts together.
    pub in_progress: IntGauge,
    /// How many rollouts there are, by the reason of `Ready`.
    pub rollouts: IntGaugeVec,
}

impl Metrics {
    /// Registers the series.
    ///
    /// # Panics
    /// When they are registered already.
    pub fn new(registry: &Registry) -> Self {
        let counter = |name, help| counter(registry, name, help);
        let this = Self {
            made: counter("mainstay_config_rollout_revisions_made_total", "Revisions created."),
            collected: counter(
                "mainstay_config_rollout_objects_deleted_total",
                "Objects of old revisions deleted.",
            ),
            moved: counter("mainstay_config_rollout_targets_changed_total", "Changes of targets' templates."),
            started: counter("mainstay_config_rollout_rollouts_started_total", "Rollouts started."),
            ended: counters(
                registry,
                "mainstay_config_rollout_rollouts_total",
                "Rollouts that have ended, by result.",
                &["result"],
            ),
            rolled_back: counter(
                "mainstay_config_rollout_rollbacks_total",
                "Failed rollouts of which all targets are rolled back.",
            ),
            reverted: counter(
                "mainstay_config_rollout_reverts_total",
                "Changes of targets that another field manager has reverted.",
            ),
            duration: histograms(
                registry,
                "mainstay_config_rollout_rollout_duration_seconds",
                "Duration of rollouts, and of rollbacks from the failure on.",
                DURATIONS.to_vec(),
                &["result"],
            ),
            failures: WriteFailures::new(registry, "config_rollout"),
            in_progress: gauge(
                registry,
                "mainstay_config_rollout_targets_rolling",
                "Targets that are updating, of all rollouts together.",
            ),
            rollouts: gauges(
                registry,
                "mainstay_config_rollout_rollouts",
                "ConfigRollouts by the reason of their condition Ready.",
                &["reason"],
            ),
        };
        RESULTS.iter().for_each(|result| drop(this.ended.with_label_values(&[result])));
        this
    }

    pub(crate) fn news(&self, news: &RolloutEvent) {
        let took = |result, took: &Duration| {
            self.duration.with_label_values(&[result]).observe(took.as_secs_f64());
        };
        match news {
            RolloutEvent::Started(_) => self.started.inc(),
            RolloutEvent::StagePassed(_) | RolloutEvent::Held(_) => {}
            RolloutEvent::Completed(_, time) => {
                self.ended.with_label_values(&["Completed"]).inc();
                took("Completed", time);
            }
            RolloutEvent::Failed(..) => self.ended.with_label_values(&["Failed"]).inc(),
            RolloutEvent::RolledBack(_, time) => {
                self.ended.with_label_values(&["RolledBack"]).inc();
                self.rolled_back.inc();
                took("RolledBack", time);
            }
            RolloutEvent::Reverted(_) => self.reverted.inc(),
        }
    }

    pub(crate) fn made(&self) {
        self.made.inc();
    }

    pub(crate) fn moved(&self) {
        self.moved.inc();
    }

    pub(crate) fn collected(&self, count: usize) {
        self.collected.inc_by(u64::try_from(count).unwrap_or(u64::MAX));
    }

    pub(crate) fn failed(&self, error: &ApplyError) {
        self.failures.note(error.operation(), error.request());
    }
}
