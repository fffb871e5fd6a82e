//! How a refused or lost request is named in conditions, events and metric labels.

use std::{collections::BTreeSet, time::Duration};

use kube::core::Status;
use thiserror::Error;

/// Why a request did not succeed. [`RequestError::reason`] is its name for conditions, events and labels.
#[derive(Debug, Error)]
pub enum RequestError {
    /// Admission refused the object because a ResourceQuota is used up.
    #[error("{0}")]
    QuotaExceeded(String),
    /// Authorization or an admission plugin refused the request.
    #[error("{0}")]
    Forbidden(String),
    /// The server found the object invalid.
    #[error("{0}")]
    Invalid(String),
    /// The namespace is being deleted: nothing can be created in it, and no user needs to be told.
    #[error("{0}")]
    NamespaceTerminating(String),
    /// The object is not there.
    #[error("{0}")]
    NotFound(String),
    /// An object of that name exists.
    #[error("{0}")]
    AlreadyExists(String),
    /// The object is not, or no longer, what the precondition named.
    #[error("{0}")]
    Conflict(String),
    /// A server-side apply would take fields that others have.
    #[error("{message}")]
    FieldManagerConflict {
        /// The server's words.
        message: String,
        /// The field managers that have them.
        managers: Vec<FieldOwner>,
    },
    /// The server asked to come back later.
    #[error("{message}")]
    TooManyRequests {
        /// The server's words.
        message: String,
        /// How long the server asked to wait.
        retry_after: Option<Duration>,
    },
    /// An eviction would leave fewer pods than a PodDisruptionBudget asks for, or several budgets select the pod.
    #[error("{0}")]
    DisruptionBudget(String),
    /// The server answered with an error of its own.
    #[error("{0}")]
    Server(String),
    /// No answer came: the request may or may not have been carried out.
    #[error("no answer from the API server: {0}")]
    NoAnswer(String),
}

/// A field manager that has fields which a server-side apply would take.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct FieldOwner {
    /// Its name.
    pub manager: String,
    /// Whether it wrote them by server-side apply, so that it will meet a conflict itself once they are another's.
    pub applies: bool,
}

impl RequestError {
    /// The variant's name, fit for a label: never a text from outside.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::QuotaExceeded(_) => "QuotaExceeded",
            Self::Forbidden(_) => "Forbidden",
            Self::Invalid(_) => "Invalid",
            Self::NamespaceTerminating(_) => "NamespaceTerminating",
            Self::NotFound(_) => "NotFound",
            Self::AlreadyExists(_) => "AlreadyExists",
            Self::Conflict(_) => "Conflict",
            Self::FieldManagerConflict { .. } => "FieldManagerConflict",
            Self::TooManyRequests { .. } => "TooManyRequests",
            Self::DisruptionBudget(_) => "DisruptionBudget",
            Self::Server(_) => "ServerError",
            Self::NoAnswer(_) => "NoAnswer",
        }
    }

    /// Whether the write may have been carried out although no success was reported.
    pub fn is_ambiguous(&self) -> bool {
        matches!(self, Self::NoAnswer(_) | Self::Server(_))
    }

    /// Whether the same request is refused again until a person or another object changes something.
    pub fn needs_change(&self) -> bool {
        matches!(self, Self::QuotaExceeded(_) | Self::Forbidden(_) | Self::Invalid(_))
    }

    /// How long the server asked to wait.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::TooManyRequests { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// The same, without what an answer said that could not be read: of one that has a Secret's content, that content may
    /// be cited.
    pub fn without_content(self) -> Self {
        match self {
            Self::NoAnswer(_) => Self::NoAnswer("no readable answer".to_owned()),
            other => other,
        }
    }

    /// The error of a request that timed out after `waited`.
    pub fn timed_out(waited: Duration) -> Self {
        Self::NoAnswer(format!("timed out after {} s", waited.as_secs()))
    }
}

/// An error of a reconcile: it always comes down to a request.
pub trait ReconcileError: std::error::Error + Send + 'static {
    /// Why the request did not succeed.
    fn request(&self) -> &RequestError;
}

impl ReconcileError for RequestError {
    fn request(&self) -> &RequestError {
        self
    }
}

impl From<Status> for RequestError {
    fn from(status: Status) -> Self {
        let has_cause = |name: &str| {
            status.details.iter().flat_map(|details| &details.causes).any(|cause| cause.reason == name)
        };
        let retry_after =
            status.details.as_ref().map(|details| details.retry_after_seconds).filter(|s| *s > 0);
        let namespace_terminating = has_cause("NamespaceTerminating");
        let managers = managers(&status);
        let mut causes = status.details.iter().flat_map(|details| &details.causes);
        let of_uid = causes.any(|cause| cause.field == "metadata.uid");
        let message = status.message;
        match (status.code, status.reason.as_str()) {
            _ if namespace_terminating => Self::NamespaceTerminating(message),
            // The quota plugin has no reason of its own: its text is the only mark (k8s.io/apiserver,
            // pkg/admission/plugin/resourcequota/controller.go: "exceeded quota: …").
            (403, _) if message.contains("exceeded quota") => Self::QuotaExceeded(message),
            (403, _) => Self::Forbidden(message),
            (404, _) => Self::NotFound(message),
            (409, "AlreadyExists") => Self::AlreadyExists(message),
            (409, _) if !managers.is_empty() => Self::FieldManagerConflict { message, managers },
            (409, _) => Self::Conflict(message),
            // A patch or an apply names the UID of another object: to the server that is a change of the UID.
            (422, _) if of_uid => Self::Conflict(message),
            (429, _) if has_cause("DisruptionBudget") => Self::DisruptionBudget(message),
            // A refusal that stands for as long as the budgets do, with an error's code (k8s.io/kubernetes,
            // pkg/registry/core/pod/storage/eviction.go).
            (500, _) if message.contains("more than one PodDisruptionBudget") => {
                Self::DisruptionBudget(message)
            }
            (429, _) => Self::TooManyRequests {
                message,
                retry_after: retry_after.map(|seconds| Duration::from_secs(seconds.into())),
            },
            (400 | 413 | 415 | 422, _) => Self::Invalid(message),
            _ => Self::Server(message),
        }
    }
}

