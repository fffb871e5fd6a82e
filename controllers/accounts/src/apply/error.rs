//! Writes that failed.

use mainstay_runtime::{failure::RequestError, outcome::Explain, reconcile::ReconcileError};
use thiserror::Error;

/// A write that failed.
#[derive(Debug, Error)]
#[error("could not {operation} {what}: {source}")]
pub struct ApplyError {
    /// What was to be done: `create`, `change`, `replace`, `delete`, `issue`, `read`.
    pub operation: &'static str,
    /// Kind and name.
    pub what: String,
    /// What the server said.
    pub source: RequestError,
}

impl ReconcileError for ApplyError {
    fn request(&self) -> &RequestError {
        &self.source
    }
}

impl Explain for ApplyError {}
