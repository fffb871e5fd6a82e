//! One pass over one pool: observe, check, plan, apply, report.

mod judge;
mod pool;
mod report;
mod write;

use std::{collections::HashMap, sync::Arc, time::Duration};

use kube::Client;
use mainstay_crds::{EndpointPool, EndpointPoolStatus};
use mainstay_runtime::{
    clock::Clock,
    failure::RequestError,
    index::ObjectKey,
    metrics::LoopMetrics,
    reconcile::{self, Reconciler},
    report::Reports,
};
use parking_lot::Mutex;

use self::pool::Remembered;
use crate::{
    announce::Announcer,
    apply::{ApplyError, Job, Writer},
    checker::Checker,
    interests::Interests,
    lookups::Lookups,
    metrics::{Gauged, Metrics},
    observe::{Observed, View},
    plan::{Plan, Standing},
    ranges::Forbidden,
    settings::{Settings, SettingsError},
    status::Failure,
    stores::Stores,
    watched::Service,
};

/// When a pass that waits for the store looks again, should no event come first.
const RECHECK: Duration = Duration::from_secs(1);
/// When a pass whose writes found the store behind the server looks again.
const CATCH_UP: Duration = Duration::from_millis(200);
/// How often the status follows its counters while its conditions stand. A pool of a hundred pods that come and go
/// would otherwise cost as many writes of its status as of its slices.
pub const STATUS_PACE: Duration = Duration::from_secs(5);

/// Why a pass failed.
pub type PassFailure = reconcile::PassFailure<ApplyError>;

/// The EndpointPool controller's pass, with all that it reads and writes.
pub struct Endpoints {
    /// For the status.
    pub client: Client,
    /// What passes read.
    pub stores: Stores,
    /// Which pools name a Service.
    pub interests: Interests,
    /// Addresses that are out of bounds.
    pub forbidden: Forbidden,
    /// Makes the checks.
    pub checker: Arc<Checker>,
    /// Looks names up.
    pub lookups: Arc<Lookups>,
    /// What passes write with.
    pub writer: Writer,
    /// Writes the status.
    pub reports: Reports<EndpointPoolStatus>,
    /// Tells people.
    pub announcer: Announcer,
    /// The controller's series.
    pub metrics: Arc<Metrics>,
    /// The loop's series.
    pub loop_metrics: LoopMetrics,
    /// The process's time.
    pub clock: Clock,
    /// What is remembered of each pool; a restart may lose it.
    pub memory: Mutex<HashMap<ObjectKey, Remembered>>,
}

/// One pool as a pass works on it.
struct Pass {
    pool: Arc<EndpointPool>,
    key: ObjectKey,
    settings: Arc<Settings>,
    observed: Observed,
    standing: Standing,
    held: Option<Duration>,
}

impl Pass {
    fn job(&self) -> Job<'_> {
        Job { pool: &self.pool, key: &self.key, slices: &self.observed.slices }
    }
}

impl Reconciler for Endpoints {
    type Object = EndpointPool;
    type Error = PassFailure;

    async fn reconcile(
        self: Arc<Self>,
        pool: Arc<EndpointPool>,
        held: Option<Duration>,
    ) -> Result<Option<Duration>, PassFailure> {
        if pool.metadata.deletion_timestamp.is_some() {
            // Its slices go with it.
            return Ok(None);
        }
        let key = ObjectKey::of(&*pool);
        let settings = match self.settings(&key, &pool) {
            Ok(settings) => settings,
            // What stands is kept until the spec can be read again.
            Err(error) => return self.report_unusable(&pool, &key, &Failure::from(&error)).await,
        };
        self.lookups.want(&key, settings.names());
        let view = View {
            stores: &self.stores,
            interests: &self.interests,
            lookups: &self.lookups,
            forbidden: &self.forbidden,
        };
        let observed = Observed::gather(&pool, &key, &settings, &view);
        let standing = Standing::of(&observed.slices);
        let pass = Pass { pool, key, settings, observed, standing, held };
        let service_kept = self.keep_service(&pass).await;
        match pass.observed.service.clone() {
            Ok(service) => {
                let failure = service_kept.as_ref().err().map(Failure::from);
                let due = self.serve(&pass, &service, failure).await?;
                Ok([due, service_kept?].into_iter().flatten().min())
            }
            Err(error) => {
                if let Some(due) = service_kept? {
                    return Ok(Some(due));
                }
                self.clear(&pass, &Failure::from(&error)).await
            }
        }
    }
}

