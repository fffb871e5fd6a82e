//! How many targets may be updating together: of a stage, and of all rollouts.
//!
//! A target counts as updating from its change until its pods are available again, or its stage's deadline has passed;
//! a target with a gate, until it has passed. Rollbacks are not limited, and a target that has an unproven revision is
//! rolled back without waiting.

use mainstay_runtime::conditions::second;

use crate::watched::Progress;

use super::{Input, Number, Observed, Planner, Rollout, State, TargetKey, TargetState, TargetView, Wait};

impl TargetState {
    /// Whether it has been given something, and its pods are not back, or have yet to pass.
    pub fn is_on_its_way(&self) -> bool {
        self.changed.is_some() && !self.passed
    }

    /// Whether its pods are as it has them, but for as many as were not available before.
    pub fn is_settled(&self, progress: &Progress) -> bool {
        progress.is_settled(self.unavailable_before)
    }
}

impl State {
    /// How many targets are updating.
    pub fn in_progress(&self) -> usize {
        let rolls_back = self.rollout.as_ref().is_some_and(|rollout| rollout.back);
        let count = self.targets.values().filter(|target| target.is_on_its_way()).count();
        if rolls_back { 0 } else { count }
    }

    /// The stage that is judged.
    fn judged_stage(&self) -> Option<usize> {
        self.rollout.as_ref().filter(|rollout| !self.is_ungated(rollout)).map(|rollout| rollout.stage)
    }

    /// The revision after which its targets are judged.
    fn judged_revision(&self) -> Option<Number> {
        self.rollout.as_ref().filter(|rollout| !self.is_ungated(rollout)).map(|rollout| rollout.to)
    }

    /// Those of `moves` after which the targets are judged.
    pub fn judged_moves<'m>(
        &self,
        moves: &'m [(TargetKey, Number)],
    ) -> impl Iterator<Item = &'m (TargetKey, Number)> + use<'m> {
        let judged = self.judged_revision();
        moves.iter().filter(move |(_, number)| Some(*number) == judged)
    }

    /// Whether the state of a target is about the revision in progress: the target has it, and is in its stage.
    pub(super) fn judges(&self, observed: &Observed, target: &TargetView) -> bool {
        let has_it = |rollout: &Rollout| observed.is_at(target, rollout.to);
        self.judged_stage() == Some(target.stage)
            && self.rollout.as_ref().is_some_and(has_it)
            && !observed.is_at(target, self.stable.unwrap_or_default())
    }

    /// Whether a target has passed the gate of the revision in progress.
    pub(super) fn watches(&self, observed: &Observed, target: &TargetView, remembered: &TargetState) -> bool {
        let has_it = |to| remembered.given == to && observed.is_at(target, to);
        remembered.passed && self.judged_revision().is_some_and(has_it)
    }

    /// Forgets how far the targets were in a rollout. Whose pods are not back keeps its place.
    pub(super) fn rest(&mut self) {
        let arrived = self.targets.values_mut().filter(|target| !target.is_on_its_way());
        arrived.for_each(TargetState::rest);
    }

    /// What was missing before the last rollout is no measure for the next one. Within one it is, whatever revisions
    /// it turns to: what a bad one has cost must not lower what the next has to show.
    pub(super) fn forget_unavailable(&mut self) {
        let arrived = self.targets.values_mut().filter(|target| !target.is_on_its_way());
        arrived.for_each(|target| target.unavailable_before = None);
    }
}

impl Planner<'_> {
    /// Frees the places of those whose pods are back, or whose time for it is over.
    pub(super) fn settle(&mut self) {
        let Input { observed, settings, now, .. } = *self.input;
        let judged = self.plan.state.judged_stage();
        let readable = observed.targets.iter().map(|target| (&target.key, target.stage, Some(target)));
        let unreadable = observed.unreadable_targets.iter().map(|(key, stage)| (key, *stage, None));
        for (key, stage, target) in readable.chain(unreadable) {
            let is_judged = match target {
                Some(target) => self.plan.state.judges(observed, target),
                // What it shows is not known.
                None => judged == Some(stage),
            };
            if is_judged {
                continue;
            }
            let Some(remembered) = self.plan.state.targets.get_mut(key) else { continue };
            let Some(changed) = remembered.changed.filter(|_| !remembered.passed) else { continue };
            let has_it = |target: &TargetView| observed.is_at(target, remembered.given);
            let is_back =
                target.is_some_and(|target| has_it(target) && remembered.is_settled(&target.progress));
            let until = changed.checked_add(settings.stages[stage].deadline).unwrap_or(changed);
            if is_back || until <= now {
                remembered.rest();
            } else {
                self.due_at(until);
            }
        }
    }

    /// How many more targets of a stage may be updating, as its `maxParallel` says.
    pub(super) fn places(&self, stage: usize) -> usize {
        let Input { observed, settings, .. } = *self.input;
        let readable = observed.targets.iter().map(|target| (&target.key, target.stage));
        let unreadable = observed.unreadable_targets.iter().map(|(key, stage)| (key, *stage));
        let of_stage = readable.chain(unreadable).filter(|(_, place)| *place == stage);
        let is_taken = |key: &TargetKey| {
            let remembered = self.plan.state.targets.get(key);
            remembered.is_some_and(TargetState::is_on_its_way)
        };
        let taken = of_stage.filter(|(key, _)| is_taken(key));
        settings.stages[stage].max_parallel.saturating_sub(taken.count())
    }

    /// Gives as many of those that wait for it what they are to have as there are places.
    pub(super) fn give_places(&mut self) {
        let Input { observed, settings, slots, held, unknown, .. } = *self.input;
        let judged = self.plan.state.judged_revision();
        let pending = std::mem::take(&mut self.pending);
        let mut places: Vec<_> = (0..settings.stages.len()).map(|stage| self.places(stage)).collect();
        let mut free = slots.saturating_sub(self.plan.state.in_progress());
        for (index, to) in pending {
            let target = &observed.targets[index];
            // One that is refused takes no place from those that can be changed.
            if held.contains(&target.key) || judged == Some(to) && unknown.contains(&target.key) {
                self.plan.held.push(target.key.clone());
                continue;
            }
            let places = &mut places[target.stage];
            if *places == 0 {
                continue;
            }
            if free == 0 {
                self.plan.needs_slots = true;
                break;
            }
            (*places, free) = (*places - 1, free - 1);
            self.give(index, to);
        }
        let has_none = self.plan.needs_slots && self.plan.state.in_progress() == 0;
        if has_none && self.plan.wait == Wait::Targets {
            self.plan.wait = Wait::Slots;
        }
    }

    /// Gives a target a revision. It is remembered before it is done; what is not done is decided again.
    pub(super) fn give(&mut self, index: usize, to: Number) {
        let Input { observed, now, .. } = *self.input;
        let target = &observed.targets[index];
        if let Some(remembered) = self.plan.state.targets.get_mut(&target.key) {
            remembered.rest();
            remembered.given = to;
            remembered.seen = false;
            remembered.changed = Some(second(now));
            remembered.unavailable_before.get_or_insert(target.progress.unavailable());
        }
        self.plan.moves.push((target.key.clone(), to));
    }
}
