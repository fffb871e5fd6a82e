//! Carries out a plan; the only writer of pods.
//!
//! Order: claims first, since they decide whose pods the rest is about, then deletions and creations. Every write
//! is noted in the write gate, every delete names the pod's UID, and nothing irreversible is done before a live
//! read has confirmed the group that it is done for.

mod adopt;
mod applied;
mod body;
mod claims;
mod create;
mod error;
mod hook;
mod in_place;
mod job;
mod live;
mod remove;
mod revisions;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use k8s_openapi::{api::core::v1, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{
    Api, Client,
    api::Patch,
    runtime::reflector::{ObjectRef, Store},
};
use mainstay_crds::ReplicaGroup;
use mainstay_runtime::{
    failure::RequestError,
    gate::Gate,
    index::ObjectKey,
    outcome::{Concern, Turn},
    request::ObjectPath,
    writes::Writes,
};
use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use self::applied::Applied;
pub use self::error::{
    ADOPTION, ApplyError, CLAIMS, CREATION, DELETION, FINALIZER, GATES, HOOKS, NUMBERING, PRUNING, READS,
    REVISIONS,
};
use self::job::Job;
use crate::{claim, names::FIELD_MANAGER, observe::Observed, plan::Plan, pod::Pod, stores::Stores};

/// A reconcile begins new writes for this long, and as long again to create and delete pods. Then it ends and is queued again,
/// so that no group delays the others.
const WRITES: Duration = Duration::from_secs(1);
/// How long a reconcile goes on beginning to exchange pods. Then it is planned anew: pods that have become available
/// meanwhile let others go, and what waits for them should not wait for the rest of a long plan.
const EXCHANGE: Duration = Duration::from_millis(500);

/// How the server refuses a second controller (k8s.io/apimachinery, pkg/api/validation/objectmeta.go).
const SECOND_CONTROLLER: &str = "Only one reference can have Controller set to true";

/// Whether a reconcile may write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WritePermit {
    /// It may.
    Granted,
    /// The stores had yet to show what the process itself has written.
    GateClosed,
    /// The stores lag behind the server.
    Behind,
}

/// What this process has made of a group's revisions.
#[derive(Default)]
struct Made {
    hashes: HashSet<Arc<str>>,
    /// The highest number that it has given.
    newest: i64,
}

/// Writes pods for groups.
pub struct Writer {
    client: Client,
    writes: Writes<'static>,
    stores: Stores,
    groups: Store<ReplicaGroup>,
    gate: Arc<Gate<ObjectKey>>,
    /// As `gate`, of volume claims.
    claim_gate: Gate<ObjectKey>,
    max_in_flight: usize,
    shutdown: CancellationToken,
    /// The groups whose pods this process has compared with the server's once.
    compared: Mutex<HashSet<ObjectKey>>,
    /// The revisions that this process has made, which the store may not show yet.
    revisions: Mutex<HashMap<ObjectKey, Made>>,
}

impl Writer {
    /// A writer with at most `max_in_flight` writes of a group under way.
    pub fn new(
        client: Client,
        stores: Stores,
        groups: Store<ReplicaGroup>,
        max_in_flight: u16,
        shutdown: CancellationToken,
    ) -> Self {
        Self {
            writes: Writes::new(client.clone(), FIELD_MANAGER),
            client,
            stores,
            groups,
            gate: Arc::default(),
            claim_gate: Gate::default(),
            max_in_flight: max_in_flight.into(),
            shutdown,
            compared: Mutex::default(),
            revisions: Mutex::default(),
        }
    }

    /// Whether what was observed may be acted on: whether the stores `showed` this group's own last writes before they were
    /// read, and, before the process's first write to it, those of others. Creates whose answer was lost are looked up.
    ///
    /// # Errors
    /// The lookup's.
    pub async fn may_write(
        &self,
        group: &ReplicaGroup,
        observed: &Observed,
        showed: bool,
    ) -> Result<WritePermit, ApplyError> {
        let turn = Turn::default();
        let job = self.job(group, observed, &turn);
        if !showed {
            self.settle(&job).await.map_err(ApplyError::Read)?;
            return Ok(WritePermit::GateClosed);
        }
        let caught_up = self.is_caught_up(&job).await.map_err(ApplyError::Read)?;
        Ok(if caught_up { WritePermit::Granted } else { WritePermit::Behind })
    }

