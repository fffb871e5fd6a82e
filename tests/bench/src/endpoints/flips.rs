//! Pods that become ready and not ready, one after the other.

use super::{
    settings::Options,
    watch::{Delay, Tally, Watch},
};
use crate::{
    bed::Bed,
    error::{Context, Error, Result},
    meter::{Meter, Requests, added, writes},
    names::NAMESPACE,
    pods::{self, object},
    side::Side,
    statistics::percentile,
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
use serde_json::json;
use std::{
    fmt,
    time::{Duration, Instant},
};
use tokio::time::MissedTickBehavior;

/// Requests under way when many objects are made.
const IN_FLIGHT: usize = 32;
/// So many pods are not ready at a time.
const APART: usize = 20;
/// For what a controller puts off: Mainstay writes the status of a pool every 5 s at most.
const AFTERWARDS: Duration = Duration::from_secs(6);
const APP: &str = "mainstay-bench/app";

/// One turn.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    /// How kube-controller-manager ran.
    pub side: Side,
    pub round: u32,
    /// Changes of readiness.
    pub flips: usize,
    /// Changes a second, as reached.
    pub rate: f64,
    /// Mainstay, and upstream.
    pub sides: [Cost; 2],
}

/// What a side has taken for the flips of a turn.
#[derive(Debug, Serialize)]
pub(crate) struct Cost {
    /// All flips.
    pub all: Delays,
    /// Pods that became ready, and that ceased to be.
    pub ready: Delays,
    pub not_ready: Delays,
    /// Flips that were not shown before the same pod flipped again.
    pub overtaken: u64,
    /// Slices written a flip.
    pub slice_writes: f64,
    /// Statuses of pools written a flip.
    pub pool_writes: f64,
    /// Requests of its controller that change something, a flip; with the renewals of the Lease.
    pub all_writes: f64,
    /// CPU seconds.
    pub cpu: f64,
    /// Peak of its memory in bytes.
    pub rss: u64,
}

/// From the answer to the pod's change to the event of the slice, in seconds: half of the flips, and 99 %, were not
/// slower.
#[derive(Debug, Serialize)]
pub(crate) struct Delays {
    pub p50: f64,
    pub p99: f64,
}

impl Delays {
    fn of(delays: impl Iterator<Item = Delay>) -> Self {
        let mut sorted: Vec<f64> = delays.map(|delay| delay.seconds).collect();
        sorted.sort_by(f64::total_cmp);
        Self { p50: percentile(&sorted, 0.50), p99: percentile(&sorted, 0.99) }
    }
}

impl Cost {
    /// What lies between two looks at a controller, in which its slices did what `tally` says.
    fn of(before: &Used, after: &Used, tally: &Tally, flips: usize) -> Self {
        let per_flip = |count: u64| count as f64 / flips as f64;
        let delays = || tally.delays.iter().copied();
        Self {
            all: Delays::of(delays()),
            ready: Delays::of(delays().filter(|delay| delay.ready)),
            not_ready: Delays::of(delays().filter(|delay| !delay.ready)),
            overtaken: tally.overtaken,
            slice_writes: per_flip(tally.slice_writes),
            pool_writes: per_flip(tally.pool_writes),
            all_writes: per_flip(writes(&added(&before.requests, &after.requests))),
            cpu: after.cpu - before.cpu,
            rss: after.rss,
        }
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [ours, theirs] = &self.sides;
        write!(
            f,
            "{}, round {}: p99 {:.0} to {:.0} ms, {:.2} to {:.2} slices written a flip, CPU {:.2} to {:.2} s",
            self.side.title(),
            self.round,
            ours.all.p99 * 1000.0,
            theirs.all.p99 * 1000.0,
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
    pods::ready(bed).await
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
    let flips = order((options.rate * options.seconds / 2) as usize, options.services * options.pods);
    let before = [used(meters[0]).await?, used(meters[1]).await?];
    watch.take();
    let api: Api<Pod> = Api::namespaced(bed.client.clone(), NAMESPACE);
    let mut clock = tokio::time::interval(Duration::from_secs(1) / options.rate);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let start = Instant::now();
    for (number, ready) in &flips {
        clock.tick().await;
        let sent = Instant::now();
        flip(&api, &name(*number), *ready).await?;
        watch.flipped(&name(*number), *ready, (sent, Instant::now()));
    }
    let rate = flips.len() as f64 / start.elapsed().as_secs_f64();
    watch.settled().await?;
    tokio::time::sleep(AFTERWARDS).await;
    let after = [used(meters[0]).await?, used(meters[1]).await?];
    let tallies = watch.take();
    let cost = |index: usize| Cost::of(&before[index], &after[index], &tallies[index], flips.len());
    Ok(Row { side, round, flips: flips.len(), rate, sides: [cost(0), cost(1)] })
}

/// Which pods flip, and to what: `count` of `pods` pods cease to be ready, one after the other, and each becomes ready
/// again some flips later, so all are ready at the end. Neighbours belong to different Services.
fn order(count: usize, pods: usize) -> Vec<(usize, bool)> {
    let mut flips = Vec::new();
    for number in 0..count + APART {
        if number < count {
            flips.push((number % pods, false));
        }
        if number >= APART {
            flips.push(((number - APART) % pods, true));
        }
    }
    flips
}

/// What a controller has used so far.
struct Used {
    /// CPU seconds.
    cpu: f64,
    /// Peak of its memory in bytes.
    rss: u64,
    requests: Requests,
}

async fn used(meter: &Meter) -> Result<Used> {
    let usage = meter.usage()?;
    let requests = meter.requests().await?;
    Ok(Used { cpu: usage.cpu.as_secs_f64(), rss: usage.peak_resident_bytes, requests })
}

async fn flip(pods: &Api<Pod>, name: &str, ready: bool) -> Result<()> {
    let status = if ready { "True" } else { "False" };
    let now = Timestamp::now().strftime("%FT%TZ").to_string();
    let conditions = ["Ready", "ContainersReady"]
        .map(|kind| json!({"type": kind, "status": status, "lastTransitionTime": now}));
    let patch = Patch::Strategic(json!({"status": {"conditions": conditions}}));
    pods.patch_status(name, &PatchParams::default(), &patch).await.when("flip a pod").map(drop)
}

#[cfg(test)]
mod tests {
    use super::{APART, order};
    use std::collections::HashSet;

    #[test]
    fn each_pod_becomes_ready_again_and_few_are_not_ready_at_a_time() {
        let mut out = HashSet::new();
        let flips = order(60, 50);
        for (pod, ready) in &flips {
            assert!(if *ready { out.remove(pod) } else { out.insert(*pod) }, "pod {pod} is so already");
            assert!(out.len() <= APART + 1, "{} pods are not ready", out.len());
        }
        assert_eq!((flips.len(), out.len()), (120, 0));
    }
}
