//! The input of a plan besides the rules, and its output.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use mainstay_runtime::clock::Moment;

use crate::record::Record;

/// A node as it was observed.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeView {
    /// Its name.
    pub name: Arc<str>,
    /// Its failure domain; nodes without labels share the empty one.
    pub zone: Arc<str>,
    /// Whether it runs the control plane.
    pub control_plane: bool,
    /// The index of its policy's rules: the strictest of those that select it. `None`: no policy does (any more).
    pub rules: Option<usize>,
    /// Whether it is being removed on purpose.
    pub leaving: bool,
    /// Its heartbeat.
    pub heartbeat: Heartbeat,
    /// The first of the policy's conditions that has held for its time, in words, and since when it had.
    pub failing: Option<(Arc<str>, Moment)>,
    /// When one of the policy's conditions that holds will have for its time.
    pub failing_due: Option<Moment>,
    /// Whether a live read has confirmed the failure or the failing condition since it began.
    pub confirmed: bool,
    /// When it did.
    pub answered: Option<Moment>,
    /// What says otherwise: a kubelet that answers, pods that are seen to serve. In words.
    pub doubt: Option<Arc<str>>,
    /// What this controller has set on the node.
    pub record: Record,
    /// Whether it was taken by a policy that is there and cannot be read: what that policy wants of it is not known.
    pub unread: bool,
    /// The boot that it reports.
    pub boot_id: Arc<str>,
    /// Whether the taint out-of-service of its record is set on it, and is not only decided.
    pub out_of_service: bool,
    /// Why it must be dead.
    pub proof: Option<Proof>,
    /// How its remediation goes.
    pub remediation: Remediation,
    /// Whether one that was made for this boot is seen to have succeeded.
    pub remediated: bool,
    /// The templates of which none can be made, until a person changes something.
    pub out_of_reach: Vec<usize>,
    /// How many pods are to be evicted from it.
    pub pods: usize,
}

impl NodeView {
    /// Since when its condition is bad, or else it is silent.
    pub fn unwell_since(&self) -> Moment {
        self.failing.as_ref().map_or(self.heartbeat.silent_since(), |(_, since)| *since)
    }
}

/// The heartbeat of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// When its Lease was last seen renewed, by this process, or without one its status posted. `None`: not yet, which is no
    /// sign of death.
    pub heard: Option<Moment>,
    /// Since when this process has watched it without interruption: since it knows the node, since it leads, since the
    /// API server last did not answer. No failure counts for longer than this.
    pub listening: Moment,
    /// The time between two renewals, as its kubelet is set: a quarter of the Lease's duration (kubelet's
    /// `nodeLeaseRenewIntervalFraction`). `None`: it has no Lease.
    pub interval: Option<Duration>,
    /// When its Lease says that it was last renewed, or without a Lease when it last posted its status, by the clock of the
    /// node. It identifies this failure, and is compared only with itself.
    pub renewed: Option<Timestamp>,
}

impl Heartbeat {
    /// Whether a renewal was seen since it is watched.
    pub fn is_heard(self) -> bool {
        self.heard.is_some_and(|heard| heard >= self.listening)
    }

    /// Since when it has not renewed its Lease.
    pub fn silent_since(self) -> Moment {
        self.heard.map_or(self.listening, |heard| heard.max(self.listening))
    }
}

/// Why a node must be dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// The cloud says that it is shut down.
    ShutDown,
    /// A person says so.
    Person,
    /// A remediation has succeeded that only does so when the node is dead.
    Remediated,
}

/// The remediation of a node. All existing ones are deleted when the node is healthy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Remediation {
    /// None exists.
    #[default]
    None,
    /// This process has not looked yet: one may exist or not.
    Unknown,
    /// That of the template of this index exists: since when it is seen, and its reported result.
    Stands {
        /// The template.
        template: usize,
        /// Since when it is seen.
        since: Moment,
        /// Its condition `Succeeded`.
        succeeded: Option<bool>,
    },
}

/// Which remediation of a node should exist.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wanted {
    /// None: existing ones are deleted.
    #[default]
    None,
    /// An existing one is read and kept, and none is created.
    Look,
    /// That of the template of this index. Those of earlier templates are kept until the node is healthy.
    Template(usize),
}

/// What a plan leaves to the next one. A restart may lose it: verdicts then start again.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Memory {
    /// Of each node that is not simply well.
    pub nodes: BTreeMap<Arc<str>, NodeMemory>,
    /// Of each policy's breakers: those of its zones, and under `None` that of the policy as a whole.
    pub breakers: BTreeMap<(Arc<str>, Option<Arc<str>>), BreakerMemory>,
    /// When each policy has taken nodes, as far back as its window goes: on the process's own clock, and before zero what
    /// was taken before the process began. Of a policy that the last plan did not know, the next one begins with what is
    /// written down.
    pub taken: BTreeMap<Arc<str>, Vec<SignedDuration>>,
}

impl Memory {
    /// Whether the last plan was made with this policy.
    pub fn knows(&self, policy: &str) -> bool {
        self.taken.contains_key(policy)
    }
}

/// What is remembered of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeMemory {
    /// Since when it is unhealthy.
    pub unhealthy_since: Option<Moment>,
    /// Since when a second opinion says otherwise.
    pub doubted_since: Option<Moment>,
    /// Since when it is acted on.
    pub taken_since: Option<Moment>,
    /// Since when it is healthy again.
    pub well_since: Option<Moment>,
}

