//! Decides what a rollout does next; pure, without clock or client.
//!
//! The whole state is in [`State`], which is written to the status before anything else is done, so that a restart at
//! any point continues where the last process was. Which revision a target has is never remembered but read from its
//! template ([`Pins`]).

mod adopt;
pub mod collect;
mod gate;
mod keys;
mod look;
mod orders;
mod places;
pub mod sources;
mod stages;
mod state;
mod target;
mod time;
pub mod types;

use std::{collections::BTreeSet, time::Duration};

use jiff::Timestamp;
use mainstay_runtime::conditions::second;

use self::time::{next_second, since};
pub use self::{
    keys::*,
    sources::{Finding, Findings, Problem, Wanted},
    state::*,
    types::*,
};

/// So often another may take a change of a target back before the target is left to it.
const MOST_REVERTS: i32 = 3;
/// Sources that change all the time are examined after this many debounce times.
const MOST_DEBOUNCES: u32 = 10;
/// So often targets that cannot be read are looked at.
const LOOK_AT_UNREADABLE: Duration = Duration::from_secs(30);

/// Since when the sources as they are have not been examined: the first and the last change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Changed {
    /// The first one.
    pub first: Timestamp,
    /// The last one.
    pub last: Timestamp,
}

/// What a plan is made from.
#[derive(Debug)]
pub struct Input<'a> {
    /// What is seen.
    pub observed: &'a Observed,
    /// What the spec says.
    pub settings: &'a Settings,
    /// What reading the sources has shown.
    pub findings: &'a Findings,
    /// What is remembered.
    pub state: &'a State,
    /// Since when sources wait to be examined.
    pub changed: Option<Changed>,
    /// How many targets of this rollout may be updating: what the other rollouts leave of the shared limit.
    pub slots: usize,
    /// The targets that could not be changed when that was last tried, and are to wait.
    pub held: &'a BTreeSet<TargetKey>,
    /// The targets of which it is not known how often their pods have restarted. They get nothing that is judged.
    pub unknown: &'a BTreeSet<TargetKey>,
    /// The time.
    pub now: Timestamp,
}

/// Decides what a rollout does next.
pub fn plan(input: &Input<'_>) -> Plan {
    let plan = Plan { state: input.state.clone(), ..Plan::default() };
    let mut planner = Planner { input, plan, wanted: Wanted::Nothing, pending: Vec::new(), due: None };
    planner.sync_targets();
    planner.settle();
    let holds = input.settings.holds_incomplete;
    planner.wanted = sources::wanted(input.observed, input.findings, &planner.plan.state, holds);
    planner.take_orders();
    let goal = planner.goal();
    planner.begin(goal);
    planner.advance();
    planner.put_back();
    planner.give_places();
    planner.examine();
    planner.finish()
}

/// The targets whose gates are being judged, and those that have passed and are watched: what has to be asked about first.
pub fn judged<'a>(observed: &'a Observed, state: &'a State) -> impl Iterator<Item = &'a TargetView> {
    observed.targets.iter().filter(move |target| {
        state.targets.get(&target.key).is_some_and(|remembered| {
            remembered.is_on_its_way() && state.judges(observed, target)
                || state.watches(observed, target, remembered)
        })
    })
}

impl State {
    /// Rollbacks, and targets that join later, have no gates: the revision that they get is proven.
    pub fn is_ungated(&self, rollout: &Rollout) -> bool {
        rollout.back || self.stable == Some(rollout.to)
    }

    /// Whether this has all of `other` that a restart must not lose.
    pub fn remembers(&self, other: &Self) -> bool {
        let lasting = |state: &Self| {
            let mut state = state.clone();
            state.targets.values_mut().for_each(|target| (target.seen, target.template) = (false, None));
            state
        };
        lasting(self) == lasting(other)
    }

    /// Whether there is something to do. For a target that cannot be read it is not known whether a new revision
    /// affects it.
    fn has_due(&self, observed: &Observed, goal: Number, is_new: bool) -> bool {
        is_new && !observed.unreadable_targets.is_empty()
            || observed.targets.iter().any(|target| self.is_due(observed, target, goal, is_new))
    }

