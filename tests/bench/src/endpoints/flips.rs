//! Pods that become ready and not ready, one after the other.

use super::{Options, watch::Watch};
use crate::{
    bed::{Bed, NAMESPACE},
    error::{Context, Error, Result},
    meter::{Meter, added, writes},
    side::Side,
};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::{
    api::core::v1::{Node, Pod, Service},
    jiff::Timestamp,
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use mainstay_crds::EndpointPool;
use serde::Serialize;
use serde_json::{Value, json};
use std::{fmt, time::Duration};
use tokio::time::MissedTickBehavior;

/// Requests under way when many objects are made.
const IN_FLIGHT: usize = 32;
/// A pod is not ready for so many flips.
const APART: usize = 20;
const APP: &str = "mainstay-bench/app";

/// One turn.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    /// How kube-controller-manager ran.
    pub side: Side,
    pub round: u32,
    /// Changes of readiness.
    pub flips: usize,
    /// Mainstay, and upstream.
    pub sides: [Cost; 2],
}

/// What a side has taken for the flips of a turn.
#[derive(Debug, Serialize)]
pub(crate) struct Cost {
    /// From the pod's event to the slice's, in seconds: half of the flips were faster, and 99 %.
    pub p50: f64,
    pub p99: f64,
    /// Slices written a flip.
    pub slice_writes: f64,
    /// Requests of its controller that change something, a flip; with the status of pools and the renewals of the Lease.
    pub all_writes: f64,
    /// CPU seconds.
    pub cpu: f64,
    /// Peak of its memory in bytes.
    pub rss: u64,
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [ours, theirs] = &self.sides;
        write!(
            f,
            "{}, round {}: p99 {:.0} to {:.0} ms, {:.2} to {:.2} slice writes a flip, CPU {:.1} to {:.1} s",
            self.side.title(),
            self.round,
            ours.p99 * 1000.0,
            theirs.p99 * 1000.0,
            ours.slice_writes,
            theirs.slice_writes,
            ours.cpu,
            theirs.cpu
        )
    }
}

fn app(number: usize) -> String {
    format!("app-{number}")
}

/// Makes the pods of all Services on the fake nodes, and waits until they are ready.
pub(crate) async fn make_pods(bed: &Bed, services: usize, pods: usize) -> Result<()> {
    let nodes: Api<Node> = Api::all(bed.client.clone());
    let fake = nodes.list(&ListParams::default().labels("type=kwok")).await.when("list nodes")?;
    let fake: Vec<String> = fake.iter().map(ResourceExt::name_any).collect();
    if fake.is_empty() {
        return Err(Error::Refused("the cluster has no fake nodes: `mainstay-cluster up --nodes 30`".into()));
    }
    let api: Api<Pod> = Api::namespaced(bed.client.clone(), NAMESPACE);
    let all = (0..services * pods).map(|number| {
        let pod = pod(number, &app(number % services), &fake[number % fake.len()]);
        let api = &api;
        async move { api.create(&PostParams::default(), &pod?).await.when("create a pod").map(drop) }
    });
    stream::iter(all).buffer_unordered(IN_FLIGHT).try_collect::<Vec<()>>().await?;
    bed.until("all pods to be ready", async || {
        let ready = api.list(&ListParams::default()).await.when("list pods")?;
        Ok(ready.iter().all(|pod| {
            let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
            let mut conditions = conditions.into_iter().flatten();
            conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True")
        }))
    })
    .await
}

fn pod(number: usize, app: &str, node: &str) -> Result<Pod> {
    object(json!({
        "metadata": {"name": name(number), "labels": {APP: app}},
        "spec": {
            "nodeName": node,
            "automountServiceAccountToken": false,
            "containers": [{"name": "none", "image": "registry.k8s.io/pause:3.10.2"}],
        },
    }))
}

fn name(number: usize) -> String {
    format!("pod-{number}")
}

fn object<T: serde::de::DeserializeOwned>(value: Value) -> Result<T> {
    serde_json::from_value(value).map_err(|error| Error::Refused(format!("the bench's own object: {error}")))
}

/// Makes a Service with a selector and a pool with its Service for each app.
pub(crate) async fn make_services(bed: &Bed, count: usize) -> Result<()> {
    let services: Api<Service> = Api::namespaced(bed.client.clone(), NAMESPACE);
    let pools: Api<EndpointPool> = Api::namespaced(bed.client.clone(), NAMESPACE);
    let ports = json!([{"port": 80, "targetPort": 8080}]);
    for number in 0..count {
        let (name, selector) = (app(number), json!({APP: app(number)}));
        let service = json!({"metadata": {"name": name}, "spec": {"selector": selector, "ports": ports}});
        services.create(&PostParams::default(), &object(service)?).await.when("create a Service")?;
        let own = format!("own-{name}");
        let pool = json!({
            "apiVersion": "mainstay.dev/v1alpha1", "kind": "EndpointPool", "metadata": {"name": own},
            "spec": {
                "serviceRef": {"name": own, "create": {"spec": {"ports": ports}}},
                "members": [{"name": "pods", "podSelector": {"matchLabels": selector}}],
            },
        });
        pools.create(&PostParams::default(), &object(pool)?).await.when("create a pool")?;
    }
    Ok(())
}

