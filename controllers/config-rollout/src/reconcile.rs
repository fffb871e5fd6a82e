//! One reconcile over one rollout: observe, ask, plan, remember, apply.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use futures::{FutureExt, StreamExt};
use jiff::Timestamp;
use kube::Client;
use mainstay_crds::{ConfigRollout, ConfigRolloutStatus};
use mainstay_runtime::{
    index::ObjectKey,
    outcome::{Concern, Failure, Failures, Outcomes, STATUS, Turn},
    reconcile::{PACE, Reconciler, Work},
    report::StatusWriter,
};
use tokio::time::Instant;

use crate::{
    announce::Announcer,
    apply::{ApplyError, COLLECTION, EVIDENCE, READS, TARGETS, TargetResult, Writer},
    memory::Memories,
    observe::{self, ObserveError, Seen},
    plan::{self, Plan, Settings, State, TargetState, Wait},
    probes::Probes,
    record, settings,
    slots::Slots,
    status::{self, StatusInput},
    stores::Stores,
};

mod decide;

/// How often a rollout's status follows its sentences while nothing else changes.
pub const STATUS_PACE: Duration = Duration::from_millis(500);
/// When a reconcile that waits for the store looks again, should no event come first.
const RECHECK: Duration = Duration::from_secs(1);
/// How often the namespace is searched for what refers to old revisions, while there are some.
const COLLECT: Duration = Duration::from_secs(600);

/// The ConfigRollout controller's reconcile, with all that it reads and writes.
pub struct ConfigRollouts {
    /// For the status and what no watch shows.
    pub client: Client,
    /// What reconciles read.
    pub stores: Stores,
    /// What reconciles write with.
    pub writer: Writer,
    /// Writes the status.
    pub status_writer: Arc<StatusWriter<ConfigRolloutStatus>>,
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
    /// What the probes of gates say.
    pub probes: Probes,
}

impl Reconciler for ConfigRollouts {
    type Object = ConfigRollout;

    async fn reconcile(self: Arc<Self>, rollout: Arc<ConfigRollout>, turn: Turn) -> Outcomes {
        let mut context =
            Context { key: ObjectKey::of(&*rollout), rollout, turn, outcomes: Outcomes::default() };
        if context.rollout.metadata.deletion_timestamp.is_none() {
            self.roll_out(&mut context).await;
        } else {
            self.release(&context.key);
        }
        context.outcomes
    }

    fn forget(&self, key: &ObjectKey) {
        self.writer.forget(key);
        self.status_writer.forget(key);
        self.memory.forget(key);
        self.probes.keep(key, &BTreeSet::new());
        self.release(key);
    }
}

/// One rollout as a reconcile works on it.
struct Context {
    rollout: Arc<ConfigRollout>,
    key: ObjectKey,
    turn: Turn,
    outcomes: Outcomes,
}

impl Context {
    /// What keeps the rollout's concerns from succeeding, as far as it is known by now.
    fn failures(&self) -> Failures {
        self.outcomes.failures(&self.turn)
    }
}

impl ConfigRollouts {
    async fn roll_out(&self, context: &mut Context) {
        let (rollout, key) = (Arc::clone(&context.rollout), context.key.clone());
        // Asked before the stores are read: what they come to show afterwards is not observed, and would be made again.
        let showed = match context.turn.held(READS) {
            Some(_) => Ok(false),
            None => self.writer.may_write(&key).await,
        };
        let mut seen = match self.observe(&rollout, &key) {
            Ok(seen) => seen,
            Err(error) => {
                self.release(&key);
                let current = self.status_writer.current(&*rollout);
                return self
                    .put(&rollout, status::unusable(&current, &Failure::from(&error), Timestamp::now()));
            }
        };
        if context.turn.held(READS).is_some() {
            return;
        }
        let settings = settings::read(&rollout);
        let decided = self.decide(context, &settings, &mut seen, showed).await;
        let plan = match decided {
            Ok(Some(plan)) => plan,
            Ok(None) => return context.outcomes.again(Some(RECHECK)),
            Err(error) => {
                self.failed(context, READS, &error);
                let state = self.state(&rollout, &key);
                let plan = Plan { state, wait: Wait::Targets, ..Plan::default() };
                self.report(context, &seen, &plan).await;
                return;
            }
        };
        context.outcomes.well(READS);
        for target in &plan.held {
            context.outcomes.waits((EVIDENCE, Some(target.to_string().into())));
        }
        let told = context.failures();
        if !self.report(context, &seen, &plan).await {
            let is_held = context.turn.held(STATUS).is_some();
            return context.outcomes.again(Some(RECHECK).filter(|_| !is_held));
        }
        plan.news.iter().for_each(|news| self.announcer.news(&rollout, news));
        context.outcomes.again(plan.recheck_in);
        self.give(context, &seen, &plan).await;
        self.collect(context, &settings, &seen, &plan).await;
        if context.failures() != told {
            // What stands in the way, or does no more, is told without another event.
            self.report(context, &seen, &Plan { state: self.state(&rollout, &key), ..plan }).await;
        }
    }

    /// A rollout cannot be decoded any more.
    pub(crate) fn lose(&self, key: &ObjectKey) {
        self.status_writer.withdraw(key);
        self.release(key);
    }

    /// A rollout that does not go on takes none of the places that rollouts share.
    fn release(&self, key: &ObjectKey) {
        self.slots.forget(key).iter().for_each(|waiting| self.work.trigger(waiting));
    }

