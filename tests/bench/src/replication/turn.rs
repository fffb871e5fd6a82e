//! One side's turn: from no pod to all ready, a while of rest, and back to no pod.

use super::{kind::owner_kind, raw};
use crate::{
    error::{Context, Result},
    meter::{Meter, Requests, added, total},
    names::NAMESPACE,
    observer::Observer,
    owner::owner,
    side::{Running, Side, Stage},
    table,
};
use kube::{
    Api,
    api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams},
};
use mainstay_cluster::Usage;
use serde::Serialize;
use serde_json::json;
use std::{
    fmt,
    time::{Duration, Instant},
};

/// What one turn has shown. Times are in seconds, memory in bytes.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    /// Whose turn it was.
    pub side: Side,
    /// How many pods.
    pub pods: usize,
    /// Counted from 0.
    pub round: u32,
    /// From the owner's creation until all pods existed.
    pub exist: f64,
    /// From scaling to 0 until no pod existed.
    pub gone: f64,
    /// Pods made beyond those that were asked for.
    pub surplus: usize,
    /// The API server's CPU time until all pods existed.
    pub server_cpu: f64,
    /// What only a controller has.
    pub controller: Option<Cost>,
}

/// What a controller did and cost in one turn.
#[derive(Debug, Serialize)]
pub(super) struct Cost {
    /// From the owner's creation until its status said that all replicas are ready.
    pub ready: f64,
    /// CPU time from the owner's creation until ready.
    pub cpu_up: f64,
    /// CPU time from the owner's creation until all pods were gone again, with the rest between.
    pub cpu_all: f64,
    /// The most memory since the process's start.
    pub peak: u64,
    /// Memory at the end of the rest, with all pods ready.
    pub idle: u64,
    /// Requests from the owner's creation until ready.
    pub requests_up: Requests,
    /// Requests from scaling to 0 until all pods were gone.
    pub requests_down: Requests,
    /// Values of `status.replicas` between 0 and all, seen before the status said ready.
    pub steps: usize,
    /// Requests during the rest, apart from those for the Lease.
    pub settled: i64,
    /// Requests for the Lease during the rest.
    pub lease: u64,
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { side, pods, round, exist, gone, .. } = self;
        write!(f, "{}, {pods} pods, round {round}: all exist {exist:.1} s, gone {gone:.1} s", side.title())?;
        let Some(cost) = &self.controller else { return Ok(()) };
        let Cost { ready, cpu_up, cpu_all, peak, settled, .. } = cost;
        let peak = peak >> 20;
        write!(f, ", ready {ready:.1} s, CPU {cpu_up:.2} s of {cpu_all:.2} s, {peak} MiB, settled {settled}")
    }
}

impl table::Row for Row {
    fn side(&self) -> Side {
        self.side
    }

    fn pods(&self) -> usize {
        self.pods
    }
}

/// What every turn needs.
pub(super) struct Bench<'a> {
    pub stage: Stage<'a>,
    /// Requests that the bare client has under way at a time.
    pub in_flight: usize,
    /// For how long a settled controller's requests are counted.
    pub settled: Duration,
}

