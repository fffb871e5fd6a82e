//! One pass over one rollout: observe, ask, plan, remember, apply.

use std::{sync::Arc, time::Duration};

use futures::{FutureExt, StreamExt};
use jiff::Timestamp;
use kube::{Api, Client, ResourceExt};
use mainstay_crds::{ConfigRollout, ConfigRolloutStatus};
use mainstay_runtime::{
    index::ObjectKey,
    outcome::{Concern, Failure, Failures, Outcomes, STATUS, Turn},
    reconcile::{PACE, Reconciler, Work},
    report::Reports,
};
use tokio::time::Instant;

use crate::{
    announce::Announcer,
    apply::{ApplyError, COLLECTION, Given, READS, REVISIONS, TARGETS, Writer},
    evidence::Gatherer,
    memory::Memories,
    observe::{self, ObserveError, Seen},
    plan::{self, Input, Number, Plan, Settings, State, TargetKey, TargetState, Wait},
    record, settings,
    slots::Slots,
    status::{self, Told},
    stores::Stores,
};

/// How often a rollout's status follows its sentences while nothing else changes.
pub const STATUS_PACE: Duration = Duration::from_millis(500);
/// When a pass that waits for the store looks again, should no event come first.
const RECHECK: Duration = Duration::from_secs(1);
/// How often the namespace is searched for what refers to old revisions, while there are some.
const COLLECT: Duration = Duration::from_secs(600);

/// The ConfigRollout controller's pass, with all that it reads and writes.
pub struct ConfigRollouts {
    /// For the status and what no watch shows.
    pub client: Client,
    /// What passes read.
    pub stores: Stores,
    /// What passes write with.
    pub writer: Writer,
    /// Writes the status.
    pub reports: Arc<Reports<ConfigRolloutStatus>>,
    /// Tells people and Prometheus.
    pub announcer: Announcer,
    /// The places that rollouts share.
    pub slots: Slots,
    /// The loop's memory, to wake rollouts for which places have become free.
    pub work: Arc<Work>,
    /// How many targets of a rollout are changed at the same time.
    pub max_in_flight: usize,
    /// Whether there is the webhook of the mode `Admission`.
    pub admits: bool,
    /// What is remembered of each rollout.
    pub memory: Memories,
}

impl Reconciler for ConfigRollouts {
    type Object = ConfigRollout;

    async fn reconcile(self: Arc<Self>, rollout: Arc<ConfigRollout>, turn: Turn) -> Outcomes {
        let mut pass = Pass { key: ObjectKey::of(&*rollout), rollout, turn, outcomes: Outcomes::default() };
        if pass.rollout.metadata.deletion_timestamp.is_none() {
            self.pass(&mut pass).await;
        }
        pass.outcomes
    }

    fn forget(&self, key: &ObjectKey) {
        self.writer.forget(key);
        self.reports.forget(key);
        self.memory.forget(key);
        self.slots.forget(key).iter().for_each(|waiting| self.work.trigger(waiting));
    }
}

/// One rollout as a reconcile works on it.
struct Pass {
    rollout: Arc<ConfigRollout>,
    key: ObjectKey,
    turn: Turn,
    outcomes: Outcomes,
}

impl Pass {
    /// What keeps the rollout's concerns from succeeding, as far as it is known by now.
    fn failures(&self) -> Failures {
        self.outcomes.failures(&self.turn)
    }
}

impl ConfigRollouts {
    async fn pass(&self, pass: &mut Pass) {
        let (rollout, key) = (Arc::clone(&pass.rollout), pass.key.clone());
        // Asked before the stores are read: what they come to show afterwards is not observed, and would be made again.
        let showed = match pass.turn.held(READS) {
            Some(_) => Ok(false),
            None => self.writer.may_write(&key).await,
        };
        let mut seen = match self.observe(&rollout, &key) {
            Ok(seen) => seen,
            Err(error) => {
                return self
                    .put(&rollout, status::unusable(&rollout, &Failure::from(&error), Timestamp::now()));
            }
        };
        if pass.turn.held(READS).is_some() {
            return;
        }
        let settings = settings::read(&rollout);
        let decided = self.decide(pass, &settings, &mut seen, showed).await;
        let plan = match decided {
            Ok(Some(plan)) => plan,
            Ok(None) => return pass.outcomes.again(Some(RECHECK)),
            Err(error) => {
                self.failed(pass, READS, &error);
                let state = self.state(&rollout, &key);
                let plan = Plan { state, wait: Wait::Targets, ..Plan::default() };
                self.report(pass, &seen, &plan).await;
                return;
            }
        };
        pass.outcomes.well(READS);
        let told = pass.failures();
        if !self.report(pass, &seen, &plan).await {
            return pass.outcomes.again(Some(RECHECK));
        }
        plan.news.iter().for_each(|news| self.announcer.news(&rollout, news));
        pass.outcomes.again(plan.recheck_in);
        self.give(pass, &seen, &plan).await;
        self.collect(pass, &settings, &seen, &plan).await;
        if pass.failures() != told {
            // What stands in the way, or does no more, is told without another event.
            self.report(pass, &seen, &Plan { state: self.state(&rollout, &key), ..plan }).await;
        }
    }