/// Removes the pools, the Services and the pods.
pub(crate) async fn remove_services(bed: &Bed) -> Result<()> {
    let client = &bed.client;
    let (all, now) = (ListParams::default(), DeleteParams::default().grace_period(0));
    let pools: Api<EndpointPool> = Api::namespaced(client.clone(), NAMESPACE);
    pools.delete_collection(&now, &all).await.when("delete the pools")?;
    let services: Api<Service> = Api::namespaced(client.clone(), NAMESPACE);
    services.delete_collection(&now, &all).await.when("delete the Services")?;
    let pods: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
    pods.delete_collection(&now, &all).await.when("delete the pods")?;
    bed.until("the pods to be gone", async || {
        Ok(pods.list(&all.clone().limit(1)).await.when("list pods")?.items.is_empty())
    })
    .await
}

/// Flips pods at a steady rate while both sides follow, and says what that cost them.
pub(crate) async fn turn(
    bed: &Bed,
    options: &Options,
    (side, round): (Side, u32),
    watch: &Watch,
    meters: [&Meter; 2],
) -> Result<Row> {
    bed.quiet(&meters).await?;
    let before = [usage(meters[0]).await?, usage(meters[1]).await?];
    let slices = watch.writes();
    let (count, pods) = ((options.rate * options.seconds) as usize, options.services * options.pods);
    let mut delays = [Vec::new(), Vec::new()];
    let mut clock = tokio::time::interval(Duration::from_secs(1) / options.rate);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let api: Api<Pod> = Api::namespaced(bed.client.clone(), NAMESPACE);
    // Each pod is flipped twice, so that all are ready again at the end. Neighbours belong to different Services.
    let mut flips: Vec<(usize, bool)> = Vec::new();
    for number in 0..count / 2 {
        flips.push((number % pods, false));
        if number >= APART {
            flips.push(((number - APART) % pods, true));
        }
    }
    flips.extend((count / 2 - APART.min(count / 2)..count / 2).map(|number| (number % pods, true)));
    for (number, ready) in &flips {
        clock.tick().await;
        if *ready {
            // Whoever has not shown the pod as not ready yet by now misses the flip: told by the next wait.
            take(&mut delays, watch.delays(&name(*number)));
        }
        flip(&api, &name(*number), *ready).await?;
    }
    watch.settled().await?;
    for (number, ready) in &flips {
        if *ready {
            take(&mut delays, watch.delays(&name(*number)));
        }
    }
    let after = [usage(meters[0]).await?, usage(meters[1]).await?];
    let written = watch.writes();
    let cost = |index: usize| {
        let per_flip = |count: u64| count as f64 / flips.len() as f64;
        let mut sorted = delays[index].clone();
        sorted.sort_by(f64::total_cmp);
        Cost {
            p50: percentile(&sorted, 0.50),
            p99: percentile(&sorted, 0.99),
            slice_writes: per_flip(written[index] - slices[index]),
            all_writes: per_flip(writes(&added(&before[index].2, &after[index].2))),
            cpu: after[index].0 - before[index].0,
            rss: after[index].1,
        }
    };
    Ok(Row { side, round, flips: flips.len(), sides: [cost(0), cost(1)] })
}

fn take(delays: &mut [Vec<f64>; 2], seen: Option<[f64; 2]>) {
    if let Some(seen) = seen {
        delays.iter_mut().zip(seen).for_each(|(delays, delay)| delays.push(delay));
    }
}

/// CPU seconds, memory and requests so far.
async fn usage(meter: &Meter) -> Result<(f64, u64, crate::meter::Requests)> {
    let usage = meter.usage()?;
    Ok((usage.cpu.as_secs_f64(), usage.peak_resident_bytes, meter.requests().await?))
}

async fn flip(pods: &Api<Pod>, name: &str, ready: bool) -> Result<()> {
    let status = if ready { "True" } else { "False" };
    let now = Timestamp::now().strftime("%FT%TZ").to_string();
    let conditions = ["Ready", "ContainersReady"]
        .map(|kind| json!({"type": kind, "status": status, "lastTransitionTime": now}));
    let patch = Patch::Strategic(json!({"status": {"conditions": conditions}}));
    pods.patch_status(name, &PatchParams::default(), &patch).await.when("flip a pod").map(drop)
}

/// The value that this share of sorted values does not exceed.
fn percentile(sorted: &[f64], share: f64) -> f64 {
    let index = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(index.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::percentile;

    #[test]
    fn a_percentile_is_the_value_that_so_many_do_not_exceed() {
        let values: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!((percentile(&values, 0.5), percentile(&values, 0.99)), (50.0, 99.0));
        assert_eq!(percentile(&[7.0], 0.99), 7.0);
        assert!(percentile(&[], 0.5).is_nan());
    }
}
