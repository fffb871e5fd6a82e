//! Carries out a plan; the only writer of pods.
//!
//! Order: claims first, since they decide whose pods the rest is about, then deletions and creations. Every write
//! is noted in the write gate, every delete names the pod's UID, and nothing irreversible is done before a live
//! read has confirmed the group that it is done for.

mod adopt;
mod body;
mod claims;
mod create;
mod error;
mod hook;
mod in_place;
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
    failure::RequestError, gate::Gate, index::ObjectKey, request::ObjectPath, writes::Writes,
};
use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use self::error::ApplyError;
use crate::{
    names::FIELD_MANAGER,
    observe::Observed,
    plan::{Plan, Why},
    pod::Pod,
    stores::Stores,
};

/// For so long a pass goes on beginning to exchange pods. Then it is planned anew: pods that have become available
/// meanwhile let others go, and what waits for them should not wait for the rest of a long plan.
const EXCHANGE: Duration = Duration::from_millis(500);

/// What of a plan was carried out.
#[derive(Debug, Default)]
pub struct Applied {
    /// Pods adopted.
    pub adopted: usize,
    /// Pods released.
    pub released: usize,
    /// Pods created.
    pub created: usize,
    /// Pods deleted, by the rule that chose them.
    pub deleted: Vec<(Arc<str>, Why)>,
    /// Pods whose images were changed in place.
    pub changed: usize,
    /// Pods whose hook's owner was told that they are to go.
    pub told: usize,
    /// Pods that need not go after all, as their hook's owner was told.
    pub recalled: usize,
    /// Pods whose hook has taken too long.
    pub given_up: Vec<Arc<str>>,
    /// Volume claims made.
    pub claims_created: usize,
    /// Volume claims deleted.
    pub claims_deleted: usize,
    /// Whether a pod that is out of service is waited for.
    pub waiting: bool,
    /// How many of the deleted were evicted.
    pub evicted: usize,
    /// What the server said when a PodDisruptionBudget refused an eviction.
    pub blocked: Option<String>,
    /// Whether the time for it was over before all was done.
    pub unfinished: bool,
    /// Whether the stores turned out to lag behind the server, so that nothing more was done.
    pub stale: bool,
    /// The failure that ended it.
    pub error: Option<ApplyError>,
}

/// Whether a pass may write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leave {
    /// It may.
    Granted,
    /// The stores have yet to show what the process itself has written.
    GateClosed,
    /// The stores lag behind the server.
    Behind,
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
    revisions: Mutex<HashMap<ObjectKey, HashSet<Arc<str>>>>,
}

