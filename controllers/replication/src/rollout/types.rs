//! The state of a rollout, and what is decided.

use std::{fmt, sync::Arc, time::Duration};

use jiff::Timestamp;

use super::{command::Ignored, evidence::Evidence};
use crate::plan::{Cause, Share};

/// What is remembered of a group's revisions between reconciles. It lives in the group's status.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State {
    /// The last revision of which all pods were available, or else the one that [`State::stand_on_what_serves`] has found.
    pub current: Option<Arc<str>>,
    /// The last other one of which all pods were available before that.
    pub previous: Option<Arc<str>>,
    /// What `spec.rollbackTo: previous` stands for, for as long as the spec says so: it is decided once.
    pub pinned: Option<Arc<str>>,
    /// What has failed, for as long as the spec asks for it.
    pub failed: Option<Failed>,
    /// The rollout in progress.
    pub rollout: Option<Rollout>,
}

impl State {
    /// Whether that revision has failed.
    pub(crate) fn has_failed(&self, revision: &str) -> bool {
        self.failed.as_ref().is_some_and(|failed| *failed.revision == *revision)
    }
}

/// A failed revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// The revision.
    pub revision: Arc<str>,
    /// The kind of failure.
    pub reason: Reason,
    /// What was seen.
    pub message: String,
}

/// A rollout in progress.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rollout {
    /// The revision that the pods are brought to.
    pub revision: Arc<str>,
    /// When it began.
    pub started: Timestamp,
    /// When it last got on, for people to read: what fails for want of progress is judged by [`Evidence`].
    pub progressed: Timestamp,
    /// The most pods of the revision that have been available at one time.
    pub available: usize,
    /// The index of its step, for as long as there is one to go.
    pub step: Option<usize>,
    /// Since when all is done that the step, or the partition, asks for.
    pub reached: Option<Timestamp>,
    /// The pods of each revision when it was paused.
    pub held: Vec<Share>,
    /// The old pods that are kept up; `None` where the change began without any.
    pub kept: Option<Kept>,
    /// The most old pods that no node took at one time: there was no room for as many new ones either. The pods themselves may
    /// be gone since, as the rollout deletes them first.
    pub unschedulable: usize,
    /// Commands that are older than the rollout.
    pub ignored: Ignored,
}

impl Rollout {
    pub(super) fn new(revision: Arc<str>, step: Option<usize>, now: Timestamp) -> Self {
        Self {
            revision,
            started: now,
            progressed: now,
            available: 0,
            step,
            reached: None,
            held: Vec::new(),
            kept: None,
            unschedulable: 0,
            ignored: Ignored::default(),
        }
    }
}

/// How many old pods are kept in a group of that size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    /// Old pods.
    pub replicas: usize,
    /// All that were wanted at the time.
    pub of: usize,
}

impl Kept {
    /// As many of `replicas`, rounded up.
    pub(super) fn scaled(self, replicas: usize) -> usize {
        if self.of == replicas { self.replicas } else { (self.replicas * replicas).div_ceil(self.of.max(1)) }
    }
}

/// Why a change has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// It did not get on for too long.
    ProgressDeadlineExceeded,
    /// Its containers crash.
    CrashLoop,
    /// An image cannot be had.
    ImagePullFailed,
    /// Configuration is missing.
    ConfigError,
    /// No node takes its pods.
    Unschedulable,
    /// It was aborted by hand.
    Aborted,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::ProgressDeadlineExceeded,
        Self::CrashLoop,
        Self::ImagePullFailed,
        Self::ConfigError,
        Self::Unschedulable,
        Self::Aborted,
    ];

    /// The reason for trouble that lasts.
    pub(super) fn of(cause: Cause) -> Option<Self> {
        match cause {
            Cause::Gated | Cause::Setup => None,
            Cause::Unschedulable => Some(Self::Unschedulable),
            Cause::Image => Some(Self::ImagePullFailed),
            Cause::Config => Some(Self::ConfigError),
        }
    }

    /// The variant's name, as conditions, events and metrics give it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ProgressDeadlineExceeded => "ProgressDeadlineExceeded",
            Self::CrashLoop => "CrashLoop",
            Self::ImagePullFailed => "ImagePullFailed",
            Self::ConfigError => "ConfigError",
            Self::Unschedulable => "Unschedulable",
            Self::Aborted => "Aborted",
        }
    }

    /// The reason of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == name)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// What is wanted of a change now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// What is to be remembered, before anything is done that follows from it.
    pub state: State,
    /// What this process has seen of the change.
    pub evidence: Evidence,
    /// Whether the change would have failed, were it certain that what is seen is how things are. When that is to be found
    /// out is no part of `due`.
    pub overdue: bool,
    /// How many pods of the target revision wait for what their template cannot be blamed for.
    pub waiting: usize,
    /// The revision that the spec asks for.
    pub wanted: Arc<str>,
    /// The target revision of the group.
    pub target: Arc<str>,
    /// How many pods of which revision there should be; first those of `target`, unless it is held back.
    pub shares: Vec<Share>,
    /// How many pods of a revision are recreated when they are lost, although no more of it are wanted finally.
    pub keep: Option<Share>,
    /// The phase of the rollout.
    pub phase: Phase,
    /// When time alone changes the decision.
    pub due: Option<Duration>,
    /// What has come about since the state was remembered.
    pub news: Vec<RolloutEvent>,
}

/// The phase of a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// All pods are of the revision that the group should be at.
    Complete,
    /// Pods are being updated.
    Rolling,
    /// Pods are being brought back to the revision before.
    RollingBack,
    /// A step is reached and lasts.
    StepPaused {
        /// Which, counted from 1.
        step: usize,
        /// The number of all steps.
        of: usize,
        /// Its weight in percent.
        weight: usize,
        /// How long it lasts; `None`: until it is ended by hand.
        until: Option<Timestamp>,
    },
    /// As many pods are updated as the partition allows.
    PartitionReached,
    /// Pods are updated when they are deleted by hand.
    WaitingForDeletion,
    /// The spec holds the change back.
    Paused,
    /// It has failed and stays as it is.
    Failed,
}

/// What has come about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RolloutEvent {
    /// A change has begun.
    Started,
    /// A step is reached.
    StepReached {
        /// Which, counted from 1.
        step: usize,
        /// Its weight in percent.
        weight: usize,
    },
    /// All pods are updated and available.
    Completed {
        /// How long that took.
        took: Duration,
    },
    /// It has failed.
    Failed {
        /// The kind of failure.
        reason: Reason,
        /// What was seen.
        message: String,
    },
    /// All pods are back at the revision before and available.
    RolledBack {
        /// How long that took, from the failure on.
        took: Duration,
    },
}
