//! Events and metrics of what was done.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Resource;
use mainstay_crds::AccountPolicy;
use mainstay_runtime::{
    events::{Events, Kind},
    index::ObjectKey,
    reconcile::ReconcileError,
};

use crate::{
    apply::ApplyError,
    metrics::Metrics,
    plan::{Action, Why},
};

/// Publishes events and counts. A thousand namespaces that are given the same are not worth a thousand events: told is
/// what a person did or should look at.
#[derive(Clone)]
pub struct Announcer {
    /// Where events go.
    pub events: Events,
    /// The controller's series.
    pub metrics: Metrics,
}

impl Announcer {
    pub(crate) fn done(&self, namespace: &ObjectKey, action: &Action) {
        self.metrics.done(action);
        tracing::debug!(namespace = %namespace.name, ?action, "done");
        if let Action::Issue { output, why: Why::Revoked, .. } = action {
            let note = format!("the previous tokens of Secret {output} are revoked; it has a new token");
            let secret = ObjectReference {
                api_version: Some("v1".into()),
                kind: Some("Secret".into()),
                namespace: Some(namespace.name.to_string()),
                name: Some(output.to_string()),
                ..ObjectReference::default()
            };
            self.events.publish(secret, Kind::Normal, "TokenRevoked", "Revoke", &note);
        }
    }

    pub(crate) fn repaired(&self, count: usize) {
        self.metrics.repaired(count);
    }

    pub(crate) fn failed(&self, action: &Action, error: &ApplyError) {
        tracing::debug!(reason = error.request().reason(), %error, "a write failed");
        self.metrics.failed(action, error);
    }

    pub(crate) fn failing(&self, policy: &AccountPolicy, namespace: &str, message: &str) {
        let note = format!("namespace {namespace}: {message}");
        self.events.publish(policy.object_ref(&()), Kind::Warning, "NamespaceFailing", "Give", &note);
    }
}
