//! Carries out plans; the only writer of slices, Services and readiness gates.
//!
//! Every write of a slice is noted in the write gate. What exists is replaced only at the version that was planned
//! with and deleted only by its UID, so that a plan made from old stores is refused and not carried out.

mod body;
mod error;
mod gates;
mod lost;
mod service;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use futures::{StreamExt, stream};
use jiff::Timestamp;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Client;
use mainstay_crds::EndpointPool;
use mainstay_runtime::{
    failure::RequestError, gate::Gate, index::ObjectKey, names, owner, request::ObjectPath, writes::Writes,
};
use parking_lot::Mutex;
use tokio::time::Instant;

pub(crate) use self::body::labels;
use self::body::{Head, Replaced};
pub use self::error::{ApplyError, GATES, SERVICE, SLICES};
use crate::{
    metrics::{Metrics, Operation},
    names::FIELD_MANAGER,
    pack,
    plan::{self, Noted},
    stores::Stores,
    watched::{Endpoint, Group, Service, Slice},
};

/// A slice's name may become a DNS label of those who name things after it.
const MAX_NAME: usize = 63;

/// Writes for pools.
pub struct Writer {
    client: Client,
    writes: Writes<'static>,
    stores: Stores,
    gate: Gate<ObjectKey>,
    /// Of Services.
    service_gate: Gate<ObjectKey>,
    metrics: Arc<Metrics>,
    max_in_flight: usize,
    /// The version at which this process has left each slice that it changed.
    own: Mutex<HashMap<ObjectKey, u64>>,
    /// The pools whose last reconcile waited for the store to show what was written.
    waiting: Mutex<HashSet<ObjectKey>>,
    /// How the Service of each pool that makes it was last written.
    services: Mutex<HashMap<ObjectKey, Kept>>,
    /// The UIDs of slices that this process has deleted, until the watch shows that they are gone.
    deleted: Mutex<HashSet<Box<str>>>,
    /// The slices of each pool that are gone otherwise, as the watch has it, and have not been looked for.
    lost: Mutex<HashMap<ObjectKey, Lost>>,
    /// The pods of each pool whose gates were opened, by UID, with the version after that, which the store may not show yet.
    opened: Mutex<HashMap<ObjectKey, Opened>>,
}

/// Pods whose gates were opened, by UID: the version of each after that.
type Opened = HashMap<Box<str>, Option<u64>>;

/// Slices that are gone, by name: the UID of each, and since when.
type Lost = HashMap<ObjectKey, (Box<str>, Instant)>;

/// How a Service was last written.
struct Kept {
    /// The pool's generation.
    generation: Option<i64>,
    /// The Service's version after that.
    version: Option<u64>,
}

/// One pool, as a reconcile writes for it.
pub struct Job<'a> {
    /// The pool.
    pub pool: &'a EndpointPool,
    /// Its key.
    pub key: &'a ObjectKey,
    /// Its slices as the plan saw them.
    pub slices: &'a [Arc<Slice>],
}

/// What came of writes.
#[derive(Debug, Default)]
pub struct Applied {
    /// How many slices were written.
    pub written: usize,
    /// Whether the store turned out to lag behind the server.
    pub stale: bool,
    /// The first failure.
    pub error: Option<ApplyError>,
}

impl Applied {
    fn note(&mut self, outcome: Result<bool, ApplyError>) {
        match outcome {
            Ok(true) => self.written += 1,
            Ok(false) => self.stale = true,
            Err(error) => self.error = self.error.take().or(Some(error)),
        }
    }

    fn is_well(&self) -> bool {
        !self.stale && self.error.is_none()
    }
}

impl Writer {
    /// A writer with at most `max_in_flight` writes of a pool under way.
    pub fn new(client: Client, stores: Stores, metrics: Arc<Metrics>, max_in_flight: u16) -> Self {
        Self {
            writes: Writes::new(client.clone(), FIELD_MANAGER),
            client,
            stores,
            gate: Gate::default(),
            service_gate: Gate::default(),
            own: Mutex::default(),
            waiting: Mutex::default(),
            metrics,
            max_in_flight: max_in_flight.into(),
            services: Mutex::default(),
            deleted: Mutex::default(),
            lost: Mutex::default(),
            opened: Mutex::default(),
        }
    }

