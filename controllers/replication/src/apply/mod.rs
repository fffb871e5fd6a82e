//! Carries out a plan; the only writer of pods.
//!
//! Order: claims first, since they decide whose pods the rest is about, then deletions, which make room, then
//! creations. Every write
//! is noted in the write gate, every delete names the pod's UID, and nothing irreversible is done before a live
//! read has confirmed the group that it is done for.

mod body;
mod create;
mod in_place;
mod live;
mod revisions;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::Duration,
};

use futures::{StreamExt, future, stream};
use http::{Request, header};
use k8s_openapi::api::core::v1;
use kube::{
    Api, Client, ResourceExt,
    api::{Patch, PatchParams},
    runtime::reflector::{ObjectRef, Store},
};
use mainstay_crds::ReplicaGroup;
use mainstay_runtime::{
    failure::RequestError,
    gate::{Gate, Intent},
    index::ObjectKey,
};
use parking_lot::Mutex;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::json;
use thiserror::Error;
use tokio_util::sync::CancellationToken;

use self::in_place::InPlace;
use crate::{
    metrics::Metrics,
    observe::{Observed, Stores},
    plan::{Plan, Why},
    pod::Pod,
    revision,
};

/// The field manager of everything that this controller writes.
pub const FIELD_MANAGER: &str = "mainstay-replication";

/// Asks the server to answer with the metadata alone: nothing else of an answer is read.
const METADATA_ONLY: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";

/// A request that is not answered in this time is given up; its outcome is then not known. Twice the server's
/// own limit for most of its work would hold a pass up for longer than a leader may go unrenewed.
const REQUEST_LIMIT: Duration = Duration::from_secs(10);

/// A write that failed. The variant names the operation.
#[derive(Debug, Error)]
pub enum ApplyError {
    /// A pod could not be created.
    #[error("could not create a pod: {0}")]
    Create(#[source] RequestError),
    /// A pod could not be deleted.
    #[error("could not delete pod {pod}: {source}")]
    Delete {
        /// The pod's name.
        pod: Arc<str>,
        /// What the server said.
        source: RequestError,
    },
    /// A pod could not be taken out of service, or put into it again.
    #[error("could not set the readiness gate of pod {pod}: {source}")]
    Gate {
        /// The pod's name.
        pod: Arc<str>,
        /// What the server said.
        source: RequestError,
    },
    /// An orphan could not be adopted.
    #[error("could not adopt pod {pod}: {source}")]
    Adopt {
        /// The pod's name.
        pod: Arc<str>,
        /// What the server said.
        source: RequestError,
    },
    /// A pod that no longer matches could not be released.
    #[error("could not release pod {pod}: {source}")]
    Release {
        /// The pod's name.
        pod: Arc<str>,
        /// What the server said.
        source: RequestError,
    },
    /// A ControllerRevision could not be made, taken over or removed.
    #[error("could not keep the template as a ControllerRevision: {0}")]
    Revision(#[source] RequestError),
    /// The live read before the writes failed.
    #[error("could not read the group or its pods before writing: {0}")]
    Read(#[source] RequestError),
}

impl ApplyError {
    /// What the server said.
    pub fn request(&self) -> &RequestError {
        match self {
            Self::Create(source) | Self::Read(source) | Self::Revision(source) => source,
            Self::Gate { source, .. }
            | Self::Delete { source, .. }
            | Self::Adopt { source, .. }
            | Self::Release { source, .. } => source,
        }
    }

    /// The operation, as a metric label.
    pub fn operation(&self) -> &'static str {
        match self {
            Self::Create(_) => "create",
            Self::Delete { .. } => "delete",
            Self::Gate { .. } => "gate",
            Self::Adopt { .. } => "adopt",
            Self::Release { .. } => "release",
            Self::Revision(_) => "revision",
            Self::Read(_) => "read",
        }
    }
}

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
    /// Whether a pod that is out of service is waited for.
    pub waiting: bool,
    /// What the server said when a PodDisruptionBudget refused an eviction.
    pub blocked: Option<String>,
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
    stores: Stores,
    groups: Store<ReplicaGroup>,
    gate: Arc<Gate<ObjectKey>>,
    metrics: Metrics,
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
}

impl Writer {
    /// A writer with at most `max_in_flight` writes of a group under way.
    pub fn new(
        client: Client,
        stores: Stores,
        groups: Store<ReplicaGroup>,
        metrics: Metrics,
        max_in_flight: u16,
        shutdown: CancellationToken,
    ) -> Self {
        let (gate, compared, revisions) = (Arc::default(), Mutex::default(), Mutex::default());
        Self {
            client,
            stores,
            groups,
            gate,
            metrics,
            max_in_flight: max_in_flight.into(),
            shutdown,
            compared,
            revisions,
        }
    }

