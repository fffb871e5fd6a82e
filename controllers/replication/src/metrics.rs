//! The controller's own metrics.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use mainstay_crds::ReplicaGroup;
use mainstay_runtime::metrics::{WriteFailures, counter, counters, gauge, gauges, histograms, set_each};
use prometheus::{HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry};

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
    groups: IntGauge,
    not_ready: IntGaugeVec,
    with_failure: IntGaugeVec,
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
            not_ready: gauges(
                registry,
                "mainstay_replication_groups_not_ready",
                "ReplicaGroups that are not ready, by the reason of the condition Ready.",
                &["reason"],
            ),
            with_failure: gauges(
                registry,
                "mainstay_replication_groups_with_failed_rollout",
                "ReplicaGroups whose rollout has failed and whose template has not changed since, by the reason of the failure.",
                &["reason"],
            ),
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

    /// Brings the gauges up to date with the groups that there are, for the moment of a scrape.
    pub(crate) fn refresh(&self, groups: &[Arc<ReplicaGroup>]) {
        let (mut not_ready, mut with_failure) = (BTreeMap::new(), BTreeMap::new());
        for status in groups.iter().filter_map(|group| group.status.as_ref()) {
            let is_meant = |condition: &&Condition| condition.type_ == "Ready" && condition.status == "False";
            let unready = status.conditions.iter().find(is_meant);
            unready.into_iter().for_each(|ready| *not_ready.entry(ready.reason.clone()).or_default() += 1);
            let failure = status.failure.as_ref().filter(|_| status.failed_revision.is_some());
            failure.into_iter().for_each(|it| *with_failure.entry(it.reason.clone()).or_default() += 1);
        }
        self.groups.set(i64::try_from(groups.len()).unwrap_or(i64::MAX));
        set_each(&self.not_ready, &not_ready);
        set_each(&self.with_failure, &with_failure);
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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn group(status: Value) -> Arc<ReplicaGroup> {
        let spec = json!({"selector": {"matchLabels": {"app": "web"}}, "template": {"metadata": {"labels": {"app": "web"}}}});
        let group = json!({
            "apiVersion": "mainstay.dev/v1alpha1", "kind": "ReplicaGroup", "metadata": {"name": "web"},
            "spec": spec, "status": status,
        });
        Arc::new(serde_json::from_value(group).unwrap())
    }

    fn ready(status: &str, reason: &str) -> Value {
        json!({
            "type": "Ready", "status": status, "reason": reason, "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z",
        })
    }

    #[test]
    fn groups_are_counted_by_what_they_lack_and_by_what_has_failed() {
        let metrics = Metrics::new(&Registry::new());
        let rolled_back = json!({
            "conditions": [ready("False", "CrashLoop")], "failedRevision": "web-b",
            "failure": {"reason": "CrashLoop", "message": ""},
        });
        let lacking = json!({"conditions": [ready("False", "PodsNotReady")]});
        let well = json!({"conditions": [ready("True", "AllAvailable")]});
        let counts = || {
            let count = |gauges: &IntGaugeVec, reason| gauges.with_label_values(&[reason]).get();
            let reasons = ["CrashLoop", "PodsNotReady", "AllAvailable"];
            (
                reasons.map(|reason| count(&metrics.not_ready, reason)),
                count(&metrics.with_failure, "CrashLoop"),
            )
        };
        metrics.refresh(&[
            group(rolled_back.clone()),
            group(lacking.clone()),
            group(lacking),
            group(well.clone()),
        ]);
        assert_eq!((metrics.groups.get(), counts()), (4, ([1, 2, 0], 1)));
        metrics.refresh(&[group(rolled_back), group(well)]);
        assert_eq!(counts(), ([1, 0, 0], 1));
        metrics.refresh(&[]);
        assert_eq!(counts(), ([0, 0, 0], 0));
    }
}
