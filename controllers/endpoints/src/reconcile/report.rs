//! What a pass reports of a pool.

use std::{collections::HashMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use kube::Api;
use mainstay_crds::{EndpointPool, EndpointPoolStatus};
use mainstay_runtime::index::ObjectKey;

use super::{Endpoints, Pass, PassFailure};
use crate::{
    announce::condition,
    checker::{State, Target},
    metrics::Gauged,
    observe::Observed,
    plan::Plan,
    status::{self, Failure, Seen},
};

impl Endpoints {
    pub(super) async fn report(
        &self,
        pass: &Pass,
        plan: &Plan,
        states: Option<&HashMap<Target, State>>,
        failure: Option<&Failure>,
    ) -> Result<Option<Duration>, PassFailure> {
        let slices = Observed::slices(&pass.key, &self.stores).len();
        let seen = Seen { pool: &pass.pool, observed: &pass.observed, plan, states, failure, slices };
        let status = status::observed(&seen, Timestamp::now());
        let gauged = Gauged {
            members: status.members,
            ready: condition(&status, "Ready").is_some_and(|(ready, _)| ready),
            panic: plan.choice.panic,
            failed_over: plan.choice.tier > Some(status::best_tier(&pass.pool)),
        };
        self.metrics.set(&pass.key, gauged);
        self.publish(&pass.pool, &pass.key, status).await
    }

    pub(super) async fn report_unusable(
        &self,
        pool: &Arc<EndpointPool>,
        key: &ObjectKey,
        failure: &Failure,
    ) -> Result<Option<Duration>, PassFailure> {
        let slices = Observed::slices(key, &self.stores).len();
        let status = status::unusable(pool, failure, slices, Timestamp::now());
        if self.memory.lock().entry(key.clone()).or_default().is_news(failure) {
            self.announcer.unusable(pool, failure);
        }
        self.publish(pool, key, status).await
    }

    async fn publish(
        &self,
        pool: &Arc<EndpointPool>,
        key: &ObjectKey,
        status: EndpointPoolStatus,
    ) -> Result<Option<Duration>, PassFailure> {
        let standing = pool.status.as_ref();
        let last = self.reports.last(key).or_else(|| standing.cloned()).unwrap_or_default();
        let pools = Api::namespaced(self.client.clone(), &key.namespace);
        let report = self.reports.report(&pools, &**pool, standing, status.clone(), status::is_urgent);
        let due = report.await.map_err(PassFailure::Status)?;
        if due.is_none() {
            self.announcer.changed(pool, &last, &status, &self.metrics);
        }
        Ok(due)
    }
}
