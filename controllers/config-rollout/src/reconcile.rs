//! One pass over one rollout: observe, ask, plan, remember, apply.

use std::{sync::Arc, time::Duration};

use futures::{FutureExt, StreamExt};
use jiff::Timestamp;
use kube::{Api, Client, ResourceExt};
use mainstay_crds::{ConfigRollout, ConfigRolloutStatus};
use mainstay_runtime::{
    index::ObjectKey,
    reconcile::{self, PACE, Reconciler, Work},
    report::Reports,
};
use tokio::time::Instant;

use crate::{
    announce::Announcer,
    apply::{ApplyError, Given, Writer},
    evidence::Gatherer,
    memory::Memories,
    observe::{self, ObserveError, Seen},
    plan::{self, Input, Plan, Settings, State, TargetState, Wait},
    record, settings,
    slots::Slots,
    status::{self, Failure, Told},
    stores::Stores,
};

/// How often a rollout's status follows its sentences while nothing else changes.
pub const STATUS_PACE: Duration = Duration::from_millis(500);
/// When a pass that waits for the store looks again, should no event come first.
const RECHECK: Duration = Duration::from_secs(1);
/// How often the namespace is searched for what refers to old revisions, while there are some.
const COLLECT: Duration = Duration::from_secs(600);

/// Why a pass failed.
pub type PassFailure = reconcile::PassFailure<ApplyError>;

/// The ConfigRollout controller's pass, with all that it reads and writes.
pub struct ConfigRollouts {
    /// For the status and what no watch shows.
    pub client: Client,
    /// What passes read.
    pub stores: Stores,
    /// What passes write with.
    pub writer: Writer,
    /// Writes the status.
    pub reports: Reports<ConfigRolloutStatus>,
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
    type Error = PassFailure;

    async fn reconcile(
        self: Arc<Self>,
        rollout: Arc<ConfigRollout>,
        held: Option<Duration>,
    ) -> Result<Option<Duration>, PassFailure> {
        let key = ObjectKey::of(&*rollout);
        if rollout.metadata.deletion_timestamp.is_some() {
            return Ok(None);
        }
        if let Some(held) = held {
            return Ok(Some(held));
        }
        let ended = self.pass(&rollout, &key).await;
        if let Err(PassFailure::Apply(error)) = &ended {
            self.announcer.failed(&rollout, error);
            let failure = (rollout.metadata.generation, Failure::from(error));
            self.memory.of(&key, |memory| memory.failure = Some(failure));
            if let Ok(seen) = self.observe(&rollout, &key) {
                let state = self.state(&rollout, &key);
                let plan = Plan { state, wait: Wait::Targets, ..Plan::default() };
                self.report(&rollout, &key, &seen, &plan).await?;
            }
        }
        ended
    }
}

impl ConfigRollouts {
    /// Forgets a rollout that is gone.
    pub fn forget(&self, key: &ObjectKey) {
        self.writer.forget(key);
        self.reports.forget(key);
        self.memory.forget(key);
        self.slots.forget(key).iter().for_each(|waiting| self.work.trigger(waiting));
    }

