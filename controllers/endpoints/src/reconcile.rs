//! One reconcile over one pool: observe, check, plan, apply, report.

mod frozen;
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
    outcome::{Explain, Failure, Outcomes, Turn},
    reconcile::Reconciler,
    report::StatusWriter,
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

/// When a reconcile that waits for the store looks again, should no event come first.
const RECHECK: Duration = Duration::from_secs(1);
/// When a reconcile whose writes found the store behind the server looks again.
const CATCH_UP: Duration = Duration::from_millis(200);
/// How often the status follows its counters while its conditions stand. A pool of a hundred pods that come and go
/// would otherwise cost as many writes of its status as of its slices.
pub const STATUS_PACE: Duration = Duration::from_secs(5);

/// The EndpointPool controller's reconcile, with all that it reads and writes.
pub struct Endpoints {
    /// For the status.
    pub client: Client,
    /// What reconciles read.
    pub stores: Stores,
    /// Which pools name a Service.
    pub interests: Interests,
    /// Addresses that are out of bounds.
    pub forbidden: Forbidden,
    /// Makes the checks.
    pub checker: Arc<Checker>,
    /// Looks names up.
    pub lookups: Arc<Lookups>,
    /// What reconciles write with.
    pub writer: Writer,
    /// Writes the status.
    pub status_writer: Arc<StatusWriter<EndpointPoolStatus>>,
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

/// Which spec of a pool is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The one that it has.
    Current,
    /// The last one that could be used.
    Unusable,
    /// The one that it has, as far as that needs no new slice and no Service: the pool is being deleted, and they go with it once
    /// nothing holds it back any more.
    Deleted,
}

/// One pool as a reconcile works on it.
struct Context {
    pool: Arc<EndpointPool>,
    key: ObjectKey,
    stage: Stage,
    settings: Arc<Settings>,
    observed: Observed,
    standing: Standing,
    turn: Turn,
    /// Whether slices may be written.
    may_write: bool,
}

impl Context {
    fn job(&self) -> Job<'_> {
        Job { pool: &self.pool, key: &self.key, slices: &self.observed.slices }
    }
}

impl Reconciler for Endpoints {
    type Object = EndpointPool;

    async fn reconcile(self: Arc<Self>, pool: Arc<EndpointPool>, turn: Turn) -> Outcomes {
        let mut outcomes = Outcomes::default();
        let key = ObjectKey::of(&*pool);
        let read = self.settings(&key, &pool);
        let stage = match &read {
            _ if pool.metadata.deletion_timestamp.is_some() => Stage::Deleted,
            Err(error) => {
                self.report_unusable(&pool, &key, &Failure::from(error));
                Stage::Unusable
            }
            Ok(_) => Stage::Current,
        };
        // Until the spec can be read again, the last one that could is followed.
        let Some(settings) = read.ok().or_else(|| self.usable(&key)) else {
            self.restrict(&pool, &key, &turn, &mut outcomes).await;
            return outcomes;
        };
        self.lookups.want(&key, settings.names());
        self.interests.reach(&key, Observed::reached(&key, &settings, &self.view()));
        let may_write = self.may_write(&pool, &key, &turn, &mut outcomes).await;
        let observed = Observed::gather(&pool, &key, &settings, &self.view());
        let standing = Standing::of(&observed.slices);
        let context = Context { pool, key, stage, settings, observed, standing, turn, may_write };
        match context.observed.service.clone() {
            Ok(service) => self.serve(&context, &service, &mut outcomes).await,
            Err(_) if stage != Stage::Current => {
                self.restrict(&context.pool, &context.key, &context.turn, &mut outcomes).await;
            }
            Err(error) => {
                let is_coming = self.keep_service(&context, &mut outcomes).await;
                if is_coming && context.settings.check.is_some() {
                    // What its checks have shown is kept until it is there.
                    return outcomes;
                }
                if !is_coming {
                    self.clear(&context, &Failure::from(&error), &mut outcomes).await;
                }
                // A rollout that waits for its gates does not depend on who writes the endpoints.
                let states = self.check(&context);
                self.open_gates(&context, states.as_ref(), &mut outcomes).await;
            }
        }
        outcomes
    }

    fn forget(&self, key: &ObjectKey) {
        self.checker.forget(key);
        self.lookups.forget(key);
        self.writer.forget(key);
        self.status_writer.forget(key);
        self.metrics.forget(key);
        self.memory.lock().remove(key);
    }
}