/// What is remembered of a breaker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BreakerMemory {
    /// Since when it is open.
    pub open_since: Option<Moment>,
    /// Since when no more than half of its limit are unhealthy.
    pub calm_since: Option<Moment>,
}

/// The time, on both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// On the process's own.
    pub moment: Moment,
    /// Wall-clock time; used only for what is recorded for a later process.
    pub wall: Timestamp,
}

/// What is to be done, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// One for each node, in their order.
    pub nodes: Vec<NodePlan>,
    /// Each policy's breakers.
    pub breakers: Vec<Breaker>,
    /// What the next plan has to be given.
    pub memory: Memory,
    /// When the plan changes although nothing that was observed does; later than now.
    pub due: Option<Moment>,
}

/// What is to be done with a node.
#[derive(Clone, Debug, PartialEq)]
pub struct NodePlan {
    /// Its state.
    pub state: State,
    /// Why it is unhealthy, as text; empty when it is healthy.
    pub why: String,
    /// What is waited for, in words; empty when nothing is.
    pub waits_for: String,
    /// The step that comes next, and when, or not before when, where time alone brings it.
    pub next: Option<(Step, Moment)>,
    /// Whether it is to be read live, and asked for a second opinion.
    pub ask: bool,
    /// What this controller should set on the node.
    pub record: Record,
    /// What is done with its pods.
    pub pods: PodsPlan,
    /// Which remediation should exist.
    pub remediation: Wanted,
}

/// What is done with the pods of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PodsPlan {
    /// They are marked not ready.
    pub not_ready: bool,
    /// They are evicted.
    pub evict: Option<Evict>,
}

/// How pods are evicted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evict {
    /// PodDisruptionBudgets are honoured.
    Politely,
    /// They are not: pods are deleted.
    Force,
}

/// A step that is taken with a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// [`Steps::cordon`](super::rules::Steps::cordon).
    Cordon,
    /// [`Steps::taint`](super::rules::Steps::taint).
    Taint,
    /// [`Steps::pods_not_ready`](super::rules::Steps::pods_not_ready).
    PodsNotReady,
    /// [`Steps::drain`](super::rules::Steps::drain).
    Drain,
    /// [`Drain::delete_after`](super::rules::Drain::delete_after).
    Delete,
    /// [`Steps::remediation`](super::rules::Steps::remediation).
    Remediate,
    /// [`Steps::out_of_service`](super::rules::Steps::out_of_service).
    OutOfService,
    /// The node is restored.
    Restore,
}

/// The state of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// It is healthy, and this controller has set nothing on it.
    Healthy,
    /// Its Lease is renewed too rarely for the policy's `unreachable_after`: missing renewals say nothing. Its
    /// conditions are still judged.
    Unjudged,
    /// Its Lease is overdue, or a condition holds and has not for its time.
    Suspect,
    /// It would be unhealthy, which a live read is to confirm.
    Unconfirmed,
    /// It would be unhealthy, and a second opinion says otherwise.
    Doubted,
    /// It is unhealthy, and something keeps the controller from acting: see [`NodePlan::waits_for`].
    Waiting,
    /// It is unhealthy, and is acted on.
    Acting,
    /// It is healthy again, but not for long enough to be restored.
    Recovering,
    /// It is healthy again, but has failed too often.
    Quarantined,
    /// It is being removed on purpose: nothing is done with it, and no breaker counts it.
    Leaving,
}

impl State {
    /// How many there are.
    pub const COUNT: usize = Self::ALL.len();
    /// All of them, in their order.
    pub const ALL: [Self; 10] = [
        Self::Healthy,
        Self::Unjudged,
        Self::Suspect,
        Self::Unconfirmed,
        Self::Doubted,
        Self::Waiting,
        Self::Acting,
        Self::Recovering,
        Self::Quarantined,
        Self::Leaving,
    ];

    /// Whether the verdict is that the node is unhealthy, whether anything is done about it or not.
    pub fn is_unhealthy(self) -> bool {
        matches!(self, Self::Waiting | Self::Acting)
    }

    /// As it is written in a status and in a metric's label.
    pub fn name(self) -> &'static str {
        match self {
            Self::Healthy => "Healthy",
            Self::Unjudged => "Unjudged",
            Self::Suspect => "Suspect",
            Self::Unconfirmed => "Unconfirmed",
            Self::Doubted => "Doubted",
            Self::Waiting => "Waiting",
            Self::Acting => "Acting",
            Self::Recovering => "Recovering",
            Self::Quarantined => "Quarantined",
            Self::Leaving => "Leaving",
        }
    }
}

/// The state of a breaker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Breaker {
    /// The policy.
    pub policy: Arc<str>,
    /// The zone; `None`: all of the policy's nodes.
    pub zone: Option<Arc<str>>,
    /// Its nodes.
    pub nodes: usize,
    /// Those of them that are unhealthy, or overdue.
    pub unhealthy: usize,
    /// How many may be.
    pub limit: usize,
    /// Since when it is open.
    pub open_since: Option<Moment>,
    /// Whether all nodes of all zones are unhealthy: then cordons and taints are removed.
    pub everything: bool,
}

/// A zone in a sentence; nodes without the label share one.
pub fn place(zone: &str) -> String {
    if zone.is_empty() { "the nodes without a zone".to_owned() } else { format!("zone {zone}") }
}
