//! One pass over one rollout: observe, ask, plan, remember, apply.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use futures::{FutureExt, StreamExt};
use jiff::Timestamp;
use kube::{Api, Client, ResourceExt};
use mainstay_crds::{ConfigRollout, ConfigRolloutStatus};
use mainstay_runtime::{
    index::ObjectKey,
    reconcile::{self, PACE, Reconciler, Work},
    report::Reports,
};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::{
    announce::Announcer,
    apply::{ApplyError, Given, Writer},
    evidence,
    observe::{self, ObserveError, Seen},
    plan::{
        self, Changed, Findings, Input, Number, Plan, Settings, SourceKey, SourceVersion, State, TargetKey,
        TargetState, Wait,
    },
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
    /// What is remembered of each rollout; a restart may lose it.
    pub memory: Mutex<HashMap<ObjectKey, Memory>>,
}

/// What is remembered of a rollout between passes.
#[derive(Debug, Default, Clone)]
pub struct Memory {
    /// What was decided last, and is in the status.
    state: Option<State>,
    /// What reading the sources has shown.
    findings: Findings,
    /// The sources as they were seen last, and since when they wait to be read.
    seen: BTreeMap<SourceKey, SourceVersion>,
    changed: Option<Changed>,
    /// The last failure, and the generation of the spec that it befell.
    failure: Option<(Option<i64>, Failure)>,
    /// The objects that something referred to when that was searched for, and when.
    kept: Option<(Vec<(SourceKey, Number)>, Instant)>,
}

