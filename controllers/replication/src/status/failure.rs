//! Failures as reasons and messages of conditions.

use mainstay_runtime::{
    failure::RequestError,
    outcome::{Explain, Failure, Failures},
};

use crate::{
    apply::{ApplyError, CLAIMS, CREATION, DELETION},
    observe::{ObserveError, PREVIOUS},
};

impl Explain for ApplyError {
    fn explain(&self) -> Failure {
        let error = self;
        let reason = match error {
            ApplyError::Create(request) => create_reason(request),
            ApplyError::Gate { .. } => "GateFailed",
            ApplyError::Hook { .. } => "HookFailed",
            ApplyError::Finalizer(_) => "FinalizerFailed",
            ApplyError::Claim { .. } => "ClaimFailed",
            ApplyError::Delete { .. } => "DeleteFailed",
            ApplyError::Adopt { .. } | ApplyError::Release { .. } => "AdoptFailed",
            ApplyError::Revision(_) | ApplyError::Number(_) | ApplyError::Prune(_) => "RevisionFailed",
            ApplyError::Read(_) => "ReadFailed",
        };
        let advice = match (error, error.request()) {
            (ApplyError::Claim { .. }, RequestError::QuotaExceeded(_)) => {
                "; raise the ResourceQuota or lower spec.replicas: the group then continues by itself"
            }
            (ApplyError::Claim { .. }, RequestError::Invalid(_)) => "; correct spec.volumeClaimTemplates",
            (ApplyError::Claim { .. }, RequestError::Conflict(_)) => {
                "; rename or remove the claim with this name"
            }
            (ApplyError::Create(_), RequestError::QuotaExceeded(_)) => {
                "; raise the ResourceQuota or lower spec.replicas: creation then continues by itself"
            }
            (ApplyError::Create(_), RequestError::Invalid(_)) => "; correct spec.template",
            (ApplyError::Create(_), RequestError::Forbidden(_)) if error.befalls_any_template() => {
                "; give the controller's ServiceAccount this right: its ClusterRole or the binding was changed"
            }
            (ApplyError::Create(_), RequestError::Forbidden(_)) => {
                "; change spec.template or what forbids it, such as a LimitRange or the namespace's Pod Security level"
            }
            _ => "",
        };
        let stalled = error.request().needs_change();
        Failure { reason, stalled, message: format!("{error}{advice}") }
    }
}

impl From<&ObserveError> for Failure {
    fn from(error: &ObserveError) -> Self {
        Self { reason: "InvalidSelector", stalled: true, message: error.to_string() }
    }
}

pub(super) fn unknown_revision(name: &str) -> Failure {
    if name == PREVIOUS {
        let message = "spec.rollbackTo is previous, and the group has no earlier revision, so nothing is exchanged: \
                       name one of `kubectl get controllerrevisions`, or remove the field";
        return Failure { reason: "UnknownRevision", stalled: true, message: message.to_owned() };
    }
    let message = format!(
        "spec.rollbackTo names {name}, which is no revision of this group, so nothing is exchanged: name one of \
         `kubectl get controllerrevisions`, or remove the field"
    );
    Failure { reason: "UnknownRevision", stalled: true, message }
}

/// Reason and message of `ReplicaFailure`: what keeps pods from being made or deleted.
pub(super) fn of_replicas(failures: &Failures) -> Option<(&'static str, String)> {
    let [made, claimed, deleted] = [CREATION, CLAIMS, DELETION].map(|concern| failures.of(concern));
    let reason = if made.or(claimed).is_some() { "FailedCreate" } else { "FailedDelete" };
    made.or(claimed).or(deleted).map(|failure| (reason, failure.message.clone()))
}

fn create_reason(request: &RequestError) -> &'static str {
    match request {
        RequestError::QuotaExceeded(_) => "QuotaExceeded",
        RequestError::Forbidden(_) => "Forbidden",
        RequestError::Invalid(_) => "InvalidTemplate",
        _ => "CreateFailed",
    }
}
