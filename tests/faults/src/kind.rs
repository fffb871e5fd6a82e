//! The kinds of objects that the model knows.

/// A kind that the server stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// `v1` Pod.
    Pod,
    /// `mainstay.dev/v1alpha1` ReplicaGroup.
    Group,
    /// `apps/v1` ControllerRevision.
    Revision,
    /// `v1` PersistentVolumeClaim.
    Claim,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Pod, Self::Group, Self::Revision, Self::Claim];
}