    /// Whether the stores have seen this group's own last writes, and, before the process's first write to it, those
    /// of others. Creates whose answer was lost are looked up.
    ///
    /// # Errors
    /// The look-up's.
    pub async fn may_write(&self, group: &ReplicaGroup, observed: &Observed) -> Result<Leave, ApplyError> {
        let job = self.job(group, observed);
        if !self.gate.is_open(&observed.key, &self.stores.pods) {
            self.settle(&job).await.map_err(ApplyError::Read)?;
            if !self.gate.is_open(&observed.key, &self.stores.pods) {
                return Ok(Leave::GateClosed);
            }
        }
        let caught_up = self.is_caught_up(&job).await.map_err(ApplyError::Read)?;
        Ok(if caught_up { Leave::Granted } else { Leave::Behind })
    }

    /// Carries out as much of the plan as succeeds.
    pub async fn apply(&self, group: &ReplicaGroup, observed: &Observed, plan: &Plan) -> Applied {
        let job = self.job(group, observed);
        let mut applied = Applied::default();
        if let Err(error) = self.carry_out(&job, plan, &mut applied).await {
            self.metrics.failed(&error);
            applied.error = Some(error);
        }
        self.metrics.applied(&applied);
        applied
    }

    /// Forgets a group that is gone.
    pub fn forget(&self, key: &ObjectKey) {
        self.gate.forget(key);
        self.compared.lock().remove(key);
        self.revisions.lock().remove(key);
    }

    fn job<'a>(&self, group: &'a ReplicaGroup, observed: &'a Observed) -> Job<'a> {
        let pods = Api::namespaced(self.client.clone(), &observed.key.namespace);
        Job { group, observed, pods }
    }

    async fn carry_out(&self, job: &Job<'_>, plan: &Plan, applied: &mut Applied) -> Result<(), ApplyError> {
        let irreversible = !plan.delete.is_empty() || !plan.adopt.is_empty();
        if irreversible && !self.group_is_current(job, false).await.map_err(ApplyError::Read)? {
            applied.stale = true;
            return Ok(());
        }
        if !self.claim(job, plan, applied).await? {
            applied.stale = true;
            return Ok(());
        }
        // Neither waits for the other to succeed: where a quota refuses new pods, old ones must be able to go.
        self.open_gates(job, plan).await?;
        let deleted = self.delete(job, plan, applied).await;
        for creation in &plan.create {
            let (created, refused) = self.create(job, creation).await;
            applied.created += created;
            refused.map_or(Ok(()), |error| Err(ApplyError::Create(error)))?;
        }
        deleted
    }

    /// Adopts and releases. Returns `false` when one of these was not to be had: creations and deletions were counted
    /// with it, and an orphan that another group was quicker to adopt may even be among the victims.
    async fn claim(&self, job: &Job<'_>, plan: &Plan, applied: &mut Applied) -> Result<bool, ApplyError> {
        for index in &plan.adopt {
            applied.adopted += usize::from(self.adopt(job, job.observed.pod(*index)).await?);
        }
        for index in &plan.release {
            applied.released += usize::from(self.release(job, job.observed.pod(*index)).await?);
        }
        Ok(applied.adopted == plan.adopt.len() && applied.released == plan.release.len())
    }

