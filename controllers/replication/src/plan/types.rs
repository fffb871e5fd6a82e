//! The input of a plan.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use jiff::Timestamp;

/// How many spread keys a group may have; as many as `scaleDown.spread` admits.
pub const MAX_SPREAD_KEYS: usize = 4;

/// A node's value of each spread key, in the group's order of keys. `None` when the node has no such label, is
/// not known, or there are fewer keys: nodes without a value form one domain of their own.
pub type Domains<'a> = [Option<&'a str>; MAX_SPREAD_KEYS];

/// What is wanted of one group.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    /// How many active pods there should be.
    pub replicas: usize,
    /// How long a pod must have been ready to count as available.
    pub min_ready: Duration,
    /// When a terminating pod is replaced.
    pub replacement: Replacement,
    /// Which nodes lose pods first at a scale-down.
    pub prefer: NodePreference,
    /// Names of pods that go first when the group scales down.
    pub pods_to_delete: BTreeSet<String>,
    /// Whether these are replaced as well, as pods of an old revision are. If not, naming a pod does not delete it otherwise.
    pub replace_named: bool,
    /// The group itself is being deleted.
    pub ending: Option<Ending>,
    /// How pods of another revision than the wanted one are replaced.
    pub strategy: Strategy,
    /// How many pods of which revision are wanted, in sum `replicas`: first the target revision. Empty for a group
    /// that knows no revisions.
    pub shares: Vec<Share>,
    /// How many pods of a revision are kept up, be more or fewer of it wanted, until others take their place.
    pub keep: Option<Share>,
    /// The sets of volume claims that pods of the group have, where they have any.
    pub volumes: Option<Volumes>,
    /// For how long the hook of a pod that is to go is waited for.
    pub hook_timeout: Duration,
    /// Pods that others have deleted soon after they were created.
    pub lost: Vec<Lost>,
    /// There are PodDisruptionBudgets that may have a say in which pods make way for another revision.
    pub budgets: bool,
}

/// A pod that this controller has not deleted itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// Its revision.
    pub revision: Arc<str>,
    /// When it was created.
    pub created: Timestamp,
    /// When its deletion was seen.
    pub gone: Timestamp,
}

/// What happens to the pods of a group that is being deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The group does not handle them: they are deleted or orphaned with it, as its deleter requested.
    GarbageCollected,
    /// They are deleted first, since their hooks are to be waited for.
    DrainFirst,
    /// They keep running without the group, and without the hooks, which would never end otherwise.
    OrphanPods,
}

/// Sets of volume claims: each pod holds one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Volumes {
    /// How many there are.
    pub total: usize,
    /// How many of them no pod holds.
    pub free: usize,
    /// New pods take free ones over, and wait for one rather than have more made than there should be pods.
    pub reuse: bool,
    /// Free ones that no pod will need are deleted.
    pub discard: bool,
}

/// How many pods of a revision are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// The revision.
    pub revision: Arc<str>,
    /// How many.
    pub replicas: usize,
}

/// How pods are replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    /// A few at a time.
    Rolling {
        /// The maximum number of active pods beyond `replicas`.
        surge: usize,
        /// No pod is deleted if that would leave more than this many of `replicas` unavailable.
        unavailable: usize,
    },
    /// All old pods end before the first new one is made.
    Recreate,
    /// Pods are replaced when others delete them.
    OnDelete,
}

impl Strategy {
    /// How many active pods there may be beyond `replicas`.
    pub fn surge(self) -> usize {
        match self {
            Self::Rolling { surge, .. } => surge,
            Self::Recreate | Self::OnDelete => 0,
        }
    }
}

impl Default for Strategy {
    fn default() -> Self {
        Self::Rolling { surge: 0, unavailable: 1 }
    }
}

/// When a terminating pod is replaced.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Replacement {
    /// As soon as its deletion was asked for: quick, but more pods than replicas may run meanwhile.
    #[default]
    WhenTerminating,
    /// When it has ended: never more running pods than replicas.
    WhenTerminated,
}

/// Which nodes lose pods first at a scale-down.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum NodePreference {
    /// Those with the most of the group's own active pods.
    #[default]
    CrowdedNode,
    /// Those with the fewest pods of any owner, one node after the other, so that nodes become free.
    EmptiestNode,
}

