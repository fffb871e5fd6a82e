//! One pass over one group: observe, plan, apply, report.

use std::{collections::HashMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{Patch, PatchParams},
    runtime::reflector::{ObjectRef, Store},
};
use mainstay_crds::{ReplicaGroup, ReplicaGroupStatus};
use mainstay_runtime::{
    backoff::Growth,
    events::{Events, Kind},
    failure::RequestError,
    index::ObjectKey,
    metrics::LoopMetrics,
    reconcile::{PACE, PassError, Reconciler},
};
use parking_lot::Mutex;
use serde_json::json;
use thiserror::Error;
use tokio::time::Instant;

use crate::{
    apply::{Applied, ApplyError, FIELD_MANAGER, Writer, in_time},
    observe::{Observed, Stores},
    plan::{Plan, Why},
    status::{self, Failure},
};

/// How often a group's status follows its counters while its conditions stand.
const STATUS_PACE: Duration = Duration::from_millis(500);
/// How often the status is brought up to date while a pass writes many pods.
const PROGRESS: Duration = Duration::from_secs(1);
/// When a pass that waits for the store looks again, should no event come first.
const RECHECK: Duration = Duration::from_secs(1);
/// When a pass that found the stores behind the server looks again; each further time in a row twice as late.
const CATCH_UP: Growth = Growth { first: Duration::from_millis(200), cap: Duration::from_secs(5) };
/// For how long a group rests after a pass, a pod. A pass looks at all of the group's pods, and thousands of them
/// that become ready one by one are worth fewer looks than ten.
const PACE_A_POD: Duration = Duration::from_micros(100);
/// No group rests for longer.
const SLOWEST_PACE: Duration = Duration::from_secs(1);

/// Why a pass failed.
#[derive(Debug, Error)]
pub enum PassFailure {
    /// A write of pods failed.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// The status could not be written.
    #[error("could not write the status: {0}")]
    Status(#[source] RequestError),
}

impl PassFailure {
    fn request(&self) -> &RequestError {
        match self {
            Self::Apply(error) => error.request(),
            Self::Status(error) => error,
        }
    }
}

impl PassError for PassFailure {
    fn reason(&self) -> &'static str {
        self.request().reason()
    }
    fn retry_after(&self) -> Option<Duration> {
        self.request().retry_after()
    }
    fn is_terminal(&self) -> bool {
        self.request().needs_change()
    }
}

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
    /// Where events go.
    pub events: Events,
    /// The loop's series.
    pub metrics: LoopMetrics,
    /// What is remembered of each group; a restart may lose it.
    pub memory: Mutex<HashMap<ObjectKey, Memory>>,
}

/// What is remembered of a group between passes.
#[derive(Debug, Default)]
pub struct Memory {
    /// The last failure, and the generation of the spec that it befell.
    failure: Option<(Option<i64>, Failure)>,
    /// The status last written, which the store may not show yet, and when.
    written: Option<(ReplicaGroupStatus, Instant)>,
    /// How often in a row the stores were found behind the server.
    stale: u32,
}

impl Reconciler for Replication {
    type Object = ReplicaGroup;
    type Error = PassFailure;

    async fn reconcile(
        self: Arc<Self>,
        group: Arc<ReplicaGroup>,
        held: Option<Duration>,
    ) -> Result<Option<Duration>, PassFailure> {
        let observed = match Observed::gather(&group, &self.stores) {
            Ok(observed) => observed,
            Err(error) => {
                let status = status::unusable(&group, &Failure::from(&error), Timestamp::now());
                return self.report(&group, status).await;
            }
        };
        let now = Timestamp::now();
        let plan = observed.plan(now);
        if plan.is_empty() {
            self.remember(&observed.key, None);
            return self.report_on(&group, &observed, &plan, now).await;
        }
        if held.is_some() {
            let reported = self.report_on(&group, &observed, &plan, now).await?;
            return Ok([held, reported].into_iter().flatten().min());
        }
        let written = self.write(&group, &observed, &plan).await;
        let reported = self.observe_and_report(&group).await;
        Ok([written?, reported?].into_iter().flatten().min())
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
        self.memory.lock().remove(key);
    }

    /// Carries the plan out, with the status following on the way. Returns when to look again.
    async fn write(
        &self,
        group: &ReplicaGroup,
        observed: &Observed,
        plan: &Plan,
    ) -> Result<Option<Duration>, PassFailure> {
        let outcome = match self.writer.may_write(group, observed).await {
            Ok(true) => {
                let applied = tokio::select! {
                    applied = self.writer.apply(group, observed, plan) => applied,
                    () = self.report_progress(group) => unreachable!("reporting goes on until the writes end"),
                };
                self.announce(group, &applied);
                let due = self.catch_up(&observed.key, applied.stale);
                applied.error.map_or(Ok(due), Err)
            }
            Ok(false) => {
                self.metrics.stale_skips.inc();
                return Ok(Some(RECHECK));
            }
            Err(error) => Err(error),
        };
        match outcome {
            Ok(due) => {
                if due.is_none() {
                    self.remember(&observed.key, None);
                }
                Ok(due)
            }
            // Nothing can be made in a namespace that goes, and the group goes with it.
            Err(error) if matches!(error.request(), RequestError::NamespaceTerminating(_)) => Ok(None),
            Err(error) => {
                self.remember(&observed.key, Some((group.metadata.generation, Failure::from(&error))));
                Err(error.into())
            }
        }
    }

