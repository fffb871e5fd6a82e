//! The stores that a reconcile reads.

use mainstay_runtime::index::Index;

use crate::{
    claim::Claim,
    pod::{Labelled, Pod},
    revision::Revision,
};

/// The stores that a reconcile reads.
#[derive(Clone, Default)]
pub struct Stores {
    /// All pods.
    pub pods: Index<Pod>,
    /// All nodes.
    pub nodes: Index<Labelled>,
    /// All PodDisruptionBudgets.
    pub budgets: Index<Labelled>,
    /// The ControllerRevisions of all groups.
    pub revisions: Index<Revision>,
    /// The volume claims of all groups.
    pub claims: Index<Claim>,
}