impl Endpoints {
    /// Forgets a pool that is gone.
    pub fn forget(&self, key: &ObjectKey) {
        self.checker.forget(key);
        self.lookups.forget(key);
        self.writer.forget(key);
        self.reports.forget(key);
        self.metrics.forget(key);
        self.memory.lock().remove(key);
    }

    fn settings(&self, key: &ObjectKey, pool: &EndpointPool) -> Result<Arc<Settings>, SettingsError> {
        self.memory.lock().entry(key.clone()).or_default().settings(pool)
    }

    /// Makes and keeps the Service of a pool that says so. Returns when to look again for one that was made.
    async fn keep_service(&self, pass: &Pass) -> Result<Option<Duration>, ApplyError> {
        let Some(template) = &pass.pool.spec.service_ref.create else { return Ok(None) };
        if pass.held.is_some() || self.is_taken(pass) {
            return Ok(None);
        }
        let standing = self.stores.services.get(&pool::service_key(&pass.pool));
        let kept = self.writer.keep_service(&pass.job(), template, standing.as_deref()).await;
        match kept {
            Ok(true) => {
                self.announcer.service_made(&pass.pool);
                Ok(Some(RECHECK))
            }
            Ok(false) => Ok(None),
            Err(error) if matches!(error.request(), RequestError::NamespaceTerminating(_)) => Ok(None),
            Err(error) => {
                self.announcer.failed(&pass.pool, &error, &self.metrics);
                if pass.observed.service.is_err() {
                    let _ = self.report_unusable(&pass.pool, &pass.key, &Failure::from(&error)).await;
                }
                Err(error)
            }
        }
    }

    fn is_taken(&self, pass: &Pass) -> bool {
        self.interests.holder(&pool::service_key(&pass.pool)).is_some_and(|holder| holder != pass.key.name)
    }

    /// Takes the slices of a pool away that has no Service to write for.
    async fn clear(&self, pass: &Pass, failure: &Failure) -> Result<Option<Duration>, PassFailure> {
        self.checker.forget(&pass.key);
        self.memory.lock().entry(pass.key.clone()).or_default().restart();
        self.metrics.set(&pass.key, Gauged::default());
        let mut due = None;
        if !pass.observed.slices.is_empty() && pass.held.is_none() {
            if !self.writer.may_write(&pass.key).await? {
                return Ok(Some(RECHECK));
            }
            let applied = self.writer.clear(&pass.job()).await;
            if let Some(error) = applied.error {
                self.announcer.failed(&pass.pool, &error, &self.metrics);
                return Err(error.into());
            }
            due = applied.stale.then_some(CATCH_UP);
        }
        let reported = self.report_unusable(&pass.pool, &pass.key, failure).await?;
        Ok([due, reported].into_iter().flatten().min())
    }

    /// Brings the slices of a pool to what its members and their checks ask for.
    async fn serve(
        &self,
        pass: &Pass,
        service: &Arc<Service>,
        failure: Option<Failure>,
    ) -> Result<Option<Duration>, PassFailure> {
        let states = self.check(pass);
        let now = self.clock.now();
        let plan = self.plan(pass, service, states.as_ref(), now);
        let written = match pass.held {
            Some(_) => Ok(None),
            None => self.write(pass, service, &plan).await,
        };
        let failure =
            self.note(&pass.key, &plan, written.as_ref().err().map(Failure::from).or(failure), pass.held);
        let gates = self.open_gates(pass, states.as_ref()).await;
        let reported = self.report(pass, &plan, states.as_ref(), failure.as_ref()).await?;
        if let Err(error) = &gates {
            self.announcer.failed(&pass.pool, error, &self.metrics);
        }
        let time = plan.due.map(|due| due.saturating_sub(now));
        let due = [written?, reported, time, pass.held].into_iter().flatten().min();
        gates.map(|()| due).map_err(Into::into)
    }

    /// Remembers the plan, and what keeps it from being carried out.
    fn note(
        &self,
        key: &ObjectKey,
        plan: &Plan,
        failure: Option<Failure>,
        held: Option<Duration>,
    ) -> Option<Failure> {
        let mut memory = self.memory.lock();
        let remembered = memory.entry(key.clone()).or_default();
        remembered.plan = Some(plan.memory.clone());
        if held.is_none() {
            remembered.failure = failure;
        }
        remembered.failure.clone()
    }
}