    /// When to look again after a pass that did or did not find the stores behind the server.
    fn catch_up(&self, key: &ObjectKey, stale: bool) -> Option<Duration> {
        let mut memory = self.memory.lock();
        let count = &mut memory.entry(key.clone()).or_default().stale;
        *count = if stale { count.saturating_add(1) } else { 0 };
        stale.then(|| CATCH_UP.delay(*count))
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
        let Ok(observed) = Observed::gather(&group, &self.stores) else { return Ok(None) };
        let now = Timestamp::now();
        self.report_on(&group, &observed, &observed.plan(now), now).await
    }

    /// Reports what was observed. Returns when time alone changes the report or the plan.
    async fn report_on(
        &self,
        group: &ReplicaGroup,
        observed: &Observed,
        plan: &Plan,
        now: Timestamp,
    ) -> Result<Option<Duration>, PassFailure> {
        let failure = self.memory.lock().get(&observed.key).and_then(|memory| memory.failure.clone());
        let failure = failure.filter(|(generation, _)| *generation == group.metadata.generation);
        let failure = failure.map(|(_, failure)| failure);
        let status = status::observed(group, observed, plan, failure.as_ref(), now);
        let due = self.report(group, status).await?;
        Ok([due, plan.recheck_in].into_iter().flatten().min())
    }

    /// Writes the status if it differs from the one that stands. While only counters move it follows at
    /// [`STATUS_PACE`]; the return value says when the rest is due.
    async fn report(
        &self,
        group: &ReplicaGroup,
        status: ReplicaGroupStatus,
    ) -> Result<Option<Duration>, PassFailure> {
        let key = ObjectKey::of(group);
        let standing = group.status.as_ref();
        if standing == Some(&status) {
            return Ok(None);
        }
        if let Some((last, at)) = &self.memory.lock().entry(key.clone()).or_default().written {
            let wait = STATUS_PACE.checked_sub(at.elapsed()).filter(|wait| !wait.is_zero());
            if *last == status && wait.is_some() {
                // The store has yet to show what was written.
                return Ok(wait);
            }
            if !status::is_urgent(last, &status) && wait.is_some() {
                return Ok(wait);
            }
        }
        self.write_status(group, &status).await.map_err(PassFailure::Status)?;
        self.memory.lock().entry(key).or_default().written = Some((status, Instant::now()));
        Ok(None)
    }

    async fn write_status(
        &self,
        group: &ReplicaGroup,
        status: &ReplicaGroupStatus,
    ) -> Result<(), RequestError> {
        let groups: Api<ReplicaGroup> =
            Api::namespaced(self.client.clone(), &group.namespace().unwrap_or_default());
        // The UID keeps the status from being written to a later group of the same name.
        let patch = json!({
            "apiVersion": ReplicaGroup::api_version(&()),
            "kind": ReplicaGroup::kind(&()),
            "metadata": {"name": group.name_any(), "uid": group.metadata.uid},
            "status": status,
        });
        let params = PatchParams::apply(FIELD_MANAGER).force();
        let (name, patch) = (group.name_any(), Patch::Apply(patch));
        match in_time(groups.patch_status(&name, &params, &patch)).await {
            Ok(_) | Err(RequestError::NotFound(_) | RequestError::Conflict(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn remember(&self, key: &ObjectKey, failure: Option<(Option<i64>, Failure)>) {
        self.memory.lock().entry(key.clone()).or_default().failure = failure;
    }

    /// One event a kind of write, however many pods it was about.
    fn announce(&self, group: &ReplicaGroup, applied: &Applied) {
        let Applied { adopted, released, created, deleted, stale, error: _ } = applied;
        tracing::info!(adopted, released, created, deleted = deleted.len(), stale, "carried out a plan");
        let regarding = || group.object_ref(&());
        let say = |kind, reason, action: &str, note: String| {
            self.events.publish(regarding(), kind, reason, action, &note);
        };
        if *adopted > 0 {
            say(Kind::Normal, "PodsAdopted", "Adopt", format!("adopted {}", pods(*adopted)));
        }
        if *released > 0 {
            say(Kind::Normal, "PodsReleased", "Release", format!("released {}", pods(*released)));
        }
        if *created > 0 {
            say(Kind::Normal, "PodsCreated", "Create", format!("created {}", pods(*created)));
        }
        if !deleted.is_empty() {
            say(Kind::Normal, "PodsDeleted", "Delete", deleted_note(deleted));
        }
        match &applied.error {
            Some(error @ ApplyError::Create(request))
                if !matches!(request, RequestError::NamespaceTerminating(_)) =>
            {
                say(Kind::Warning, "FailedCreate", "Create", error.to_string());
            }
            Some(error @ ApplyError::Delete { .. }) => {
                say(Kind::Warning, "FailedDelete", "Delete", error.to_string())
            }
            _ => {}
        }
    }
}

fn deleted_note(deleted: &[(Arc<str>, Why)]) -> String {
    const SHOWN: usize = 10;
    let shown = deleted.iter().take(SHOWN).map(|(pod, why)| format!("{pod} ({why})"));
    let names = shown.collect::<Vec<_>>().join(", ");
    let more = deleted.len().saturating_sub(SHOWN);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("deleted {}: {names}{more}", pods(deleted.len()))
}

fn pods(count: usize) -> String {
    format!("{count} pod{}", if count == 1 { "" } else { "s" })
}