    /// Forgets a pool that is gone.
    pub fn forget(&self, key: &ObjectKey) {
        self.gate.forget(key);
        self.service_gate.forget(key);
        self.waiting.lock().remove(key);
        self.services.lock().remove(key);
        self.lost.lock().remove(key);
        self.opened.lock().remove(key);
    }

    /// Whether the store shows every slice that was written for the pool, so that slices may be planned.
    ///
    /// # Errors
    /// When the server does not say what became of a write whose answer was lost.
    pub async fn may_write(&self, key: &ObjectKey) -> Result<bool, ApplyError> {
        self.slices(key).settle(path).await.map_err(ApplyError::Read)?;
        let open = self.gate.is_open(key, &self.stores.slices);
        if open {
            self.waiting.lock().remove(key);
        } else {
            self.waiting.lock().insert(key.clone());
        }
        Ok(open)
    }

    /// Whether a slice stands as this process has left it and no reconcile waits to see it, so that it is no news.
    pub fn expected(&self, pool: &ObjectKey, slice: &Slice) -> bool {
        let as_left = self.own.lock().get(&slice.header.key) == slice.header.version.as_ref();
        slice.header.version.is_some() && as_left && !self.waiting.lock().contains(pool)
    }

    /// Writes slices: new ones first and superfluous ones last, so that no endpoint is missing on the way. If the new ones are
    /// refused, what has to leave the others does so all the same. `trigger` is since when what they say is true, and `noted`
    /// what they say beside it.
    pub async fn write(
        &self,
        job: &Job<'_>,
        service: &Service,
        plan: pack::Plan<Group, Endpoint>,
        trigger: Option<Timestamp>,
        noted: &Noted,
    ) -> Applied {
        let labels = labels(service, &job.key.name);
        let owner = owner::reference(job.pool);
        let head = Head { namespace: &job.key.namespace, labels: &labels, owner: &owner, trigger, noted };
        let mut applied = Applied::default();
        let created =
            plan.create.iter().map(|(group, endpoints)| self.create(job, &head, service, group, endpoints));
        self.each(&mut applied, created.collect()).await;
        if applied.stale {
            return applied;
        }
        let plan = if applied.error.is_some() { plan::without_new(&plan, job.slices) } else { plan };
        let mut rest = Applied::default();
        let updated = plan.update.iter().map(|update| self.update(job, &head, update));
        self.each(&mut rest, updated.collect()).await;
        if rest.is_well() {
            self.delete(job, &plan.delete, &mut rest).await;
        }
        Applied {
            written: applied.written + rest.written,
            stale: rest.stale,
            error: applied.error.or(rest.error),
        }
    }

    /// Takes endpoints out of slices of a pool whose spec is not followed, and changes nothing else in them.
    pub async fn restrict(&self, job: &Job<'_>, updates: &[pack::Update<Group, Endpoint>]) -> Applied {
        let changed: Vec<_> = updates.iter().map(|update| Arc::clone(&job.slices[update.id])).collect();
        let (owner, noted) = (owner::reference(job.pool), Noted::of(&changed));
        let head = |update: &pack::Update<_, _>| {
            let labels = &job.slices[update.id].labels;
            Head { namespace: &job.key.namespace, labels, owner: &owner, trigger: None, noted: &noted }
        };
        let heads: Vec<_> = updates.iter().map(head).collect();
        let updated = updates.iter().zip(&heads).map(|(update, head)| self.update(job, head, update));
        let mut applied = Applied::default();
        self.each(&mut applied, updated.collect()).await;
        applied
    }

