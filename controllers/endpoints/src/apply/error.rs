//! Writes that failed.

use std::sync::Arc;

use mainstay_runtime::{
    failure::RequestError,
    outcome::{Concern, Part},
    reconcile::ReconcileError,
};
use thiserror::Error;

/// The slices.
pub const SLICES: Concern = Concern::new("Slices", "SlicesFailed");
/// The Service that a pool makes.
pub const SERVICE: Concern = Concern::new("Service", "ServiceFailed");
/// The readiness gates of pods. A pool serves without one that cannot be opened.
pub const GATES: Concern = Concern::upkeep("ReadinessGates", "ReadinessGatesFailed");

/// A write that failed. The variant names the operation.
#[derive(Debug, Error)]
pub enum ApplyError {
    /// A slice could not be created.
    #[error("could not create an EndpointSlice: {0}")]
    Create(#[source] RequestError),
    /// A slice could not be changed.
    #[error("could not change EndpointSlice {slice}: {source}")]
    Update {
        /// Its name.
        slice: Arc<str>,
        /// What the server said.
        source: RequestError,
    },
    /// A slice could not be deleted.
    #[error("could not delete EndpointSlice {slice}: {source}")]
    Delete {
        /// Its name.
        slice: Arc<str>,
        /// What the server said.
        source: RequestError,
    },
    /// The Service could not be made or kept as the pool says.
    #[error("could not write Service {service}: {source}")]
    Service {
        /// Its name.
        service: String,
        /// What the server said.
        source: RequestError,
    },
    /// The readiness gate of a pod could not be opened.
    #[error("could not open the readiness gate of pod {pod}: {source}")]
    Gate {
        /// Its name.
        pod: Arc<str>,
        /// What the server said.
        source: RequestError,
    },
    /// What became of an earlier write could not be read.
    #[error("could not read the outcome of an earlier write: {0}")]
    Read(#[source] RequestError),
}

impl ApplyError {
    /// What the server said.
    pub fn request(&self) -> &RequestError {
        match self {
            Self::Create(source) | Self::Read(source) => source,
            Self::Update { source, .. }
            | Self::Delete { source, .. }
            | Self::Service { source, .. }
            | Self::Gate { source, .. } => source,
        }
    }

    /// What of a reconcile it ends, and the pod that it befell where it says nothing of others.
    pub fn part(&self) -> Part {
        match self {
            Self::Create(_) | Self::Update { .. } | Self::Delete { .. } | Self::Read(_) => (SLICES, None),
            Self::Service { .. } => (SERVICE, None),
            Self::Gate { pod, .. } => (GATES, Some(Arc::clone(pod))),
        }
    }

    /// The operation, as a metric label.
    pub fn operation(&self) -> &'static str {
        match self {
            Self::Create(_) => "create",
            Self::Update { .. } => "update",
            Self::Delete { .. } => "delete",
            Self::Service { .. } => "service",
            Self::Gate { .. } => "gate",
            Self::Read(_) => "read",
        }
    }
}

impl ReconcileError for ApplyError {
    fn request(&self) -> &RequestError {
        self.request()
    }
}
