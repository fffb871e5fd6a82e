//! Moves a rollout from stage to stage.

use mainstay_runtime::conditions::second;

use super::{
    Failed, Input, Number, PauseSettings, Planner, Rollout, RolloutEvent, Unproven, Wait, Wanted,
    look::Stage, next_second, since,
};

impl Planner<'_> {
    /// Moves the rollout in progress as far as possible.
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

    /// What stops a revision from reaching any target: the user, or that pods which read the sources themselves would
    /// get other content.
    fn kept(&self, rollout: &Rollout) -> Option<Wait> {
        let Input { settings, .. } = *self.input;
        if settings.paused && !rollout.back {
            return Some(Wait::Paused);
        }
        let unread = settings.restarts_only && self.wanted != Wanted::Revision(rollout.to);
        unread.then_some(Wait::Examine)
    }

    /// Rollbacks, and targets that join later. Returns whether the state has changed.
    fn all_at_once(&mut self, rollout: &Rollout) -> bool {
        let Input { observed, .. } = *self.input;
        let kept = self.kept(rollout);
        let (mut taken_back, mut pending, mut waits) = (Vec::new(), Vec::new(), false);
        for (index, target) in observed.targets.iter().enumerate() {
            let Some(remembered) = self.plan.state.targets.get_mut(&target.key) else { continue };
            let has_it = observed.is_at(target, rollout.to);
            remembered.held &= !has_it;
            if has_it {
                remembered.given = rollout.to;
                remembered.seen = true;
                waits |= rollout.back && remembered.is_on_its_way();
            } else if !remembered.held && !remembered.is_stopped(target) {
                // The others need not wait for what somebody else keeps.
                waits = true;
                let has_unproven = remembered.given > rollout.to && observed.is_at(target, remembered.given);
                remembered.rest();
                let list = if rollout.back || has_unproven { &mut taken_back } else { &mut pending };
                list.push(index);
            }
        }
        if waits {
            self.plan.wait = kept.clone().unwrap_or(Wait::Targets);
        } else if let Some((target, _)) = observed.unreadable_targets.first().filter(|_| rollout.back) {
            self.plan.wait = Wait::Unreadable(target.clone());
        } else {
            self.complete(rollout);
        }
        if kept.is_none() {
            for index in taken_back {
                let target = &observed.targets[index].key;
                // One that is refused is tried again after its own pause, and keeps no other waiting.
                if self.input.held.contains(target) {
                    self.plan.held.push(target.clone());
                } else {
                    self.give(index, rollout.to);
                }
            }
            self.pending.extend(pending.into_iter().map(|index| (index, rollout.to)));
        }
        false
    }

    /// One stage. Returns whether it is over, or the rollout is another.
    fn stage(&mut self, rollout: &Rollout) -> bool {
        if rollout.stage >= self.input.settings.stages.len() {
            self.complete(rollout);
            return true;
        }
        let aborted = self.take_abort(rollout);
        let mut standing = self.look_at(rollout);
        if let Some(failed) = aborted.or_else(|| standing.failed.take()) {
            self.fail(rollout, failed);
            return true;
        }
        if let Some(due) = standing.due {
            self.due_at(due);
        }
        let is_over = standing.is_over();
        let is_last = rollout.stage + 1 == self.input.settings.stages.len();
        if let Some(undone) = standing.undone.clone().filter(|_| !(is_last && is_over)) {
            return self.hold(Wait::Unproven(Unproven::Held(undone)));
        }
        let places = if standing.pending.is_empty() { 0 } else { self.places(rollout.stage) };
        if places == 0
            && standing.in_progress == 0
            && !standing.in_conflict
            && let Some(target) = standing.unreadable
        {
            return self.hold(Wait::Unreadable(target));
        }
        if is_over {
            let Some(unproven) = self.unproven(rollout, &standing) else { return self.leave(rollout) };
            return self.hold(Wait::Unproven(unproven));
        }
        let kept = self.kept(rollout);
        if kept.is_none() {
            self.pending.extend(standing.pending.iter().map(|index| (*index, rollout.to)));
        }
        let kept = kept.filter(|kept| *kept == Wait::Paused || !standing.pending.is_empty());
        let wait = if standing.in_conflict { Wait::Conflict } else { kept.unwrap_or(Wait::Targets) };
        self.hold(wait)
    }

    /// The stage goes on for now. Returns that it is not over.
    fn hold(&mut self, wait: Wait) -> bool {
        self.set_stage(|rollout| rollout.passed = None);
        self.plan.wait = wait;
        false
    }

    /// Why the revision does not reach the stages after this one although no target is updating: no target has tested
    /// it. After the last stage there is no further stage to protect.
    fn unproven(&self, rollout: &Rollout, standing: &Stage) -> Option<Unproven> {
        let Input { observed, settings, .. } = *self.input;
        if let Some((target, blocked)) = &standing.blocked {
            return Some(Unproven::Blocked(target.clone(), *blocked));
        }
        if rollout.stage + 1 == settings.stages.len() {
            return None;
        }
        if let Some((missing, _)) = observed.missing_targets.iter().find(|(_, stage)| *stage == rollout.stage)
        {
            return Some(Unproven::Missing(missing.clone()));
        }
        if standing.has_shown || settings.stages[rollout.stage].allow_empty {
            return None;
        }
        if standing.has_targets { standing.unproven.clone() } else { Some(Unproven::Empty) }
    }

    /// Sets targets of other stages back to the current revision if they were changed by others: a template that names
    /// the sources again would read unproven content there. Targets of earlier stages may have the new revision. So do
    /// those of the stage in progress when a rollback by hand has stopped it.
    /// Before the first revision is proven there is nothing to go back to; neither is there for pods that read the
    /// sources themselves, which keep what they have read until their stage begins.
    ///
    /// Where no rollout is in progress, or where it is paused, targets that name the sources are set back and no others:
    /// nothing new is begun by that. Those that have a failed revision which is kept stay as they are, and get it again
    /// where another manager has reverted it: what was before may work no more.
    ///
    /// They come before those of the stage, which read what has been proven.
    pub(super) fn put_back(&mut self) {
        let Input { observed, settings, .. } = *self.input;
        let Some(stable) = self.plan.state.stable.filter(|_| !settings.restarts_only) else { return };
        let rollout = self.plan.state.rollout.clone();
        let is_idle = rollout.as_ref().is_none_or(|rollout| settings.paused && !rollout.back);
        if !is_idle && rollout.as_ref().is_some_and(|rollout| self.plan.state.is_ungated(rollout)) {
            return;
        }
        let failed = self.plan.state.failed.as_ref().map(|(number, _)| *number);
        let kept = failed.filter(|_| rollout.is_none() && !settings.rolls_back);
        // The stage in progress gives nothing any more while a target of it is held.
        let is_stopped = is_idle || matches!(self.plan.wait, Wait::Unproven(Unproven::Held(_)));
        let mut pending = Vec::new();
        for (index, target) in observed.targets.iter().enumerate() {
            let Some(remembered) = self.plan.state.targets.get_mut(&target.key) else { continue };
            let (waits, has_new) = match &rollout {
                Some(rollout) => {
                    let is_current = target.stage == rollout.stage;
                    let may_have_new = target.stage < rollout.stage || is_current && is_stopped;
                    (is_current && !is_stopped, may_have_new && observed.is_at(target, rollout.to))
                }
                None => (false, false),
            };
            if waits || has_new || remembered.held || remembered.is_stopped(target) {
                continue;
            }
            let had = |number: &Number| [remembered.given, remembered.reverted_from].contains(number);
            let to = kept.filter(had).unwrap_or(stable);
            let has_it = observed.is_at(target, to);
            if is_idle && !has_it && !target.pins.0.values().flatten().any(|pin| *pin == 0) {
                continue;
            }
            if !has_it || remembered.given != to {
                remembered.rest();
            }
            if has_it {
                remembered.given = to;
                remembered.seen = true;
            } else {
                pending.push((index, to));
            }
        }
        self.pending.splice(..0, pending);
    }

    /// Leaves a stage of which all targets have passed, when nothing more is waited for.
    fn leave(&mut self, rollout: &Rollout) -> bool {
        let Input { observed, settings, now, .. } = *self.input;
        let stage = &settings.stages[rollout.stage];
        let passed = rollout.passed.unwrap_or_else(|| next_second(now));
        if rollout.passed.is_none() {
            self.set_stage(|rollout| rollout.passed = Some(passed));
            if observed.targets.iter().any(|target| target.stage == rollout.stage) {
                self.plan.news.push(RolloutEvent::StagePassed(stage.name.clone()));
            }
        }
        let is_last = !observed.targets.iter().any(|target| target.stage > rollout.stage);
        let pause = stage.pause.filter(|_| !is_last).filter(|_| !self.take_leave(rollout, &stage.name));
        let until = match pause {
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

    fn fail(&mut self, rollout: &Rollout, failed: Failed) {
        let Input { settings, now, .. } = *self.input;
        self.ignore_older(rollout.to, true);
        let state = &mut self.plan.state;
        self.plan.news.push(RolloutEvent::Failed(rollout.to, failed.clone()));
        state.failed = Some((rollout.to, failed));
        state.targets.values_mut().for_each(super::TargetState::rest);
        self.plan.wait = Wait::Source;
        let to = state.stable.unwrap_or_default();
        let started = second(now);
        state.rollout =
            settings.rolls_back.then_some(Rollout { to, back: true, started, stage: 0, passed: None });
    }

    fn complete(&mut self, rollout: &Rollout) {
        let Input { observed, now, .. } = *self.input;
        let state = &mut self.plan.state;
        let took = since(rollout.started, now);
        // Where the current revision has been shown, another becomes it by a target that it concerns, and by no other.
        let is_concerned = |target| state.is_concerned(observed, target, rollout.to);
        let is_proven = state.stable.is_none() || observed.targets.iter().any(is_concerned);
        let is_new = state.stable != Some(rollout.to) && is_proven;
        state.rest();
        state.rollout = None;
        self.plan.wait = Wait::Nothing;
        if rollout.back {
            self.plan.news.push(RolloutEvent::RolledBack(rollout.to, took));
            self.plan.wait = Wait::Source;
        } else if is_new {
            self.plan.news.push(RolloutEvent::Completed(rollout.to, took));
            state.failed = None;
            state.stable = Some(rollout.to);
        }
    }
}
