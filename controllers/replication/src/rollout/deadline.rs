//! Which timers run for a rollout.

use super::{
    settings::Settings,
    types::{Decision, Phase},
};
use crate::plan::{Plan, RevisionCounts, Wait};

impl Decision {
    /// Records whether the rollout can make progress from now on, and when time alone makes it fail. `plan` is what
    /// follows from the decision, `target` the pods of the target revision.
    ///
    /// While all new pods are available and none can be made, what holds the change up are old pods: they terminate,
    /// hold their volumes, or a budget or a hook keeps them. That says nothing against the revision, nor do new pods that
    /// wait for a scheduling gate or for room, or that the server refuses whatever their template.
    pub fn keep_time(&mut self, settings: &Settings, target: RevisionCounts, plan: &Plan) {
        let proven = self.state.current.as_ref() == Some(&self.target);
        let watched = self.phase == Phase::Rolling && self.state.failed.is_none() && !proven;
        let refused = self.evidence.refusal(&self.target).is_some_and(|refusal| !refusal.blamed);
        let creates = !refused && plan.create.iter().any(|creation| creation.revision == self.target)
            || matches!(&plan.wait, Some(Wait::Backoff { revision, .. }) if *revision == self.target);
        self.evidence.runs = watched && (target.active > target.available + self.waiting || creates);
        if self.evidence.runs && !self.overdue {
            let left = settings.deadline.saturating_sub(self.evidence.idle);
            self.due = self.due.into_iter().chain([left]).min();
        }
    }
}
