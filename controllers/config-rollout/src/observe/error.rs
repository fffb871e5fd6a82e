//! Why a spec cannot be read.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::core::Selector;
use thiserror::Error;

/// More targets than this are refused: each is a line of the status.
pub const MOST_TARGETS: usize = 512;

/// Why a rollout cannot be planned.
#[derive(Debug, Error)]
pub enum ObserveError {
    /// A selector of the spec is none.
    #[error("{field} is not a selector: {message}; correct it")]
    Selector {
        /// Where it is.
        field: String,
        /// What is wrong with it.
        message: String,
    },
    /// The spec names too many targets.
    #[error(
        "spec.stages selects {0} targets, but at most {MOST_TARGETS} are allowed: use several \
         ConfigRollouts"
    )]
    TooManyTargets(usize),
    /// No webhook would replace the references of pods.
    #[error(
        "spec.mode is Admission, and the webhook that it needs is turned off: have an administrator set \
         controllers.configRollout.webhook.enabled of the chart to true, or recreate the ConfigRollout with another mode"
    )]
    WebhookOff,
}

impl ObserveError {
    /// As a condition names it.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Selector { .. } => "InvalidSelector",
            Self::TooManyTargets(_) => "TooManyTargets",
            Self::WebhookOff => "WebhookOff",
        }
    }
}

/// The selector of a field.
pub(super) fn readable(
    selector: &LabelSelector,
    field: impl Fn() -> String,
) -> Result<Selector, ObserveError> {
    Selector::try_from(selector.clone())
        .map_err(|error| ObserveError::Selector { field: field(), message: error.to_string() })
}
