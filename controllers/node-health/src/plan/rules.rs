//! The settings of a policy, as numbers.

use std::{sync::Arc, time::Duration};

use crate::record::TaintEffect;

/// The rules of one policy, in the order of the policies' strictness: lower indices are stricter.
#[derive(Clone, Debug, PartialEq)]
pub struct Rules {
    /// The policy.
    pub policy: Arc<str>,
    /// Whether nothing of what is decided is carried out. Such policies come after all others, so that they take no
    /// node away from those that act, and what they decide counts for no other policy.
    pub dry_run: bool,
    /// Why no further nodes are acted on; empty: they are.
    pub pause_requests: Vec<String>,
    /// A node that has not renewed its Lease for this long is unreachable.
    pub unreachable_after: Duration,
    /// A node that has no Lease is unreachable when it has not posted its status either for this long since it is known.
    pub startup_grace: Duration,
    /// How long a node must be healthy without interruption before it is restored.
    pub healthy_for: Duration,
    /// For how long a second opinion that disagrees delays. Zero: it does not.
    pub max_doubt: Duration,
    /// What is done with a node that is unhealthy.
    pub steps: Steps,
    /// When nothing is done.
    pub breakers: Limits,
    /// When a node that is healthy again is kept out of use.
    pub flapping: Option<Flapping>,
}

/// What is done with a node that is unhealthy, and for how long it must have been before. `None`: never.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Steps {
    /// It takes no new pods: `spec.unschedulable`.
    pub cordon: Option<Duration>,
    /// It gets the taint of this project, with this effect.
    pub taint: Option<(TaintEffect, Duration)>,
    /// Its pods are marked not ready, so that no Service sends to them. Only of a node that is unreachable: a kubelet
    /// that lives would set the condition again.
    pub pods_not_ready: Option<Duration>,
    /// Its pods are evicted.
    pub drain: Option<Drain>,
    /// It gets the taint that lets volumes detach, when there is proof that it is dead.
    pub out_of_service: Option<Duration>,
    /// How long each template of a remediation has, in their order. Empty: there is none.
    pub remediation: Vec<Duration>,
    /// When the first one begins.
    pub remediate_after: Duration,
}

/// How pods are evicted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drain {
    /// When it begins.
    pub after: Duration,
    /// For how long PodDisruptionBudgets are waited for, from then on.
    pub deadline: Duration,
    /// Whether pods are deleted past them after that.
    pub delete_after: bool,
}

/// A number of nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// This number.
    Nodes(usize),
    /// This many percent of them, rounded up.
    Percent(u8),
}

impl Limit {
    /// The number of nodes for `all` nodes. One unhealthy node never opens a breaker, unless the limit is zero.
    pub fn of(self, all: usize) -> usize {
        match self {
            Self::Nodes(count) => count,
            Self::Percent(percent) => (all * usize::from(percent)).div_ceil(100),
        }
    }
}

/// The circuit breakers and the rate limit of a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// More unhealthy nodes of a zone than this stop everything in that zone.
    pub zone: Limit,
    /// More unhealthy nodes of the policy than this stop everything.
    pub cluster: Limit,
    /// The controller begins to act on no more nodes than `count` in any window of this length.
    pub rate: Rate,
    /// Time between a verdict and the first action, so that simultaneous failures are counted together.
    pub settle: Duration,
    /// For how long no more than half of the limit must be unhealthy, or not known to be well, before a breaker closes.
    pub close_after: Duration,
}

/// A number in a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// How many.
    pub count: usize,
    /// In how long.
    pub window: Duration,
}

/// When a node that is healthy again is kept out of use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flapping {
    /// After it became unhealthy so often
    pub count: usize,
    /// The length of the window.
    pub window: Duration,
    /// How long the first quarantine lasts; twice as long each further time.
    pub quarantine: Duration,
    /// No longer than this.
    pub max_quarantine: Duration,
}
