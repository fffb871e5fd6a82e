//! The controller's own metrics.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use mainstay_runtime::{
    metrics::{WriteFailures, counter, counters, gauge, gauges},
    reconcile::ReconcileError,
};
use parking_lot::Mutex;
use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry};

use crate::{
    apply::ApplyError,
    plan::{Action, Why},
};

/// What a namespace of a policy may be.
pub(crate) const STATES: [&str; 3] = ["ready", "failing", "waiting"];

/// What the controller did.
#[derive(Debug, Clone)]
pub struct Metrics {
    issued: IntCounterVec,
    renewals: IntCounterVec,
    repaired: IntCounter,
    failures: WriteFailures,
    /// Namespaces by policy and state.
    pub namespaces: IntGaugeVec,
    soonest: IntGaugeVec,
    /// When the first token of each policy ends.
    ends: Arc<Mutex<BTreeMap<Arc<str>, Timestamp>>>,
    /// Secrets with tokens that never end, by policy.
    pub non_expiring: IntGaugeVec,
    /// How many policies there are.
    pub policies: IntGauge,
}

impl Metrics {
    /// Registers the series.
    ///
    /// # Panics
    /// When they are registered already.
    pub fn new(registry: &Registry) -> Self {
        let this = Self {
            issued: counters(
                registry,
                "mainstay_accounts_tokens_issued_total",
                "Tokens issued, by reason.",
                &["why"],
            ),
            renewals: counters(
                registry,
                "mainstay_accounts_renewals_total",
                "Attempts to replace a token by a new one, by result.",
                &["result"],
            ),
            repaired: counter(
                registry,
                "mainstay_accounts_drift_repairs_total",
                "Objects of policies that others had changed and that were corrected.",
            ),
            failures: WriteFailures::new(registry, "accounts"),
            namespaces: gauges(
                registry,
                "mainstay_accounts_namespaces",
                "Namespaces of a policy: ready, failing or waiting.",
                &["policy", "state"],
            ),
            soonest: gauges(
                registry,
                "mainstay_accounts_soonest_expiry_seconds",
                "Seconds until the first token of a policy expires.",
                &["policy"],
            ),
            ends: Arc::default(),
            non_expiring: gauges(
                registry,
                "mainstay_accounts_eternal_tokens",
                "Secrets with tokens that never expire, in the namespaces of a policy.",
                &["policy"],
            ),
            policies: gauge(registry, "mainstay_accounts_policies", "AccountPolicies."),
        };
        for why in [Why::First, Why::Renewal, Why::Changed, Why::Revoked] {
            drop(this.issued.with_label_values(&[format!("{why:?}")]));
        }
        for result in ["success", "failure"] {
            drop(this.renewals.with_label_values(&[result]));
        }
        this
    }

    pub(crate) fn done(&self, action: &Action) {
        if let Action::Issue { why, .. } = action {
            self.issued.with_label_values(&[format!("{why:?}")]).inc();
        }
        self.renewed(action, "success");
    }

    fn renewed(&self, action: &Action, result: &str) {
        if let Action::Issue { standing: Some(_), .. } = action {
            self.renewals.with_label_values(&[result]).inc();
        }
    }

    pub(crate) fn repaired(&self, count: usize) {
        self.repaired.inc_by(u64::try_from(count).unwrap_or(u64::MAX));
    }

    pub(crate) fn failed(&self, action: &Action, error: &ApplyError) {
        self.renewed(action, "failure");
        self.failures.note(error.operation, error.request());
    }

    /// Notes when the first token of a policy ends.
    pub(crate) fn ends(&self, policy: &Arc<str>, first: Option<Timestamp>) {
        match first {
            Some(end) => drop(self.ends.lock().insert(Arc::clone(policy), end)),
            None => self.forget_end(policy),
        }
    }

    fn forget_end(&self, policy: &str) {
        self.ends.lock().remove(policy);
        // An error says that there is none.
        let _ = self.soonest.remove_label_values(&[policy]);
    }

    /// Brings up to date what changes by itself.
    pub fn refresh(&self, now: Timestamp) {
        for (policy, end) in &*self.ends.lock() {
            self.soonest.with_label_values(&[&**policy]).set(end.duration_since(now).as_secs());
        }
    }

    /// Forgets a policy that is gone.
    pub(crate) fn forget(&self, policy: &str) {
        self.forget_end(policy);
        let _ = self.non_expiring.remove_label_values(&[policy]);
        for state in STATES {
            let _ = self.namespaces.remove_label_values(&[policy, state]);
        }
    }
}
