//! One side's turn: pods at rest, a change of their image, and rest again.

use super::complete::{Goal, revision};
use crate::{
    controller::Renewals,
    error::{Context, Error, Result},
    meter::{self, Meter, Requests, added},
    names::NAMESPACE,
    observer::Observer,
    owner::{owner, template},
    served,
    side::{Running, Side, Stage},
    table,
};
use k8s_openapi::api::apps::v1::Deployment;
use kube::{
    Api,
    api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams},
};
use mainstay_cluster::Usage;
use mainstay_crds::ReplicaGroup;
use serde::Serialize;
use serde_json::{Value, json};
use std::{
    fmt,
    time::{Duration, Instant},
};

/// The image that the pods are changed to.
const NEW_IMAGE: &str = "registry.k8s.io/pause:3.10.1";
/// How many pods there may be beyond those asked for, and how many of those may be unavailable.
const BOUNDS: &str = "25%";

/// What one turn has shown. Times are in seconds, memory in bytes. What is counted begins when the change is
/// sent and ends when the rollout is complete and all old pods are gone.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Row {
    /// Whose turn it was.
    pub side: Side,
    /// How many pods.
    pub pods: usize,
    /// Counted from 0.
    pub round: u32,
    /// Until the owner's status said that the rollout is complete.
    pub complete: f64,
    /// Until no pod existed that there was before the change.
    pub gone: f64,
    /// The controller's requests, by its own count.
    pub requests: Requests,
    /// Renewals of its Lease among them, each one read and one write.
    pub renewals: u64,
    /// Its writes after the end, until all was at rest, without the Lease's.
    pub late: i64,
    /// Writes that the API server has carried out, by its own count.
    pub served: Requests,
    /// How many old pods there were.
    pub old: usize,
    /// The controller's CPU time.
    pub cpu: f64,
    /// The most memory since the controller's start.
    pub peak: u64,
    /// The API server's CPU time.
    pub server_cpu: f64,
    /// The most pods at one time, without those whose deletion had begun.
    pub most: usize,
    /// The fewest available pods, by the owner's status.
    pub least_available: u64,
    /// Pods made beyond the new ones that were needed.
    pub surplus: usize,
}

impl Row {
    /// The controller's writes, without the Lease's.
    pub(super) fn writes(&self) -> u64 {
        meter::writes(&self.requests).saturating_sub(self.renewals)
    }

    /// The controller's reads, without the Lease's.
    pub(super) fn reads(&self) -> u64 {
        let reads = meter::total(&self.requests) - meter::writes(&self.requests);
        reads.saturating_sub(self.renewals)
    }

    /// Writes by the API server's count, without the bench's one, and without the one by which a node takes an
    /// ended pod away.
    pub(super) fn served_writes(&self) -> u64 {
        meter::total(&self.served).saturating_sub(1 + self.old as u64)
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

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { side, pods, round, complete, gone, cpu, .. } = self;
        let (peak, writes, served) = (self.peak >> 20, self.writes(), self.served_writes());
        write!(f, "{}, {pods} pods, round {round}: complete {complete:.1} s, old pods gone ", side.title())?;
        write!(f, "{gone:.1} s, {writes} writes ({served} by the server), CPU {cpu:.2} s, {peak} MiB")
    }
}

/// A turn's owner and who sees it.
struct Scene<'a> {
    side: Side,
    name: &'a str,
    owners: Api<DynamicObject>,
    observer: Observer,
    limit: Duration,
}

/// What every turn needs.
pub(super) struct Bench<'a> {
    pub stage: Stage<'a>,
    pub pods: usize,
}

impl Bench<'_> {
    /// Runs a side once.
    pub(super) async fn turn(&self, side: Side, round: u32) -> Result<Row> {
        let (bed, kind) = (self.stage.bed, owner_kind(side));
        let running = self.stage.start(side).await?;
        let meter = running
            .meter
            .as_ref()
            .ok_or_else(|| Error::Refused(format!("{} has no controller and so no rollout", side.title())))?;
        let name = format!("{}-{round}", side.name());
        let scene = Scene {
            side,
            name: &name,
            owners: Api::namespaced_with(bed.client.clone(), NAMESPACE, &kind),
            observer: Observer::start(&bed.client, NAMESPACE, &name, Some(&kind)).await?,
            limit: limit(side, self.pods),
        };
        bed.quiet(&[meter]).await?;
        self.fill(&scene, &kind).await?;
        bed.quiet(&[meter]).await?;
        let row = self.change(&scene, round, &running, meter).await?;
        empty(&scene).await?;
        drop(running);
        bed.stop_alone().await?;
        Ok(row)
    }

    /// Makes the owner and waits until it has all its pods.
    async fn fill(&self, scene: &Scene<'_>, kind: &ApiResource) -> Result<()> {
        let object = serde_json::from_value(rolling(kind, scene, self.pods)).expect("an object has a name");
        let made = scene.owners.create(&PostParams::default(), &object).await.when("create the owner")?;
        let goal = self.goal(scene, &made, None);
        let what = "the owner to be complete at first";
        scene.observer.wait(what, scene.limit, |seen| goal.is_reached(&seen.status)).await?;
        Ok(())
    }

    fn goal(&self, scene: &Scene<'_>, owner: &DynamicObject, before: Option<String>) -> Goal {
        let generation = owner.metadata.generation.unwrap_or_default();
        Goal { side: scene.side, generation, pods: self.pods as u64, before }
    }

    /// Changes the image and measures what follows.
    async fn change(&self, scene: &Scene<'_>, round: u32, running: &Running, meter: &Meter) -> Result<Row> {
        let Scene { side, name, owners, observer, limit } = scene;
        let (bed, server) = (self.stage.bed, self.stage.bed.api_server()?);
        let before = revision(&observer.now().status);
        let patch = Patch::Merge(json!({"spec": {"template": template(name, NEW_IMAGE)}}));
        let mut lease = Lease::watch(running).await?;
        observer.mark();
        let (old, made) = (observer.now().earlier, observer.now().made);

        let served_before = served::writes(&bed.client).await?;
        lease.renewal().await?;
        let (sent, renewals) = (meter.requests().await?, lease.count());
        let (server_cpu, cpu, start) = (server.cpu()?, meter.cpu()?, Instant::now());
        let owner = owners.patch(name, &PatchParams::default(), &patch).await.when("change the image")?;
        let goal = self.goal(scene, &owner, before);
        let (complete, gone) = tokio::try_join!(
            observer.wait("the rollout to be complete", *limit, |seen| goal.is_reached(&seen.status)),
            observer.wait("the old pods to be gone", *limit, |seen| seen.earlier == 0),
        )?;
        let Usage { cpu: cpu_after, peak_resident_bytes: peak, .. } = meter.usage()?;
        let server_cpu = server.cpu()? - server_cpu;
        let requests = added(&sent, &meter.requests().await?);
        let renewed = lease.count() - renewals;
        let served = added(&served_before, &served::writes(&bed.client).await?);
        let seen = observer.now();

        bed.quiet(&[meter]).await?;
        lease.renewal().await?;
        let all = meter::writes(&added(&sent, &meter.requests().await?)) - (lease.count() - renewals);
        let row = Row {
            side: *side,
            pods: self.pods,
            round,
            complete: (complete - start).as_secs_f64(),
            gone: (gone - start).as_secs_f64(),
            requests,
            renewals: renewed,
            late: 0,
            served,
            old,
            cpu: cpu_after.as_secs_f64() - cpu,
            peak,
            server_cpu,
            most: seen.most,
            least_available: seen.least_available,
            surplus: (seen.made - made).saturating_sub(self.pods),
        };
        // A renewal that is under way at the end is counted in one of the two numbers, but not the other.
        Ok(Row { late: difference(all, row.writes()), ..row })
    }
}