    /// Deletes all slices of a pool that has no Service to write for.
    pub async fn clear(&self, job: &Job<'_>) -> Applied {
        let mut applied = Applied::default();
        let slices = job.slices.iter().enumerate().filter(|(_, slice)| !slice.header.terminating);
        let all: Vec<_> = slices.map(|(id, _)| id).collect();
        self.delete(job, &all, &mut applied).await;
        applied
    }

    async fn each<F>(&self, applied: &mut Applied, writes: Vec<F>)
    where
        F: Future<Output = Result<bool, ApplyError>>,
    {
        let mut outcomes = stream::iter(writes).buffer_unordered(self.max_in_flight);
        while let Some(outcome) = outcomes.next().await {
            applied.note(outcome);
        }
    }

    async fn create(
        &self,
        job: &Job<'_>,
        head: &Head<'_>,
        service: &Service,
        group: &Group,
        endpoints: &[Endpoint],
    ) -> Result<bool, ApplyError> {
        let name = names::generated(&service.header.key.name, MAX_NAME);
        let object = ObjectKey::new(&job.key.namespace, &name);
        let body =
            head.slice(&name, group, endpoints, None).map_err(|error| ApplyError::Create(error.into()))?;
        match self.slices(job.key).create(&path(&object), body).await {
            Ok(_) => {
                // The event that shows it is waited for: the status counts the slices that the store shows.
                self.metrics.wrote(Operation::Create);
                Ok(true)
            }
            // One of this very name, which the store does not show: the next reconcile takes another name.
            Err(RequestError::AlreadyExists(_)) => Ok(false),
            Err(error) => Err(ApplyError::Create(error)),
        }
    }

    /// Replaces a slice. `false` when it is another than the plan saw.
    async fn update(
        &self,
        job: &Job<'_>,
        head: &Head<'_>,
        update: &pack::Update<Group, Endpoint>,
    ) -> Result<bool, ApplyError> {
        let slice = &job.slices[update.id];
        let object = &slice.header.key;
        let failed = |source| ApplyError::Update { slice: Arc::clone(&object.name), source };
        let replaced = Replaced {
            annotations: &slice.annotations,
            co_owners: &slice.co_owners,
            finalizers: &slice.finalizers,
            version: slice.header.version,
        };
        let body = head.slice(&object.name, &update.group, &update.items, Some(&replaced));
        let body = body.map_err(|error| failed(error.into()))?;
        match self.slices(job.key).replace(&path(object), body).await {
            Ok(written) => {
                if let Some(version) = written.version() {
                    self.own.lock().insert(object.clone(), version);
                }
                self.metrics.wrote(Operation::Update);
                Ok(true)
            }
            Err(RequestError::Conflict(_) | RequestError::NotFound(_)) => Ok(false),
            Err(error) => Err(failed(error)),
        }
    }

    async fn delete(&self, job: &Job<'_>, ids: &[usize], applied: &mut Applied) {
        let deleted = ids.iter().map(|id| self.delete_one(job, &job.slices[*id]));
        self.each(applied, deleted.collect()).await;
    }

    async fn delete_one(&self, job: &Job<'_>, slice: &Slice) -> Result<bool, ApplyError> {
        let (object, uid) = (&slice.header.key, &slice.header.uid);
        self.deleted.lock().insert(uid.clone());
        let deleted = self.slices(job.key).delete(&path(object), uid, None).await;
        let may_go = deleted.as_ref().map_or_else(RequestError::is_ambiguous, |stood| *stood);
        if !may_go {
            self.deleted.lock().remove(uid);
        }
        match deleted {
            Ok(_) | Err(RequestError::Conflict(_)) => {
                self.metrics.wrote(Operation::Delete);
                Ok(true)
            }
            Err(source) => Err(ApplyError::Delete { slice: Arc::clone(&object.name), source }),
        }
    }

    /// Writes slices of the pool.
    fn slices<'a>(&'a self, pool: &'a ObjectKey) -> Writes<'a> {
        self.writes.noted(&self.gate, pool)
    }
}

/// Where a slice is.
fn path(slice: &ObjectKey) -> ObjectPath {
    ObjectPath::of::<EndpointSlice>(slice)
}
