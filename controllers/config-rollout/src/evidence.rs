//! What no watch delivers: how often pods have restarted, and whether a Service answers.
//!
//! Which pods a change has brought is told by the revision that they have, by no clock.

use std::{collections::BTreeSet, sync::Arc};

use futures::{FutureExt, StreamExt};
use k8s_openapi::{api::core::v1, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{Api, Client, ResourceExt, api::ListParams};
use mainstay_crds::ConfigRollout;
use mainstay_runtime::{
    failure::RequestError,
    index::ObjectKey,
    reconcile::Work,
    request::paged,
    slim::{self, Conditions},
    stands_for,
};
use serde::Deserialize;
use serde_json::Value;

use crate::{
    apply::ApplyError,
    observe::Seen,
    plan::{self, Evidence, Number, Plan, State, TargetKey, TargetState, TargetView},
    probes::Probes,
    stores::Stores,
};

/// A pod, as far as its restarts and its revision go.
#[derive(Debug, Clone, Deserialize)]
struct CountedPod {
    #[serde(deserialize_with = "slim::metadata")]
    metadata: ObjectMeta,
    #[serde(default)]
    spec: Value,
    #[serde(default)]
    status: CountedStatus,
}
stands_for!(CountedPod, v1::Pod);

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct CountedStatus {
    conditions: Conditions,
    container_statuses: Vec<CountedContainer>,
    init_container_statuses: Vec<CountedContainer>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct CountedContainer {
    #[serde(default)]
    restart_count: i32,
}

/// What the pods of a target show together.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    /// The most restarts of a container.
    restarts: i32,
    /// How many pods are ready.
    ready: i32,
    /// How many pods the scheduler has found no node for yet, or may not look for one.
    unscheduled: i32,
}

impl Counts {
    fn of(pod: CountedPod) -> Self {
        let CountedStatus { conditions, container_statuses, init_container_statuses } = pod.status;
        let stays = pod.metadata.deletion_timestamp.is_none();
        let containers = container_statuses.into_iter().chain(init_container_statuses);
        let restarts = containers.map(|container| container.restart_count).max().unwrap_or_default();
        let waits = conditions.get("PodScheduled").is_some_and(|scheduled| scheduled.status == "False");
        let ready = i32::from(stays && conditions.is_true("Ready"));
        Self { restarts, ready, unscheduled: i32::from(stays && waits) }
    }

    fn with(self, other: Self) -> Self {
        Self {
            restarts: self.restarts.max(other.restarts),
            ready: self.ready + other.ready,
            unscheduled: self.unscheduled + other.unscheduled,
        }
    }
}

/// Asks the API server, and the probed Services.
#[derive(Clone, Copy)]
pub(crate) struct Gatherer<'a> {
    /// Where pods and Services are read.
    pub(crate) client: &'a Client,
    /// By what labels pods are found.
    pub(crate) stores: &'a Stores,
    /// What Services say.
    pub(crate) probes: &'a Probes,
    /// Is told when a Service says something else.
    pub(crate) work: &'a Arc<Work>,
    /// How many targets are asked about at the same time.
    pub(crate) at_once: usize,
}