    /// Carries out as much of the plan as succeeds in this turn.
    pub async fn apply(
        &self,
        group: &ReplicaGroup,
        observed: &Observed,
        plan: &Plan,
        turn: &Turn,
    ) -> Applied {
        let mut job = self.job(group, observed, turn);
        let mut applied = Applied::default();
        match self.is_as_seen(&job, plan).await {
            Ok(true) => {
                // The reads before do not count: a group of which they take long would never come to its writes.
                job.end = Instant::now() + WRITES;
                self.carry_out(&mut job, plan, &mut applied).await;
                applied.held = job.held.into_inner();
            }
            Ok(false) => applied.stale = true,
            Err(error) => applied.end(READS, Err(ApplyError::Read(error))),
        }
        applied
    }

    /// Whether the stores show all that this process has written for the group. To be asked before they are read: what they
    /// come to show afterwards is not in what was observed, and would be made again.
    pub fn gates_are_open(&self, key: &ObjectKey) -> bool {
        self.gate.is_open(key, &self.stores.pods) && self.claim_gate.is_open(key, &self.stores.claims)
    }

    /// Forgets a group that is gone.
    pub fn forget(&self, key: &ObjectKey) {
        self.gate.forget(key);
        self.claim_gate.forget(key);
        self.compared.lock().remove(key);
        self.revisions.lock().remove(key);
    }

