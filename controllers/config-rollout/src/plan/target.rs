//! How what is remembered of a target changes.

use std::time::Duration;

use jiff::Timestamp;
use mainstay_runtime::conditions::second;

use super::{state::TargetState, time::since, types::TargetView};

/// Reverts further apart than this do not add up.
const REVERTS_ADD_UP: Duration = Duration::from_secs(600);

impl TargetState {
    /// What was seen of it since its change says nothing more: its gate begins again at that time, or when its pods
    /// are replaced.
    pub(super) fn restart(&mut self, changed: Option<Timestamp>) {
        self.changed = changed;
        self.available = None;
        self.broken = None;
    }

    /// Notes the target's template as it is. A change that no rollout writes is judged by a gate that begins again: a
    /// new image, for example. A conflict lasts until the template changes, whatever else does.
    pub(super) fn follow(&mut self, target: &TargetView, now: Timestamp) {
        let Some(before) = self.template.replace(target.template) else { return };
        if before.rest != target.template.rest && self.changed.is_some() {
            self.restart(Some(second(now)));
        }
        if let Some((generation, _)) =
            self.conflict.as_mut().filter(|_| before.whole == target.template.whole)
        {
            *generation = target.generation;
        }
    }

    /// Forgets how far it was in a rollout, and what it was given and was not seen to have.
    pub(super) fn rest(&mut self) {
        if !self.seen {
            self.given = 0;
        }
        self.changed = None;
        self.available = None;
        self.broken = None;
        self.passed = false;
        self.restarts_before = 0;
        self.restarted = None;
    }

    pub(super) fn counts_as_reverted(&mut self, now: Timestamp) {
        let adds_up = self.reverted.is_some_and(|last| since(last, now) < REVERTS_ADD_UP);
        self.reverts = if adds_up { self.reverts.saturating_add(1) } else { 1 };
        self.reverted = Some(second(now));
        self.reverted_from = self.given;
        (self.seen, self.given) = (false, 0);
    }

    /// The server has it as it was written: if the store shows another template, it has been reverted since.
    pub fn confirm(&mut self) {
        self.seen = true;
    }

    /// Another manager is in the way of what it was to be given.
    pub fn stop(&mut self, generation: i64, sentence: String) {
        self.rest();
        self.conflict = Some((generation, sentence));
    }

    /// Whether another manager is in the way, and nothing has changed about it.
    pub fn is_stopped(&self, target: &TargetView) -> bool {
        self.conflict.as_ref().is_some_and(|(generation, _)| *generation == target.generation)
    }
}