    /// What is to be done; `None` when the stores are about to show something that it depends on.
    async fn decide(
        &self,
        pass: &mut Pass,
        settings: &Settings,
        seen: &mut Seen,
        showed: Result<bool, ApplyError>,
    ) -> Result<Option<Plan>, ApplyError> {
        let (rollout, key) = (Arc::clone(&pass.rollout), pass.key.clone());
        if !showed? {
            return Ok(None);
        }
        let (evidence, state) = (self.evidence(), self.state(&rollout, &key));
        seen.observed.evidence = evidence.of_judged(&rollout, &seen.observed, &state).await?;
        let mut plan = self.plan(&rollout, &key, settings, seen);
        if !plan.examine {
            pass.outcomes.well(REVISIONS);
        } else if pass.turn.held(REVISIONS).is_none() {
            match self.examine(&rollout, &key, seen, &plan.state).await {
                // What is planned before the stores show the revision would be about the last one.
                Ok(true) => return Ok(None),
                Ok(false) => {
                    pass.outcomes.well(REVISIONS);
                    plan = self.plan(&rollout, &key, settings, seen);
                }
                // What has been decided of earlier revisions goes on.
                Err(error) => self.failed(pass, REVISIONS, &error),
            }
        }
        evidence.note_restarts(&key, &mut plan).await?;
        Ok(Some(plan))
    }

    /// Tells what could not be done.
    fn failed(&self, pass: &mut Pass, concern: Concern, error: &ApplyError) {
        self.announcer.failed(&pass.rollout, error);
        let name = match error {
            ApplyError::Target { what, .. } => Some(what.as_str().into()),
            _ => None,
        };
        pass.outcomes.fail((concern, name), error);
    }

    fn observe(&self, rollout: &ConfigRollout, key: &ObjectKey) -> Result<Seen, ObserveError> {
        observe::observe(&self.stores, rollout, self.state(rollout, key).newest, self.admits)
    }

    /// What was decided last: as this process remembers it, or else as the status has it.
    fn state(&self, rollout: &ConfigRollout, key: &ObjectKey) -> State {
        let remembered = self.memory.of(key, |memory| memory.state.clone());
        remembered.unwrap_or_else(|| record::state(rollout, self.reports.last(key).as_ref()))
    }

    /// The generation of the spec that was answered last.
    fn answers(&self, rollout: &ConfigRollout, key: &ObjectKey) -> Option<i64> {
        let status = self.reports.wanted(key).or_else(|| rollout.status.clone());
        status.map(|status| status.observed_generation)
    }

