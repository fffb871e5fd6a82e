//! ConfigRollouts: drafts of them, those that exist, and the workloads that read what they bring.

use std::collections::BTreeMap;

use k8s_openapi::{
    ByteString,
    api::{
        apps::v1::Deployment,
        core::v1::{ConfigMap, Pod, Secret},
    },
};
use kube::{
    ResourceExt,
    api::{ListParams, LogParams, Patch, PatchParams},
};
use mainstay_crds::{ConfigRollout, ConfigRolloutStatus};
use serde_json::{Value, json};

use crate::{
    object::{DraftOf, Made},
    pods::{is_active, is_ready, web},
    scenario::Scenario,
    wait::eventually,
};

/// A rollout as a user writes it.
pub type RolloutDraft = DraftOf<ConfigRollout>;

/// A rollout that exists.
pub type Config = Made<ConfigRollout>;

/// A rollout of the ConfigMap and the Secret `web` to the Deployment `web`, that waits for no further change, and changes
/// the names in templates that kubectl has written.
pub fn config_rollout(name: &str) -> RolloutDraft {
    let spec = json!({
        "mode": "Repoint",
        "takeOverFrom": ["kubectl", "kubectl-client-side-apply", "kubectl-edit", "kubectl-patch", "kubectl-set"],
        "sources": [{"kind": "ConfigMap", "name": "web"}, {"kind": "Secret", "name": "web"}],
        "debounce": "0s",
        "stages": [stage("all", &["web"])],
    });
    RolloutDraft::new(name, spec)
}

/// A stage of these Deployments.
pub fn stage(name: &str, deployments: &[&str]) -> Value {
    let targets: Vec<_> =
        deployments.iter().map(|name| json!({"kind": "Deployment", "name": name})).collect();
    json!({"name": name, "targets": targets})
}

/// A pod that reads the keys `mode` and `port` of the ConfigMap `web` and `token` of the Secret `web` from its
/// environment, and has the whole ConfigMap as files. Its init container `print` prints mode and token, its server
/// `files` on port 8082 serves the files, and its server `web` listens on the port that it is told: the pod is ready
/// when that is 8080.
pub fn reader() -> Value {
    let from = |name: &str, kind: &str, key: &str| {
        let selector = json!({"name": "web", "key": key});
        json!({"name": name, "valueFrom": {kind: selector}})
    };
    let mut spec = web();
    let mut files = spec["containers"][0].clone();
    let mut print = files.clone();
    print["name"] = "print".into();
    print["args"] = json!(["entrypoint-tester", "$(MODE)", "$(TOKEN)"]);
    print["env"] = json!([from("MODE", "configMapKeyRef", "mode"), from("TOKEN", "secretKeyRef", "token")]);
    files["name"] = "files".into();
    files["args"] = json!(["test-webserver", "--port=8082"]);
    files["volumeMounts"] = json!([{"name": "config", "mountPath": "/config"}]);
    let server = &mut spec["containers"][0];
    server["args"] = json!(["netexec", "--http-port=$(PORT)", "--udp-port=-1"]);
    server["env"] = json!([from("PORT", "configMapKeyRef", "port")]);
    server["readinessProbe"] = json!({"httpGet": {"path": "/hostname", "port": 8080}, "periodSeconds": 1});
    spec["containers"].as_array_mut().expect("a pod has a list of containers").push(files);
    spec["initContainers"] = json!([print]);
    spec["volumes"] = json!([{"name": "config", "configMap": {"name": "web"}}]);
    spec["terminationGracePeriodSeconds"] = 1.into();
    spec
}

/// A Deployment of one pod with this spec, that never has fewer than that available.
pub fn deployment(name: &str, pod: Value) -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "replicas": 1,
            "strategy": {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": pod},
        },
    })
}

