//! What a reconcile asks, and decides.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::Timestamp;
use mainstay_crds::ConfigRollout;
use mainstay_runtime::index::ObjectKey;
use tokio::time::Instant;

use super::{ConfigRollouts, Context, RECHECK};
use crate::{
    apply::{ApplyError, EVIDENCE, REVISIONS, TARGETS},
    evidence::Gatherer,
    memory::Watched,
    observe::Seen,
    plan::{self, Evidence, Input, Plan, Settings, State, TargetKey, WATCH},
};

impl ConfigRollouts {
    /// What is to be done; `None` when the stores are about to show something that it depends on.
    pub(super) async fn decide(
        &self,
        context: &mut Context,
        settings: &Settings,
        seen: &mut Seen,
        showed: Result<bool, ApplyError>,
    ) -> Result<Option<Plan>, ApplyError> {
        let (rollout, key) = (Arc::clone(&context.rollout), context.key.clone());
        if !showed? {
            return Ok(None);
        }
        let state = self.state(&rollout, &key);
        seen.observed.evidence = self.ask(context, seen, &state).await;
        let none = BTreeSet::new();
        let mut plan = self.plan(context, settings, seen, &none);
        if !plan.unsettled {
            context.outcomes.well(REVISIONS);
        }
        if plan.examine && context.turn.held(REVISIONS).is_none() {
            match self.examine(&rollout, settings, seen, &plan.state).await {
                // What is planned before the stores show the revision would be about the last one.
                Ok(true) => return Ok(None),
                Ok(false) => {
                    context.outcomes.well(REVISIONS);
                    plan = self.plan(context, settings, seen, &none);
                }
                // What has been decided of earlier revisions goes on.
                Err(error) => self.failed(context, REVISIONS, &error),
            }
        }
        let uncounted = self.evidence().note_restarts(&key, &mut plan).await;
        if uncounted.is_empty() {
            return Ok(Some(plan));
        }
        uncounted.iter().for_each(|(_, error)| self.failed(context, EVIDENCE, error));
        // Without them there are places for others, whose restarts have not been asked for: they come next time.
        let counted: BTreeSet<_> = plan.moves.iter().map(|(target, _)| target).collect();
        let others = seen.observed.targets.iter().map(|target| &target.key);
        let others = others.filter(|target| !counted.contains(target)).cloned();
        let unknown = others.chain(uncounted.into_iter().map(|(target, _)| target)).collect();
        let restarts = plan.state.targets;
        let mut plan = self.plan(context, settings, seen, &unknown);
        for (target, _) in plan.state.judged_moves(&plan.moves) {
            let before = restarts.get(target).map_or(0, |remembered| remembered.restarts_before);
            if let Some(remembered) = plan.state.targets.get_mut(target) {
                remembered.restarts_before = before;
            }
        }
        context.outcomes.again(Some(RECHECK));
        Ok(Some(plan))
    }

    /// What the pods of judged targets show. Of those that could not be listed nothing is known. Those of targets that have
    /// passed are listed less often.
    async fn ask(&self, context: &mut Context, seen: &Seen, state: &State) -> BTreeMap<TargetKey, Evidence> {
        context.outcomes.well(EVIDENCE);
        let (rollout, key) = (Arc::clone(&context.rollout), context.key.clone());
        let mut known = BTreeMap::new();
        let mut asked = BTreeSet::new();
        let mut watched = self.memory.of(&key, |memory| std::mem::take(&mut memory.watched));
        watched.retain(|target, last| {
            let remembered = state.targets.get(target);
            let is_same = remembered.is_some_and(|now| now.passed && now.changed == last.change);
            is_same && last.at.elapsed() < WATCH
        });
        for target in plan::judged(&seen.observed, state).map(|target| &target.key) {
            let name = target.to_string();
            if let Some(last) = watched.get(target) {
                known.insert(target.clone(), last.evidence.clone());
            } else if context.turn.held_for(EVIDENCE, &name).is_some() {
                context.outcomes.waits((EVIDENCE, Some(name.into())));
            } else {
                asked.insert(target.clone());
            }
        }
        for (target, answer) in self.evidence().of_judged(&rollout, seen, state, &asked).await {
            match (answer, state.targets.get(&target)) {
                (Ok(evidence), remembered) => {
                    if let Some(passed) = remembered.filter(|remembered| remembered.passed) {
                        let (change, at) = (passed.changed, Instant::now());
                        let last = Watched { change, at, evidence: evidence.clone() };
                        watched.insert(target.clone(), last);
                    }
                    known.insert(target, evidence);
                }
                (Err(error), _) => self.failed(context, EVIDENCE, &error),
            }
        }
        self.memory.of(&key, |memory| memory.watched = watched);
        known
    }

    /// Of the pods of `unknown` it is not known how often they have restarted.
    fn plan(
        &self,
        context: &Context,
        settings: &Settings,
        seen: &Seen,
        unknown: &BTreeSet<TargetKey>,
    ) -> Plan {
        let (rollout, key) = (&*context.rollout, &context.key);
        let mut state = self.state(rollout, key);
        if self.answers(rollout) != rollout.metadata.generation {
            // The new spec may let the rollout do what stood in its way.
            state.targets.values_mut().for_each(|target| target.conflict = None);
        }
        let (observed, now) = (&seen.observed, Timestamp::now());
        let (findings, changed) = self.memory.of(key, |memory| {
            memory.note(observed, now);
            (memory.findings.clone(), memory.changed)
        });
        let targets = observed.targets.iter().map(|target| &target.key);
        let is_held = |target: &&TargetKey| context.turn.held_for(TARGETS, &target.to_string()).is_some();
        let held: BTreeSet<_> = targets.clone().filter(is_held).cloned().collect();
        let is_unknown = |target: &&TargetKey| {
            unknown.contains(*target) || context.turn.held_for(EVIDENCE, &target.to_string()).is_some()
        };
        let unknown: BTreeSet<_> = targets.filter(is_unknown).cloned().collect();
        let (plan, freed) = self.slots.decide(key, |slots| {
            let plan = plan::plan(&Input {
                observed,
                settings,
                findings: &findings,
                state: &state,
                changed,
                slots,
                held: &held,
                unknown: &unknown,
                now,
            });
            let (taken, waits) = (plan.state.in_progress(), plan.needs_slots);
            (plan, taken, waits)
        });
        if !plan.unsettled {
            self.memory.of(key, |memory| memory.changed = None);
        }
        freed.iter().filter(|waiting| *waiting != key).for_each(|waiting| self.work.trigger(waiting));
        plan
    }

    /// Reads the sources. Returns whether a revision was made.
    async fn examine(
        &self,
        rollout: &ConfigRollout,
        settings: &Settings,
        seen: &Seen,
        state: &State,
    ) -> Result<bool, ApplyError> {
        let (key, holds) = (ObjectKey::of(rollout), settings.holds_incomplete);
        let findings = self.memory.of(&key, |memory| memory.findings.clone());
        let examined = self.writer.examine(&key, &seen.observed, state, &findings, holds).await?;
        self.memory.of(&key, |memory| {
            memory.findings.extend(examined.findings);
            memory.changed = None;
        });
        if let Some(number) = examined.made {
            self.announcer.made(rollout, number);
        }
        Ok(examined.made.is_some())
    }

    fn evidence(&self) -> Gatherer<'_> {
        let Self { client, stores, probes, work, max_in_flight: at_once, .. } = self;
        Gatherer { client, stores, probes, work, at_once: *at_once }
    }
}