impl Endpoints {
    fn view(&self) -> View<'_> {
        View {
            stores: &self.stores,
            interests: &self.interests,
            lookups: &self.lookups,
            forbidden: self.forbidden.among(&self.stores),
        }
    }

    fn settings(&self, key: &ObjectKey, pool: &EndpointPool) -> Result<Arc<Settings>, SettingsError> {
        self.memory.lock().entry(key.clone()).or_default().settings(pool)
    }

    /// The last settings of the pool that could be read.
    fn usable(&self, key: &ObjectKey) -> Option<Arc<Settings>> {
        self.memory.lock().get(key)?.usable()
    }

    /// Whether slices may be written as the stores are about to be observed. Asked before they are read: what they come to
    /// show afterwards is not observed, and would be made again.
    async fn may_write(
        &self,
        pool: &EndpointPool,
        key: &ObjectKey,
        turn: &Turn,
        outcomes: &mut Outcomes,
    ) -> bool {
        if turn.held(SLICES).is_some() {
            return false;
        }
        match self.writer.may_write(key).await {
            Ok(true) => return true,
            Ok(false) => {
                self.loop_metrics.stale_skips.inc();
                outcomes.again(Some(RECHECK));
            }
            Err(error) => self.failed(pool, &error, outcomes),
        }
        false
    }

    /// Makes and keeps the Service of a pool that says so. Returns whether it is being created, or could not be made.
    async fn keep_service(&self, context: &Context, outcomes: &mut Outcomes) -> bool {
        let is_deleted = context.stage == Stage::Deleted;
        let template = context.pool.spec.service_ref.create.as_ref();
        let template = template.filter(|_| !is_deleted && !self.is_taken(context));
        let Some(template) = template else {
            outcomes.well(SERVICE);
            return false;
        };
        if context.turn.held(SERVICE).is_some() {
            return true;
        }
        let shows_last = self.writer.shows_service(&context.key);
        let standing = self.stores.services.get(&pool::service_key(&context.pool));
        if !shows_last {
            self.loop_metrics.stale_skips.inc();
            outcomes.again(Some(RECHECK));
            return standing.is_none();
        }
        match self.writer.keep_service(&context.job(), template, standing.as_deref()).await {
            Ok(made) => {
                if made {
                    self.announcer.service_made(&context.pool);
                }
                outcomes.end::<ApplyError>(SERVICE, Ok(made.then_some(RECHECK)));
                made
            }
            Err(error) if matches!(error.request(), RequestError::NamespaceTerminating(_)) => true,
            Err(error) => {
                self.failed(&context.pool, &error, outcomes);
                if context.observed.service.is_err() {
                    let failure = error.explain();
                    self.metrics.set(&context.key, Gauged::none(failure.reason));
                    self.report_unusable(&context.pool, &context.key, &failure);
                }
                true
            }
        }
    }

    fn is_taken(&self, context: &Context) -> bool {
        self.interests
            .holder(&pool::service_key(&context.pool))
            .is_some_and(|holder| holder != context.key.name)
    }

    /// Takes the slices of a pool away that has no Service to write for.
    async fn clear(&self, context: &Context, failure: &Failure, outcomes: &mut Outcomes) {
        self.memory.lock().entry(context.key.clone()).or_default().restart();
        if context.observed.slices.is_empty() {
            outcomes.well(SLICES);
        }
        self.metrics.set(&context.key, Gauged::none(failure.reason));
        if context.may_write && !context.observed.slices.is_empty() {
            let applied = self.writer.clear(&context.job()).await;
            match applied.error {
                None => outcomes.end::<ApplyError>(SLICES, Ok(applied.stale.then_some(CATCH_UP))),
                Some(error) => self.failed(&context.pool, &error, outcomes),
            }
        }
        self.report_unusable(&context.pool, &context.key, failure);
    }

    /// Brings the slices of a pool to what its members and their checks ask for, and then what needs no slice.
    async fn serve(&self, context: &Context, service: &Arc<Service>, outcomes: &mut Outcomes) {
        let states = self.check(context);
        let now = self.clock.now();
        let plan = self.plan(context, service, states.as_ref(), now);
        self.memory.lock().entry(context.key.clone()).or_default().plan = Some(plan.memory.clone());
        outcomes.again(plan.due.map(|due| due.saturating_sub(now)));
        if context.may_write {
            match self.write(context, service, &plan).await {
                Ok(due) => outcomes.end::<ApplyError>(SLICES, Ok(due)),
                Err(error) => self.failed(&context.pool, &error, outcomes),
            }
        }
        // Told before what may take longer, and once more after it, should it have come out otherwise than before.
        let told = outcomes.failures(&context.turn);
        self.report(context, &plan, states.as_ref(), &told);
        self.keep_service(context, outcomes).await;
        self.open_gates(context, states.as_ref(), outcomes).await;
        let failures = outcomes.failures(&context.turn);
        if failures != told {
            self.report(context, &plan, states.as_ref(), &failures);
        }
    }

    /// Tells that a concern failed.
    fn failed(&self, pool: &EndpointPool, error: &ApplyError, outcomes: &mut Outcomes) {
        self.announcer.failed(pool, error, &self.metrics);
        outcomes.fail(error.part(), error);
    }
}

#[cfg(test)]
mod tests;