impl Config {
    /// Waits until all targets have this revision, and nothing is on its way.
    pub async fn completes(&self, revision: i64) -> ConfigRolloutStatus {
        self.until(&format!("all targets have revision {revision}"), |status| {
            status.current_revision == Some(revision)
                && status.rollout.is_none()
                && status.targets.iter().all(|target| target.state == "Current")
        })
        .await
    }
}

impl Scenario {
    /// The config-rollout controller.
    pub fn config_controller(&self) -> crate::controller::Controller {
        crate::controller::Controller::new(self.client.clone(), crate::controller::Component::ConfigRollout)
    }

    /// Writes a ConfigMap with these values, as `kubectl apply` does.
    pub async fn config_map(&self, name: &str, values: &[(&str, &str)]) {
        let data: BTreeMap<_, _> = values.iter().copied().collect();
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data});
        let params = PatchParams::apply("e2e").force();
        let written = self.api::<ConfigMap>().patch(name, &params, &Patch::Apply(map)).await;
        written.expect("the ConfigMap is written");
    }

    /// Writes a Secret with these values.
    pub async fn secret(&self, name: &str, values: &[(&str, &str)]) {
        let bytes = |(key, value): &(&str, &str)| ((*key).to_owned(), ByteString(value.as_bytes().to_vec()));
        let data: BTreeMap<_, _> = values.iter().map(bytes).collect();
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": data});
        let params = PatchParams::apply("e2e").force();
        let written = self.api::<Secret>().patch(name, &params, &Patch::Apply(secret)).await;
        written.expect("the Secret is written");
    }

    /// Creates an object as `kubectl apply` does, by the client.
    pub fn apply(&self, object: &Value) {
        let namespace = format!("--namespace={}", self.namespace);
        crate::command::run("kubectl", &["apply", "--filename=-", &namespace], &object.to_string())
            .succeeded();
    }

    /// Writes the ConfigMap `web` with this mode; with the mode `bad` no pod of [`reader`] becomes ready.
    pub async fn mode(&self, mode: &str) {
        let port = if mode == "bad" { "9999" } else { "8080" };
        self.config_map("web", &[("mode", mode), ("port", port)]).await;
    }

    /// Waits until all active pods of [`reader`] with this label `app` are ready, and read this mode and token.
    pub async fn read_by(&self, app: &str, mode: &str, token: &str) {
        let print = LogParams { container: Some("print".into()), ..LogParams::default() };
        eventually(&format!("pods of {app} read {mode} and {token}"), async || {
            let pods = self.active(app).await;
            if pods.is_empty() || !pods.iter().all(is_ready) {
                return Err(format!("{} pods, not all ready", pods.len()));
            }
            for pod in pods {
                let name = pod.name_any();
                let printed = self.pods().logs(&name, &print).await.map_err(|error| error.to_string())?;
                let file = self.served(&format!("pods/{name}:8082")).await?;
                if !printed.contains(&format!(" {mode} {token}]")) || file != mode {
                    return Err(format!("{name} has printed {printed:?} and serves {file:?}"));
                }
            }
            Ok(())
        })
        .await;
    }

    /// The pods of this label `app` that neither ended nor are on their way out.
    pub async fn active(&self, app: &str) -> Vec<Pod> {
        let ours = ListParams::default().labels(&format!("app={app}"));
        let pods = self.pods().list(&ours).await.expect("pods are listed").items;
        pods.into_iter().filter(is_active).collect()
    }

    /// The mode that a server of [`reader`] has as a file, or one behind a Service: `pods/<name>:8082`,
    /// `services/<name>:80`.
    ///
    /// # Errors
    /// When nobody answers.
    pub async fn served(&self, server: &str) -> Result<String, String> {
        self.asked(server, "config/mode").await
    }

    /// The template of a Deployment.
    pub async fn template(&self, name: &str) -> Value {
        let deployment = self.api::<Deployment>().get(name).await.expect("the Deployment is there");
        json!(deployment.spec.expect("a Deployment has a spec").template)
    }
}
