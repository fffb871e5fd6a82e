//! What must hold at every observation.

use std::{sync::Arc, time::Duration};

use super::{Quality, World, at};
use crate::{
    plan::{Strategy, Why},
    rollout::{Command, Decision, Pause},
};

impl World {
    pub(super) fn check_shares(&mut self, decision: &Decision) {
        let sum: usize = decision.shares.iter().map(|share| share.replicas).sum();
        if sum != self.settings.replicas {
            self.broken.push(format!("the shares {:?} are not {}", decision.shares, self.settings.replicas));
        }
        if self.settings.replicas == 0 && decision.keep.is_some() {
            self.broken.push(format!("a group of no pods keeps {:?}", decision.keep));
        }
    }

    /// Nothing that happens to a group makes a good revision fail.
    pub(super) fn check_failure(&mut self, decision: &Decision) {
        let Some(failed) = &decision.state.failed else { return };
        let index: usize = failed.revision[1..].parse().unwrap();
        if matches!(self.qualities[index], Quality::Good(_)) {
            self.broken.push(format!("at {} a good revision failed: {failed:?}", self.now));
        }
    }

    /// A stage with a pause is passed after its time, or when it is continued by hand, and never otherwise.
    pub(super) fn check_stages(&mut self, decision: &Decision) {
        let target = &decision.target;
        let rollout = [&self.state, &decision.state].into_iter().filter_map(|state| state.rollout.as_ref());
        let rollout = rollout.into_iter().find(|rollout| rollout.revision == *target);
        let is_for = |command: &&Command| {
            let ignored = rollout.and_then(|rollout| rollout.ignored.resume.as_ref());
            command.revision == *target && ignored != Some(&command.text)
        };
        let notified = self.settings.resume.as_ref().filter(is_for).is_some();
        let changes = self.state.current.as_ref().is_some_and(|current| current != target);
        if notified || !changes || self.settings.replicas == 0 {
            return;
        }
        let steps = &self.settings.steps;
        let before = self.state.rollout.as_ref().filter(|rollout| rollout.revision == *target);
        let Some(first) = before.map_or(Some(0), |rollout| rollout.step) else { return };
        let last = decision.state.rollout.as_ref().and_then(|rollout| rollout.step).unwrap_or(steps.len());
        let waited =
            before.and_then(|rollout| rollout.reached).map(|since| at(self.now).duration_since(since));
        let waited = waited.map_or(Duration::ZERO, |waited| waited.unsigned_abs());
        for (index, step) in steps.iter().enumerate().take(last).skip(first) {
            let over = match step.pause {
                Pause::None => true,
                Pause::For(length) => index == first && waited >= length,
                Pause::Open => false,
            };
            if !over {
                self.broken.push(format!("stage {index} of {steps:?} was passed without its pause"));
            }
        }
    }

    /// A revision of which no pod has served gets what the bounds let a change begin with, and no more: nothing that is
    /// lost or added meanwhile.
    pub(super) fn check_fed(&mut self, revision: &Arc<str>) {
        let Strategy::Rolling { surge, unavailable } = self.settings.strategy else { return };
        let changes = self.state.current.as_ref().is_some_and(|current| current != revision);
        if !changes || self.from_nothing || self.served.contains(revision) {
            return;
        }
        let active = self.pods.iter().filter(|pod| pod.ends.is_none() && pod.revision == *revision).count();
        if active >= surge + unavailable {
            self.broken.push(format!("{revision} has {active} pods that never served, and gets another"));
        }
    }

    /// Claims are made for no more pods than there should be, and pods that leave give theirs to those that come.
    pub(super) fn check_slots(&mut self, reuse: bool) {
        let most = self.settings.replicas + self.surge();
        if reuse && self.slots > most {
            self.broken.push(format!("{} sets of claims, at most {most}", self.slots));
        }
    }

    /// Nothing is taken below the bound, and where it is below already nothing available is taken.
    pub(super) fn check_deletions(&mut self, (available, _): (usize, usize), victims: &[(usize, Why)]) {
        let Strategy::Rolling { unavailable, .. } = self.settings.strategy else { return };
        let floor = self.settings.replicas.saturating_sub(unavailable);
        if self.available() < available.min(floor) {
            let after = self.available();
            self.broken.push(format!("{available} to {after} available, floor {floor}: {victims:?}"));
        }
    }

    pub(super) fn check_size(&mut self, before: usize) {
        let most = self.settings.replicas + self.surge();
        if self.active() > most.max(before) {
            self.broken.push(format!("{} pods, at most {most}", self.active()));
        }
    }
}
