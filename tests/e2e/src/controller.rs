//! The controllers as they are installed: who leads, what they measure, how they die.

use std::{fs, path::PathBuf};

use http::Request;
use k8s_openapi::api::{apps::v1::Deployment, coordination::v1::Lease, core::v1::Pod};
use kube::{
    Api, Client, Config, ResourceExt,
    api::{DeleteParams, ListParams},
};

use crate::{
    command::{Finished, kubectl, run},
    local::is_local,
    metrics::Metrics,
    pods::is_ready,
    wait::eventually,
};

/// Where the chart is installed.
pub const NAMESPACE: &str = "mainstay";

/// Name of the replication controller's Deployment, ServiceAccount and Lease.
pub const NAME: &str = "mainstay-replication";

/// The controllers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Component {
    /// That of `ReplicaGroup`.
    Replication,
    /// That of `EndpointPool`.
    Endpoints,
    /// That of `NodeHealthPolicy`.
    NodeHealth,
    /// That of `ConfigRollout`.
    ConfigRollout,
    /// That of `AccountPolicy`.
    Accounts,
}

impl Component {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Replication, Self::Endpoints, Self::NodeHealth, Self::ConfigRollout, Self::Accounts];

    /// Its subcommand, and the value of the label `app.kubernetes.io/component`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Replication => "replication",
            Self::Endpoints => "endpoints",
            Self::NodeHealth => "node-health",
            Self::ConfigRollout => "config-rollout",
            Self::Accounts => "accounts",
        }
    }
}

/// Waits until all pods of the controller's Deployment of this name are the new ones, and are ready.
pub fn rolled_out(name: &str) -> Finished {
    kubectl(&format!("rollout status deployment/{name} --namespace={NAMESPACE} --timeout=120s"))
}

/// A controller that [`crate::install`] installed.
#[derive(Clone)]
pub struct Controller {
    client: Client,
    component: Component,
}

impl Controller {
    /// The one of this component.
    pub fn new(client: Client, component: Component) -> Self {
        Self { client, component }
    }

    /// Name of its Deployment, ServiceAccount and Lease.
    pub fn name(&self) -> String {
        format!("mainstay-{}", self.component.name())
    }

    /// Its pods.
    pub fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }

    /// The Leases of its namespace.
    pub fn leases(&self) -> Api<Lease> {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }

    /// All its pods, also those on their way out.
    ///
    /// # Panics
    /// When they cannot be listed.
    pub async fn all_pods(&self) -> Vec<Pod> {
        let selector =
            ListParams::default().labels(&format!("app.kubernetes.io/component={}", self.component.name()));
        self.pods().list(&selector).await.expect("pods are listed").items
    }

    /// Names of the pods that are not on their way out.
    ///
    /// # Panics
    /// When they cannot be listed.
    pub async fn pod_names(&self) -> Vec<String> {
        let pods = self.all_pods().await;
        pods.iter()
            .filter(|pod| pod.metadata.deletion_timestamp.is_none())
            .map(ResourceExt::name_any)
            .collect()
    }

    /// The pod that holds the Lease, or what stands in the Lease otherwise.
    ///
    /// # Errors
    /// A description of the Lease.
    pub async fn holder(&self) -> Result<String, String> {
        let lease = self.leases().get_opt(&self.name()).await.map_err(|error| error.to_string())?;
        let holder = lease.and_then(|lease| lease.spec?.holder_identity).unwrap_or_default();
        let pod = holder.split('_').next().unwrap_or_default();
        let pods = self.pod_names().await;
        let lives = pods.iter().any(|name| name == pod);
        lives.then(|| pod.to_owned()).ok_or(format!("the Lease is held by {holder:?}, the pods are {pods:?}"))
    }

    /// The pod that leads; waits until one does.
    pub async fn leader(&self) -> String {
        eventually("a pod leads", async || self.holder().await).await
    }

    /// What a pod measures now.
    ///
    /// # Panics
    /// When it does not answer.
    pub async fn metrics(&self, pod: &str) -> Metrics {
        Metrics::parse(&self.get(pod, 8080, "metrics").await.expect("/metrics answers"))
    }

    /// The sum of a series over all pods. Only leaders count, so it moves with whoever leads.
    pub async fn total(&self, series: &str, labels: &[(&str, &str)]) -> f64 {
        let mut total = 0.0;
        for pod in self.pod_names().await {
            total += self.metrics(&pod).await.sum(series, labels);
        }
        total
    }

    /// What a pod answers on a port, through the API server.
    ///
    /// # Errors
    /// The server's.
    pub async fn get(&self, pod: &str, port: u16, path: &str) -> kube::Result<String> {
        let url = format!("/api/v1/namespaces/{NAMESPACE}/pods/{pod}:{port}/proxy/{path}");
        // A pod that is not ready says so with a 503, which kube's client would try again for minutes.
        let mut config = Config::infer().await.expect("KUBECONFIG names a cluster");
        config.default_retry = false;
        let client = Client::try_from(config).expect("a client");
        client.request_text(Request::get(url).body(Vec::new()).expect("a valid request")).await
    }

    /// Finds a pod's process, so that [`Victim::kill`] loses no time.
    pub async fn victim(&self, pod: &str) -> Victim {
        let process = is_local().then(|| process_of(pod)).flatten();
        let restarts = self.pods().get(pod).await.map(|pod| restarts(&pod)).unwrap_or_default();
        Victim { process, pod: pod.to_owned(), restarts, controller: self.clone() }
    }
}

