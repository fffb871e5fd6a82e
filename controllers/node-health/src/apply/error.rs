//! Writes that failed.

use mainstay_runtime::{failure::RequestError, reconcile::ReconcileError};
use thiserror::Error;

/// A write that failed. The variant names the operation.
#[derive(Debug, Error)]
pub enum ApplyError {
    /// The live read before a write failed.
    #[error("could not read {what} before writing: {source}")]
    Read {
        /// What was read.
        what: String,
        /// What the server said.
        source: RequestError,
    },
    /// The node could not be changed.
    #[error("could not change the node: {0}")]
    Node(#[source] RequestError),
    /// A pod could not be marked not ready.
    #[error("could not mark pod {pod} not ready: {source}")]
    NotReady {
        /// Namespace and name.
        pod: String,
        /// What the server said.
        source: RequestError,
    },
    /// A pod could not be evicted or deleted.
    #[error("could not evict pod {pod}: {source}")]
    Evict {
        /// Namespace and name.
        pod: String,
        /// What the server said.
        source: RequestError,
    },
    /// A remediation could not be made, changed or deleted.
    #[error("could not {action} {remediation}: {source}")]
    Remediation {
        /// What was to be done.
        action: &'static str,
        /// Its kind and name.
        remediation: String,
        /// What the server said.
        source: RequestError,
    },
}

impl ApplyError {
    /// The operation, as a metric label.
    pub fn operation(&self) -> &'static str {
        match self {
            Self::Read { .. } => "read",
            Self::Node(_) => "node",
            Self::NotReady { .. } => "not_ready",
            Self::Evict { .. } => "evict",
            Self::Remediation { .. } => "remediation",
        }
    }
}

impl ReconcileError for ApplyError {
    fn request(&self) -> &RequestError {
        match self {
            Self::Node(source)
            | Self::Read { source, .. }
            | Self::NotReady { source, .. }
            | Self::Evict { source, .. }
            | Self::Remediation { source, .. } => source,
        }
    }
}
