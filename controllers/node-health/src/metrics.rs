//! The controller's own metrics.

use std::collections::HashSet;

use mainstay_runtime::{
    metrics::{WriteFailures, counter, counters, gauge, gauges, histograms},
    reconcile::ReconcileError,
};
use parking_lot::Mutex;
use prometheus::{Histogram, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry};

use crate::{
    apply::ApplyError,
    plan::{Breaker, State},
};

/// From a second to ten minutes: a kubelet's default Lease lasts 40 s.
const DETECTION: [f64; 12] = [1.0, 2.5, 5.0, 10.0, 12.5, 15.0, 17.5, 20.0, 30.0, 60.0, 300.0, 600.0];

/// What is done with a node, as the label `action`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// `spec.unschedulable` is set.
    Cordon,
    /// The taint is set.
    Taint,
    /// A pod is marked not ready.
    PodNotReady,
    /// A pod is evicted.
    Evict,
    /// A remediation is made.
    Remediate,
    /// The taint out-of-service is set.
    OutOfService,
    /// The node was restored.
    Restore,
}

impl Action {
    const ALL: [Self; 7] = [
        Self::Cordon,
        Self::Taint,
        Self::PodNotReady,
        Self::Evict,
        Self::Remediate,
        Self::OutOfService,
        Self::Restore,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Cordon => "cordon",
            Self::Taint => "taint",
            Self::PodNotReady => "pod_not_ready",
            Self::Evict => "evict",
            Self::Remediate => "remediate",
            Self::OutOfService => "out_of_service",
            Self::Restore => "hand_back",
        }
    }
}

/// How an action ended, as the label `result`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was done.
    Success,
    /// The API server refused it, or did not answer.
    Error,
    /// A PodDisruptionBudget refused it for now.
    Blocked,
    /// It was decided, and the policy only says so.
    DryRun,
}

impl Outcome {
    const ALL: [Self; 4] = [Self::Success, Self::Error, Self::Blocked, Self::DryRun];

    fn name(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Error => "error",
            Self::Blocked => "blocked",
            Self::DryRun => "dry_run",
        }
    }
}

/// What the controller does for nodes.
#[derive(Debug)]
pub struct Metrics {
    detection: Histogram,
    actions: IntCounterVec,
    failures: WriteFailures,
    blind: IntCounter,
    verdicts: IntCounter,
    policies: IntGauge,
    nodes: IntGaugeVec,
    breakers: IntGaugeVec,
    of_policies: Mutex<Series>,
}

/// The labels of the existing gauges, so that those of deleted policies can be removed.
#[derive(Debug, Default)]
struct Series {
    nodes: HashSet<String>,
    breakers: HashSet<[String; 2]>,
}

impl Metrics {
    /// Registers the series.
    ///
    /// # Panics
    /// When they are registered already.
    pub fn new(registry: &Registry) -> Self {
        let actions = counters(
            registry,
            "mainstay_node_health_actions_total",
            "Actions on unhealthy nodes and their pods, by action and result.",
            &["action", "result"],
        );
        for action in Action::ALL {
            for outcome in Outcome::ALL {
                actions.with_label_values(&[action.name(), outcome.name()]);
            }
        }
        Self {
            detection: histograms(
                registry,
                "mainstay_node_health_detection_seconds",
                "From the last Lease renewal of a node, or the beginning of a failing condition, to the \
                 verdict.",
                DETECTION.to_vec(),
                &[],
            )
            .with_label_values::<&str>(&[]),
            actions,
            failures: WriteFailures::new(registry, "node_health"),
            blind: counter(
                registry,
                "mainstay_node_health_blind_total",
                "How often the API server did not answer, so that the timers of all nodes restarted.",
            ),
            verdicts: counter(
                registry,
                "mainstay_node_health_verdicts_total",
                "Nodes found to be unhealthy.",
            ),
            policies: gauge(registry, "mainstay_node_health_policies", "NodeHealthPolicies."),
            nodes: gauges(
                registry,
                "mainstay_node_health_nodes",
                "Nodes by policy and state.",
                &["policy", "state"],
            ),
            breakers: gauges(
                registry,
                "mainstay_node_health_breaker_open",
                "1 while a circuit breaker is open; an empty zone stands for all nodes of the policy.",
                &["policy", "zone"],
            ),
            of_policies: Mutex::default(),
        }
    }

    /// A verdict was reached this long after the last sign of life.
    pub fn detected(&self, seconds: f64) {
        self.verdicts.inc();
        self.detection.observe(seconds);
    }

    /// Counts actions with this result.
    pub fn acted(&self, action: Action, outcome: Outcome, count: usize) {
        let counter = self.actions.with_label_values(&[action.name(), outcome.name()]);
        counter.inc_by(u64::try_from(count).unwrap_or(u64::MAX));
    }

    /// A write failed.
    pub fn failed(&self, error: &ApplyError) {
        self.failures.note(error.operation(), error.request());
    }

    /// The API server was away.
    pub fn was_blind(&self) {
        self.blind.inc();
    }

    /// Brings the gauges to what a plan says.
    pub fn show<'a>(
        &self,
        policies: impl ExactSizeIterator<Item = (&'a str, &'a [usize; State::COUNT])>,
        breakers: &[Breaker],
    ) {
        let gauge = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        let mut series = self.of_policies.lock();
        let before = std::mem::take(&mut *series);
        self.policies.set(gauge(policies.len()));
        for (policy, counts) in policies {
            for state in State::ALL {
                self.nodes.with_label_values(&[policy, state.name()]).set(gauge(counts[state as usize]));
            }
            series.nodes.insert(policy.to_owned());
        }
        for policy in before.nodes.difference(&series.nodes) {
            for state in State::ALL {
                // One that is gone was set above in an earlier plan.
                let _ = self.nodes.remove_label_values(&[policy, state.name()]);
            }
        }
        for breaker in breakers {
            let labels = [breaker.policy.to_string(), breaker.zone.as_deref().unwrap_or_default().to_owned()];
            self.breakers.with_label_values(&labels).set(i64::from(breaker.open_since.is_some()));
            series.breakers.insert(labels);
        }
        for labels in before.breakers.difference(&series.breakers) {
            let _ = self.breakers.remove_label_values(labels);
        }
    }
}