/// One pod as the planner sees it. All text is borrowed: a reconcile over thousands of pods copies none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pod<'a> {
    /// Its name, unique among the pods of a reconcile.
    pub name: &'a str,
    /// Its UID, unique as well; the last word where nothing else tells two pods apart.
    pub uid: &'a str,
    /// The relation of the pod to the group.
    pub claim: Claim,
    /// Where it runs; `None` before it is scheduled.
    pub node: Option<Node<'a>>,
    /// `status.phase`.
    pub phase: Phase,
    /// Its deletion has been asked for.
    pub terminating: bool,
    /// Since when its Ready condition is true; `None` when it is not.
    pub ready_since: Option<Timestamp>,
    /// When the API server made it.
    pub created: Timestamp,
    /// When it ended, if its status tells.
    pub ended_at: Option<Timestamp>,
    /// `controller.kubernetes.io/pod-deletion-cost`, zero when absent or not a number.
    pub deletion_cost: i32,
    /// The most restarts of any of its containers.
    pub restarts: i32,
    /// The most restarts of any of its sidecars, i.e. init containers that keep running.
    pub sidecar_restarts: i32,
    /// It carries every label of the group's template.
    pub fully_labeled: bool,
    /// The revision of the template that it was made from; empty when not known.
    pub revision: &'a str,
    /// The most restarts of any container, those that run at the start included, that count against its revision.
    pub crashes: i32,
    /// What keeps it from becoming ready.
    pub blocker: Option<Trouble>,
    /// Its readiness gate, where it has one.
    pub gate: Option<Gate>,
    /// Its containers are being replaced in place.
    pub changing: bool,
    /// Set where it can be brought to the target revision in place.
    pub in_place: Option<InPlace>,
    /// The hook that is waited for before it is deleted, where it has one to wait for or has been waited for.
    pub hook: Option<Hook>,
}

/// The state of the hook that must complete before a pod is deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hook {
    /// It is not done.
    pub held: bool,
    /// Since when its owner has been told that the pod is to go.
    pub since: Option<Timestamp>,
}

/// A pod that can be brought to the target revision in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InPlace {
    /// It is ready by the word of its node, whatever its readiness gate says.
    pub still_ready: bool,
}

/// A readiness gate by which a pod is taken out of service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// It has not been opened yet.
    Unset,
    /// The pod is out of service.
    Closed,
    /// It does not keep the pod from being ready.
    Open,
}

impl Pod<'_> {
    /// It belongs to the group and has not ended, terminating or not.
    pub(super) fn lives(&self) -> bool {
        self.claim == Claim::Mine && !self.phase.is_terminal()
    }

    /// Its hook has completed: it counts as not serving, whatever its readiness says.
    pub(super) fn is_drained(&self) -> bool {
        self.hook.is_some_and(|hook| hook.since.is_some() && !hook.held)
    }
}

/// What keeps a pod from becoming ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trouble {
    /// What it is.
    pub cause: Cause,
    /// For how long it has been seen without a break.
    pub lasts: Duration,
}

/// What keeps pods from becoming ready for longer than it takes to start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// A scheduling gate: another controller has not released it to the scheduler.
    Gated,
    /// No node takes it.
    Unschedulable,
    /// Its node has not prepared it: its volumes, such as that of a missing ConfigMap, or its network.
    Setup,
    /// An image cannot be had.
    Image,
    /// A ConfigMap, a Secret or a key of these that a container needs is missing, or a container cannot be made.
    Config,
}

/// Where a pod runs. Pods on the same node should agree on it; where they do not, one pod's word is taken for
/// all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Node<'a> {
    /// The node's name.
    pub name: &'a str,
    /// The domains it lies in.
    pub domains: Domains<'a>,
    /// How many pods of any owner it carries, including this group's. Pods that have ended or are terminating should
    /// not count, or a scale-down in steps may delete other pods than one done at once.
    pub pods: usize,
    /// Whether its pods are about to go.
    pub leaving: bool,
}

/// The relation of a pod to the group: its controller reference and the group's selector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// The group controls it and selects it.
    Mine,
    /// The group controls it but no longer selects it.
    MineUnmatched,
    /// It has no controller and the group selects it.
    OrphanMatching,
    /// The same, but the API server has refused its adoption. It is asked again, and does not count until it succeeds.
    OrphanRefused,
    /// It has no controller and the group does not select it, and it has a hook that will not be called any more.
    OrphanHooked,
    /// Another's, or any other orphan.
    Foreign,
}

/// `status.phase`, in the order in which pods are deleted; an empty phase is `Pending`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Not all containers have started.
    Pending,
    /// The node was lost from sight.
    Unknown,
    /// At least one container runs.
    Running,
    /// All containers ended well, for good.
    Succeeded,
    /// All containers ended, at least one badly, for good.
    Failed,
}

impl Phase {
    /// The pod will not run again.
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed)
    }
}
