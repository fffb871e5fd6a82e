//! What no watch delivers: how often pods have restarted, and whether a Service answers.

use std::{collections::BTreeMap, net::SocketAddr};

use futures::{FutureExt, StreamExt};
use jiff::Timestamp;
use k8s_openapi::{api::core::v1, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{Api, Client, ResourceExt, api::ListParams};
use mainstay_crds::{ConfigProbe, ConfigRollout, seconds};
use mainstay_probe::{Check, Http, Kind};
use mainstay_runtime::{
    failure::RequestError,
    index::ObjectKey,
    request::{in_time, paged},
    slim::{self, Conditions},
    stands_for,
};
use serde::Deserialize;

use crate::{
    apply::ApplyError,
    plan::{self, Evidence, Observed, Plan, State, TargetKey, TargetState, TargetView},
    stores::Stores,
};

/// A pod, as far as its restarts go.
#[derive(Debug, Clone, Deserialize)]
struct CountedPod {
    #[serde(deserialize_with = "slim::metadata")]
    metadata: ObjectMeta,
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
}

impl Counts {
    fn of(pod: CountedPod) -> Self {
        let CountedStatus { conditions, container_statuses, init_container_statuses } = pod.status;
        let stays = pod.metadata.deletion_timestamp.is_none();
        let containers = container_statuses.into_iter().chain(init_container_statuses);
        let restarts = containers.map(|container| container.restart_count).max().unwrap_or_default();
        Self { restarts, ready: i32::from(stays && conditions.is_true("Ready")) }
    }

    fn with(self, other: Self) -> Self {
        Self { restarts: self.restarts.max(other.restarts), ready: self.ready + other.ready }
    }
}

/// Asks the API server, and the probed Services.
#[derive(Clone, Copy)]
pub(crate) struct Gatherer<'a> {
    /// Where pods and Services are read.
    pub(crate) client: &'a Client,
    /// By what labels pods are found.
    pub(crate) stores: &'a Stores,
    /// How many targets are asked about at the same time.
    pub(crate) at_once: usize,
}

impl Gatherer<'_> {
    /// What is to be known of the targets that are judged.
    ///
    /// # Errors
    /// When the pods of one cannot be listed.
    pub(crate) async fn of_judged(
        self,
        rollout: &ConfigRollout,
        observed: &Observed,
        state: &State,
    ) -> Result<BTreeMap<TargetKey, Evidence>, ApplyError> {
        let questions: Vec<_> = plan::judged(observed, state)
            .map(|target| {
                let remembered = state.targets.get(&target.key);
                self.of(rollout, target, remembered).map(|evidence| (&target.key, evidence))
            })
            .collect();
        self.answers(questions).await
    }

    /// Notes how often the pods of the targets that are about to be changed have restarted, where that is judged.
    ///
    /// # Errors
    /// When the pods of one cannot be listed.
    pub(crate) async fn note_restarts(self, rollout: &ObjectKey, plan: &mut Plan) -> Result<(), ApplyError> {
        let judged = plan.state.rollout.as_ref().filter(|to| !plan.state.is_ungated(to));
        let Some(to) = judged.map(|rollout| rollout.to) else { return Ok(()) };
        let moves = plan.moves.iter().filter(|(_, number)| *number == to);
        let counts: Vec<_> = moves
            .map(|(target, _)| {
                self.counts(&rollout.namespace, target, None).map(move |counts| (target, counts))
            })
            .collect();
        for (target, counts) in self.answers(counts).await? {
            if let Some(remembered) = plan.state.targets.get_mut(&target) {
                remembered.restarts_before = counts.restarts;
            }
        }
        Ok(())
    }

    async fn answers<'k, T>(
        self,
        questions: Vec<impl Future<Output = (&'k TargetKey, Result<T, RequestError>)>>,
    ) -> Result<BTreeMap<TargetKey, T>, ApplyError> {
        let mut answers = futures::stream::iter(questions).buffer_unordered(self.at_once);
        let mut all = BTreeMap::new();
        while let Some((target, answer)) = answers.next().await {
            let failed = |source| ApplyError::Read { what: format!("the pods of {target}"), source };
            all.insert(target.clone(), answer.map_err(failed)?);
        }
        Ok(all)
    }

    /// What a target's pods show; those alone that were made since `since`, if it is given.
    async fn counts(
        self,
        namespace: &str,
        target: &TargetKey,
        since: Option<Timestamp>,
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
            let created = pod.metadata.creation_timestamp.as_ref();
            let is_new = since.is_none_or(|since| created.is_some_and(|created| created.0 >= since));
            is_new.then(|| Counts::of(pod))
        };
        let counts = paged(ListParams::default().labels(&selector), list, count).await?;
        Ok(counts.into_iter().fold(Counts::default(), Counts::with))
    }

    async fn of(
        self,
        rollout: &ConfigRollout,
        target: &TargetView,
        remembered: Option<&TargetState>,
    ) -> Result<Evidence, RequestError> {
        let namespace = rollout.namespace().unwrap_or_default();
        let since = remembered.and_then(|remembered| remembered.changed);
        let Counts { restarts, ready } = self.counts(&namespace, &target.key, since).await?;
        let probe = rollout.spec.stages.get(target.stage).and_then(|stage| stage.gate.probe.as_ref());
        // Nobody need be asked who is not available.
        let is_settled = remembered.is_some_and(|remembered| remembered.is_settled(&target.progress));
        let probe = match probe.filter(|_| is_settled) {
            Some(probe) => Some(ask(self.client, &namespace, probe).await),
            None => None,
        };
        Ok(Evidence { restarts, ready, probe })
    }
}

/// Calls a Service of the namespace. Only Services are called, by their cluster address, so that a user cannot make
/// the controller reach what the namespace's own pods could not.
async fn ask(client: &Client, namespace: &str, probe: &ConfigProbe) -> Result<(), String> {
    let ConfigProbe { service: name, port, path, timeout_seconds } = probe;
    let services = Api::<v1::Service>::namespaced(client.clone(), namespace);
    let service = in_time(services.get_opt(name)).await.map_err(|error| error.to_string())?;
    let service = service.ok_or_else(|| format!("there is no Service {name}"))?;
    let address = service.spec.and_then(|spec| spec.cluster_ip).and_then(|address| address.parse().ok());
    let address = address.ok_or_else(|| format!("Service {name} has no cluster address"))?;
    let http = Http {
        path: path.clone(),
        host: Some(format!("{name}.{namespace}:{port}")),
        expected: vec![200..=399],
        tls: None,
    };
    let timeout = seconds(*timeout_seconds);
    let outcome = Check { kind: Kind::Http(http), timeout }.run(SocketAddr::new(address, *port)).await;
    outcome.result.map_err(|failure| format!("Service {name}: {failure}"))
}
