//! The controller's own series.

use mainstay_runtime::{
    metrics::{counters, gauges},
    reconcile::PassError,
};
use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry};

use crate::{
    apply::ApplyError,
    plan::{Action, Why},
};

/// What the controller did.
#[derive(Debug, Clone)]
pub struct Metrics {
    issued: IntCounterVec,
    failed: IntCounter,
    repaired: IntCounter,
    failures: IntCounterVec,
    /// Namespaces by policy and state.
    pub namespaces: IntGaugeVec,
    /// Seconds until the first token of a policy ends.
    pub soonest: IntGaugeVec,
    /// Secrets with tokens that never end, by policy.
    pub eternal: IntGaugeVec,
    /// How many policies there are.
    pub policies: IntGauge,
}

impl Metrics {
    /// Registers the series.
    ///
    /// # Panics
    /// When they are registered already.
    pub fn new(registry: &Registry) -> Self {
        let counter = |name, help| counters(registry, name, help, &[]).with_label_values::<&str>(&[]);
        let this = Self {
            issued: counters(
                registry,
                "mainstay_accounts_tokens_issued_total",
                "Tokens issued, by why.",
                &["why"],
            ),
            failed: counter("mainstay_accounts_renewals_failed_total", "Tokens that could not be issued."),
            repaired: counter(
                "mainstay_accounts_drift_repairs_total",
                "Objects of policies that somebody had changed and that were put right.",
            ),
            failures: counters(
                registry,
                "mainstay_accounts_write_failures_total",
                "Failed requests by operation and reason.",
                &["operation", "reason"],
            ),
            namespaces: gauges(
                registry,
                "mainstay_accounts_namespaces",
                "Namespaces of a policy: ready, failing or waiting.",
                &["policy", "state"],
            ),
            soonest: gauges(
                registry,
                "mainstay_accounts_soonest_expiry_seconds",
                "Seconds until the first token of a policy ends.",
                &["policy"],
            ),
            eternal: gauges(
                registry,
                "mainstay_accounts_eternal_tokens",
                "Secrets with tokens that never end, in the namespaces of a policy.",
                &["policy"],
            ),
            policies: gauges(registry, "mainstay_accounts_policies", "AccountPolicies.", &[])
                .with_label_values::<&str>(&[]),
        };
        for why in [Why::First, Why::Renewal, Why::Changed, Why::Revoked] {
            drop(this.issued.with_label_values(&[format!("{why:?}")]));
        }
        this
    }

    pub(crate) fn done(&self, action: &Action) {
        if let Action::Issue { why, .. } = action {
            self.issued.with_label_values(&[format!("{why:?}")]).inc();
        }
    }

    pub(crate) fn repaired(&self, count: usize) {
        self.repaired.inc_by(u64::try_from(count).unwrap_or(u64::MAX));
    }

    pub(crate) fn failed(&self, error: &ApplyError) {
        if error.operation == "issue" {
            self.failed.inc();
        }
        self.failures.with_label_values(&[error.operation, error.request().reason()]).inc();
    }
}
