//! Looks at the targets of a stage, and at those of the stages before.

use mainstay_runtime::conditions::second;

use jiff::Timestamp;

use super::{
    Failed, Input, Planner, Rollout, TargetKey, Unproven,
    gate::{self, Standing},
};
use crate::watched::Blocked;

/// The results of a stage's targets.
#[derive(Debug, Default)]
pub(super) struct Stage {
    /// Those that are to be given the revision, by their places.
    pub(super) pending: Vec<usize>,
    /// How many have yet to pass.
    pub(super) in_progress: usize,
    /// Whether another manager is in the way of one.
    pub(super) in_conflict: bool,
    /// Whether one that the revision concerns has passed.
    pub(super) has_shown: bool,
    /// Why one that the revision concerns can show nothing.
    pub(super) unproven: Option<Unproven>,
    /// The first that has the revision in its template, and whose pods are not replaced by themselves.
    pub(super) blocked: Option<(TargetKey, Blocked)>,
    /// The first that has had the revision, and was rolled back by hand; of this stage or one before.
    pub(super) undone: Option<TargetKey>,
    /// Whether one uses a source.
    pub(super) has_targets: bool,
    /// The first that has failed; of this stage or one before.
    pub(super) failed: Option<Failed>,
    /// The first that cannot be read.
    pub(super) unreadable: Option<TargetKey>,
    /// When one is to be looked at again.
    pub(super) due: Option<Timestamp>,
}

impl Stage {
    /// Whether no target is updating, or to be changed.
    pub(super) fn is_over(&self) -> bool {
        self.pending.is_empty() && self.in_progress == 0 && !self.in_conflict
    }

    fn note(&mut self, standing: Standing) {
        match standing {
            Standing::Passed => {}
            Standing::Waiting(until) => self.due = Some(self.due.map_or(until, |due| due.min(until))),
            Standing::Failed(failed) => self.failed = self.failed.take().or(Some(failed)),
        }
    }
}

impl Planner<'_> {
    /// The targets of the stage in progress. Those that have passed, also in earlier stages, are watched until the
    /// rollout is over.
    pub(super) fn look_at(&mut self, rollout: &Rollout) -> Stage {
        let Input { observed, settings, now, .. } = *self.input;
        let mut stage = Stage::default();
        let unreadable = observed.unreadable_targets.iter().find(|(_, place)| *place == rollout.stage);
        stage.unreadable = unreadable.map(|(key, _)| key.clone());
        for (index, target) in observed.targets.iter().enumerate() {
            let Some(remembered) = self.plan.state.targets.get_mut(&target.key) else { continue };
            if target.stage > rollout.stage {
                continue;
            }
            let is_current = target.stage == rollout.stage;
            let of_stage = &settings.stages[target.stage];
            if remembered.held {
                if remembered.given == rollout.to && !of_stage.allow_empty {
                    stage.undone.get_or_insert_with(|| target.key.clone());
                }
            } else if remembered.passed
                && remembered.given == rollout.to
                && observed.is_at(target, rollout.to)
            {
                stage.has_shown |= is_current;
                let evidence = observed.evidence.get(&target.key);
                stage.note(gate::judge_passed(target, remembered, of_stage, evidence, now));
            } else if is_current {
                self.look_at_one(rollout, index, &mut stage);
            }
            if is_current {
                stage.has_targets |= !target.pins.0.is_empty();
                if self.plan.state.targets.get(&target.key).is_some_and(|remembered| remembered.held) {
                    stage.unproven.get_or_insert_with(|| Unproven::Held(target.key.clone()));
                }
            }
        }
        stage
    }

    /// A target of the stage in progress that has yet to pass.
    fn look_at_one(&mut self, rollout: &Rollout, index: usize, stage: &mut Stage) {
        let Input { observed, settings, now, .. } = *self.input;
        let before = self.plan.state.stable.unwrap_or_default();
        let target = &observed.targets[index];
        let Some(remembered) = self.plan.state.targets.get_mut(&target.key) else { return };
        if !observed.is_at(target, rollout.to) {
            // One that somebody has taken back is not on its way.
            if remembered.changed.is_some() {
                remembered.rest();
            }
            if remembered.is_stopped(target) {
                stage.in_conflict = true;
            } else {
                stage.pending.push(index);
            }
            return;
        }
        let is_given = remembered.given == rollout.to;
        remembered.given = rollout.to;
        remembered.seen = true;
        if observed.is_at(target, before) {
            // The revision does not concern it. Where it was put back, it keeps its place until its pods are back.
            let changed = remembered.changed.filter(|_| !remembered.passed);
            remembered.rest();
            remembered.changed = changed;
            return;
        }
        if target.progress.wanted == 0 {
            // Its time begins when it has pods.
            remembered.rest();
            stage.unproven.get_or_insert_with(|| Unproven::NoPods(target.key.clone()));
            return;
        }
        // One that came by the revision in another way has to show the same.
        if !is_given {
            remembered.rest();
        }
        if let Some(blocked) = target.progress.is_blocked() {
            // Its time begins when its pods are replaced.
            remembered.restart(None);
            stage.blocked.get_or_insert_with(|| (target.key.clone(), blocked));
            return;
        }
        remembered.changed.get_or_insert_with(|| second(now));
        let evidence = observed.evidence.get(&target.key);
        let standing = gate::judge(target, remembered, &settings.stages[rollout.stage], evidence, now);
        match &standing {
            Standing::Passed => stage.has_shown = true,
            Standing::Waiting(_) => stage.in_progress += 1,
            Standing::Failed(_) => {}
        }
        stage.note(standing);
    }
}