impl Gatherer<'_> {
    /// What is to be known of those of the judged targets that are asked about.
    pub(crate) async fn of_judged(
        self,
        rollout: &ConfigRollout,
        seen: &Seen,
        state: &State,
        asked: &BTreeSet<TargetKey>,
    ) -> Vec<(TargetKey, Result<Evidence, ApplyError>)> {
        let to = state.rollout.as_ref().map_or(0, |rollout| rollout.to);
        let settled = |target: &&TargetView| {
            let remembered = state.targets.get(&target.key);
            remembered.is_some_and(|remembered| remembered.is_settled(&target.progress))
        };
        let probed: BTreeSet<_> =
            plan::judged(&seen.observed, state).filter(settled).map(|target| &target.key).collect();
        self.probes.keep(&ObjectKey::of(rollout), &probed);
        let questions: Vec<_> = plan::judged(&seen.observed, state)
            .filter(|target| asked.contains(&target.key))
            .map(|target| {
                // No service need be asked whose pods are not available.
                let remembered = state.targets.get(&target.key).filter(|_| probed.contains(&target.key));
                self.of(rollout, seen, target, to, remembered).map(|evidence| (&target.key, evidence))
            })
            .collect();
        self.answers(questions).await
    }

    /// Notes how often the pods of the targets that are about to be changed have restarted, where that is judged. Returns
    /// the targets whose pods could not be listed.
    pub(crate) async fn note_restarts(
        self,
        rollout: &ObjectKey,
        plan: &mut Plan,
    ) -> Vec<(TargetKey, ApplyError)> {
        let moves = plan.state.judged_moves(&plan.moves);
        let counts: Vec<_> = moves
            .map(|(target, _)| {
                self.counts(&rollout.namespace, target, None).map(move |counts| (target, counts))
            })
            .collect();
        let mut failed = Vec::new();
        for (target, counts) in self.answers(counts).await {
            match (counts, plan.state.targets.get_mut(&target)) {
                (Ok(counts), Some(remembered)) => remembered.restarts_before = counts.restarts,
                (Ok(_), None) => {}
                (Err(error), _) => failed.push((target, error)),
            }
        }
        failed
    }

    async fn answers<'k, T>(
        self,
        questions: Vec<impl Future<Output = (&'k TargetKey, Result<T, RequestError>)>>,
    ) -> Vec<(TargetKey, Result<T, ApplyError>)> {
        let answers = futures::stream::iter(questions).buffer_unordered(self.at_once);
        let told = |(target, answer): (&TargetKey, Result<T, RequestError>)| {
            let failed = |source| ApplyError::Pods { what: target.to_string(), source };
            (target.clone(), answer.map_err(failed))
        };
        answers.map(told).collect().await
    }

    /// What a target's pods show; those alone that have the revision, if it is given.
    async fn counts(
        self,
        namespace: &str,
        target: &TargetKey,
        new: Option<(&Seen, &TargetView, Number)>,
    ) -> Result<Counts, RequestError> {
        let workload = self.stores.workloads(target.kind).get(&ObjectKey::new(namespace, &target.name));
        let Some(selector) = workload.and_then(|workload| workload.pods.clone()) else {
            return Ok(Counts::default());
        };
        let pods = Api::<CountedPod>::namespaced(self.client.clone(), namespace);
        let list = |page| {
            let pods = pods.clone();
            async move { pods.list(&page).await }
        };
        let count = |pod: CountedPod| {
            let is_new = new.is_none_or(|(seen, target, to)| {
                seen.pod_has(self.stores, target, to, pod.annotations(), &pod.spec)
            });
            is_new.then(|| Counts::of(pod))
        };
        let counts = paged(ListParams::default().labels(&selector), list, count).await?;
        Ok(counts.into_iter().fold(Counts::default(), Counts::with))
    }

    async fn of(
        self,
        rollout: &ConfigRollout,
        seen: &Seen,
        target: &TargetView,
        to: Number,
        probed: Option<&TargetState>,
    ) -> Result<Evidence, RequestError> {
        let key = ObjectKey::of(rollout);
        let probe = rollout.spec.stages.get(target.stage).and_then(|stage| stage.gate.probe.as_ref());
        let probe = probed.zip(probe).and_then(|(remembered, probe)| {
            let of = (key.clone(), target.key.clone());
            self.probes.ask(self.client, self.work, of, remembered.changed, probe)
        });
        let new = Some((seen, target, to));
        let Counts { restarts, ready, unscheduled } = self.counts(&key.namespace, &target.key, new).await?;
        Ok(Evidence { restarts, ready, unscheduled, probe })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_without_a_node_is_counted_unless_it_ends() {
        let counts = |deleted: Option<&str>, scheduled: &str| {
            let pod = json!({
                "metadata": {"name": "a", "deletionTimestamp": deleted},
                "status": {"conditions": [{"type": "PodScheduled", "status": scheduled, "reason": "Unschedulable"}]},
            });
            Counts::of(serde_json::from_value(pod).unwrap()).unscheduled
        };
        assert_eq!((counts(None, "False"), counts(None, "True")), (1, 0));
        assert_eq!(counts(Some("2026-01-01T00:00:00Z"), "False"), 0);
    }
}
