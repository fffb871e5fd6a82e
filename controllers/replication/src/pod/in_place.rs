//! What is kept of a pod whose images may be changed while it runs.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::plan::Gate;

/// What is kept of a pod that has the readiness gate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InPlace {
    /// The state of its gate.
    pub gate: Gate,
    /// Whether it is ready all the same, since its node has not seen yet that the gate is closed.
    pub still_ready: bool,
    /// Its containers have not all been replaced since their images were changed.
    pub changing: bool,
    /// Its containers as they are.
    pub containers: BTreeMap<String, Before>,
}

/// A container as it was before its pod took the revision that it is of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Before {
    /// The container's ID; empty for one that runs on.
    #[serde(default)]
    pub id: String,
    /// How often it had restarted.
    pub restarts: i32,
}

impl Before {
    /// A container that runs on.
    pub(super) fn kept(restarts: i32) -> Self {
        Self { id: String::new(), restarts }
    }

    /// Whether the container is replaced by another.
    pub(super) fn is_replaced(&self) -> bool {
        !self.id.is_empty()
    }
}