    async fn delete(&self, job: &Job<'_>, plan: &Plan, applied: &mut Applied) -> Result<(), ApplyError> {
        let mut victims = Vec::with_capacity(plan.delete.len());
        for victim in &plan.delete {
            victims.push((Arc::clone(job.observed.pod(victim.pod)), victim.why));
        }
        // Once a budget has refused one eviction it would refuse the next as well.
        let blocked = AtomicBool::new(false);
        let is_open = || !blocked.load(Ordering::Relaxed) && self.may_go_on(job);
        let victims = stream::iter(victims).take_while(|_| future::ready(is_open()));
        let exchange = AtomicUsize::new(plan.exchange);
        let exchange = &exchange;
        let deletes = victims
            .map(|(pod, why)| async move { (self.remove(job, plan, exchange, &pod, why).await, pod, why) });
        let mut deletes = deletes.buffer_unordered(self.max_in_flight);
        let mut failure = None;
        while let Some((result, pod, why)) = deletes.next().await {
            let name = Arc::clone(&pod.key.name);
            match result {
                Ok(InPlace::Impossible) => applied.deleted.push((name, why)),
                Ok(InPlace::UnderWay) => applied.waiting = true,
                Ok(InPlace::Changed) => applied.changed += 1,
                Err(RequestError::DisruptionBudget(text)) => {
                    blocked.store(true, Ordering::Relaxed);
                    applied.blocked = Some(text);
                }
                Err(source) => failure = Some(ApplyError::Delete { pod: name, source }),
            }
        }
        failure.map_or(Ok(()), Err)
    }

    /// Brings a pod to the revision that the group is on its way to, or removes it where that cannot be.
    async fn remove(
        &self,
        job: &Job<'_>,
        plan: &Plan,
        exchange: &AtomicUsize,
        pod: &Pod,
        why: Why,
    ) -> Result<InPlace, RequestError> {
        let take = |left: usize| left.checked_sub(1);
        if let Some(target) = plan.target.as_deref().filter(|_| why == Why::Outdated)
            && exchange.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
        {
            let step = self.change_in_place(job, pod, target).await?;
            if step != InPlace::Impossible {
                return Ok(step);
            }
            exchange.fetch_add(1, Ordering::Relaxed);
        }
        self.delete_one(job, pod, why).await.map(|()| InPlace::Impossible)
    }

    /// Deletes one pod, or evicts it where it only makes way for another revision. Where it is not certain what became of the request, the pod stays noted as unanswered, so that
    /// no other victim is chosen in its place before the server has told.
    async fn delete_one(&self, job: &Job<'_>, pod: &Pod, why: Why) -> Result<(), RequestError> {
        let group = &job.observed.key;
        let request = if why == Why::Outdated { eviction(pod) } else { deletion(pod) }.map_err(malformed)?;
        self.gate.intend(group, &pod.key, Intent::Delete(pod.uid.to_string()));
        let answer = self.send::<IgnoredAny>(request).await;
        match &answer {
            Ok(_) | Err(RequestError::NotFound(_)) => {
                self.gate.ended(group, &pod.key, &pod.uid);
                return Ok(());
            }
            // Another pod of the name stands there, or somebody else wrote this one at the same moment.
            Err(RequestError::Conflict(_)) => {}
            Err(error) if error.is_ambiguous() => {}
            Err(_) => self.gate.refused(group, &pod.key),
        }
        answer.map(drop)
    }

    /// Makes the group the pod's controller; one without a revision is from then on of the one that is wanted. Returns `false` when the pod is gone or another was quicker.
    async fn adopt(&self, job: &Job<'_>, pod: &Pod) -> Result<bool, ApplyError> {
        let owner = job.group.owner_reference();
        let mut patch = json!({"metadata": {"uid": &*pod.uid, "ownerReferences": [owner]}});
        if !pod.labels.contains_key(revision::LABEL) {
            patch["metadata"]["labels"] = json!({revision::LABEL: &*job.observed.revisions.wanted});
        }
        let failed = |source| ApplyError::Adopt { pod: Arc::clone(&pod.key.name), source };
        self.patch(job, pod, patch).await.map_err(failed)
    }