    fn plan(&self, rollout: &ConfigRollout, key: &ObjectKey, settings: &Settings, seen: &Seen) -> Plan {
        let mut state = self.state(rollout, key);
        if self.answers(rollout, key) != rollout.metadata.generation {
            // The new spec may let the rollout do what stood in its way.
            state.targets.values_mut().for_each(|target| target.conflict = None);
        }
        let (observed, now) = (&seen.observed, Timestamp::now());
        let (findings, changed) = self.memory.of(key, |memory| {
            memory.note(observed, now);
            (memory.findings.clone(), memory.changed)
        });
        let (plan, freed) = self.slots.decide(key, |slots| {
            let plan = plan::plan(&Input {
                observed,
                settings,
                findings: &findings,
                state: &state,
                changed,
                slots,
                now,
            });
            let (taken, waits) = (plan.state.on_their_way(), plan.needs_slots);
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
        key: &ObjectKey,
        seen: &Seen,
        state: &State,
    ) -> Result<bool, ApplyError> {
        let findings = self.memory.of(key, |memory| memory.findings.clone());
        let examined = self.writer.examine(key, &seen.observed, state, &findings).await?;
        self.memory.of(key, |memory| {
            memory.findings.extend(examined.findings);
            memory.changed = None;
        });
        if let Some(number) = examined.made {
            self.announcer.made(rollout, number);
        }
        Ok(examined.made.is_some())
    }

    /// Carries the moves out. A target that refuses keeps no other from its own.
    async fn give(&self, pass: &mut Pass, seen: &Seen, plan: &Plan) {
        let (rollout, key) = (Arc::clone(&pass.rollout), pass.key.clone());
        pass.outcomes.well(TARGETS);
        let may_move = |(target, _): &&(TargetKey, Number)| {
            let name = target.to_string();
            let is_held = pass.turn.held_for(TARGETS, &name).is_some();
            if is_held {
                pass.outcomes.waits((TARGETS, Some(name.into())));
            }
            !is_held
        };
        let moves: Vec<_> = plan
            .moves
            .iter()
            .filter(may_move)
            .map(|(target, number)| {
                let given = self.writer.give(&rollout, seen, target, *number);
                given.map(move |given| (target, given))
            })
            .collect();
        let mut moves = futures::stream::iter(moves).buffer_unordered(self.max_in_flight);
        while let Some((target, given)) = moves.next().await {
            match given {
                Ok(Given::Done) => {
                    self.announcer.metrics.moved();
                    self.memory.of(&key, |memory| memory.change(target, TargetState::confirm));
                }
                Ok(Given::Gone) => {}
                Ok(Given::Conflict(sentence)) => {
                    pass.outcomes.again(Some(PACE));
                    self.announcer.conflict(&rollout, &sentence);
                    let view = seen.observed.targets.iter().find(|view| view.key == *target);
                    let generation = view.map_or(0, |view| view.generation);
                    let stop = |remembered: &mut TargetState| remembered.stop(generation, sentence);
                    self.memory.of(&key, |memory| memory.change(target, stop));
                }
                Err(error) => self.failed(pass, TARGETS, &error),
            }
        }
    }

    /// Deletes revisions that nothing refers to.
    async fn collect(&self, pass: &mut Pass, settings: &Settings, seen: &Seen, plan: &Plan) {
        let unused = plan::collect::unused(&seen.observed, settings, &plan.state);
        if unused.is_empty() {
            return pass.outcomes.well(COLLECTION);
        }
        if !plan.moves.is_empty() || pass.turn.held(COLLECTION).is_some() {
            return;
        }
        let kept = self.memory.of(&pass.key, |memory| memory.kept.clone());
        if let Some((_, at)) = kept.filter(|(kept, at)| *kept == unused && at.elapsed() < COLLECT) {
            return pass.outcomes.again(Some(COLLECT.saturating_sub(at.elapsed())));
        }
        match self.writer.collect(&pass.key, &seen.observed, &unused).await {
            Ok(deleted) => {
                if deleted > 0 {
                    self.announcer.collected(&pass.rollout, deleted);
                }
                self.memory.of(&pass.key, |memory| memory.kept = Some((unused, Instant::now())));
                pass.outcomes.well(COLLECTION);
                pass.outcomes.again(Some(COLLECT));
            }
            Err(error) => self.failed(pass, COLLECTION, &error),
        }
    }

    /// Tells what was seen and decided; from then on it is what is remembered. A decision is written before anything is done
    /// for it, the rest follows beside. Returns whether the decision is written.
    async fn report(&self, pass: &mut Pass, seen: &Seen, plan: &Plan) -> bool {
        let (rollout, key) = (Arc::clone(&pass.rollout), pass.key.clone());
        let findings = self.memory.of(&key, |memory| memory.findings.clone());
        let told = Told {
            rollout: &self.reports.current(&*rollout),
            observed: &seen.observed,
            findings: &findings,
            plan,
            failures: &pass.failures(),
        };
        let status = status::told(&told, Timestamp::now());
        if self.is_written(&rollout, &key, &plan.state) {
            pass.outcomes.well(STATUS);
            self.put(&rollout, status);
        } else if pass.turn.held(STATUS).is_some() {
            return false;
        } else {
            let (api, standing) = (self.api(&rollout), rollout.status.as_ref());
            let record = self.reports.record(&api, &*rollout, standing, status, status::is_urgent);
            pass.outcomes.end(STATUS, record.await);
        }
        let written = self.is_written(&rollout, &key, &plan.state);
        if written {
            self.memory.of(&key, |memory| memory.state = Some(plan.state.clone()));
        }
        written
    }

    /// Whether the status has what was decided.
    fn is_written(&self, rollout: &ConfigRollout, key: &ObjectKey, state: &State) -> bool {
        let written = self.reports.last(key).or_else(|| rollout.status.clone()).unwrap_or_default();
        record::read(rollout, &written).remembers(state)
    }

    fn put(&self, rollout: &ConfigRollout, status: ConfigRolloutStatus) {
        self.reports.put(&self.api(rollout), rollout, rollout.status.as_ref(), status, status::is_urgent);
    }

    fn api(&self, rollout: &ConfigRollout) -> Api<ConfigRollout> {
        Api::namespaced(self.client.clone(), &rollout.namespace().unwrap_or_default())
    }

    fn evidence(&self) -> Gatherer<'_> {
        Gatherer { client: &self.client, stores: &self.stores, at_once: self.max_in_flight }
    }
}

#[cfg(test)]
mod tests;