impl Memory {
    fn note(&mut self, observed: &plan::Observed, now: Timestamp) {
        let used = observed.sources.iter().filter(|(source, _)| observed.uses.contains_key(source));
        let seen: BTreeMap<_, _> = used.map(|(source, version)| (source.clone(), version.clone())).collect();
        if seen != self.seen {
            let first = self.changed.map_or(now, |changed| changed.first);
            self.changed = Some(Changed { first, last: now });
            self.seen = seen;
        }
        self.findings.retain(|source, _| observed.uses.contains_key(source));
    }
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
            self.remember(&key, Some((rollout.metadata.generation, Failure::from(error))));
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
        self.memory.lock().remove(key);
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
        self.ask(rollout, key, &mut seen).await?;
        let settings = settings::read(rollout);
        let mut plan = self.plan(rollout, key, &settings, &seen);
        if plan.examine {
            if self.examine(rollout, key, &seen, &plan.state).await? {
                // The stores are about to show the revision; what is planned before that would be about the last one.
                return Ok(Some(RECHECK));
            }
            plan = self.plan(rollout, key, &settings, &seen);
        }
        self.note_restarts(rollout, &mut plan).await?;
        self.remember(key, None);
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
        observe::observe(&self.stores, rollout, self.state(rollout, key).newest)
    }

    /// What was decided last: as this process remembers it, or else as the status has it.
    fn state(&self, rollout: &ConfigRollout, key: &ObjectKey) -> State {
        let remembered = self.memory.lock().get(key).and_then(|memory| memory.state.clone());
        remembered.unwrap_or_else(|| record::state(rollout, self.reports.last(key).as_ref()))
    }

    /// The generation of the spec that was answered last.
    fn answers(&self, rollout: &ConfigRollout, key: &ObjectKey) -> Option<i64> {
        let status = self.reports.last(key).or_else(|| rollout.status.clone());
        status.map(|status| status.observed_generation)
    }

    /// Asks what no watch shows of the targets on their way.
    async fn ask(
        &self,
        rollout: &ConfigRollout,
        key: &ObjectKey,
        seen: &mut Seen,
    ) -> Result<(), PassFailure> {
        let state = self.state(rollout, key);
        let judged: Vec<_> = plan::judged(&seen.observed, &state).cloned().collect();
        let questions: Vec<_> = judged
            .iter()
            .map(|target| {
                let since = state.targets.get(&target.key).and_then(|target| target.changed);
                let evidence = evidence::of(&self.client, &self.stores, rollout, target, since);
                evidence.map(|evidence| (&target.key, evidence))
            })
            .collect();
        let mut answers = futures::stream::iter(questions).buffer_unordered(self.max_in_flight);
        while let Some((target, evidence)) = answers.next().await {
            let failed = |source| ApplyError::Read { what: format!("the pods of {target}"), source };
            seen.observed.evidence.insert(target.clone(), evidence.map_err(failed)?);
        }
        Ok(())
    }

    fn plan(&self, rollout: &ConfigRollout, key: &ObjectKey, settings: &Settings, seen: &Seen) -> Plan {
        let mut state = self.state(rollout, key);
        if self.answers(rollout, key) != rollout.metadata.generation {
            // The new spec may let the rollout do what stood in its way.
            state.targets.values_mut().for_each(|target| target.conflict = None);
        }
        let now = Timestamp::now();
        let mut memory = self.memory.lock();
        let memory = memory.entry(key.clone()).or_default();
        memory.note(&seen.observed, now);
        let (plan, freed) = self.slots.decide(key, |slots| {
            let (observed, findings, changed) = (&seen.observed, &memory.findings, memory.changed);
            let plan =
                plan::plan(&Input { observed, settings, findings, state: &state, changed, slots, now });
            let (taken, waits) = (plan.state.on_their_way(), plan.needs_slots);
            (plan, taken, waits)
        });
        if !plan.unsettled {
            memory.changed = None;
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
        let findings = self.memory.lock().get(key).map(|memory| memory.findings.clone()).unwrap_or_default();
        let examined = self.writer.examine(key, &seen.observed, state, &findings).await?;
        {
            let mut memory = self.memory.lock();
            let memory = memory.entry(key.clone()).or_default();
            memory.findings.extend(examined.findings);
            memory.changed = None;
        }
        if let Some(number) = examined.made {
            self.announcer.made(rollout, number);
        }
        Ok(examined.made.is_some())
    }

    /// Notes how often the pods of the targets that are about to be changed have restarted.
    async fn note_restarts(&self, rollout: &ConfigRollout, plan: &mut Plan) -> Result<(), PassFailure> {
        let judged = plan.state.rollout.as_ref().filter(|to| !plan.state.is_ungated(to));
        let Some(to) = judged.map(|rollout| rollout.to) else { return Ok(()) };
        let namespace = rollout.namespace().unwrap_or_default();
        let moves = plan.moves.iter().filter(|(_, number)| *number == to);
        let targets: Vec<_> = moves.map(|(target, _)| target.clone()).collect();
        let counts: Vec<_> = targets
            .iter()
            .map(|target| {
                let counted = evidence::restarts(&self.client, &self.stores, &namespace, target, None);
                counted.map(move |counted| (target, counted))
            })
            .collect();
        let mut counts = futures::stream::iter(counts).buffer_unordered(self.max_in_flight);
        while let Some((target, restarts)) = counts.next().await {
            let failed = |source| ApplyError::Read { what: format!("the pods of {target}"), source };
            let restarts = restarts.map_err(failed)?;
            if let Some(remembered) = plan.state.targets.get_mut(target) {
                remembered.restarts_before = restarts;
            }
        }
        Ok(())
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
                    self.change(key, target, TargetState::confirm);
                }
                Ok(Given::Gone) => {}
                Ok(Given::Conflict(sentence)) => {
                    conflicts = true;
                    self.announcer.conflict(rollout, &sentence);
                    let view = seen.observed.targets.iter().find(|view| view.key == *target);
                    let generation = view.map_or(0, |view| view.generation);
                    self.change(key, target, |remembered| remembered.stop(generation, sentence));
                }
                Err(error) => first = first.or(Some(error)),
            }
        }
        first.map_or(Ok(conflicts), |error| Err(error.into()))
    }

    /// Changes what is remembered of a target.
    fn change(&self, key: &ObjectKey, target: &TargetKey, change: impl FnOnce(&mut TargetState)) {
        let mut memory = self.memory.lock();
        let state = memory.get_mut(key).and_then(|memory| memory.state.as_mut());
        if let Some(remembered) = state.and_then(|state| state.targets.get_mut(target)) {
            change(remembered);
        }
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
        let kept = self.memory.lock().get(key).and_then(|memory| memory.kept.clone());
        if let Some((_, at)) = kept.filter(|(kept, at)| *kept == unused && at.elapsed() < COLLECT) {
            return Ok(Some(COLLECT.saturating_sub(at.elapsed())));
        }
        let deleted = self.writer.collect(key, &seen.observed, &unused).await?;
        if deleted > 0 {
            self.announcer.collected(rollout, deleted);
        }
        let mut memory = self.memory.lock();
        memory.entry(key.clone()).or_default().kept = Some((unused, Instant::now()));
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
        let (failure, findings) = {
            let memory = self.memory.lock();
            let memory = memory.get(key).cloned().unwrap_or_default();
            let failure = memory.failure.filter(|(generation, _)| *generation == rollout.metadata.generation);
            (failure.map(|(_, failure)| failure), memory.findings)
        };
        let (observed, failure) = (&seen.observed, failure.as_ref());
        let told = Told { rollout, observed, findings: &findings, plan, failure };
        let due = self.write_status(rollout, status::told(&told, Timestamp::now())).await?;
        if self.is_written(rollout, key, &plan.state) {
            self.memory.lock().entry(key.clone()).or_default().state = Some(plan.state.clone());
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

    fn remember(&self, key: &ObjectKey, failure: Option<(Option<i64>, Failure)>) {
        self.memory.lock().entry(key.clone()).or_default().failure = failure;
    }
}