/// The managers that the server names in a refused apply: each cause of the reason `FieldManagerConflict` says
/// `conflict with "manager"`, and ` using` and a version after it if that did not apply (apimachinery,
/// `pkg/util/managedfields/internal/conflict.go`).
fn managers(status: &Status) -> Vec<FieldOwner> {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    let conflicts = causes.filter(|cause| cause.reason == "FieldManagerConflict");
    let owner = |said: &str| {
        let mut parts = said.splitn(3, '"');
        let manager = parts.nth(1).unwrap_or(said).to_owned();
        let applies = parts.next().is_none_or(|rest| !rest.contains(" using "));
        FieldOwner { manager, applies }
    };
    let managers: BTreeSet<_> = conflicts.map(|cause| owner(&cause.message)).collect();
    managers.into_iter().collect()
}

/// An object that could not be written down.
impl From<serde_json::Error> for RequestError {
    fn from(error: serde_json::Error) -> Self {
        Self::Invalid(error.to_string())
    }
}

impl From<kube::Error> for RequestError {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => (*status).into(),
            kube::Error::BuildRequest(error) => Self::Invalid(error.to_string()),
            other => Self::NoAnswer(other.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(code: u16, reason: &str, message: &str) -> Status {
        Status::failure(message, reason).with_code(code)
    }

    #[test]
    fn refusals_are_told_apart() {
        let cases = [
            (status(403, "Forbidden", "pods \"a\" is forbidden: exceeded quota: q"), "QuotaExceeded"),
            (status(403, "Forbidden", "violates PodSecurity"), "Forbidden"),
            (status(422, "Invalid", "spec.containers: Required value"), "Invalid"),
            (status(409, "AlreadyExists", "exists"), "AlreadyExists"),
            (status(409, "Conflict", "uid differs"), "Conflict"),
            (status(429, "TooManyRequests", "slow down"), "TooManyRequests"),
            (status(500, "InternalError", "etcd"), "ServerError"),
            (
                status(500, "", "This pod has more than one PodDisruptionBudget, which the eviction"),
                "DisruptionBudget",
            ),
            (status(404, "NotFound", "gone"), "NotFound"),
        ];
        for (status, reason) in cases {
            assert_eq!(RequestError::from(status).reason(), reason);
        }
    }

    #[test]
    fn another_object_of_the_name_is_a_conflict_also_where_the_server_calls_it_invalid() {
        // What API servers answer to a patch or an apply with the UID of an earlier object.
        let status: Status = serde_json::from_value(serde_json::json!({
            "status": "Failure", "reason": "Invalid", "code": 422,
            "message": "ConfigMap \"a\" is invalid: metadata.uid: Invalid value: \"x\": field is immutable",
            "details": {"name": "a", "kind": "ConfigMap", "causes": [{
                "reason": "FieldValueInvalid", "message": "Invalid value: \"x\": field is immutable",
                "field": "metadata.uid",
            }]},
        }))
        .unwrap();
        assert_eq!(RequestError::from(status).reason(), "Conflict");
    }

    #[test]
    fn the_managers_of_fields_that_an_apply_would_take_are_named() {
        let status: Status = serde_json::from_value(serde_json::json!({
            "status": "Failure", "reason": "Conflict", "code": 409, "message": "Apply failed with 1 conflict",
            "details": {"causes": [
                {
                    "reason": "FieldManagerConflict",
                    "message": "conflict with \"argocd-controller\" using apps/v1",
                    "field": ".spec.template.spec.volumes[name=\"c\"].configMap.name",
                },
                {"reason": "FieldManagerConflict", "message": "conflict with \"kubectl\"", "field": ".spec.a"},
            ]},
        }))
        .unwrap();
        let error = RequestError::from(status);
        let RequestError::FieldManagerConflict { managers, .. } = &error else { panic!("{error:?}") };
        let owner = |manager: &str, applies| FieldOwner { manager: manager.to_owned(), applies };
        let expected = [owner("argocd-controller", false), owner("kubectl", true)];
        assert_eq!((&**managers, error.reason()), (&expected[..], "FieldManagerConflict"));
    }

    #[test]
    fn only_answers_that_say_nothing_of_the_outcome_are_ambiguous() {
        assert!(RequestError::timed_out(Duration::from_secs(3)).is_ambiguous());
        assert!(RequestError::from(status(500, "InternalError", "timeout")).is_ambiguous());
        assert!(!RequestError::from(status(403, "Forbidden", "no")).is_ambiguous());
        assert!(!RequestError::from(status(429, "TooManyRequests", "later")).is_ambiguous());
    }
}
