//! The input and the output of a choice.

use std::{collections::BTreeMap, time::Duration};

use mainstay_runtime::clock::Moment;

use crate::health::Verdict;

/// A member that could be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The tier that it belongs to; lower is better.
    pub tier: u8,
    /// Whether its pod is ready. True of an address outside the cluster.
    pub serving: bool,
    /// What its checks say; `None` when none are configured, which counts as passing.
    pub verdict: Option<Verdict>,
    /// Since when they say so.
    pub verdict_since: Moment,
    /// Whether the last choice used it.
    pub admitted: bool,
    /// Whether it is leaving: it is not counted and not used.
    pub leaving: bool,
}

impl Candidate {
    /// Whether it can be used without a doubt.
    pub(super) fn is_healthy(&self) -> bool {
        self.serving && matches!(self.verdict, None | Some(Verdict::Passing))
    }

    /// Whether its pod is ready and its checks have not said anything yet.
    pub(super) fn is_unchecked(&self) -> bool {
        self.serving && self.verdict == Some(Verdict::Unknown)
    }

    /// Whether its pod is ready and its checks fail.
    pub fn is_failing(&self) -> bool {
        self.serving && self.verdict == Some(Verdict::Failing)
    }
}

/// The rules of a choice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// When less than this percentage of the ready and checked members of the active tier is healthy, checks are
    /// ignored: all its ready members are used. It ends with one more than that, unless that is one or all. Zero: never.
    pub panic_below: u8,
    /// At most this percentage of the ready and checked members of the active tier, rounded down but at least one, is left
    /// out because they fail. 100: no limit. Zero: none is.
    pub max_ejected: u8,
    /// When to go to another tier.
    pub failover: Failover,
    /// How members are let in; `None`: as soon as they are healthy.
    pub slow_start: Option<SlowStart>,
}

/// When to go to another tier. The share of a tier is that of the healthy among its members, of which those that are
/// ready and not checked yet do not count. Of the tier in use no more count than are [expected](TierState::expected) to be
/// healthy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failover {
    /// A tier whose share is below this percentage is replaced by the next one that is not.
    pub below: u8,
    /// A better tier becomes active again when its share is at least this percentage. Less than `below` counts as
    /// `below`.
    pub back_above: u8,
    /// For how long, without a break. When the tier in use is itself below `below`, that share is enough, without a wait.
    pub back_after: Duration,
}

/// Members that become healthy are let in bit by bit.
///
/// The exception is a tier in which no healthy member was in use: it is filled for one `period`, during which all are
/// let in at once. Otherwise the first to be healthy would carry everything alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlowStart {
    /// This percentage of the healthy members in use is added at a time, rounded down, but at least one.
    pub percent: u8,
    /// From one time to the next. Zero: no slow start.
    pub period: Duration,
}

/// What a choice leaves to the next one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// The tier that is in use. `None` before the first choice, and as long as a better tier than the one in use still
    /// waits for the first verdict on a member: such a tier is taken without the wait of a return.
    pub tier: Option<u8>,
    /// The tier that was used last, and how many of its members are [expected](TierState::expected) to be healthy.
    pub expected: Option<(u8, usize)>,
    /// Since when that tier has had [fewer members](TierState::fewer), and how many at most.
    pub fewer: Option<(Moment, usize)>,
    /// Since when tiers better than that one have the share to return to them.
    pub better_since: BTreeMap<u8, Moment>,
    /// When slow start last let members in.
    pub last_admission: Option<Moment>,
    /// When slow start last began to fill a tier.
    pub filled: Option<Moment>,
    /// Whether the panic threshold was passed, for the caller to see when that begins and ends.
    pub panic: bool,
}

/// Who is used, and why the others are not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// One for each candidate.
    pub uses: Vec<Use>,
    /// The tier in use. `None` when there are no members, and when none has been checked yet.
    pub tier: Option<u8>,
    /// Whether too few are healthy to believe it: see [`Policy::panic_below`].
    pub panic: bool,
    /// What the next choice has to be given.
    pub memory: Memory,
    /// When the choice, or what it remembers, changes although no candidate does; later than now.
    pub due: Option<Moment>,
    /// The tiers that have members, best first.
    pub tiers: Vec<TierState>,
}

/// Whether a member is used, and why or why not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// It is used: healthy, or not checked yet in a panic.
    InUse,
    /// It fails but is used: too many others fail too.
    KeptDespiteFailing,
    /// It is healthy, in a tier that is not in use.
    Standby,
    /// It is healthy, and slow start has not let it in yet.
    Waiting,
    /// Its checks fail.
    Failing,
    /// Its checks have not said anything yet.
    Unchecked,
    /// Its pod is not ready.
    NotReady,
    /// It is leaving.
    Leaving,
}

impl Use {
    /// Whether the member gets traffic: what [`Candidate::admitted`] is to be in the next choice.
    pub fn is_used(self) -> bool {
        matches!(self, Self::InUse | Self::KeptDespiteFailing)
    }
}

/// A tier, in numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TierState {
    /// Its number; lower is better.
    pub tier: u8,
    /// Members that are not leaving.
    pub members: usize,
    /// Those of them that are ready: their pod is, or they are outside the cluster.
    pub serving: usize,
    /// Those of the ready ones whose checks have not said anything yet.
    pub unchecked: usize,
    /// Those of the ready ones whose checks pass, or that need none.
    pub healthy: usize,
    /// Since when the newest of the unchecked ones waits for its first verdict.
    pub unchecked_since: Option<Moment>,
    /// How many of its members should be healthy. Of a tier that is not in use all of them. Of the one in use as many as it
    /// had when it came into use, or as have been healthy at once since then: a member that has yet to become healthy for
    /// the first time takes nothing away from those that serve. A member that is lost is still expected, for one that
    /// takes its place may never become healthy; only when there have been fewer for a while it is not.
    pub expected: usize,
    /// Since when it has had fewer members than expected, without a break, and how many it had at most since then.
    pub fewer: Option<(Moment, usize)>,
    /// Whether the last choice used any of them.
    pub used: bool,
}