/// The renewals of the Lease of a controller that has one.
struct Lease(Option<Renewals>);

impl Lease {
    async fn watch(running: &Running) -> Result<Self> {
        Ok(Self(match &running.controller {
            Some(controller) => Some(controller.renewals().await?),
            None => None,
        }))
    }

    /// Waits for a renewal, so that a count that begins or ends here cuts none in half.
    async fn renewal(&mut self) -> Result<()> {
        match &mut self.0 {
            Some(renewals) => renewals.next().await,
            None => Ok(()),
        }
    }

    fn count(&self) -> u64 {
        self.0.as_ref().map_or(0, Renewals::count)
    }
}

/// Scales the owner to 0 and deletes it.
async fn empty(scene: &Scene<'_>) -> Result<()> {
    let Scene { name, owners, observer, limit, .. } = scene;
    let patch = Patch::Merge(json!({"spec": {"replicas": 0}}));
    owners.patch(name, &PatchParams::default(), &patch).await.when("scale to 0")?;
    observer.wait("all pods to be gone", *limit, |seen| seen.exist == 0).await?;
    owners.delete(name, &DeleteParams::default()).await.when("delete the owner").map(drop)
}

fn owner_kind(side: Side) -> ApiResource {
    match side {
        Side::Mainstay => ApiResource::erase::<ReplicaGroup>(&()),
        _ => ApiResource::erase::<Deployment>(&()),
    }
}

/// An owner that exchanges its pods within the same bounds on all sides.
fn rolling(kind: &ApiResource, scene: &Scene<'_>, pods: usize) -> Value {
    let mut object = owner(kind, scene.name, pods);
    let bounds = json!({"maxSurge": BOUNDS, "maxUnavailable": BOUNDS});
    let spec = &mut object["spec"];
    if scene.side == Side::Mainstay {
        spec["update"] = bounds;
        spec["update"]["type"] = "Rolling".into();
    } else {
        spec["strategy"] = json!({"type": "RollingUpdate", "rollingUpdate": bounds});
    }
    object
}

fn difference(a: u64, b: u64) -> i64 {
    i64::try_from(a).unwrap_or(i64::MAX) - i64::try_from(b).unwrap_or(i64::MAX)
}

/// How long a wait for `pods` pods may take: ten times what it takes, or three times where a client limit of
/// 20 requests a second makes that known. Each pod is made and deleted.
fn limit(side: Side, pods: usize) -> Duration {
    let per_second = if side.is_limited() { 10.0 / 3.0 } else { 8.0 };
    Duration::from_secs_f64(120.0 + pods as f64 / per_second)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A turn in which all went as it should.
    pub(in crate::rollout) fn row(side: Side) -> Row {
        let count = |requests: &[(&str, u64)]| {
            requests.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
        };
        Row {
            side,
            pods: 10,
            round: 0,
            complete: 1.0,
            gone: 1.5,
            requests: count(&[("GET", 7), ("PATCH", 5), ("POST", 20), ("PUT", 3)]),
            renewals: 3,
            late: 0,
            served: count(&[
                ("POST pods", 10),
                ("POST pods/eviction", 10),
                ("PATCH replicagroups", 1),
                ("DELETE pods", 10),
            ]),
            old: 10,
            cpu: 0.0,
            peak: 0,
            server_cpu: 0.0,
            most: 13,
            least_available: 8,
            surplus: 0,
        }
    }

    #[test]
    fn neither_the_lease_nor_others_count_as_writes_of_the_controller() {
        let row = row(Side::Mainstay);
        assert_eq!((row.writes(), row.reads(), row.served_writes()), (25, 4, 20));
    }
}
