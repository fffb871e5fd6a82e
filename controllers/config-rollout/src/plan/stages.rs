//! Takes a rollout from stage to stage.

use jiff::Timestamp;
use mainstay_runtime::report::second;

use super::{
    Failed, Input, News, Number, PauseSettings, Planner, Rollout, Wait, gate, gate::Standing, next_second,
    since,
};

/// How the targets of a stage stand.
#[derive(Debug, Default)]
struct Stage {
    /// Those that are to be given the revision, by their places.
    pending: Vec<usize>,
    /// How many are on their way.
    on_their_way: usize,
    /// Whether another manager is in the way of one.
    in_conflict: bool,
    /// The first that has failed.
    failed: Option<Failed>,
    /// When one is to be looked at again.
    due: Option<Timestamp>,
}

impl Planner<'_> {
    /// Takes the rollout under way as far as it gets.
    pub(super) fn advance(&mut self) {
        while let Some(rollout) = self.plan.state.rollout.clone() {
            let goes_on = if self.plan.state.is_ungated(&rollout) {
                self.all_at_once(&rollout)
            } else {
                self.stage(&rollout)
            };
            if !goes_on {
                break;
            }
        }
    }

    /// The way back, and targets that join. Returns whether the state has changed.
    fn all_at_once(&mut self, rollout: &Rollout) -> bool {
        let Input { observed, settings, now, .. } = *self.input;
        let mut waits = false;
        for index in 0..observed.targets.len() {
            let target = &observed.targets[index];
            let Some(remembered) = self.plan.state.targets.get_mut(&target.key) else { continue };
            // The others need not wait for what somebody else keeps.
            if remembered.held || remembered.is_stopped(target) {
                continue;
            }
            if observed.is_at(target, rollout.to) {
                remembered.given = rollout.to;
                remembered.seen = true;
                waits |= rollout.back && remembered.changed.is_some() && !target.progress.is_settled();
            } else if settings.paused && !rollout.back {
                waits = true;
                self.plan.wait = Wait::Paused;
            } else {
                waits = true;
                self.give(index, rollout.to, now);
            }
        }
        if waits && self.plan.wait != Wait::Paused {
            self.plan.wait = Wait::Targets;
        }
        if !waits {
            self.complete(rollout);
        }
        false
    }

    /// One stage. Returns whether it is over, or the rollout is another.
    fn stage(&mut self, rollout: &Rollout) -> bool {
        let Input { settings, slots, now, .. } = *self.input;
        let Some(stage) = settings.stages.get(rollout.stage) else {
            self.complete(rollout);
            return true;
        };
        let standing = self.look_at(rollout);
        if let Some(failed) = standing.failed {
            self.fail(rollout, failed);
            return true;
        }
        if let Some(due) = standing.due {
            self.due_at(due);
        }
        if standing.pending.is_empty() && standing.on_their_way == 0 && !standing.in_conflict {
            return self.leave(rollout);
        }
        self.set_stage(|rollout| rollout.passed = None);
        let parallel = stage.max_parallel.saturating_sub(standing.on_their_way);
        let free = slots.saturating_sub(self.plan.moves.len());
        self.plan.wait = if standing.in_conflict {
            Wait::Conflict
        } else if settings.paused {
            Wait::Paused
        } else if !standing.pending.is_empty() && parallel > 0 && free == 0 {
            Wait::Slots
        } else {
            Wait::Targets
        };
        if !settings.paused {
            for index in standing.pending.into_iter().take(parallel.min(free)) {
                self.give(index, rollout.to, now);
            }
        }
        false
    }

    fn look_at(&mut self, rollout: &Rollout) -> Stage {
        let Input { observed, settings, now, .. } = *self.input;
        let mut stage = Stage::default();
        for (index, target) in observed.targets.iter().enumerate() {
            let Some(remembered) = self.plan.state.targets.get_mut(&target.key) else { continue };
            if target.stage != rollout.stage || remembered.held {
                continue;
            }
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
                continue;
            }
            remembered.given = rollout.to;
            remembered.seen = true;
            let evidence = observed.evidence.get(&target.key);
            match gate::judge(target, remembered, &settings.stages[rollout.stage], evidence, now) {
                Standing::Passed => {}
                Standing::Waiting(until) => {
                    stage.on_their_way += 1;
                    stage.due = Some(stage.due.map_or(until, |due| due.min(until)));
                }
                Standing::Failed(failed) => stage.failed = stage.failed.or(Some(failed)),
            }
        }
        stage
    }

    /// Leaves a stage of which all targets have passed, when nothing more is waited for.
    fn leave(&mut self, rollout: &Rollout) -> bool {
        let Input { observed, settings, now, .. } = *self.input;
        let stage = &settings.stages[rollout.stage];
        let passed = rollout.passed.unwrap_or_else(|| next_second(now));
        if rollout.passed.is_none() {
            self.set_stage(|rollout| rollout.passed = Some(passed));
            if observed.targets.iter().any(|target| target.stage == rollout.stage) {
                self.plan.news.push(News::StagePassed(stage.name.clone()));
            }
        }
        let is_last = !observed.targets.iter().any(|target| target.stage > rollout.stage);
        let let_on = settings.goes_on.as_ref() == Some(&(rollout.to, stage.name.clone()));
        let until = match stage.pause.filter(|_| !is_last && !let_on) {
            None => Some(now),
            Some(PauseSettings::Continue) => None,
            Some(PauseSettings::For(time)) => Some(passed.checked_add(time).unwrap_or(passed)),
        };
        if until.is_none_or(|until| until > now) {
            self.plan.wait = Wait::Stage(until);
            if let Some(until) = until {
                self.due_at(until);
            }
            return false;
        }
        self.set_stage(|rollout| {
            rollout.stage += 1;
            rollout.passed = None;
        });
        true
    }

    fn set_stage(&mut self, change: impl FnOnce(&mut Rollout)) {
        if let Some(rollout) = &mut self.plan.state.rollout {
            change(rollout);
        }
    }

    /// Gives a target a revision. It is remembered before it is done; what is not done is decided again.
    fn give(&mut self, index: usize, to: Number, now: Timestamp) {
        let target = &self.input.observed.targets[index];
        if let Some(remembered) = self.plan.state.targets.get_mut(&target.key) {
            remembered.rest();
            remembered.given = to;
            remembered.seen = false;
            remembered.changed = Some(second(now));
        }
        self.plan.moves.push((target.key.clone(), to));
    }

    fn fail(&mut self, rollout: &Rollout, failed: Failed) {
        let Input { settings, now, .. } = *self.input;
        let state = &mut self.plan.state;
        self.plan.news.push(News::Failed(rollout.to, failed.clone()));
        state.failed = Some((rollout.to, failed));
        state.targets.values_mut().for_each(super::TargetState::rest);
        self.plan.moves.clear();
        self.plan.wait = Wait::Source;
        let to = state.stable.unwrap_or_default();
        let started = second(now);
        state.rollout =
            settings.goes_back.then_some(Rollout { to, back: true, started, stage: 0, passed: None });
    }

    fn complete(&mut self, rollout: &Rollout) {
        let Input { now, .. } = *self.input;
        let state = &mut self.plan.state;
        let took = since(rollout.started, now);
        if rollout.back {
            self.plan.news.push(News::RolledBack(rollout.to, took));
            self.plan.wait = Wait::Source;
        } else {
            if state.stable != Some(rollout.to) {
                self.plan.news.push(News::Completed(rollout.to, took));
                state.failed = None;
            }
            state.stable = Some(rollout.to);
            self.plan.wait = Wait::Nothing;
        }
        state.rollout = None;
        for target in state.targets.values_mut() {
            target.rest();
        }
    }
}
