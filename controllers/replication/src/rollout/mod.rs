//! How far a rollout has got, and what is wanted of it now.
//!
//! Pure, like the planner: state comes from the group's status, the pods come as counts, and the clock is an argument.
//! The result is how many pods of which revision there should be; the planner does the rest.
//!
//! - `wanted` is the revision that the spec asks for, `current` the last one of which all pods were available; if
//!   there has never been one, the one that served when another was wanted.
//! - The target of the group is `wanted`, or `current` once `wanted` has failed, and stays so as long as the spec asks
//!   for the failed revision.
//! - Whatever pauses a rollout (a partition, a step, a pause, a failure that pauses) is a number of pods that it may
//!   reach.

mod base;
mod command;
mod deadline;
mod evidence;
mod failure;
mod hold;
mod keep;
#[cfg(test)]
mod model;
mod record;
mod settings;
#[cfg(test)]
mod tests;
mod types;

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;

pub use command::{Command, Ignored};
pub use evidence::{Evidence, Look, Refusal};
pub use settings::{Pause, Settings, Step};
pub use types::{Decision, Failed, Kept, Phase, Reason, Rollout, RolloutEvent, State};

use crate::plan::{RevisionCounts, Share, Strategy, Tallies};

/// Decides what of a change is wanted now. `now` in whole seconds, as the status keeps times; `evidence` is what has been
/// seen of the change up to now.
pub fn decide(
    settings: &Settings,
    wanted: &Arc<str>,
    state: &State,
    mut evidence: Evidence,
    by_revision: &Tallies<'_>,
    now: Timestamp,
) -> Decision {
    let mut state = state.clone();
    state.failed.take_if(|failed| failed.revision != *wanted);
    let mut news = Vec::new();
    loop {
        let target = target(settings, wanted, &state);
        let mut change = Change { settings, by_revision, now, target, keep: None, evidence: &mut evidence };
        let (phase, shares, due) = change.follow(&mut state, &mut news);
        if change.is_aborted(&state) {
            let message = "it was aborted by the annotation".to_owned();
            fail(&mut state, &mut news, wanted, Reason::Aborted, message);
            continue;
        }
        let failure = change.failure(&state, &phase);
        let waiting = change.waiting(&state);
        let (target, keep) = (change.target, change.keep);
        let (limit, overdue) = match failure {
            Ok(limit) => (limit, false),
            Err((reason, message)) if evidence.sure => {
                fail(&mut state, &mut news, wanted, reason, message);
                continue;
            }
            Err(_) => (None, true),
        };
        let due = due.into_iter().chain(limit).min();
        let wanted = Arc::clone(wanted);
        return Decision {
            state,
            evidence,
            overdue,
            waiting,
            wanted,
            target,
            shares,
            keep,
            phase,
            due,
            news,
        };
    }
}

/// The target revision of the group.
fn target(settings: &Settings, wanted: &Arc<str>, state: &State) -> Arc<str> {
    let goes_back = |failed: &Failed| settings.roll_back || failed.reason == Reason::Aborted;
    let back = state.current.as_ref().filter(|_| state.failed.as_ref().is_some_and(goes_back));
    Arc::clone(back.unwrap_or(wanted))
}

fn fail(
    state: &mut State,
    news: &mut Vec<RolloutEvent>,
    revision: &Arc<str>,
    reason: Reason,
    message: String,
) {
    news.push(RolloutEvent::Failed { reason, message: message.clone() });
    state.failed = Some(Failed { revision: Arc::clone(revision), reason, message });
}

/// One look at a change.
struct Change<'a> {
    settings: &'a Settings,
    by_revision: &'a Tallies<'a>,
    now: Timestamp,
    target: Arc<str>,
    /// What of the old pods is kept up.
    keep: Option<Share>,
    evidence: &'a mut Evidence,
}

type Followed = (Phase, Vec<Share>, Option<Duration>);