/// A pod about to die.
pub struct Victim {
    process: Option<String>,
    pod: String,
    restarts: i32,
    controller: Controller,
}

impl Victim {
    /// Kills it with no chance to say farewell: by SIGKILL on the local cluster, whose containers are processes
    /// of this machine, elsewhere by a deletion without grace. Returns when the cluster knows of it: before that,
    /// [`rolled_out`] would find everything well, and the next test would send a webhook's requests to a dead process.
    ///
    /// # Panics
    /// When that fails.
    pub async fn kill(&self) {
        match &self.process {
            Some(process) => drop(run("kill", &["-KILL", process], "").succeeded()),
            None => {
                let now = DeleteParams::default().grace_period(0);
                self.controller.pods().delete(&self.pod, &now).await.expect("the pod is deleted");
            }
        }
        eventually("the cluster knows that the pod has died", async || self.is_known().await).await;
    }

    async fn is_known(&self) -> Result<(), String> {
        let pod = self.controller.pods().get_opt(&self.pod).await.map_err(|error| error.to_string())?;
        if pod.is_none_or(|pod| is_ready(&pod) && restarts(&pod) > self.restarts) {
            return Ok(());
        }
        let deployments = Api::<Deployment>::namespaced(self.controller.client.clone(), NAMESPACE);
        let found = deployments.get(&self.controller.name()).await.map_err(|error| error.to_string())?;
        let missing = found.status.and_then(|status| status.unavailable_replicas).unwrap_or_default();
        (missing > 0).then_some(()).ok_or_else(|| "all pods are available".to_owned())
    }
}

/// How often the pod's containers were started anew.
fn restarts(pod: &Pod) -> i32 {
    let containers = pod.status.as_ref().and_then(|status| status.container_statuses.as_deref());
    containers.unwrap_or_default().iter().map(|container| container.restart_count).sum()
}

/// The ID of the process whose environment says that it is the controller of this pod.
fn process_of(pod: &str) -> Option<String> {
    let marks = [format!("POD_NAME={pod}"), format!("POD_NAMESPACE={NAMESPACE}")];
    let is_controller = |folder: &PathBuf| {
        let environment = fs::read(folder.join("environ")).unwrap_or_default();
        let entries: Vec<_> = environment.split(|byte| *byte == 0).collect();
        marks.iter().all(|mark| entries.contains(&mark.as_bytes()))
    };
    let mut folders = fs::read_dir("/proc").ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    let folder = folders.find(is_controller)?;
    Some(folder.file_name()?.to_str()?.to_owned())
}