    fn job<'a>(&self, group: &'a ReplicaGroup, observed: &'a Observed, turn: &'a Turn) -> Job<'a> {
        let pods = Api::namespaced(self.client.clone(), &observed.key.namespace);
        Job {
            group,
            observed,
            pods,
            turn,
            end: Instant::now() + WRITES,
            strangers: false,
            held: Mutex::default(),
        }
    }

    /// Whether the group and its pods are as the plan's observation has them, as far as what cannot be undone asks for it.
    async fn is_as_seen(&self, job: &Job<'_>, plan: &Plan) -> Result<bool, RequestError> {
        let irreversible = !plan.delete.is_empty()
            || !plan.adopt.is_empty()
            || !plan.adopt_again.is_empty()
            || plan.discard > 0
            || job.observed.upkeep.finalizer == Some(false);
        if irreversible && !self.group_is_current(job, false).await? {
            return Ok(false);
        }
        // With its pods a group on its way out takes none along that has been orphaned meanwhile.
        let ends = job.observed.policy.ending.is_some() && !plan.delete.is_empty();
        Ok(!ends || self.pods_have_stayed(job).await?)
    }

    async fn carry_out(&self, job: &mut Job<'_>, plan: &Plan, applied: &mut Applied) {
        // No pod has a hook while its group has no finalizer: the group must stay until it has told the hook's owner.
        let safe = self.bring_finalizer(job, true, applied).await;
        if !safe {
            job.strangers = !plan.adopt.is_empty();
        } else if !self.claim(job, plan, applied).await {
            applied.stale = true;
            return;
        }
        self.bring_finalizer(job, false, applied).await;
        if job.turn.held(GATES).is_none() {
            applied.ended.push((GATES, self.open_gates(job, plan).await));
        }
        if job.turn.held(HOOKS).is_none() {
            let followed = self.follow_hooks(job, plan, applied).await;
            applied.ended.push((HOOKS, followed));
        }
        let is_late = Instant::now() >= job.end;
        job.end = Instant::now() + if plan.target.is_some() { EXCHANGE } else { WRITES };
        let job = &*job;
        let may_claim = job.turn.held(CLAIMS).is_none();
        let claims_wait = !may_claim && claim::are_wanted(job.group);
        let may_create = safe && job.turn.held(CREATION).is_none() && !claims_wait;
        let reuse = job.observed.policy.volumes.is_some_and(|volumes| volumes.reuse);
        let slots = job.observed.slots.choose(if reuse { plan.creations() } else { 0 });
        let create = async { if may_create { Some(self.create_all(job, plan, &slots).await) } else { None } };
        // Side by side, and neither needs the other to succeed: where a quota refuses new pods, old ones must go.
        let (deleted, created) = tokio::join!(self.delete_all(job, plan, applied), create);
        let may_discard = deleted && created.as_ref().is_none_or(|made| made.failure.is_none());
        applied.unfinished = is_late || Instant::now() >= job.end;
        let mut claims = Ok(());
        let all_tried = may_claim && (created.is_some() || plan.creations() == 0);
        if let Some(made) = created {
            (applied.created, applied.claims_created) = (made.pods, made.claims);
            applied.refused = Some(made.refused);
            match made.failure {
                Some(error) if error.concern() == CLAIMS => claims = Err(error),
                failure => applied.end(CREATION, failure.map_or(Ok(()), Err)),
            }
        }
        if may_claim {
            if may_discard {
                claims = claims.and(self.discard_claims(job, plan.discard, &slots, applied).await);
            }
            // A copy of a claim is let go whatever becomes of the pods: it would be deleted with the group.
            claims = claims.and(self.repair_claims(job).await);
        }
        if all_tried || claims.is_err() {
            applied.end(CLAIMS, claims);
        }
    }

    /// Sets the group's finalizer, or takes it off, where that is `wanted` and due. Returns whether it is as wanted.
    async fn bring_finalizer(&self, job: &Job<'_>, wanted: bool, applied: &mut Applied) -> bool {
        if job.observed.upkeep.finalizer != Some(wanted) {
            if job.observed.upkeep.finalizer.is_none() {
                applied.end(FINALIZER, Ok(()));
            }
            return true;
        }
        if job.turn.held(FINALIZER).is_some() {
            return false;
        }
        let set = self.set_finalizer(job, wanted).await;
        // The group is gone, or it is another one: nothing is made for it.
        applied.stale |= wanted && matches!(set, Ok(false));
        let is_set = set.as_ref().is_ok_and(|is_set| *is_set || !wanted);
        applied.end(FINALIZER, set.map(drop).map_err(ApplyError::Finalizer));
        is_set
    }

    async fn delete_all(&self, job: &Job<'_>, plan: &Plan, applied: &mut Applied) -> bool {
        // With a pod that could not be adopted the plan counts one that may not be there for the group.
        if job.turn.held(DELETION).is_some() || job.strangers {
            return plan.delete.is_empty();
        }
        let failed = self.delete(job, plan, applied).await;
        let all = failed.is_empty();
        applied.ended.push((DELETION, failed));
        all
    }

    /// Patches a pod's metadata. The UID in the patch makes the server refuse another pod of the same name; and it
    /// refuses a second controller (both 409 or 422), which means that there is nothing to do here.
    async fn patch(&self, job: &Job<'_>, pod: &Pod, patch: serde_json::Value) -> Result<bool, RequestError> {
        match self.pods(job).patch(&path(&pod.header.key), &Patch::Strategic(patch)).await {
            Ok(_) => Ok(true),
            Err(RequestError::NotFound(_) | RequestError::Conflict(_)) => Ok(false),
            Err(RequestError::Invalid(text)) if text.contains(SECOND_CONTROLLER) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether the reconcile may begin this; if not, takes up that it waits.
    fn begins(&self, job: &Job<'_>, concern: Concern, pod: &Pod) -> bool {
        let may_begin = self.may_begin(job);
        if !may_begin {
            job.waits(concern, pod);
        }
        may_begin
    }

    /// Whether the reconcile may begin new writes.
    fn may_begin(&self, job: &Job<'_>) -> bool {
        Instant::now() < job.end && self.may_go_on(job)
    }

    /// Whether the group is still as the reconcile saw it and the process goes on.
    fn may_go_on(&self, job: &Job<'_>) -> bool {
        let current = self.groups.get(&ObjectRef::from_obj(job.group));
        let unchanged = current.is_some_and(|current| {
            let (new, old) = (&current.metadata, &job.group.metadata);
            new.uid == old.uid && new.generation == old.generation && is_going(new) == is_going(old)
        });
        unchanged && !self.shutdown.is_cancelled()
    }

    /// Writes pods of the group.
    fn pods<'a>(&'a self, job: &'a Job<'_>) -> Writes<'a> {
        self.writes.noted(&self.gate, &job.observed.key)
    }

    /// Writes volume claims of the group.
    fn claims<'a>(&'a self, job: &'a Job<'_>) -> Writes<'a> {
        self.writes.noted(&self.claim_gate, &job.observed.key)
    }
}

/// Where a pod is.
fn path(pod: &ObjectKey) -> ObjectPath {
    ObjectPath::of::<v1::Pod>(pod)
}

/// Why an object was not created. Of all that a create names only the namespace can be missing.
fn not_created(error: RequestError) -> RequestError {
    match error {
        RequestError::NotFound(text) => RequestError::NamespaceTerminating(text),
        error => error,
    }
}

/// Whether the deletion of an object has begun.
fn is_going(metadata: &ObjectMeta) -> bool {
    metadata.deletion_timestamp.is_some()
}
