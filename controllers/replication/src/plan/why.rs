//! Why a pod is deleted.

use std::fmt;

/// The rule that made a pod a victim, in the order in which the rules apply; the first that tells two pods
/// apart wins. Named are upstream's rules except where said.
///
/// Up to [`Why::DeletionCost`] it is the first rule that tells the victim from the pod that stays longest.
/// Where those tell nothing it is, for [`Why::Spread`] and [`Why::NodePreference`], the first by which some
/// equal pod was better placed at the moment the victim was taken, and after that the first that tells the
/// victim from the most senior of its equals that stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Why {
    /// Another revision is wanted in its place (not a scale-down).
    Outdated,
    /// No pod was wanted, so all go.
    ScaledToZero,
    /// The policy names it (not upstream).
    Named,
    /// It has no node yet.
    Unscheduled,
    /// It is pending, or unknown, where others run.
    NotRunning,
    /// It is not ready.
    NotReady,
    /// It is ready, but not for `min_ready` yet (upstream asks for it: kubernetes/kubernetes#22065).
    NotAvailable,
    /// Its node is cordoned, or about to be removed (not upstream).
    LeavingNode,
    /// Its deletion cost is lower.
    DeletionCost,
    /// Its domain holds more of the group's pods (not upstream: kubernetes/kubernetes#124149, #124306).
    Spread,
    /// Its node is preferred for giving up pods. Upstream has `CrowdedNode` alone, and a ReplicaSet without an
    /// owner not even that.
    NodePreference,
    /// It is ready for a shorter time, or newer, by powers of two.
    Younger,
    /// It, or a sidecar of it, restarted more often.
    Restarts,
    /// Nothing tells it from a pod that stays; its UID comes first.
    Uid,
}

impl Why {
    /// The variant's name, fit for a metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Outdated => "Outdated",
            Self::ScaledToZero => "ScaledToZero",
            Self::Named => "Named",
            Self::Unscheduled => "Unscheduled",
            Self::NotRunning => "NotRunning",
            Self::NotReady => "NotReady",
            Self::NotAvailable => "NotAvailable",
            Self::LeavingNode => "LeavingNode",
            Self::DeletionCost => "DeletionCost",
            Self::Spread => "Spread",
            Self::NodePreference => "NodePreference",
            Self::Younger => "Younger",
            Self::Restarts => "Restarts",
            Self::Uid => "Uid",
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}
