//! Writes that failed.

use std::sync::Arc;

use mainstay_runtime::{
    failure::RequestError,
    outcome::{Concern, Part},
    reconcile::ReconcileError,
};
use thiserror::Error;

/// Keeping templates as revisions.
pub const REVISIONS: Concern = Concern::new("Revisions", "RevisionsFailed");
/// Numbering revisions in the order in which they were wanted.
pub const NUMBERING: Concern = Concern::upkeep("Numbering", "NumberingFailed");
/// Removing old revisions.
pub const PRUNING: Concern = Concern::upkeep("Pruning", "PruningFailed");
/// Creating pods.
pub const CREATION: Concern = Concern::new("Creation", "CreationFailed");
/// Deleting pods, or changing them in place of that.
pub const DELETION: Concern = Concern::new("Deletion", "DeletionFailed");
/// Adopting and releasing pods.
pub const ADOPTION: Concern = Concern::new("Adoption", "AdoptionFailed");
/// Readiness gates of pods that were changed in place.
pub const GATES: Concern = Concern::new("ReadinessGates", "ReadinessGatesFailed");
/// Hooks of pods that are to go.
pub const HOOKS: Concern = Concern::new("Hooks", "HooksFailed");
/// Volume claims.
pub const CLAIMS: Concern = Concern::new("VolumeClaims", "VolumeClaimsFailed");
/// The group's own finalizer.
pub const FINALIZER: Concern = Concern::new("Finalizer", "FinalizerFailed");
/// Reads before what cannot be undone.
pub const READS: Concern = Concern::new("Reads", "ReadsFailed");

/// A write that failed. The variant names the operation.
#[derive(Debug, Error)]
pub enum ApplyError {
    /// A pod could not be created.
    #[error("could not create a pod: {0}")]
    Create(#[source] RequestError),
    /// A pod could not be deleted.
    #[error("could not delete pod {pod}: {source}")]
    Delete {
        /// The pod's name.
        pod: Arc<str>,
        /// What the server said.
        source: RequestError,
    },
    /// A pod could not be taken out of service, or put into it again.
    #[error("could not set the readiness gate of pod {pod}: {source}")]
    Gate {
        /// The pod's name.
        pod: Arc<str>,
        /// What the server said.
        source: RequestError,
    },
    /// The hook of a pod could not be called or given up.
    #[error("could not call the pre-delete hook of pod {pod}: {source}")]
    Hook {
        /// The pod's name.
        pod: Arc<str>,
        /// What the server said.
        source: RequestError,
    },
    /// The group's own finalizer could not be set or removed.
    #[error("could not set the finalizer of the group: {0}")]
    Finalizer(#[source] RequestError),
    /// A volume claim could not be made, changed or deleted.
    #[error("could not {action} PersistentVolumeClaim {claim}: {source}")]
    Claim {
        /// What was to be done.
        action: &'static str,
        /// The claim's name.
        claim: Arc<str>,
        /// What the server said.
        source: RequestError,
    },
    /// An orphan could not be adopted.
    #[error("could not adopt pod {pod}: {source}")]
    Adopt {
        /// The pod's name.
        pod: Arc<str>,
        /// What the server said.
        source: RequestError,
    },
    /// A pod that no longer matches could not be released.
    #[error("could not release pod {pod}: {source}")]
    Release {
        /// The pod's name.
        pod: Arc<str>,
        /// What the server said.
        source: RequestError,
    },
    /// A ControllerRevision could not be made, taken over or removed.
    #[error("could not store the template as a ControllerRevision: {0}")]
    Revision(#[source] RequestError),
    /// The ControllerRevision of a restored template could not be made the newest one.
    #[error("could not renumber the ControllerRevision of the template: {0}")]
    Number(#[source] RequestError),
    /// An old ControllerRevision could not be removed.
    #[error("could not remove an old ControllerRevision: {0}")]
    Prune(#[source] RequestError),
    /// The live read before the writes failed.
    #[error("could not read the group or its pods before writing: {0}")]
    Read(#[source] RequestError),
}

impl ApplyError {
    /// Whether the server refuses pods of any template: there is no room in a quota, it has too much to do, or the controller has
    /// no right to create pods.
    pub(crate) fn befalls_any_template(&self) -> bool {
        match self.request() {
            RequestError::QuotaExceeded(_)
            | RequestError::TooManyRequests { .. }
            | RequestError::NamespaceTerminating(_) => true,
            // The authorizer's words (k8s.io/apiserver, pkg/endpoints/handlers/responsewriters/errors.go); an admission plugin
            // says what it minds in the pod.
            RequestError::Forbidden(text) => text.contains(" cannot create resource "),
            _ => false,
        }
    }

    /// What the server said.
    pub fn request(&self) -> &RequestError {
        match self {
            Self::Create(source)
            | Self::Read(source)
            | Self::Revision(source)
            | Self::Number(source)
            | Self::Prune(source)
            | Self::Finalizer(source) => source,
            Self::Gate { source, .. }
            | Self::Hook { source, .. }
            | Self::Claim { source, .. }
            | Self::Delete { source, .. }
            | Self::Adopt { source, .. }
            | Self::Release { source, .. } => source,
        }
    }

    /// The part of a reconcile that it ends.
    pub fn concern(&self) -> Concern {
        match self {
            Self::Create(_) => CREATION,
            Self::Delete { .. } => DELETION,
            Self::Gate { .. } => GATES,
            Self::Hook { .. } => HOOKS,
            Self::Claim { .. } => CLAIMS,
            Self::Finalizer(_) => FINALIZER,
            Self::Adopt { .. } | Self::Release { .. } => ADOPTION,
            Self::Revision(_) => REVISIONS,
            Self::Number(_) => NUMBERING,
            Self::Prune(_) => PRUNING,
            Self::Read(_) => READS,
        }
    }

    /// The same, and the pod that it befell where it says nothing of others.
    pub fn part(&self) -> Part {
        let pod = match self {
            Self::Delete { pod, .. }
            | Self::Gate { pod, .. }
            | Self::Hook { pod, .. }
            | Self::Adopt { pod, .. }
            | Self::Release { pod, .. } => Some(Arc::clone(pod)),
            _ => None,
        };
        (self.concern(), pod)
    }

    /// The operation, as a metric label.
    pub fn operation(&self) -> &'static str {
        match self {
            Self::Create(_) => "create",
            Self::Delete { .. } => "delete",
            Self::Gate { .. } => "gate",
            Self::Hook { .. } => "hook",
            Self::Claim { .. } => "claim",
            Self::Finalizer(_) => "finalizer",
            Self::Adopt { .. } => "adopt",
            Self::Release { .. } => "release",
            Self::Revision(_) => "revision",
            Self::Number(_) => "number",
            Self::Prune(_) => "prune",
            Self::Read(_) => "read",
        }
    }
}

impl ReconcileError for ApplyError {
    fn request(&self) -> &RequestError {
        self.request()
    }
}
