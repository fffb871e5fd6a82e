//! Groups that are scaled and rolled.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use mainstay_crds::ReplicaGroup;
use mainstay_e2e::{Group, counts, group, pods};
use serde_json::json;

use crate::world::{World, insist};

const PAUSE: Duration = Duration::from_secs(3);

/// Pods that are never scheduled, pods on nodes that fall silent, and pods that really run.
static GROUPS: [Shape; 3] = [
    Shape { name: "gated", least: 10, most: 40, rolls: false },
    Shape { name: "moving", least: 6, most: 18, rolls: true },
    Shape { name: "real", least: 2, most: 4, rolls: true },
];
/// How many pods more than its size a group may have in a rollout.
const SURGE: usize = 2;

struct Shape {
    name: &'static str,
    least: usize,
    most: usize,
    /// Pods that are never ready cannot be rolled.
    rolls: bool,
}

/// The groups, and what was asked of them last.
pub(crate) struct Groups {
    made: Vec<Group>,
    wanted: BTreeMap<&'static str, (usize, String)>,
    /// What was seen on the way and must never be.
    wrong: Vec<String>,
}

impl Groups {
    pub(crate) async fn make(world: &World) -> Self {
        let mut made = Vec::new();
        let mut wanted = BTreeMap::new();
        for &Shape { name, least, .. } in &GROUPS {
            let pod = match name {
                "gated" => pods::gated(),
                "moving" => world.nodes.pod(),
                _ => pods::pause(),
            };
            let draft = group(name, pod).replicas(least).version("v0").rolling(SURGE, 1);
            made.push(world.scenario.create(&draft).await);
            wanted.insert(name, (least, "v0".to_owned()));
        }
        Self { made, wanted, wrong: Vec::new() }
    }

    /// Scales a group, and rolls it sometimes.
    pub(crate) async fn load(&mut self, world: &World) {
        let groups = world.api::<ReplicaGroup>();
        let mut step = 0;
        while world.next_step(PAUSE).await {
            step += 1;
            let shape = &GROUPS[step % GROUPS.len()];
            let Some((replicas, version)) = self.wanted.get_mut(shape.name) else { continue };
            // Sizes far from each other, in an order that does not repeat soon.
            *replicas = shape.least + (step * 7) % (shape.most - shape.least + 1);
            let mut patch = json!({"spec": {"replicas": replicas}});
            if shape.rolls && step % 4 == 0 {
                *version = format!("v{step}");
                patch["spec"]["template"] =
                    json!({"metadata": {"annotations": {"e2e.mainstay.dev/version": version}}});
            }
            world.merge(&groups, shape.name, patch).await;
            self.count(world, shape).await;
        }
    }

    async fn count(&mut self, world: &World, shape: &Shape) {
        let ours = ListParams::default().labels(&format!("app={}", shape.name));
        let pods = world.api::<Pod>();
        let active =
            insist(async || pods.list(&ours).await).await.iter().filter(|pod| pods::is_active(pod)).count();
        if active > shape.most + SURGE {
            self.wrong.push(format!("{} had {active} active pods at once", shape.name));
        }
    }

    /// Each group has exactly its pods, of the version that was asked for last, and never had more than allowed.
    pub(crate) async fn check(&self) -> Result<(), String> {
        if !self.wrong.is_empty() {
            return Err(self.wrong.join(", "));
        }
        for group in &self.made {
            let (replicas, version) = &self.wanted[group.name()];
            let seen = group.versions().await;
            if seen != counts(&[(version.as_str(), *replicas)]) {
                return Err(format!("{} has {seen:?}, not {replicas} of {version}", group.name()));
            }
            let status = group.get().await.status.unwrap_or_default();
            if status.replicas != i32::try_from(*replicas).unwrap_or(i32::MAX) {
                return Err(format!("{} says {status:?}", group.name()));
            }
            // Pods that no node ever takes complete no rollout.
            let is_complete = status.rollout.is_none() && status.available_replicas == status.replicas;
            if group.name() != "gated" && !is_complete {
                return Err(format!("{} is not complete: {status:?}", group.name()));
            }
        }
        Ok(())
    }
}
