//! Configuration that changes, and two workloads that read it.

use std::time::Duration;

use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{ConfigMap, Secret},
};
use kube::Api;
use mainstay_crds::ReplicaGroup;
use mainstay_e2e::{Config, config_rollout, deployment, group, secret_value};
use serde_json::{Value, json};

use crate::world::World;

const PAUSE: Duration = Duration::from_secs(8);

/// The rollout, and what the sources say.
pub(crate) struct Configuration {
    rollout: Config,
    wanted: String,
}

/// A pod that reads a ConfigMap and a Secret, on a node that is always healthy.
fn reader(world: &World) -> Value {
    let mut pod = world.nodes.pod_on(World::SILENCED);
    let from =
        |name: &str, kind: &str| json!({"name": name, "valueFrom": {kind: {"name": "web", "key": "value"}}});
    pod["containers"][0]["env"] = json!([from("MAP", "configMapKeyRef"), from("SECRET", "secretKeyRef")]);
    pod
}

impl Configuration {
    pub(crate) async fn make(world: &World) -> Self {
        let scenario = &world.scenario;
        scenario.config_map("web", &[("value", "0")]).await;
        scenario.secret("web", &[("value", "0")]).await;
        scenario.apply(&deployment("web", reader(world)));
        scenario.create(&group("configured", reader(world)).replicas(2)).await;
        let targets = [("Deployment", "web"), ("ReplicaGroup", "configured")];
        let stages =
            targets.map(|(kind, name)| json!({"name": name, "targets": [{"kind": kind, "name": name}]}));
        // kubectl has made the Deployment, and this client the group: the API server calls one that names no manager unknown.
        let draft = config_rollout("web")
            .with("spec.stages", stages.to_vec())
            .with("spec.debounce", "1s")
            .with("spec.takeOverFrom", json!(["unknown", "kubectl-client-side-apply"]));
        Self { rollout: scenario.create(&draft).await, wanted: "0".to_owned() }
    }

    /// Changes both sources.
    pub(crate) async fn load(&mut self, world: &World) {
        let mut step = 0;
        while world.next_step(PAUSE).await {
            step += 1;
            self.wanted = step.to_string();
            world.merge(&world.api::<ConfigMap>(), "web", json!({"data": {"value": self.wanted}})).await;
            world.merge(&world.api::<Secret>(), "web", json!({"stringData": {"value": self.wanted}})).await;
        }
    }

    /// The sources are there, and each target reads the newest revision, whole.
    pub(crate) async fn check(&self, world: &World) -> Result<(), String> {
        let status = self.rollout.get().await.status.unwrap_or_default();
        let current = status.current_revision == Some(status.revision)
            && status.rollout.is_none()
            && status.source_problems.is_empty()
            && status.targets.len() == 2
            && status.targets.iter().all(|target| target.state == "Current");
        if !current {
            return Err(format!("{status:?}"));
        }
        self.says(world, "web", "web").await?;
        let text = |error: kube::Error| error.to_string();
        let web = world.api::<Deployment>().get("web").await.map_err(text)?;
        let configured = world.api::<ReplicaGroup>().get("configured").await.map_err(text)?;
        let web = json!(web.spec.map(|spec| spec.template.spec));
        for pod in [web, json!(configured.spec.template.spec)] {
            let name = |place: usize, kind: &str| {
                let name = &pod["containers"][0]["env"][place]["valueFrom"][kind]["name"];
                name.as_str().unwrap_or_default().to_owned()
            };
            let (map, secret) = (name(0, "configMapKeyRef"), name(1, "secretKeyRef"));
            if map == "web" || secret == "web" {
                return Err(format!("a target reads {map} and {secret}"));
            }
            self.says(world, &map, &secret).await?;
        }
        Ok(())
    }

    /// Whether these two say what they are wanted to.
    async fn says(&self, world: &World, map: &str, secret: &str) -> Result<(), String> {
        let (maps, secrets): (Api<ConfigMap>, Api<Secret>) = (world.api(), world.api());
        let read = maps.get(map).await.map_err(|error| format!("ConfigMap {map}: {error}"))?;
        let of_map = read.data.unwrap_or_default().remove("value").unwrap_or_default();
        let read = secrets.get(secret).await.map_err(|error| format!("Secret {secret}: {error}"))?;
        let of_secret = secret_value(&read, "value");
        let all = of_map == self.wanted && of_secret == self.wanted;
        all.then_some(())
            .ok_or(format!("{map} says {of_map}, {secret} says {of_secret}, not {}", self.wanted))
    }
}
