//! What no watch shows: how often pods have restarted, and whether a Service answers.

use std::{net::SocketAddr, time::Duration};

use jiff::Timestamp;
use k8s_openapi::{api::core::v1, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{Api, Client, ResourceExt, api::ListParams};
use mainstay_crds::{ConfigProbe, ConfigRollout};
use mainstay_probe::{Check, Http, Kind};
use mainstay_runtime::{failure::RequestError, index::ObjectKey, request::in_time, slim, stands_for};
use serde::Deserialize;

use crate::{
    plan::{Evidence, TargetKey, TargetView},
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
    container_statuses: Vec<CountedContainer>,
    init_container_statuses: Vec<CountedContainer>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct CountedContainer {
    #[serde(default)]
    restart_count: i32,
}

/// The most restarts of a container of a target's pods; of those alone that were made since `since`, if it is given.
///
/// # Errors
/// When the pods cannot be listed.
pub(crate) async fn restarts(
    client: &Client,
    stores: &Stores,
    namespace: &str,
    target: &TargetKey,
    since: Option<Timestamp>,
) -> Result<i32, RequestError> {
    let workload = stores.workloads(target.kind).get(&ObjectKey::new(namespace, &target.name));
    let Some(selector) = workload.and_then(|workload| workload.pods.clone()) else { return Ok(0) };
    let pods = Api::<CountedPod>::namespaced(client.clone(), namespace);
    let pods = in_time(pods.list(&ListParams::default().labels(&selector))).await?;
    let is_new = |pod: &&CountedPod| {
        let created = pod.metadata.creation_timestamp.as_ref();
        since.is_none_or(|since| created.is_some_and(|created| created.0 >= since))
    };
    let containers = |pod: &CountedPod| {
        let CountedStatus { container_statuses, init_container_statuses } = pod.status.clone();
        container_statuses.into_iter().chain(init_container_statuses)
    };
    let counts = pods.iter().filter(is_new).flat_map(containers).map(|container| container.restart_count);
    Ok(counts.max().unwrap_or_default())
}

/// What is to be known of a target on its way.
///
/// # Errors
/// When its pods cannot be listed.
pub(crate) async fn of(
    client: &Client,
    stores: &Stores,
    rollout: &ConfigRollout,
    target: &TargetView,
    since: Option<Timestamp>,
) -> Result<Evidence, RequestError> {
    let namespace = rollout.namespace().unwrap_or_default();
    let restarts = restarts(client, stores, &namespace, &target.key, since).await?;
    let probe = rollout.spec.stages.get(target.stage).and_then(|stage| stage.gate.probe.as_ref());
    // Nobody need be asked who is not available.
    let probe = match probe.filter(|_| target.progress.is_settled()) {
        Some(probe) => Some(ask(client, &namespace, probe).await),
        None => None,
    };
    Ok(Evidence { restarts, probe })
}

/// Asks a Service of the namespace. Only Services are asked, by their cluster address, so that nobody can have the
/// controller reach what the namespace's own pods could not.
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
    let timeout = Duration::from_secs(u64::try_from(*timeout_seconds).unwrap_or(1));
    let outcome = Check { kind: Kind::Http(http), timeout }.run(SocketAddr::new(address, *port)).await;
    outcome.result.map_err(|failure| format!("Service {name}: {failure}"))
}
