//! Writes that failed.

use mainstay_runtime::{
    failure::RequestError,
    outcome::{Concern, Explain},
    reconcile::ReconcileError,
};
use thiserror::Error;

/// Reads without which nothing can be decided.
pub const READS: Concern = Concern::new("Reads", "ReadsFailed");
/// Reading what the pods of a target show.
pub const EVIDENCE: Concern = Concern::new("Evidence", "EvidenceFailed");
/// Making revisions of the sources.
pub const REVISIONS: Concern = Concern::new("Revisions", "RevisionsFailed");
/// Changing targets.
pub const TARGETS: Concern = Concern::new("Targets", "TargetsFailed");
/// Deleting what nothing refers to any more.
pub const COLLECTION: Concern = Concern::upkeep("Collection", "CollectionFailed");

/// A write, or the read before it, that failed. The variant names the operation.
#[derive(Debug, Error)]
pub enum ApplyError {
    /// A source or an object of a revision could not be read.
    #[error("could not read {what}: {source}")]
    Read {
        /// Kind and name.
        what: String,
        /// What the server said.
        source: RequestError,
    },
    /// The pods of a target could not be listed.
    #[error(
        "could not list the pods of {what}, which is not judged and gets no new revision until then: {source}"
    )]
    Pods {
        /// Kind and name of the target.
        what: String,
        /// What the server said.
        source: RequestError,
    },
    /// An object of a revision could not be made.
    #[error("could not create {what}: {source}")]
    Create {
        /// Kind and name.
        what: String,
        /// What the server said.
        source: RequestError,
    },
    /// A target could not be changed.
    #[error("could not change {what}: {source}")]
    Target {
        /// Kind and name.
        what: String,
        /// What the server said.
        source: RequestError,
    },
    /// An object of an old revision could not be deleted.
    #[error("could not delete {what}: {source}")]
    Collect {
        /// Kind and name.
        what: String,
        /// What the server said.
        source: RequestError,
    },
}

impl ApplyError {
    /// The operation, as the label of a metric.
    pub fn operation(&self) -> &'static str {
        match self {
            Self::Read { .. } => "read",
            Self::Pods { .. } => "list_pods",
            Self::Create { .. } => "create",
            Self::Target { .. } => "change_target",
            Self::Collect { .. } => "collect",
        }
    }
}

impl Explain for ApplyError {}

impl ReconcileError for ApplyError {
    fn request(&self) -> &RequestError {
        match self {
            Self::Read { source, .. }
            | Self::Pods { source, .. }
            | Self::Create { source, .. }
            | Self::Target { source, .. }
            | Self::Collect { source, .. } => source,
        }
    }
}