impl Bench<'_> {
    /// Runs a side once. `name` is the owner's, and no other turn's.
    pub(super) async fn turn(&self, side: Side, pods: usize, round: u32, name: &str) -> Result<Row> {
        let running = self.stage.start(side).await?;
        let meters: Vec<&Meter> = running.meter.iter().collect();
        self.stage.bed.quiet(&meters).await?;
        let row = match &running.meter {
            Some(meter) => self.controlled(side, pods, round, name, &running, meter).await?,
            None => self.bare(pods, round, name).await?,
        };
        drop(running);
        self.stage.bed.stop_alone().await?;
        Ok(row)
    }

    async fn controlled(
        &self,
        side: Side,
        pods: usize,
        round: u32,
        name: &str,
        running: &Running,
        meter: &Meter,
    ) -> Result<Row> {
        let (client, kind, server) = (&self.stage.bed.client, owner_kind(side), self.stage.bed.api_server()?);
        let owners: Api<DynamicObject> = Api::namespaced_with(client.clone(), NAMESPACE, &kind);
        let object = serde_json::from_value(owner(&kind, name, pods)).expect("an object has a name");
        let observer = Observer::start(client, NAMESPACE, name, Some(&kind)).await?;
        let limit = limit(side, pods);

        let (sent, server_before) = (meter.requests().await?, server.cpu()?);
        let (before, start) = (meter.cpu()?, Instant::now());
        owners.create(&PostParams::default(), &object).await.when("create the owner")?;
        let exist = observer.wait("all pods to exist", limit, |seen| seen.live >= pods).await?;
        let server_cpu = server.cpu()? - server_before;
        let all = pods as u64;
        let ready = observer
            .wait("the status to say ready", limit, |seen| seen.count("readyReplicas") == all)
            .await?;
        let cpu_up = meter.cpu()? - before;
        let requests_up = added(&sent, &meter.requests().await?);
        let steps = observer.now().values.iter().filter(|value| (1..all).contains(value)).count();

        self.stage.bed.quiet(&[meter]).await?;
        let (settled, lease) = self.rest(running, meter).await?;
        let idle = meter.usage()?.resident_bytes;

        let sent = meter.requests().await?;
        let scaled = Instant::now();
        let patch = Patch::Merge(json!({"spec": {"replicas": 0}}));
        owners.patch(name, &PatchParams::default(), &patch).await.when("scale to 0")?;
        let gone = observer.wait("all pods to be gone", limit, |seen| seen.exist == 0).await?;
        let Usage { cpu, peak_resident_bytes: peak, .. } = meter.usage()?;
        let requests_down = added(&sent, &meter.requests().await?);
        let surplus = observer.now().made.saturating_sub(pods);
        owners.delete(name, &DeleteParams::default()).await.when("delete the owner")?;

        let cost = Cost {
            ready: (ready - start).as_secs_f64(),
            cpu_up,
            cpu_all: cpu.as_secs_f64() - before,
            peak,
            idle,
            requests_up,
            requests_down,
            steps,
            settled,
            lease,
        };
        Ok(Row {
            side,
            pods,
            round,
            exist: (exist - start).as_secs_f64(),
            gone: (gone - scaled).as_secs_f64(),
            surplus,
            server_cpu,
            controller: Some(cost),
        })
    }

    /// Counts requests while nothing changes; returns those apart from the Lease's, and the Lease's.
    ///
    /// A renewal reads the Lease and writes it: two requests. The count begins and ends right after one, so
    /// that none is cut in half, and renewals are counted at the Lease itself, not by the controller.
    async fn rest(&self, running: &Running, meter: &Meter) -> Result<(i64, u64)> {
        let mut renewals = match &running.controller {
            Some(controller) => Some(controller.renewals().await?),
            None => None,
        };
        if let Some(renewals) = &mut renewals {
            renewals.next().await?;
        }
        let (before, start, mut lease) = (meter.requests().await?, Instant::now(), 0);
        match &mut renewals {
            Some(renewals) => {
                let first = renewals.count();
                while start.elapsed() < self.settled {
                    renewals.next().await?;
                }
                lease = 2 * (renewals.count() - first);
            }
            None => tokio::time::sleep(self.settled).await,
        }
        let all = total(&added(&before, &meter.requests().await?));
        Ok((i64::try_from(all).unwrap_or(i64::MAX) - i64::try_from(lease).unwrap_or(i64::MAX), lease))
    }

    async fn bare(&self, pods: usize, round: u32, name: &str) -> Result<Row> {
        let observer = Observer::start(&self.stage.bed.client, NAMESPACE, name, None).await?;
        let (side, server) = (Side::Bare, self.stage.bed.api_server()?);
        let group =
            raw::Pods::prepare(self.stage.bed, &self.stage.account, name, pods, self.in_flight).await?;
        let (before, start) = (server.cpu()?, Instant::now());
        group.create().await?;
        let exist = observer.wait("all pods to exist", limit(side, pods), |seen| seen.live >= pods).await?;
        let server_cpu = server.cpu()? - before;
        // The scheduler and the nodes are still at it; the controllers begin their deletes at rest, too.
        self.stage.bed.quiet(&[]).await?;
        let deleted = Instant::now();
        group.delete().await?;
        let gone = observer.wait("all pods to be gone", limit(side, pods), |seen| seen.exist == 0).await?;
        Ok(Row {
            side,
            pods,
            round,
            exist: (exist - start).as_secs_f64(),
            gone: (gone - deleted).as_secs_f64(),
            surplus: observer.now().made.saturating_sub(pods),
            server_cpu,
            controller: None,
        })
    }
}

/// How long a wait for `pods` pods may take: ten times what it takes, or three times where a client limit of
/// 20 requests a second makes that known.
fn limit(side: Side, pods: usize) -> Duration {
    let per_second = if side.is_limited() { 20 / 3 } else { 15 };
    Duration::from_secs(120 + pods as u64 / per_second)
}