/// One group at one generation, as a pass works on it.
struct Job<'a> {
    group: &'a ReplicaGroup,
    observed: &'a Observed,
    pods: Api<v1::Pod>,
    /// Nothing is begun after this.
    end: Option<Instant>,
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

    /// Whether the stores have seen this group's own last writes, and, before the process's first write to it, those
    /// of others. Creates whose answer was lost are looked up.
    ///
    /// # Errors
    /// The look-up's.
    pub async fn may_write(&self, group: &ReplicaGroup, observed: &Observed) -> Result<Leave, ApplyError> {
        let job = self.job(group, observed);
        if !self.gates_are_open(&observed.key) {
            self.settle(&job).await.map_err(ApplyError::Read)?;
            if !self.gates_are_open(&observed.key) {
                return Ok(Leave::GateClosed);
            }
        }
        let caught_up = self.is_caught_up(&job).await.map_err(ApplyError::Read)?;
        Ok(if caught_up { Leave::Granted } else { Leave::Behind })
    }

    /// Carries out as much of the plan as succeeds.
    pub async fn apply(&self, group: &ReplicaGroup, observed: &Observed, plan: &Plan) -> Applied {
        let mut job = self.job(group, observed);
        job.end = plan.target.as_ref().map(|_| Instant::now() + EXCHANGE);
        let mut applied = Applied::default();
        applied.error = self.carry_out(&job, plan, &mut applied).await.err();
        applied
    }

    fn gates_are_open(&self, key: &ObjectKey) -> bool {
        self.gate.is_open(key, &self.stores.pods) && self.claim_gate.is_open(key, &self.stores.claims)
    }

    /// Forgets a group that is gone.
    pub fn forget(&self, key: &ObjectKey) {
        self.gate.forget(key);
        self.claim_gate.forget(key);
        self.compared.lock().remove(key);
        self.revisions.lock().remove(key);
    }

    fn job<'a>(&self, group: &'a ReplicaGroup, observed: &'a Observed) -> Job<'a> {
        let pods = Api::namespaced(self.client.clone(), &observed.key.namespace);
        Job { group, observed, pods, end: None }
    }

    async fn carry_out(&self, job: &Job<'_>, plan: &Plan, applied: &mut Applied) -> Result<(), ApplyError> {
        let chores = &job.observed.chores;
        let irreversible = !plan.delete.is_empty()
            || !plan.adopt.is_empty()
            || plan.discard > 0
            || chores.finalizer == Some(false);
        if irreversible && !self.group_is_current(job, false).await.map_err(ApplyError::Read)? {
            applied.stale = true;
            return Ok(());
        }
        // With its pods a group on its way out takes none along that has been orphaned meanwhile.
        let ends = job.observed.policy.ending.is_some() && !plan.delete.is_empty();
        if ends && !self.pods_have_stayed(job).await.map_err(ApplyError::Read)? {
            applied.stale = true;
            return Ok(());
        }
        let set_finalizer = async |wanted| match chores.finalizer {
            Some(due) if due == wanted => self.set_finalizer(job, due).await.map_err(ApplyError::Finalizer),
            _ => Ok(()),
        };
        // No pod has a hook while its group has no finalizer: the group must stay until it has told the hook's owner.
        set_finalizer(true).await?;
        if !self.claim(job, plan, applied).await? {
            applied.stale = true;
            return Ok(());
        }
        set_finalizer(false).await?;
        self.open_gates(job, plan).await?;
        self.follow_hooks(job, plan, applied).await?;
        let reuse = job.observed.policy.volumes.is_some_and(|volumes| volumes.reuse);
        let slots = job.observed.slots.choose(if reuse { plan.creations() } else { 0 });
        // Side by side, and neither needs the other to succeed: where a quota refuses new pods, old ones must go.
        let (deleted, created) =
            tokio::join!(self.delete(job, plan, applied), self.create_all(job, plan, &slots));
        applied.created = created.pods;
        applied.claims_created = created.claims;
        applied.unfinished = job.end.is_some_and(|end| Instant::now() >= end);
        let pods = created.failure.map_or(Ok(()), Err).and(deleted);
        let discarded = match &pods {
            Ok(()) => self.discard_claims(job, plan.discard, &slots, applied).await,
            Err(_) => Ok(()),
        };
        // A copy of a claim is let go whatever becomes of the pods: it would be deleted with the group.
        pods.and(discarded).and(self.mend_claims(job).await)
    }

    /// Patches a pod's metadata. The UID in the patch makes the server refuse another pod of the same name; and it
    /// refuses a second controller (both 409 or 422), which means that there is nothing to do here.
    async fn patch(&self, job: &Job<'_>, pod: &Pod, patch: serde_json::Value) -> Result<bool, RequestError> {
        match self.pods(job).patch(&path(&pod.header.key), &Patch::Strategic(patch)).await {
            Ok(_) => Ok(true),
            Err(RequestError::NotFound(_) | RequestError::Conflict(_) | RequestError::Invalid(_)) => {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Whether the pass may begin new writes.
    fn may_begin(&self, job: &Job<'_>) -> bool {
        job.end.is_none_or(|end| Instant::now() < end) && self.may_go_on(job)
    }

    /// Whether the group is still as the pass saw it and the process goes on.
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