    async fn pass(&self, rollout: &ConfigRollout, key: &ObjectKey) -> Result<Option<Duration>, PassFailure> {
        if !self.writer.may_write(key).await? {
            return Ok(Some(RECHECK));
        }
        let mut seen = match self.observe(rollout, key) {
            Ok(seen) => seen,
            Err(error) => {
                let status = status::unusable(rollout, &Failure::from(&error), Timestamp::now());
                return self.write_status(rollout, status).await;
            }
        };
        let (evidence, state) = (self.evidence(), self.state(rollout, key));
        seen.observed.evidence = evidence.of_judged(rollout, &seen.observed, &state).await?;
        let settings = settings::read(rollout);
        let mut plan = self.plan(rollout, key, &settings, &seen);
        if plan.examine {
            if self.examine(rollout, key, &seen, &plan.state).await? {
                // The stores are about to show the revision; what is planned before that would be about the last one.
                return Ok(Some(RECHECK));
            }
            plan = self.plan(rollout, key, &settings, &seen);
        }
        evidence.note_restarts(key, &mut plan).await?;
        self.memory.of(key, |memory| memory.failure = None);
        let due = self.report(rollout, key, &seen, &plan).await?;
        if !self.is_written(rollout, key, &plan.state) {
            return Ok(due.or(Some(RECHECK)));
        }
        plan.news.iter().for_each(|news| self.announcer.news(rollout, news));
        if self.give(rollout, key, &seen, &plan).await? {
            // What stood in the way is remembered and told by the next pass.
            return Ok(Some(PACE));
        }
        let collect = self.collect(rollout, key, &settings, &seen, &plan).await?;
        Ok([due, plan.recheck_in, collect].into_iter().flatten().min())
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
        let status = self.reports.last(key).or_else(|| rollout.status.clone());
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
    ) -> Result<bool, PassFailure> {
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

    /// Carries the moves out. Returns whether another manager was in the way of one.
    async fn give(
        &self,
        rollout: &ConfigRollout,
        key: &ObjectKey,
        seen: &Seen,
        plan: &Plan,
    ) -> Result<bool, PassFailure> {
        let moves: Vec<_> = plan
            .moves
            .iter()
            .map(|(target, number)| {
                let given = self.writer.give(rollout, seen, target, *number);
                given.map(move |given| (target, given))
            })
            .collect();
        let mut moves = futures::stream::iter(moves).buffer_unordered(self.max_in_flight);
        let (mut first, mut conflicts) = (None, false);
        while let Some((target, given)) = moves.next().await {
            match given {
                Ok(Given::Done) => {
                    self.announcer.metrics.moved();
                    self.memory.of(key, |memory| memory.change(target, TargetState::confirm));
                }
                Ok(Given::Gone) => {}
                Ok(Given::Conflict(sentence)) => {
                    conflicts = true;
                    self.announcer.conflict(rollout, &sentence);
                    let view = seen.observed.targets.iter().find(|view| view.key == *target);
                    let generation = view.map_or(0, |view| view.generation);
                    let stop = |remembered: &mut TargetState| remembered.stop(generation, sentence);
                    self.memory.of(key, |memory| memory.change(target, stop));
                }
                Err(error) => first = first.or(Some(error)),
            }
        }
        first.map_or(Ok(conflicts), |error| Err(error.into()))
    }

    /// Deletes revisions that nothing refers to. Returns when to look again.
    async fn collect(
        &self,
        rollout: &ConfigRollout,
        key: &ObjectKey,
        settings: &Settings,
        seen: &Seen,
        plan: &Plan,
    ) -> Result<Option<Duration>, PassFailure> {
        let unused = plan::collect::unused(&seen.observed, settings, &plan.state);
        if unused.is_empty() || !plan.moves.is_empty() {
            return Ok(None);
        }
        let kept = self.memory.of(key, |memory| memory.kept.clone());
        if let Some((_, at)) = kept.filter(|(kept, at)| *kept == unused && at.elapsed() < COLLECT) {
            return Ok(Some(COLLECT.saturating_sub(at.elapsed())));
        }
        let deleted = self.writer.collect(key, &seen.observed, &unused).await?;
        if deleted > 0 {
            self.announcer.collected(rollout, deleted);
        }
        self.memory.of(key, |memory| memory.kept = Some((unused, Instant::now())));
        Ok(Some(COLLECT))
    }

    /// Tells what was seen and decided; from then on it is what is remembered.
    async fn report(
        &self,
        rollout: &ConfigRollout,
        key: &ObjectKey,
        seen: &Seen,
        plan: &Plan,
    ) -> Result<Option<Duration>, PassFailure> {
        let (failure, findings) = self
            .memory
            .of(key, |memory| (memory.failure_of(rollout.metadata.generation), memory.findings.clone()));
        let (observed, failure) = (&seen.observed, failure.as_ref());
        let told = Told { rollout, observed, findings: &findings, plan, failure };
        let due = self.write_status(rollout, status::told(&told, Timestamp::now())).await?;
        if self.is_written(rollout, key, &plan.state) {
            self.memory.of(key, |memory| memory.state = Some(plan.state.clone()));
        }
        Ok(due)
    }

    /// Whether the status has what was decided.
    fn is_written(&self, rollout: &ConfigRollout, key: &ObjectKey, state: &State) -> bool {
        let written = self.reports.last(key).or_else(|| rollout.status.clone()).unwrap_or_default();
        record::read(rollout, &written).remembers(state)
    }

    async fn write_status(
        &self,
        rollout: &ConfigRollout,
        status: ConfigRolloutStatus,
    ) -> Result<Option<Duration>, PassFailure> {
        let rollouts = Api::namespaced(self.client.clone(), &rollout.namespace().unwrap_or_default());
        let report =
            self.reports.report(&rollouts, rollout, rollout.status.as_ref(), status, status::is_urgent);
        report.await.map_err(PassFailure::Status)
    }

    fn evidence(&self) -> Gatherer<'_> {
        Gatherer { client: &self.client, stores: &self.stores, at_once: self.max_in_flight }
    }
}
