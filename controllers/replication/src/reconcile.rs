//! One pass over one group: observe, plan, apply, report.

use std::{collections::HashMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use kube::{
    Api, Client, ResourceExt,
    runtime::reflector::{ObjectRef, Store},
};
use mainstay_crds::{ReplicaGroup, ReplicaGroupStatus};
use mainstay_runtime::{
    backoff::{Backoff, Growth},
    clock::Clock,
    failure::RequestError,
    index::ObjectKey,
    metrics::LoopMetrics,
    reconcile::{self, PACE, PassError, Reconciler},
    report::Reports,
};
use parking_lot::Mutex;

use crate::{
    announce::Announcer,
    apply::{ApplyError, Leave, Writer},
    memory::Memory,
    observe::{Assessment, ObserveError, Observed},
    rollout::{Look, State},
    status::{self, Failure},
    stores::Stores,
};

/// How often a group's status follows its counters while its conditions stand.
pub const STATUS_PACE: Duration = Duration::from_millis(500);
/// How often the status is brought up to date while a pass writes many pods.
const PROGRESS: Duration = Duration::from_secs(1);
/// When a pass that waits for the store looks again, should no event come first.
const RECHECK: Duration = Duration::from_secs(1);
/// When the server is asked again for the pods of a group whose change is overdue, after it could not be told whether the
/// stores show them as they are; each further time in a row twice as late.
pub const ASK_AGAIN: Growth = Growth { first: Duration::from_secs(1), cap: Duration::from_secs(60) };
/// For how long a group rests after a pass, a pod. A pass looks at all of the group's pods, and thousands of them
/// that become ready one by one are worth fewer looks than ten.
const PACE_A_POD: Duration = Duration::from_micros(100);
/// No group rests for longer.
const SLOWEST_PACE: Duration = Duration::from_secs(1);

/// Why a pass failed.
pub type PassFailure = reconcile::PassFailure<ApplyError>;

/// The ReplicaGroup controller's pass, with all that it reads and writes.
pub struct Replication {
    /// For the status.
    pub client: Client,
    /// What passes read.
    pub stores: Stores,
    /// The groups.
    pub groups: Store<ReplicaGroup>,
    /// What passes write with.
    pub writer: Writer,
    /// Writes the status.
    pub reports: Reports<ReplicaGroupStatus>,
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
    type Error = PassFailure;

    async fn reconcile(
        self: Arc<Self>,
        group: Arc<ReplicaGroup>,
        held: Option<Duration>,
    ) -> Result<Option<Duration>, PassFailure> {
        let passed = self.pass(&group, held).await;
        let doubted = passed.as_ref().err().map(|error| error.request().is_ambiguous());
        // What had failed is not tried again while it is held.
        let doubted = doubted.or(held.is_none().then_some(false));
        if let (Some(doubted), Some(memory)) = (doubted, self.memory.lock().get_mut(&ObjectKey::of(&*group)))
        {
            memory.doubt(doubted);
        }
        passed
    }

    fn pace(&self, group: &ReplicaGroup) -> Duration {
        let pods = u32::try_from(group.spec.replicas).unwrap_or_default();
        PACE_A_POD.saturating_mul(pods).clamp(PACE, SLOWEST_PACE)
    }
}

impl Replication {
    /// Forgets a group that is gone.
    pub fn forget(&self, key: &ObjectKey) {
        self.writer.forget(key);
        self.reports.forget(key);
        self.memory.lock().remove(key);
        self.unsure.forget(key);
    }

    async fn pass(
        &self,
        group: &ReplicaGroup,
        held: Option<Duration>,
    ) -> Result<Option<Duration>, PassFailure> {
        let mut observed = match self.observe(group) {
            Ok(observed) => observed,
            Err(error) => {
                let status = status::unusable(group, &Failure::from(&error), Timestamp::now());
                return self.report(group, status).await;
            }
        };
        let now = Timestamp::now();
        let mut assessed = self.assess(group, &observed, now, false);
        if assessed.decision.overdue && self.is_shown(group, &observed).await {
            // What the server has just been asked about is looked at as it is shown now.
            if let Ok(again) = self.observe(group) {
                observed = again;
                assessed = self.assess(group, &observed, now, true);
            }
        }
        let paused = self.memory(&observed.key, |memory| memory.without_blocked(&mut assessed.plan));
        if held.is_none() {
            self.keep_revisions(group, &observed, &assessed).await?;
        }
        let idle = assessed.plan.is_empty() && observed.chores.is_empty();
        if idle {
            self.remember(group, None);
        }
        if idle || held.is_some() {
            let reported = self.report_on(group, &observed, &assessed, now).await?;
            return Ok([held, paused, reported].into_iter().flatten().min());
        }
        let written = self.write(group, &observed, &assessed).await;
        let reported = self.observe_and_report(group).await;
        Ok([written?, paused, reported?].into_iter().flatten().min())
    }

    fn observe(&self, group: &ReplicaGroup) -> Result<Observed, ObserveError> {
        Observed::gather(group, &self.stores)
    }

    /// What the group needs now. Unless it is `sure` that the pods are as the stores show them, its change is not given up.
    fn assess(&self, group: &ReplicaGroup, observed: &Observed, now: Timestamp, sure: bool) -> Assessment {
        let look = Look { moment: self.clock.now(), wall: now, watched: self.stores.pods.watched(), sure };
        let evidence = self.memory(&observed.key, |memory| memory.evidence(&observed.uid));
        let assessed = observed.assess(group, &self.state(group), evidence, &look);
        if !assessed.decision.overdue {
            self.unsure.forget(&observed.key);
        }
        let evidence = assessed.decision.evidence.clone();
        self.memory(&observed.key, |memory| memory.keep(&observed.uid, evidence));
        assessed
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

    /// Keeps the template as a revision, and no more of the old ones than the spec asks for.
    async fn keep_revisions(
        &self,
        group: &ReplicaGroup,
        observed: &Observed,
        assessed: &Assessment,
    ) -> Result<(), PassFailure> {
        let kept = match self.writer.keep_revision(group, observed).await {
            Ok(()) => self.writer.prune_revisions(group, observed, &assessed.decision.state).await,
            failed => failed,
        };
        match kept {
            Err(error) if matches!(error.request(), RequestError::NamespaceTerminating(_)) => Ok(()),
            Err(error) => {
                self.remember(group, Some(Failure::from(&error)));
                self.observe_and_report(group).await?;
                Err(error.into())
            }
            Ok(()) => Ok(()),
        }
    }

    /// Carries the plan out, with the status following on the way. Returns when to look again.
    async fn write(
        &self,
        group: &ReplicaGroup,
        observed: &Observed,
        assessed: &Assessment,
    ) -> Result<Option<Duration>, PassFailure> {
        let outcome = match self.writer.may_write(group, observed).await {
            Ok(Leave::Granted) => {
                // Decided first, done after: a successor must not decide otherwise than pods were changed for.
                if !self.keep_decision(group, assessed).await? {
                    return Ok(self.memory(&observed.key, |memory| memory.catch_up(true)));
                }
                let applied = tokio::select! {
                    applied = self.writer.apply(group, observed, &assessed.plan) => applied,
                    () = self.report_progress(group) => unreachable!("reporting goes on until the writes end"),
                };
                self.announcer.applied(group, &applied);
                let (blocked, due) = self.memory(&observed.key, |memory| {
                    (memory.note_blocked(&applied), memory.catch_up(applied.stale))
                });
                let blocked = blocked.or(applied.waiting.then_some(RECHECK));
                let due = due.or(applied.unfinished.then_some(PACE));
                applied.error.map_or(Ok([due, blocked].into_iter().flatten().min()), Err)
            }
            Ok(Leave::GateClosed) => {
                self.metrics.stale_skips.inc();
                return Ok(Some(RECHECK));
            }
            Ok(Leave::Behind) => Ok(self.memory(&observed.key, |memory| memory.catch_up(true))),
            Err(error) => Err(error),
        };
        match outcome {
            Ok(due) => {
                if due.is_none() {
                    self.remember(group, None);
                }
                Ok(due)
            }
            // Nothing can be made in a namespace that goes, and the group goes with it.
            Err(error) if matches!(error.request(), RequestError::NamespaceTerminating(_)) => Ok(None),
            Err(error) => {
                self.remember(group, Some(Failure::from(&error)));
                Err(error.into())
            }
        }
    }

    /// Writes what was decided of the group's revisions into its status; what else it says waits until the pods have
    /// been changed. Returns `false` when the group turned out to be another than the store shows.
    async fn keep_decision(&self, group: &ReplicaGroup, assessed: &Assessment) -> Result<bool, PassFailure> {
        let state = &assessed.decision.state;
        if state.decides_as(&self.state(group)) {
            return Ok(true);
        }
        let mut status = self.last_status(group).unwrap_or_default();
        state.write(group, &mut status);
        self.report(group, status).await?;
        let kept = state.decides_as(&self.state(group));
        if kept {
            self.announcer.news(group, &assessed.decision);
        }
        Ok(kept)
    }

    async fn report_progress(&self, group: &ReplicaGroup) {
        loop {
            tokio::time::sleep(PROGRESS).await;
            if let Err(error) = self.observe_and_report(group).await {
                tracing::warn!(%error, "could not report progress");
            }
        }
    }

    /// Reports the group as the stores show it now. Returns when time alone changes the report or the plan.
    async fn observe_and_report(&self, group: &ReplicaGroup) -> Result<Option<Duration>, PassFailure> {
        let group =
            self.groups.get(&ObjectRef::from_obj(group)).filter(|current| current.uid() == group.uid());
        // A group that is gone has no status to write.
        let Some(group) = group else { return Ok(None) };
        let Ok(observed) = self.observe(&group) else { return Ok(None) };
        let now = Timestamp::now();
        self.report_on(&group, &observed, &self.assess(&group, &observed, now, false), now).await
    }

    /// Reports what was observed. Returns when time alone changes the report or the plan.
    async fn report_on(
        &self,
        group: &ReplicaGroup,
        observed: &Observed,
        assessed: &Assessment,
        now: Timestamp,
    ) -> Result<Option<Duration>, PassFailure> {
        let generation = group.metadata.generation;
        let (failure, blocked) =
            self.memory(&observed.key, |memory| (memory.failure(generation), memory.blocked()));
        let seen = status::Seen {
            group,
            observed,
            assessed,
            failure: failure.as_ref(),
            blocked: blocked.as_deref(),
        };
        let changed = !assessed.decision.state.decides_as(&self.state(group));
        let due = self.report(group, status::observed(&seen, now)).await?;
        if changed && assessed.decision.state.decides_as(&self.state(group)) {
            self.announcer.news(group, &assessed.decision);
        }
        let unsure = assessed.decision.overdue.then(|| self.unsure.held(&observed.key).unwrap_or(RECHECK));
        Ok([due, assessed.plan.recheck_in, assessed.decision.due, unsure].into_iter().flatten().min())
    }

    /// Writes the status if it differs from the one that stands; the return value says when the rest is due.
    async fn report(
        &self,
        group: &ReplicaGroup,
        status: ReplicaGroupStatus,
    ) -> Result<Option<Duration>, PassFailure> {
        let is_urgent = |old: &_, new: &_| status::is_urgent(group, old, new);
        let groups = Api::namespaced(self.client.clone(), &group.namespace().unwrap_or_default());
        let report = self.reports.report(&groups, group, group.status.as_ref(), status, is_urgent);
        report.await.map_err(PassFailure::Status)
    }

    /// The group's status as this process wrote it last, or else as the store shows it.
    fn last_status(&self, group: &ReplicaGroup) -> Option<ReplicaGroupStatus> {
        self.reports.last(&ObjectKey::of(group)).or_else(|| group.status.clone())
    }

    /// Notes how the pass ended.
    fn remember(&self, group: &ReplicaGroup, failure: Option<Failure>) {
        self.memory(&ObjectKey::of(group), |memory| memory.end(group.metadata.generation, failure));
    }

    fn memory<T>(&self, key: &ObjectKey, of: impl FnOnce(&mut Memory) -> T) -> T {
        of(self.memory.lock().entry(key.clone()).or_default())
    }
}
