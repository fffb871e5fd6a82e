//! Failures as reasons and messages of conditions.

use mainstay_runtime::failure::RequestError;

use crate::{apply::ApplyError, observe::ObserveError};

/// A failure as conditions show it, for as long as it is not overcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Reason of `Ready`.
    pub reason: &'static str,
    /// Reason of `ReplicaFailure`; `None` when no pod was refused.
    pub replica_failure: Option<&'static str>,
    /// Whether a user must change something.
    pub stalled: bool,
    /// What was wrong, in the server's words, and what to do.
    pub message: String,
}

impl From<&ApplyError> for Failure {
    fn from(error: &ApplyError) -> Self {
        let (reason, replica_failure) = match error {
            ApplyError::Create(request) => (create_reason(request), Some("FailedCreate")),
            ApplyError::Gate { .. } => ("GateFailed", None),
            ApplyError::Hook { .. } => ("HookFailed", None),
            ApplyError::Finalizer(_) => ("FinalizerFailed", None),
            ApplyError::Claim { .. } => ("ClaimFailed", Some("FailedCreate")),
            ApplyError::Delete { .. } => ("DeleteFailed", Some("FailedDelete")),
            ApplyError::Adopt { .. } | ApplyError::Release { .. } => ("AdoptFailed", None),
            ApplyError::Revision(_) => ("RevisionFailed", None),
            ApplyError::Read(_) => ("ReadFailed", None),
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
            (ApplyError::Create(_), RequestError::Forbidden(_)) => {
                "; change spec.template or what forbids it, such as a LimitRange or the namespace's Pod Security level"
            }
            _ => "",
        };
        let stalled = error.request().needs_change();
        Self { reason, replica_failure, stalled, message: format!("{error}{advice}") }
    }
}

impl From<&ObserveError> for Failure {
    fn from(error: &ObserveError) -> Self {
        Self { reason: "InvalidSelector", replica_failure: None, stalled: true, message: error.to_string() }
    }
}

impl Failure {
    pub(super) fn unknown_revision(name: &str) -> Self {
        let message = format!(
            "spec.rollbackTo names {name}, which is not a revision of this group, so no pods are updated: \
             name one of `kubectl get controllerrevisions`, or remove the field"
        );
        Self { reason: "UnknownRevision", replica_failure: None, stalled: true, message }
    }
}

fn create_reason(request: &RequestError) -> &'static str {
    match request {
        RequestError::QuotaExceeded(_) => "QuotaExceeded",
        RequestError::Forbidden(_) => "Forbidden",
        RequestError::Invalid(_) => "InvalidTemplate",
        _ => "CreateFailed",
    }
}
