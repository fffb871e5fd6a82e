//! One reconcile over one group: observe, plan, apply, report.

use std::{collections::HashMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use kube::{
    ResourceExt,
    runtime::reflector::{ObjectRef, Store},
};
use mainstay_crds::{ReplicaGroup, ReplicaGroupStatus};
use mainstay_runtime::{
    backoff::{Backoff, Growth},
    clock::Clock,
    failure::RequestError,
    index::ObjectKey,
    metrics::LoopMetrics,
    outcome::{Concern, Failure, Outcomes, STATUS, Turn},
    reconcile::{PACE, Reconciler},
    report::StatusWriter,
};
use parking_lot::Mutex;

use crate::{
    announce::Announcer,
    apply::{ADOPTION, CLAIMS, CREATION, DELETION, FINALIZER, GATES, HOOKS, READS, WritePermit, Writer},
    memory::Memory,
    observe::{Assessment, ObserveError, Observed},
    plan::{Claim, Plan},
    rollout::{Look, State},
    status,
    stores::Stores,
};

/// How often a group's status follows its counters while its conditions stand.
pub const STATUS_PACE: Duration = Duration::from_millis(500);
/// When a reconcile that waits for the store looks again, should no event come first.
const RECHECK: Duration = Duration::from_secs(1);
/// When the server is asked again for the pods of a group whose change is overdue, after it could not be told whether the
/// stores show them as they are; each further time in a row twice as late.
pub const ASK_AGAIN: Growth = Growth { first: Duration::from_secs(1), cap: Duration::from_secs(60) };
/// For how long a group rests after a reconcile, a pod. A reconcile looks at all of the group's pods, and thousands of them
/// that become ready one by one are worth fewer looks than ten.
const PACE_A_POD: Duration = Duration::from_micros(100);
/// No group rests for longer.
const SLOWEST_PACE: Duration = Duration::from_secs(1);

/// What a plan may have to do with pods and what belongs to them.
const PODS: [Concern; 8] = [READS, CREATION, DELETION, ADOPTION, GATES, HOOKS, CLAIMS, FINALIZER];

/// The ReplicaGroup controller's reconcile, with all that it reads and writes.
pub struct Replication {
    /// What reconciles read.
    pub stores: Stores,
    /// The groups.
    pub groups: Store<ReplicaGroup>,
    /// What reconciles write with.
    pub writer: Writer,
    /// Writes the status.
    pub status_writer: Arc<StatusWriter<ReplicaGroupStatus>>,
    /// Tells people and Prometheus.
    pub announcer: Announcer,
    /// The loop's series.
    pub metrics: LoopMetrics,
    /// What is remembered of each group; a restart may lose it.
    pub memory: Mutex<HashMap<ObjectKey, Memory>>,
    /// The groups of which the server was asked in vain whether the stores show their pods as they are.
    pub unsure: Backoff<ObjectKey>,
    /// The time of this process, by which it judges changes.
    pub clock: Clock,
}

impl Reconciler for Replication {
    type Object = ReplicaGroup;

    async fn reconcile(self: Arc<Self>, group: Arc<ReplicaGroup>, turn: Turn) -> Outcomes {
        let mut outcomes = Outcomes::default();
        self.pass(&group, &turn, &mut outcomes).await;
        // What had failed is not tried again while it is held.
        if outcomes.failed() || turn.holds_nothing() {
            self.memory(&ObjectKey::of(&*group), |memory| memory.doubt(outcomes.is_ambiguous()));
        }
        outcomes
    }

    fn pace(&self, group: &ReplicaGroup) -> Duration {
        let pods = u32::try_from(group.spec.replicas).unwrap_or_default();
        PACE_A_POD.saturating_mul(pods).clamp(PACE, SLOWEST_PACE)
    }

    fn forget(&self, key: &ObjectKey) {
        self.writer.forget(key);
        self.status_writer.forget(key);
        self.memory.lock().remove(key);
        self.unsure.forget(key);
    }
}

impl Replication {
    async fn pass(&self, group: &ReplicaGroup, turn: &Turn, outcomes: &mut Outcomes) {
        let showed = self.writer.gates_are_open(&ObjectKey::of(group));
        let mut observed = match self.observe(group, turn, outcomes) {
            Ok(observed) => observed,
            Err(error) => {
                let current = self.status_writer.current(group);
                return self.put(group, status::unusable(&current, &Failure::from(&error), Timestamp::now()));
            }
        };
        let stored = self.keep_revision(group, &observed, turn, outcomes).await;
        observed.revisions.stored = stored;
        let now = Timestamp::now();
        let mut assessed = self.assess(group, &observed, now, false);
        if assessed.decision.overdue && self.is_shown(group, &observed).await {
            // What the server has just been asked about is looked at as it is shown now.
            if let Ok(again) = self.observe(group, turn, outcomes) {
                observed = again;
                observed.revisions.stored = stored;
                assessed = self.assess(group, &observed, now, true);
            }
        }
        let (due, blocked) = self.memory(&observed.key, |memory| memory.without_blocked(&mut assessed.plan));
        outcomes.again(due);
        for victim in blocked {
            outcomes.waits((DELETION, Some(Arc::clone(&observed.pod(victim.pod).header.key.name))));
        }
        self.prune_revisions(&assessed, turn, outcomes).await;
        if assessed.plan.is_empty() && observed.upkeep.is_empty() {
            self.memory(&observed.key, |memory| memory.wait_for_watch(false));
            // Nothing is left to be done that could fail.
            PODS.iter().for_each(|concern| outcomes.well(*concern));
            return self.report_on(group, &observed, &assessed, turn, outcomes).await;
        }
        if turn.held(READS).is_some() {
            return self.report_on(group, &observed, &assessed, turn, outcomes).await;
        }
        self.write(group, &observed, showed, &assessed, turn, outcomes).await;
        self.observe_and_report(group, stored, turn, outcomes).await;
    }

    /// The group and its pods, without the orphans whose adoption is refused: these do not belong to it.
    fn observe(
        &self,
        group: &ReplicaGroup,
        turn: &Turn,
        outcomes: &mut Outcomes,
    ) -> Result<Observed, ObserveError> {
        let mut observed = Observed::gather(group, &self.stores)?;
        observed.revisions.resolve(group, &self.state(group));
        observed.leave(|pod| {
            if outcomes.refused(ADOPTION, pod) {
                return Some(Claim::Foreign);
            }
            if !turn.refused(ADOPTION, pod) {
                return None;
            }
            if turn.held_for(ADOPTION, pod).is_none() {
                return Some(Claim::OrphanRefused);
            }
            outcomes.waits((ADOPTION, Some(Arc::clone(pod))));
            Some(Claim::Foreign)
        });
        let now = Timestamp::now();
        observed.policy.lost = self.memory(&observed.key, |memory| memory.losses.look(&observed, now));
        Ok(observed)
    }

    /// What the group needs now. Unless it is `sure` that the pods are as the stores show them, its change is not given up.
    fn assess(&self, group: &ReplicaGroup, observed: &Observed, now: Timestamp, sure: bool) -> Assessment {
        let look = self.look(now, sure);
        let evidence = self.memory(&observed.key, |memory| memory.evidence.clone());
        let assessed = observed.assess(group, &self.state(group), evidence, &look);
        if !assessed.decision.overdue {
            self.unsure.forget(&observed.key);
        }
        let evidence = assessed.decision.evidence.clone();
        self.memory(&observed.key, |memory| memory.evidence = evidence);
        assessed
    }

    fn look(&self, wall: Timestamp, sure: bool) -> Look {
        Look { moment: self.clock.now(), wall, watched: self.stores.pods.watched(), sure }
    }

    /// Whether the server has just said that the pods are as the stores show them. While it does not, it is asked less and
    /// less often: to list the pods of a group is much to ask of it.
    async fn is_shown(&self, group: &ReplicaGroup, observed: &Observed) -> bool {
        if self.unsure.held(&observed.key).is_some() {
            return false;
        }
        let retry_after = match self.writer.shows_pods(group, observed).await {
            Ok(true) => return true,
            Ok(false) => None,
            Err(error) => {
                tracing::warn!(%error, "could not read the pods");
                error.request().retry_after()
            }
        };
        self.unsure.fail(&observed.key, retry_after);
        false
    }

    /// What is remembered of the group's revisions: the store may not show yet what was written last.
    fn state(&self, group: &ReplicaGroup) -> State {
        self.last_status(group).map(|status| State::read(group, &status)).unwrap_or_default()
    }

    /// Carries the plan out, unless the stores had yet to show what the process itself has written.
    async fn write(
        &self,
        group: &ReplicaGroup,
        observed: &Observed,
        showed: bool,
        assessed: &Assessment,
        turn: &Turn,
        outcomes: &mut Outcomes,
    ) {
        match outcomes.note(READS, self.writer.may_write(group, observed, showed).await) {
            Some(WritePermit::Granted) => {}
            Some(WritePermit::GateClosed) => {
                self.memory(&observed.key, |memory| memory.wait_for_watch(true));
                self.metrics.stale_skips.inc();
                let is_open = self.writer.gates_are_open(&observed.key);
                return outcomes.again(Some(if is_open { PACE } else { RECHECK }));
            }
            Some(WritePermit::Behind) => return outcomes.again(self.catch_up(observed, true)),
            None => return,
        }
        // Decided first, done after: a successor must not decide otherwise than pods were changed for.
        let decided = match self.keep_decision(group, assessed, turn).await {
            Ok(Some(true)) => true,
            Ok(Some(false)) => return outcomes.again(self.catch_up(observed, true)),
            Ok(None) => false,
            Err(error) => {
                outcomes.end(STATUS, Err(error));
                false
            }
        };
        let repairs = (!decided).then(|| self.repairs(group, observed));
        let plan = repairs.as_ref().unwrap_or(&assessed.plan);
        let mut applied = self.writer.apply(group, observed, plan, turn).await;
        if !decided {
            // Nothing was tried of these.
            applied.ended.retain(|(concern, _)| ![DELETION, HOOKS].contains(concern));
        }
        let ready = plan.counts.ready;
        outcomes.again(self.memory(&observed.key, |memory| memory.note(&mut applied, ready)));
        self.announcer.applied(group, &applied);
        outcomes.again(self.catch_up(observed, applied.stale));
        outcomes.again(applied.waiting.then_some(RECHECK));
        outcomes.again(applied.unfinished.then_some(PACE));
        for (concern, failed) in applied.ended {
            outcomes.well(concern);
            failed.iter().for_each(|error| outcomes.fail(error.part(), error));
        }
        applied.held.into_iter().for_each(|part| outcomes.waits(part));
    }

    /// When to look again after the stores were found behind the server, or not.
    fn catch_up(&self, observed: &Observed, stale: bool) -> Option<Duration> {
        self.memory(&observed.key, |memory| memory.catch_up(stale))
    }

    /// Writes what was decided of the group's revisions into its status; what else it says waits until the pods have
    /// been changed. Returns `false` when the group turned out to be another than the store shows, and `None` if the status is
    /// not to be written yet, as it could not be last.
    async fn keep_decision(
        &self,
        group: &ReplicaGroup,
        assessed: &Assessment,
        turn: &Turn,
    ) -> Result<Option<bool>, RequestError> {
        let state = &assessed.decision.state;
        if state.decides_as(&self.state(group)) {
            return Ok(Some(true));
        }
        if turn.held(STATUS).is_some() {
            return Ok(None);
        }
        let mut status = self.last_status(group).unwrap_or_default();
        state.write(group, &mut status);
        self.record(group, status).await?;
        let kept = state.decides_as(&self.state(group));
        if kept {
            self.announcer.news(group, &assessed.decision);
        }
        Ok(Some(kept))
    }

    /// What the pods need that does not wait for a decision which cannot be written down.
    fn repairs(&self, group: &ReplicaGroup, observed: &Observed) -> Plan {
        let evidence = self.memory(&observed.key, |memory| memory.evidence.clone());
        observed.repairs(group, &self.state(group), evidence, &self.look(Timestamp::now(), false))
    }

    /// Reports the group as the stores show it now.
    async fn observe_and_report(
        &self,
        group: &ReplicaGroup,
        stored: bool,
        turn: &Turn,
        outcomes: &mut Outcomes,
    ) {
        let is_meant = |current: &Arc<ReplicaGroup>| {
            current.uid() == group.uid() && current.metadata.generation == group.metadata.generation
        };
        // A group that is gone has no status to write, and what failed says nothing of another spec, which is due anyway.
        let Some(group) = self.groups.get(&ObjectRef::from_obj(group)).filter(is_meant) else { return };
        let Ok(mut observed) = self.observe(&group, turn, outcomes) else { return };
        observed.revisions.stored = stored;
        let assessed = self.assess(&group, &observed, Timestamp::now(), false);
        self.report_on(&group, &observed, &assessed, turn, outcomes).await;
    }

    /// Reports what was observed. What was decided of the group's change is written before anybody is told of it; everything
    /// else follows beside.
    async fn report_on(
        &self,
        group: &ReplicaGroup,
        observed: &Observed,
        assessed: &Assessment,
        turn: &Turn,
        outcomes: &mut Outcomes,
    ) {
        let (blocked, behind) = self.memory(&observed.key, |memory| (memory.blocked(), memory.is_behind()));
        let seen = status::Seen {
            group: &self.status_writer.current(group),
            observed,
            assessed,
            failures: &outcomes.failures(turn),
            blocked: blocked.as_deref(),
            behind,
        };
        let status = status::observed(&seen, Timestamp::now());
        if assessed.decision.state.decides_as(&self.state(group)) {
            outcomes.well(STATUS);
            self.put(group, status);
        } else if turn.held(STATUS).is_none() && !outcomes.has_failed(STATUS) {
            outcomes.end(STATUS, self.record(group, status).await);
            if assessed.decision.state.decides_as(&self.state(group)) {
                self.announcer.news(group, &assessed.decision);
            }
        }
        let unsure = assessed.decision.overdue.then(|| self.unsure.held(&observed.key).unwrap_or(RECHECK));
        [assessed.plan.recheck_in, assessed.decision.due, status::due(assessed), unsure]
            .into_iter()
            .for_each(|due| outcomes.again(due));
    }

    fn put(&self, group: &ReplicaGroup, status: ReplicaGroupStatus) {
        let is_urgent = |old: &_, new: &_| status::is_urgent(group, old, new);
        self.status_writer.put(group, group.status.as_ref(), status, is_urgent);
    }

    /// Writes the status if it differs from the one that stands; the return value says when the rest is due.
    async fn record(
        &self,
        group: &ReplicaGroup,
        status: ReplicaGroupStatus,
    ) -> Result<Option<Duration>, RequestError> {
        let is_urgent = |old: &_, new: &_| status::is_urgent(group, old, new);
        self.status_writer.record(group, group.status.as_ref(), status, is_urgent).await
    }

    /// The group's status as this process wrote it last, or else as the store shows it.
    fn last_status(&self, group: &ReplicaGroup) -> Option<ReplicaGroupStatus> {
        self.status_writer.last(group).or_else(|| group.status.clone())
    }

    fn memory<T>(&self, key: &ObjectKey, of: impl FnOnce(&mut Memory) -> T) -> T {
        of(self.memory.lock().entry(key.clone()).or_default())
    }
}

mod revisions;
#[cfg(test)]
mod tests;