    /// Takes the group's owner reference off a pod that its selector no longer matches.
    async fn release(&self, job: &Job<'_>, pod: &Pod) -> Result<bool, ApplyError> {
        let owner = json!({"$patch": "delete", "uid": &*job.observed.uid});
        let patch = json!({"metadata": {"uid": &*pod.uid, "ownerReferences": [owner]}});
        let failed = |source| ApplyError::Release { pod: Arc::clone(&pod.key.name), source };
        self.patch(job, pod, patch).await.map_err(failed)
    }

    /// Patches a pod's metadata. The UID in the patch makes the server refuse another pod of the same name; and it
    /// refuses a second controller (both 409 or 422), which means that there is nothing to do here.
    async fn patch(&self, job: &Job<'_>, pod: &Pod, patch: serde_json::Value) -> Result<bool, RequestError> {
        let params = PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..PatchParams::default() };
        let patch = Patch::Strategic(patch);
        let answer = in_time(job.pods.patch_metadata(&pod.key.name, &params, &patch)).await;
        match answer {
            Ok(written) => {
                let (uid, version) = (written.uid().unwrap_or_default(), written.resource_version());
                self.gate.stored(&job.observed.key, &pod.key, &uid, version.as_deref());
                Ok(true)
            }
            Err(RequestError::NotFound(_) | RequestError::Conflict(_) | RequestError::Invalid(_)) => {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Whether the group is still as the pass saw it and the process may begin new writes.
    fn may_go_on(&self, job: &Job<'_>) -> bool {
        let current = self.groups.get(&ObjectRef::from_obj(job.group));
        let unchanged = current.is_some_and(|current| {
            let (new, old) = (&current.metadata, &job.group.metadata);
            new.uid == old.uid && new.generation == old.generation && new.deletion_timestamp.is_none()
        });
        unchanged && !self.shutdown.is_cancelled()
    }

    async fn send<T: DeserializeOwned>(&self, request: Request<Vec<u8>>) -> Result<T, RequestError> {
        in_time(self.client.request(request)).await
    }
}

/// Gives a request up that is not answered in time.
pub(crate) async fn in_time<T>(request: impl Future<Output = kube::Result<T>>) -> Result<T, RequestError> {
    let answer = tokio::time::timeout(REQUEST_LIMIT, request).await;
    answer.map_err(|_| RequestError::timed_out(REQUEST_LIMIT))?.map_err(Into::into)
}

fn deletion(pod: &Pod) -> http::Result<Request<Vec<u8>>> {
    let options = json!({"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": &*pod.uid}});
    Request::delete(format!("/api/v1/namespaces/{}/pods/{}", pod.key.namespace, pod.key.name))
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::ACCEPT, METADATA_ONLY)
        .body(options.to_string().into_bytes())
}

fn eviction(pod: &Pod) -> http::Result<Request<Vec<u8>>> {
    let eviction = json!({
        "apiVersion": "policy/v1", "kind": "Eviction",
        "metadata": {"namespace": &*pod.key.namespace, "name": &*pod.key.name},
        "deleteOptions": {"preconditions": {"uid": &*pod.uid}},
    });
    Request::post(format!("/api/v1/namespaces/{}/pods/{}/eviction", pod.key.namespace, pod.key.name))
        .header(header::CONTENT_TYPE, "application/json")
        .body(eviction.to_string().into_bytes())
}

fn malformed(error: http::Error) -> RequestError {
    RequestError::Invalid(error.to_string())
}

/// The reference by which a group owns its pods.
trait Owner {
    fn owner_reference(&self) -> serde_json::Value;
}

impl Owner for ReplicaGroup {
    fn owner_reference(&self) -> serde_json::Value {
        json!({
            "apiVersion": <Self as kube::Resource>::api_version(&()),
            "kind": <Self as kube::Resource>::kind(&()),
            "name": self.metadata.name,
            "uid": self.metadata.uid,
            "controller": true,
            "blockOwnerDeletion": true,
        })
    }
}