impl Change<'_> {
    fn counts(&self) -> RevisionCounts {
        self.by_revision.get(&*self.target).copied().unwrap_or_default()
    }

    /// Active pods of other revisions.
    fn others(&self) -> usize {
        self.by_revision.values().map(|counts| counts.active).sum::<usize>() - self.counts().active
    }

    /// Brings `state` up to date and says what is wanted now, and when time alone changes that.
    fn follow(&mut self, state: &mut State, news: &mut Vec<RolloutEvent>) -> Followed {
        let all = |change: &Self| vec![change.share(&change.target, change.settings.replicas)];
        let proven = state.current.as_ref() == Some(&self.target);
        let replicas = self.settings.replicas;
        let alone = self.others() == 0;
        let done = alone && self.counts().active == replicas && self.counts().available == replicas;
        let base = state.current.clone().filter(|_| !proven);
        let standing = state.rollout.clone().filter(|rollout| rollout.revision == self.target);
        // A stage that reaches all pods is a stage all the same.
        let staged = base.is_some()
            && standing
                .as_ref()
                .map_or(Some(0), |rollout| rollout.step)
                .is_some_and(|step| step < self.settings.steps.len());
        if alone && (done && !staged || replicas == 0 || proven && state.rollout.is_none()) {
            self.complete(state, news);
            return (Phase::Complete, all(self), None);
        }
        let (first, back) = (state.current.is_none(), proven && state.failed.is_some());
        let mut rollout = standing.unwrap_or_else(|| {
            // Neither the first pods of a new group nor the way back are a change of their own.
            news.extend((!first && !back).then_some(RolloutEvent::Started));
            let step = (base.is_some() && !self.settings.steps.is_empty()).then_some(0);
            let Settings { resume, abort, .. } = self.settings;
            let ignored = Ignored::at_start(resume.as_ref(), abort.as_ref(), &self.target);
            Rollout { ignored, ..Rollout::new(Arc::clone(&self.target), step, self.now) }
        });
        rollout.ignored.forget(self.settings.resume.as_ref(), self.settings.abort.as_ref());
        rollout.unschedulable = rollout.unschedulable.max(self.without_room(base.as_ref()));
        if let Some(base) = &base {
            let old = self.old_to_keep(&mut rollout);
            self.keep = self.keep(base, old);
        }
        let (phase, shares, due) = if self.is_held(state, proven) && (base.is_some() || !alone) {
            self.hold(&mut rollout, base, state)
        } else {
            if !rollout.held.is_empty() {
                rollout.held = Vec::new();
                self.get_on(&mut rollout);
            }
            self.advance(&mut rollout, base, back, news)
        };
        let counts = self.counts();
        let in_the_way = self.evidence.living.saturating_sub(counts.active);
        let fewer = self.evidence.follow(&rollout.revision, rollout.started, in_the_way);
        if fewer || counts.available > rollout.available {
            rollout.available = rollout.available.max(counts.available);
            self.get_on(&mut rollout);
        }
        let passed = rollout.step.is_none();
        state.rollout = Some(rollout);
        if done && passed {
            self.keep = None;
            self.complete(state, news);
            return (Phase::Complete, all(self), None);
        }
        (phase, shares, due)
    }

    /// The change has got on.
    fn get_on(&mut self, rollout: &mut Rollout) {
        (rollout.progressed, self.evidence.idle) = (self.now, Duration::ZERO);
    }

    fn share(&self, revision: &Arc<str>, replicas: usize) -> Share {
        Share { revision: Arc::clone(revision), replicas }
    }

    /// All pods are what is wanted.
    fn complete(&self, state: &mut State, news: &mut Vec<RolloutEvent>) {
        let rollout = state.rollout.take();
        // Without a pod nothing has been proved.
        if self.settings.replicas == 0 {
            return;
        }
        let first = state.current.is_none();
        let before = state.current.replace(Arc::clone(&self.target));
        let proven = before.as_ref() == Some(&self.target);
        if !proven {
            state.failed = None;
            // What has been left by a rollback is none to go back to.
            state.previous = if state.pinned.is_none() { before } else { state.previous.take() };
        }
        if let Some(rollout) = rollout.filter(|_| !first) {
            let took = self.since(rollout.started);
            let back = proven && state.failed.is_some();
            news.push(if back {
                RolloutEvent::RolledBack { took }
            } else {
                RolloutEvent::Completed { took }
            });
        }
    }

    /// Whether pods of different revisions stay as they are.
    fn is_held(&self, state: &State, proven: bool) -> bool {
        self.settings.paused || (state.failed.is_some() && !proven)
    }

    fn hold(&self, rollout: &mut Rollout, base: Option<Arc<str>>, state: &State) -> Followed {
        if rollout.held.is_empty() {
            rollout.held = hold::standing(self.by_revision, &self.target);
        }
        let mut shares = hold::proportional(&rollout.held, self.settings.replicas);
        // The status may list them in another order.
        shares.sort_by_key(|share| share.revision != self.target);
        if shares.is_empty() {
            let revision = base.unwrap_or_else(|| Arc::clone(&self.target));
            shares.push(self.share(&revision, self.settings.replicas));
        }
        if self.settings.strategy == Strategy::Recreate {
            // Never two revisions together: the group is kept at the one that it mostly is, unless that has failed.
            let failed = state.failed.as_ref().map(|failed| &failed.revision);
            let failed = failed.filter(|revision| **revision != self.target);
            let most = shares
                .iter()
                .filter(|share| Some(&share.revision) != failed)
                .max_by_key(|share| share.replicas);
            let most = most.map_or_else(|| Arc::clone(&self.target), |share| Arc::clone(&share.revision));
            shares = vec![self.share(&most, self.settings.replicas)];
        } else {
            if shares[0].revision != self.target {
                shares.insert(0, self.share(&self.target, 0));
            }
            let current = state.current.as_ref();
            let current = current.filter(|current| **current == self.target || rollout.kept.is_some());
            if let Some(current) = current {
                let is_proven = !self.settings.repairs && self.available_once(rollout) > 0;
                let proven = is_proven.then_some(&*self.target);
                hold::feed_only(&mut shares, self.by_revision, current, proven);
            }
        }
        (if self.settings.paused { Phase::Paused } else { Phase::Failed }, shares, None)
    }

    /// Goes from step to step as far as pods and pauses allow.
    fn advance(
        &mut self,
        rollout: &mut Rollout,
        base: Option<Arc<str>>,
        back: bool,
        news: &mut Vec<RolloutEvent>,
    ) -> Followed {
        if self.settings.strategy == Strategy::OnDelete {
            return (Phase::WaitingForDeletion, vec![self.share(&self.target, self.settings.replicas)], None);
        }
        let Some(base) = base else {
            let phase = if back { Phase::RollingBack } else { Phase::Rolling };
            return (phase, vec![self.share(&self.target, self.settings.replicas)], None);
        };
        let kept = self.keep.take();
        loop {
            let replicas = self.settings.replicas;
            let step = rollout.step.and_then(|index| Some((index + 1, *self.settings.steps.get(index)?)));
            let goal = step.map_or(self.settings.reach, |(_, step)| step.goal(replicas));
            // A group of no pods has none beside them either.
            let beside = step.filter(|(_, step)| step.weight < 100 && goal == replicas && replicas > 0);
            let beside = beside.map_or(0, |_| self.settings.strategy.surge().min(1));
            self.keep = kept.clone().or_else(|| (beside > 0).then(|| self.share(&base, beside)));
            let mut shares = vec![self.share(&self.target, goal)];
            shares.extend((goal < replicas).then(|| self.share(&base, replicas - goal)));
            let counts = self.counts();
            let reached =
                (counts.active, counts.available, self.others()) == (goal, goal, replicas - goal + beside);
            let Some((number, step)) = step else {
                rollout.step = None;
                let reached = reached && goal < replicas;
                if rollout.reached.is_some() && !reached {
                    self.get_on(rollout);
                }
                rollout.reached = if reached { rollout.reached.or(Some(self.now)) } else { None };
                return (if reached { Phase::PartitionReached } else { Phase::Rolling }, shares, None);
            };
            if rollout.reached.is_none() && reached {
                rollout.reached = Some(self.now);
                news.push(RolloutEvent::StepReached { step: number, weight: step.weight });
            }
            let Some(since) = rollout.reached else { return (Phase::Rolling, shares, None) };
            let left = match step.pause {
                Pause::None => Some(Duration::ZERO),
                Pause::For(length) => Some(length.saturating_sub(self.since(since))),
                Pause::Open => None,
            };
            if left != Some(Duration::ZERO) && !self.may_pass(rollout, number) {
                let until = left.and_then(|left| self.now.checked_add(left).ok());
                let of = self.settings.steps.len();
                let phase = Phase::StepPaused { step: number, of, weight: step.weight, until };
                return (phase, shares, left);
            }
            (rollout.step, rollout.reached) = (Some(number), None);
            self.get_on(rollout);
        }
    }

    /// Whether the pause of this step, counted from 1, was ended by hand.
    fn may_pass(&self, rollout: &Rollout, step: usize) -> bool {
        let command = self.settings.resume.as_ref().filter(|command| command.revision == self.target);
        let command = command.filter(|command| rollout.ignored.resume.as_ref() != Some(&command.text));
        command.is_some_and(|command| command.step.is_none_or(|last| step <= last))
    }

    fn since(&self, start: Timestamp) -> Duration {
        Duration::try_from(self.now.duration_since(start)).unwrap_or_default()
    }
}