    /// Whether a target is to be changed to `goal` while no rollout is in progress. Held or conflicting targets are
    /// updated only for a new revision, and a target that already has it from another manager must still pass its
    /// gate.
    fn is_due(&self, observed: &Observed, target: &TargetView, goal: Number, is_new: bool) -> bool {
        let kept = |remembered: &TargetState| remembered.held || remembered.is_stopped(target);
        let stays = !is_new && self.targets.get(&target.key).is_some_and(kept);
        !stays && !observed.is_at(target, goal) || is_new && self.is_concerned(observed, target, goal)
    }

    /// Whether a target has in `goal` something else than in the current revision, or has neither.
    fn is_concerned(&self, observed: &Observed, target: &TargetView, goal: Number) -> bool {
        let has = |number| observed.is_at(target, number);
        self.stable.is_some_and(|stable| !has(stable) || !has(goal))
    }
}

struct Planner<'a> {
    input: &'a Input<'a>,
    plan: Plan,
    /// What the targets should have, as the sources are.
    wanted: Wanted,
    /// Which targets are to be given what, as soon as there are places; the first ones first.
    pending: Vec<(usize, Number)>,
    due: Option<Timestamp>,
}

impl Planner<'_> {
    /// Brings what is remembered of the targets up to date with the targets that there are.
    fn sync_targets(&mut self) {
        let Input { observed, now, .. } = *self.input;
        let state = &mut self.plan.state;
        if state.newest == 0 && state.stable.is_none() {
            state.stable = adopt::current(observed);
        }
        state.newest = state.newest.max(observed.highest());
        let unreadable = || observed.unreadable_targets.iter().map(|(key, _)| key);
        let known = |key: &TargetKey| observed.targets.iter().any(|target| target.key == *key);
        state.targets.retain(|key, _| known(key) || unreadable().any(|unreadable| unreadable == key));
        for key in unreadable() {
            state.targets.entry(key.clone()).or_default();
        }
        for target in &observed.targets {
            let remembered = state.targets.entry(target.key.clone()).or_default();
            if remembered.uid != target.uid {
                let given = state.stable.filter(|stable| observed.is_at(target, *stable)).unwrap_or_default();
                *remembered = TargetState { uid: target.uid.clone(), given, ..TargetState::default() };
            }
            remembered.follow(target, now);
            if observed.is_at(target, remembered.given) {
                remembered.seen = true;
                remembered.held = false;
            } else if remembered.held && observed.reads_again(target, remembered.given) {
                // What was rolled back to is in its template no more.
                remembered.held = false;
                (remembered.seen, remembered.given) = (false, 0);
            } else if remembered.seen && !remembered.held {
                if target.pins.is_older(remembered.given) {
                    remembered.rest();
                    remembered.held = true;
                    self.plan.news.push(RolloutEvent::Held(target.key.clone()));
                } else if remembered.given > 0 {
                    remembered.counts_as_reverted(now);
                    if remembered.reverts >= MOST_REVERTS {
                        let said = "another field manager reverts every change of its template".to_owned();
                        remembered.stop(target.generation, said);
                    }
                    self.plan.news.push(RolloutEvent::Reverted(target.key.clone()));
                }
            }
            if !remembered.is_stopped(target) {
                remembered.conflict = None;
            }
        }
    }

    /// The revision that the targets should be brought to; `None` where they stay as they are.
    fn goal(&mut self) -> Option<Number> {
        let Input { settings, .. } = *self.input;
        let wanted = self.wanted;
        let state = &self.plan.state;
        let failed = state.failed.as_ref().map(|(number, _)| *number);
        match wanted {
            // What is under way goes on until there is another revision, and what has failed and is kept stays.
            Wanted::Nothing | Wanted::Unknown => {
                let under_way = state.rollout.as_ref().map(|rollout| rollout.to);
                // Pods that read the sources themselves would read what is in no revision yet.
                let unread = settings.restarts_only && wanted == Wanted::Unknown;
                let kept = unread || failed.is_some() && !settings.rolls_back;
                under_way.or(state.stable.filter(|_| !kept))
            }
            Wanted::Revision(number) if failed == Some(number) => {
                self.plan.wait = Wait::Source;
                settings.rolls_back.then(|| state.stable.unwrap_or_default())
            }
            Wanted::Revision(number) => Some(number),
        }
    }

    /// Begins a rollout to `goal`, or changes the goal of the rollout in progress.
    fn begin(&mut self, goal: Option<Number>) {
        let Input { observed, settings, now, .. } = *self.input;
        let Some(goal) = goal else { return };
        let state = &mut self.plan.state;
        let is_new = state.stable != Some(goal);
        let back = self.plan.wait == Wait::Source;
        match &state.rollout {
            Some(rollout) if rollout.to == goal => return,
            Some(_) => {}
            None if !state.has_due(observed, goal, is_new) => {
                if is_new && goal > 0 && !back {
                    // A revision that concerns no target that is there has been shown by none.
                    state.stable.get_or_insert(goal);
                    state.failed = None;
                }
                return;
            }
            None => {}
        }
        if settings.paused && !back {
            self.plan.wait = Wait::Paused;
            return;
        }
        let next = state.last.and_then(|last| last.checked_add(settings.min_interval).ok());
        if let Some(next) = next.filter(|next| is_new && !back && *next > now) {
            self.plan.wait = Wait::Interval(next);
            self.due_at(next);
            return;
        }
        let started = second(now);
        if state.rollout.is_none() {
            state.forget_unavailable();
        }
        state.rollout = Some(Rollout { to: goal, back, started, stage: 0, passed: None });
        state.rest();
        if is_new {
            for target in state.targets.values_mut() {
                // One that was taken back and follows now is not taken back once more while it waits for its stage.
                if std::mem::take(&mut target.held) {
                    (target.seen, target.given) = (false, 0);
                }
                target.conflict = None;
                target.reverts = 0;
            }
        }
        if is_new && !back {
            state.last = Some(started);
            self.ignore_older(goal, false);
            self.plan.news.push(RolloutEvent::Started(goal));
        }
    }

    /// Decides whether the sources are read now.
    fn examine(&mut self) {
        let Input { settings, changed, now, .. } = *self.input;
        self.plan.unsettled = self.wanted == Wanted::Unknown;
        if !self.plan.unsettled {
            return;
        }
        if settings.paused {
            self.plan.wait = Wait::Paused;
            return;
        }
        let quiet = |changed: Changed| changed.last.checked_add(settings.debounce).unwrap_or(changed.last);
        let longest = settings.debounce * MOST_DEBOUNCES;
        let latest = |changed: Changed| changed.first.checked_add(longest).unwrap_or(changed.first);
        let until = changed.map_or(now, |changed| quiet(changed).min(latest(changed)));
        self.plan.examine = until <= now;
        if self.plan.state.rollout.is_none() {
            self.plan.wait = if self.plan.examine { Wait::Examine } else { Wait::Debounce(until) };
        }
        if !self.plan.examine {
            self.due_at(until);
        }
    }

    fn due_at(&mut self, at: Timestamp) {
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }

    fn finish(mut self) -> Plan {
        let Input { observed, now, .. } = *self.input;
        if self.plan.wait == Wait::Nothing && self.wanted == Wanted::Nothing && observed.uses.is_empty() {
            self.plan.wait = Wait::NoUse;
        }
        let in_conflict = self.plan.state.targets.values().any(|target| target.conflict.is_some());
        if self.plan.wait == Wait::Nothing && in_conflict {
            self.plan.wait = Wait::Conflict;
        }
        if !observed.unreadable_targets.is_empty() {
            // No event of the watch says that one of them is gone.
            self.due_at(now.checked_add(LOOK_AT_UNREADABLE).unwrap_or(now));
        }
        self.plan.recheck_in = self.due.map(|due| since(now, due));
        self.plan
    }
}

impl Pins {
    /// Whether all that is named are objects of revisions, at most as old as `given`.
    fn is_older(&self, given: Number) -> bool {
        let mut pins = self.0.values().flatten().peekable();
        pins.peek().is_some() && pins.all(|pin| *pin > 0 && *pin <= given)
    }
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod world;
