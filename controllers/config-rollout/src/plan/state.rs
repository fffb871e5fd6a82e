//! What is remembered of a rollout.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;

use super::keys::{Number, TargetKey};
use crate::watched::Fingerprint;

/// What is remembered of a rollout, in its status.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct State {
    /// The newest revision.
    pub newest: Number,
    /// The last revision that has been shown to work.
    pub stable: Option<Number>,
    /// The one that has failed, and why.
    pub failed: Option<(Number, Failed)>,
    /// The rollout in progress.
    pub rollout: Option<Rollout>,
    /// When a rollout last began.
    pub last: Option<Timestamp>,
    /// What is remembered of each target.
    pub targets: BTreeMap<TargetKey, TargetState>,
    /// Which requests were carried out.
    pub taken: Taken,
}

impl State {
    /// Whether targets were given the revision, and have not been given another one since.
    pub fn has_begun(&self, number: Number) -> bool {
        self.stable == Some(number)
            || self.rollout.as_ref().is_some_and(|rollout| rollout.to == number)
            || self.failed.as_ref().is_some_and(|(failed, _)| *failed == number)
    }
}

/// The values of annotations that were carried out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Taken {
    /// The retry of a failed revision.
    pub retry: Option<Arc<str>>,
    /// The end of a stage's pause.
    pub goes_on: Option<Arc<str>>,
    /// The end of a rollout.
    pub abort: Option<Arc<str>>,
}

/// Why a revision has failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// The kind of failure.
    pub reason: &'static str,
    /// The target that failed its gate.
    pub target: String,
    /// What was seen.
    pub message: String,
}

/// The reason of a revision that a user has aborted.
pub const ABORTED: &str = "Aborted";

impl Failed {
    /// What is wrong with revision `number`.
    pub fn sentence(&self, number: Number) -> String {
        let Self { reason, target, message } = self;
        match *reason {
            ABORTED => format!("revision {number} was not completed: {message}"),
            _ => format!("revision {number} has failed at {target} ({reason}): {message}"),
        }
    }
}

/// A rollout in progress.
#[derive(Debug, Clone, PartialEq)]
pub struct Rollout {
    /// The revision.
    pub to: Number,
    /// Whether it is a rollback of a failed revision.
    pub back: bool,
    /// When it began.
    pub started: Timestamp,
    /// The place of its stage.
    pub stage: usize,
    /// Since when all targets of that stage have passed.
    pub passed: Option<Timestamp>,
}

/// What is remembered of a target.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TargetState {
    /// Its UID.
    pub uid: Box<str>,
    /// The revision that it was given last.
    pub given: Number,
    /// Whether it has been seen to have it.
    pub seen: bool,
    /// Since when it is updating: it was changed, and its pods are not available yet, or it has not passed yet.
    pub changed: Option<Timestamp>,
    /// Since when it has been available since then.
    pub available: Option<Timestamp>,
    /// When it last ceased to be available since then; its deadline counts from there.
    pub broken: Option<Timestamp>,
    /// How many of its pods were not available before the rollout changed it; kept until the next rollout begins.
    pub unavailable_before: Option<i32>,
    /// Whether it has passed its gate.
    pub passed: bool,
    /// Whether it was rolled back by hand to an older revision, where it stays until a source changes.
    pub held: bool,
    /// The most restarts of a pod before the change, or that do not count any more since it has passed.
    pub restarts_before: i32,
    /// Since when the others count, after it has passed.
    pub restarted: Option<Timestamp>,
    /// How often another has taken the change back.
    pub reverts: i32,
    /// When that was last.
    pub reverted: Option<Timestamp>,
    /// Which revision it had before; 0 where it had none.
    pub reverted_from: Number,
    /// Its generation when another manager's fields stood in the way, and the sentence that says whose.
    pub conflict: Option<(i64, String)>,
    /// Its template as it was seen last; in memory only.
    pub template: Option<Fingerprint>,
}
