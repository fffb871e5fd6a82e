//! What revisions, sources and targets are called in a plan.

use std::{fmt, sync::Arc};

use mainstay_crds::{SourceKind, TargetKind};

/// The number of a revision. 0 means the sources themselves, which no revision has replaced yet.
pub type Number = u64;

/// An object of another rollout's revision: no revision of this one has it, so the target is changed.
pub const FOREIGN: Number = Number::MAX;

/// A source, by its kind and name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceKey {
    /// Its kind.
    pub kind: SourceKind,
    /// Its name.
    pub name: Arc<str>,
}

impl fmt::Display for SourceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}/{}", self.kind, self.name)
    }
}

/// A target, by its kind and name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TargetKey {
    /// Its kind.
    pub kind: TargetKind,
    /// Its name.
    pub name: Arc<str>,
}

impl fmt::Display for TargetKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}/{}", self.kind, self.name)
    }
}
