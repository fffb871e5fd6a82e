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
    outcome::{Concern, Explain, Failure, Failures, Outcomes, Turn},
    reconcile::Reconciler,
    report::Reports,
};
use parking_lot::Mutex;

use self::pool::Remembered;
use crate::{
    announce::Announcer,
    apply::{ApplyError, GATES, Job, SERVICE, SLICES, Writer},
    checker::Checker,
    interests::Interests,
    lookups::Lookups,
    metrics::{Gauged, Metrics},
    observe::{Observed, View},
    plan::Standing,
    ranges::Forbidden,
    settings::{Settings, SettingsError},
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
    pub reports: Arc<Reports<EndpointPoolStatus>>,
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
    turn: Turn,
}

impl Pass {
    fn job(&self) -> Job<'_> {
        Job { pool: &self.pool, key: &self.key, slices: &self.observed.slices }
    }
}

impl Reconciler for Endpoints {
    type Object = EndpointPool;

    async fn reconcile(self: Arc<Self>, pool: Arc<EndpointPool>, turn: Turn) -> Outcomes {
        let mut outcomes = Outcomes::default();
        if pool.metadata.deletion_timestamp.is_some() {
            // Its slices go with it.
            return outcomes;
        }
        let key = ObjectKey::of(&*pool);
        let settings = match self.settings(&key, &pool) {
            Ok(settings) => settings,
            // What stands is kept until the spec can be read again.
            Err(error) => {
                self.report_unusable(&pool, &key, &Failure::from(&error));
                return outcomes;
            }
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
        let pass = Pass { pool, key, settings, observed, standing, turn };
        match pass.observed.service.clone() {
            Ok(service) => self.serve(&pass, &service, &mut outcomes).await,
            Err(error) => {
                if !self.keep_service(&pass, &mut outcomes).await {
                    self.clear(&pass, &Failure::from(&error), &mut outcomes).await;
                }
            }
        }
        outcomes
    }

    fn forget(&self, key: &ObjectKey) {
        self.checker.forget(key);
        self.lookups.forget(key);
        self.writer.forget(key);
        self.reports.forget(key);
        self.metrics.forget(key);
        self.memory.lock().remove(key);
    }
}

impl Endpoints {
    fn settings(&self, key: &ObjectKey, pool: &EndpointPool) -> Result<Arc<Settings>, SettingsError> {
        self.memory.lock().entry(key.clone()).or_default().settings(pool)
    }

    /// Makes and keeps the Service of a pool that says so. Returns whether it is on its way, or could not be made.
    async fn keep_service(&self, pass: &Pass, outcomes: &mut Outcomes) -> bool {
        let template = pass.pool.spec.service_ref.create.as_ref().filter(|_| !self.is_taken(pass));
        let Some(template) = template else {
            self.note(pass, SERVICE, None);
            outcomes.end::<ApplyError>(SERVICE, Ok(None));
            return false;
        };
        if pass.turn.held(SERVICE).is_some() {
            return self.failures(pass).of(SERVICE).is_some();
        }
        let standing = self.stores.services.get(&pool::service_key(&pass.pool));
        match self.writer.keep_service(&pass.job(), template, standing.as_deref()).await {
            Ok(made) => {
                if made {
                    self.announcer.service_made(&pass.pool);
                }
                self.note(pass, SERVICE, None);
                outcomes.end::<ApplyError>(SERVICE, Ok(made.then_some(RECHECK)));
                made
            }
            Err(error) if matches!(error.request(), RequestError::NamespaceTerminating(_)) => true,
            Err(error) => {
                self.failed(pass, &error, outcomes);
                if pass.observed.service.is_err() {
                    let failures = self.failures(pass);
                    failures.of(SERVICE).into_iter().for_each(|failure| {
                        self.report_unusable(&pass.pool, &pass.key, failure);
                    });
                }
                true
            }
        }
    }

    fn is_taken(&self, pass: &Pass) -> bool {
        self.interests.holder(&pool::service_key(&pass.pool)).is_some_and(|holder| holder != pass.key.name)
    }

    /// Takes the slices of a pool away that has no Service to write for.
    async fn clear(&self, pass: &Pass, failure: &Failure, outcomes: &mut Outcomes) {
        self.checker.forget(&pass.key);
        self.memory.lock().entry(pass.key.clone()).or_default().restart();
        self.metrics.set(&pass.key, Gauged::default());
        if !pass.observed.slices.is_empty() && pass.turn.held(SLICES).is_none() {
            match self.clear_slices(pass).await {
                Ok(due) => outcomes.end::<ApplyError>(SLICES, Ok(due)),
                Err(error) => self.failed(pass, &error, outcomes),
            }
        }
        self.report_unusable(&pass.pool, &pass.key, failure);
    }

    async fn clear_slices(&self, pass: &Pass) -> Result<Option<Duration>, ApplyError> {
        if !self.writer.may_write(&pass.key).await? {
            return Ok(Some(RECHECK));
        }
        let applied = self.writer.clear(&pass.job()).await;
        applied.error.map_or(Ok(applied.stale.then_some(CATCH_UP)), Err)
    }

    /// Brings the slices of a pool to what its members and their checks ask for, and then what needs no slice.
    async fn serve(&self, pass: &Pass, service: &Arc<Service>, outcomes: &mut Outcomes) {
        let states = self.check(pass);
        let now = self.clock.now();
        let plan = self.plan(pass, service, states.as_ref(), now);
        self.memory.lock().entry(pass.key.clone()).or_default().plan = Some(plan.memory.clone());
        outcomes.again(plan.due.map(|due| due.saturating_sub(now)));
        if pass.turn.held(SLICES).is_none() {
            match self.write(pass, service, &plan).await {
                Ok(due) => {
                    self.note(pass, SLICES, None);
                    outcomes.end::<ApplyError>(SLICES, Ok(due));
                }
                Err(error) => self.failed(pass, &error, outcomes),
            }
        }
        // Told before what may take longer, and once more after it, should it have failed.
        self.report(pass, &plan, states.as_ref(), &self.failures(pass));
        self.keep_service(pass, outcomes).await;
        let failed = self.open_gates(pass, states.as_ref()).await;
        self.note(pass, GATES, failed.first().map(Explain::explain));
        outcomes.well(GATES);
        for error in failed {
            self.announcer.failed(&pass.pool, &error, &self.metrics);
            outcomes.fail(error.part(), &error);
        }
        self.report(pass, &plan, states.as_ref(), &self.failures(pass));
    }

    /// Tells and remembers that a concern failed.
    fn failed(&self, pass: &Pass, error: &ApplyError, outcomes: &mut Outcomes) {
        self.announcer.failed(&pass.pool, error, &self.metrics);
        self.note(pass, error.part().0, Some(error.explain()));
        outcomes.fail(error.part(), error);
    }

    fn note(&self, pass: &Pass, concern: Concern, failure: Option<Failure>) {
        let mut memory = self.memory.lock();
        let remembered = memory.entry(pass.key.clone()).or_default();
        remembered.failures.note(pass.pool.metadata.generation, concern, failure);
    }

    /// What cannot be done, as far as it was tried under this spec.
    fn failures(&self, pass: &Pass) -> Failures {
        let memory = self.memory.lock();
        let failures = memory.get(&pass.key).map(|remembered| &remembered.failures);
        failures.map(|failures| failures.under(pass.pool.metadata.generation)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