    /// Tells what could not be done.
    fn failed(&self, context: &mut Context, concern: Concern, error: &ApplyError) {
        self.announcer.failed(&context.rollout, error);
        let name = match error {
            ApplyError::Target { what, .. } | ApplyError::Pods { what, .. } => Some(what.as_str().into()),
            _ => None,
        };
        context.outcomes.fail((concern, name), error);
    }

    fn observe(&self, rollout: &ConfigRollout, key: &ObjectKey) -> Result<Seen, ObserveError> {
        observe::observe(&self.stores, rollout, self.state(rollout, key).newest, self.admits)
    }

    /// What was decided last: as this process remembers it, or else as the status has it.
    fn state(&self, rollout: &ConfigRollout, key: &ObjectKey) -> State {
        let remembered = self.memory.of(key, |memory| memory.state.clone());
        remembered.unwrap_or_else(|| record::state(rollout, self.status_writer.last(rollout).as_ref()))
    }

    /// The generation of the spec that was answered last.
    fn answers(&self, rollout: &ConfigRollout) -> Option<i64> {
        let shown = self.status_writer.current(rollout);
        shown.status.as_ref().map(|status| status.observed_generation)
    }

    /// Carries the moves out. A target that refuses keeps no other from its own.
    async fn give(&self, context: &mut Context, seen: &Seen, plan: &Plan) {
        let (rollout, key) = (Arc::clone(&context.rollout), context.key.clone());
        context.outcomes.well(TARGETS);
        for target in &plan.held {
            context.outcomes.waits((TARGETS, Some(target.to_string().into())));
        }
        let moves: Vec<_> = plan
            .moves
            .iter()
            .map(|(target, number)| {
                let given = self.writer.give(&rollout, seen, target, *number);
                given.map(move |given| (target, given))
            })
            .collect();
        let mut moves = futures::stream::iter(moves).buffer_unordered(self.max_in_flight);
        while let Some((target, given)) = moves.next().await {
            match given {
                Ok(TargetResult::Done) => {
                    self.announcer.metrics.moved();
                    self.memory.of(&key, |memory| memory.change(target, TargetState::confirm));
                }
                Ok(TargetResult::Gone) => {}
                Ok(TargetResult::Conflict(sentence)) => {
                    context.outcomes.again(Some(PACE));
                    self.announcer.conflict(&rollout, &sentence);
                    let view = seen.observed.targets.iter().find(|view| view.key == *target);
                    let generation = view.map_or(0, |view| view.generation);
                    let stop = |remembered: &mut TargetState| remembered.stop(generation, sentence);
                    self.memory.of(&key, |memory| memory.change(target, stop));
                }
                Err(error) => self.failed(context, TARGETS, &error),
            }
        }
    }

    /// Deletes revisions that nothing refers to.
    async fn collect(&self, context: &mut Context, settings: &Settings, seen: &Seen, plan: &Plan) {
        let unused = plan::collect::unused(&seen.observed, settings, &plan.state);
        if unused.is_empty() {
            return context.outcomes.well(COLLECTION);
        }
        if !plan.moves.is_empty() || context.turn.held(COLLECTION).is_some() {
            return;
        }
        let kept = self.memory.of(&context.key, |memory| memory.kept.clone());
        if let Some((_, at)) = kept.filter(|(kept, at)| *kept == unused && at.elapsed() < COLLECT) {
            return context.outcomes.again(Some(COLLECT.saturating_sub(at.elapsed())));
        }
        match self.writer.collect(&context.key, &seen.observed, &unused).await {
            Ok(deleted) => {
                if deleted > 0 {
                    self.announcer.collected(&context.rollout, deleted);
                }
                self.memory.of(&context.key, |memory| memory.kept = Some((unused, Instant::now())));
                context.outcomes.well(COLLECTION);
                context.outcomes.again(Some(COLLECT));
            }
            Err(error) => self.failed(context, COLLECTION, &error),
        }
    }

    /// Tells what was seen and decided; from then on it is what is remembered. A decision is written before anything is done
    /// for it, the rest follows beside. Returns whether the decision is written.
    async fn report(&self, context: &mut Context, seen: &Seen, plan: &Plan) -> bool {
        let (rollout, key) = (Arc::clone(&context.rollout), context.key.clone());
        let findings = self.memory.of(&key, |memory| memory.findings.clone());
        let told = StatusInput {
            rollout: &self.status_writer.current(&*rollout),
            observed: &seen.observed,
            findings: &findings,
            plan,
            failures: &context.failures(),
        };
        let status = status::told(&told, Timestamp::now());
        if self.is_written(&rollout, &plan.state) {
            context.outcomes.well(STATUS);
            self.put(&rollout, status);
        } else if context.turn.held(STATUS).is_some() {
            return false;
        } else {
            let standing = rollout.status.as_ref();
            let record = self.status_writer.record(&*rollout, standing, status, status::is_urgent);
            context.outcomes.end(STATUS, record.await);
        }
        let written = self.is_written(&rollout, &plan.state);
        if written {
            self.memory.of(&key, |memory| memory.state = Some(plan.state.clone()));
        }
        written
    }

    /// Whether the status has what was decided.
    fn is_written(&self, rollout: &ConfigRollout, state: &State) -> bool {
        let written = self.status_writer.last(rollout).or_else(|| rollout.status.clone()).unwrap_or_default();
        record::read(rollout, &written).remembers(state)
    }

    fn put(&self, rollout: &ConfigRollout, status: ConfigRolloutStatus) {
        self.status_writer.put(rollout, rollout.status.as_ref(), status, status::is_urgent);
    }
}

#[cfg(test)]
mod tests;
