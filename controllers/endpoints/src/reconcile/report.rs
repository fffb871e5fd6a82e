//! What a reconcile reports of a pool.

use std::{collections::HashMap, sync::Arc};

use jiff::Timestamp;
use mainstay_crds::{EndpointPool, EndpointPoolStatus};
use mainstay_runtime::{
    index::ObjectKey,
    outcome::{Failure, Failures},
};

use super::{Context, Endpoints, Stage};
use crate::{
    checker::{State, Target},
    metrics::Gauged,
    observe::Observed,
    plan::Plan,
    status::{self, Seen},
};

impl Endpoints {
    pub(super) fn report(
        &self,
        context: &Context,
        plan: &Plan,
        states: Option<&HashMap<Target, State>>,
        failures: &Failures,
    ) {
        let slices = Observed::slices(&context.key, &self.stores).len();
        let pool = &self.status_writer.current(&*context.pool);
        let seen = Seen { pool, observed: &context.observed, plan, states, failures, slices };
        let status = status::observed(&seen, Timestamp::now());
        let gauged = Gauged {
            members: status.members,
            not_ready: status::why_not_ready(&seen),
            panic: plan.choice.panic,
            failed_over: plan.choice.tier > Some(status::best_tier(&context.pool)),
        };
        self.metrics.set(&context.key, gauged);
        // Of a spec that is not followed it is said what is wrong with it.
        if context.stage == Stage::Current {
            self.publish(&context.pool, status);
        }
    }

    pub(super) fn report_unusable(&self, pool: &Arc<EndpointPool>, key: &ObjectKey, failure: &Failure) {
        let slices = Observed::slices(key, &self.stores).len();
        let status =
            status::unusable(&self.status_writer.current(&**pool), failure, slices, Timestamp::now());
        if self.memory.lock().entry(key.clone()).or_default().is_news(failure) {
            self.announcer.unusable(pool, failure);
        }
        self.publish(pool, status);
    }

    fn publish(&self, pool: &Arc<EndpointPool>, status: EndpointPoolStatus) {
        let standing = pool.status.as_ref();
        let last = self.status_writer.ahead_of(&**pool).or_else(|| standing.cloned()).unwrap_or_default();
        self.announcer.changed(pool, &last, &status, &self.metrics);
        self.status_writer.put(&**pool, standing, status, status::is_urgent);
    }
}
