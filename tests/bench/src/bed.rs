//! The test bed: the cluster, a namespace of the bench's own, and Kubernetes' own components, which are
//! restarted with other flags while measuring and put back afterwards.

use crate::{
    credentials,
    error::{Context, Error, Result},
    meter::Meter,
    names::{LIFTED, MANAGER, NAMESPACE},
};
use k8s_openapi::{
    api::{
        coordination::v1::Lease,
        core::v1::{Namespace, ServiceAccount},
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Api, Client, Config, ResourceExt,
    api::{DeleteParams, ListParams, PostParams},
};
use mainstay_cluster::{Cluster, Progress, Record};
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// A second instance of [`MANAGER`], for controllers that are measured apart from the rest.
const ALONE: &str = "kube-controller-manager-alone";
const ALONE_PORT: &str = "--secure-port=10300";
const SCHEDULER: &str = "kube-scheduler";
const API_SERVER: &str = "kube-apiserver";
/// Between two looks at something that has no watch.
const PAUSE: Duration = Duration::from_millis(500);
/// How long an object may take to come or go.
const LIMIT: Duration = Duration::from_secs(300);
/// How long the cluster may take to calm down.
const QUIET_LIMIT: Duration = Duration::from_secs(180);
/// A component below these shares of one CPU, over [`QUIET_SPAN`], is quiet. Heartbeats of 30 nodes cost the
/// API server a few hundredths.
const QUIET_API_SERVER: f64 = 0.20;
const QUIET: f64 = 0.08;
const QUIET_SPAN: Duration = Duration::from_secs(2);

/// See the module.
pub(crate) struct Bed {
    /// Tells what is done.
    pub progress: Progress,
    /// The cluster.
    pub cluster: Cluster,
    /// The admin's connection.
    pub client: Client,
    /// The admin's configuration.
    pub config: Config,
    /// Files that end with the bench.
    pub files: TempDir,
    /// The components' flags before the bench.
    before: BTreeMap<&'static str, Vec<String>>,
    /// The kinds that were missing before the bench.
    made_kinds: Vec<String>,
}

impl Bed {
    /// Looks at the running cluster; changes nothing.
    pub(crate) async fn open() -> Result<Self> {
        let cluster = Cluster::open()?;
        let mut config = Config::infer()
            .await
            .map_err(|error| Error::Refused(format!("run it inside `mainstay-cluster exec --`: {error}")))?;
        config.default_retry = false;
        let client = Client::try_from(config.clone()).when("connect to the cluster")?;
        let files = tempfile::tempdir().map_err(|source| Error::io("cannot make a folder", source))?;
        let before = [MANAGER, SCHEDULER]
            .map(|name| Ok((name, cluster.component(name)?.overrides)))
            .into_iter()
            .collect::<Result<_>>()?;
        Ok(Self { progress: Progress::new(), cluster, client, config, files, before, made_kinds: Vec::new() })
    }

    /// Makes the namespace, the kind if it is missing, and a kubeconfig for the ServiceAccount of the chart's
    /// `controller`, and lifts the scheduler's limit.
    pub(crate) async fn prepare(&mut self, controller: &str) -> Result<credentials::Account> {
        self.refuse_company().await?;
        self.remove_namespace().await?;
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        let metadata = ObjectMeta { name: Some(NAMESPACE.into()), ..ObjectMeta::default() };
        let namespace = Namespace { metadata, ..Namespace::default() };
        namespaces.create(&PostParams::default(), &namespace).await.when("create the namespace")?;
        for kind in mainstay_crds::all() {
            self.make_kind(&kind).await?;
        }
        let kubeconfig = self.files.path().join("kubeconfig");
        let account = credentials::make(&self.cluster, &self.client, controller, kubeconfig).await?;
        self.restart(SCHEDULER, &LIFTED).await?;
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client.clone(), NAMESPACE);
        self.until("the namespace's default ServiceAccount", async || {
            Ok(accounts.get_opt("default").await.when("read ServiceAccounts")?.is_some())
        })
        .await?;
        self.progress.say("the scheduler's limit is lifted; namespace, kind and ServiceAccount are there");
        Ok(account)
    }

    /// Puts the cluster back. Tries everything and returns the first failure.
    pub(crate) async fn clear(&self) -> Result<()> {
        let mut result = self.stop_alone().await;
        for (name, flags) in &self.before {
            let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
            result = result.and(self.restart(name, &flags).await.map(drop));
        }
        result = result.and(self.remove_namespace().await);
        result = result.and(credentials::remove(&self.cluster));
        let kinds: Api<CustomResourceDefinition> = Api::all(self.client.clone());
        for name in &self.made_kinds {
            let deleted = kinds.delete(name, &DeleteParams::default()).await;
            result = result.and(deleted.map(drop).when(&format!("delete the kind {name}")));
        }
        self.progress.say("the cluster is as it was");
        result
    }

    /// Restarts a component of Kubernetes with `flags` and waits until it is ready.
    pub(crate) async fn restart(&self, name: &str, flags: &[&str]) -> Result<Record> {
        let (name, flags) = (name.to_owned(), owned(flags));
        self.blocking(move |cluster| cluster.restart(&name, &flags)).await
    }

    /// Starts a second kube-controller-manager with `flags` and waits until it is ready.
    pub(crate) async fn start_alone(&self, flags: &[&str]) -> Result<Record> {
        let flags = owned(&[&[ALONE_PORT], flags].concat());
        self.blocking(move |cluster| cluster.start_as(ALONE, MANAGER, &flags)).await
    }

    /// Stops the second kube-controller-manager, if there is one.
    pub(crate) async fn stop_alone(&self) -> Result<()> {
        match self.blocking(|cluster| cluster.stop(ALONE)).await {
            Err(Error::Cluster(mainstay_cluster::Error::NotRunning(_))) => Ok(()),
            result => result,
        }
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Cluster) -> mainstay_cluster::Result<T> + Send + 'static,
    ) -> Result<T> {
        let cluster = self.cluster.clone();
        let done = tokio::task::spawn_blocking(move || work(&cluster)).await;
        Ok(done.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))?)
    }

    /// The meter of a component of Kubernetes.
    pub(crate) fn meter(&self, record: &Record) -> Result<Meter> {
        let url = record.endpoint.split('/').take(3).collect::<Vec<_>>().join("/");
        Meter::new(&record.name, record.process.clone(), &url, &self.config)
    }

    /// The API server's meter.
    pub(crate) fn api_server(&self) -> Result<Meter> {
        self.meter(&self.cluster.component(API_SERVER)?)
    }

    /// Waits until the API server, the scheduler, Kubernetes' controllers and `others` do next to nothing.
    pub(crate) async fn quiet(&self, others: &[&Meter]) -> Result<()> {
        let mut meters = vec![(self.api_server()?, QUIET_API_SERVER)];
        for name in [SCHEDULER, MANAGER] {
            meters.push((self.meter(&self.cluster.component(name)?)?, QUIET));
        }
        meters.extend(others.iter().map(|meter| ((*meter).clone(), QUIET)));
        let start = Instant::now();
        loop {
            let before: Vec<f64> = meters.iter().map(|(meter, _)| meter.cpu()).collect::<Result<_>>()?;
            tokio::time::sleep(QUIET_SPAN).await;
            let mut busy = Vec::new();
            for ((meter, most), before) in meters.iter().zip(before) {
                let share = (meter.cpu()? - before) / QUIET_SPAN.as_secs_f64();
                if share > *most {
                    busy.push(format!("{} uses {:.0} % of a CPU", meter.name, share * 100.0));
                }
            }
            if busy.is_empty() {
                return Ok(());
            }
            if start.elapsed() > QUIET_LIMIT {
                let what = "the cluster to be quiet".into();
                return Err(Error::Late { what, seen: busy.join(", "), limit: QUIET_LIMIT });
            }
        }
    }

    /// Asks `done` until it is true.
    pub(crate) async fn until(&self, what: &str, mut done: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
        let start = Instant::now();
        while !done().await? {
            if start.elapsed() > LIMIT {
                return Err(Error::Late { what: what.into(), seen: "it is not so".into(), limit: LIMIT });
            }
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }

    /// A controller of Mainstay that runs already would take part in what is measured.
    async fn refuse_company(&self) -> Result<()> {
        let leases: Api<Lease> = Api::all(self.client.clone());
        for lease in leases.list(&ListParams::default()).await.when("list Leases")? {
            let spec = lease.spec.clone().unwrap_or_default();
            let held = spec.holder_identity.is_some_and(|holder| !holder.is_empty());
            let age = spec.renew_time.map(|time| time.0.duration_until(k8s_openapi::jiff::Timestamp::now()));
            let is_fresh = age.is_some_and(|age| age.as_secs() < 15);
            if lease.name_any().contains("mainstay-") && held && is_fresh {
                let (name, namespace) = (lease.name_any(), lease.namespace().unwrap_or_default());
                return Err(Error::Refused(format!(
                    "{name} already runs in namespace {namespace} and would take part: `helm uninstall` it \
                     first, or measure on a cluster of its own (MAINSTAY_CLUSTER_NAME)"
                )));
            }
        }
        Ok(())
    }

    async fn make_kind(&mut self, ours: &CustomResourceDefinition) -> Result<()> {
        let kinds: Api<CustomResourceDefinition> = Api::all(self.client.clone());
        let name = ours.name_any();
        match kinds.get_opt(&name).await.when(&format!("read the kind {name}"))? {
            Some(there) if !has_same_schemas(&there, ours) => {
                return Err(Error::Refused(format!(
                    "the cluster has another version of the kind {name}: bring it up to date with \
                     charts/mainstay-crds, or delete it"
                )));
            }
            Some(_) => {}
            None => {
                self.made_kinds.push(name.clone());
                kinds.create(&PostParams::default(), ours).await.when("create the kind")?;
            }
        }
        self.until(&format!("the kind {name} to be served"), async || {
            let kind = kinds.get(&name).await.when(&format!("read the kind {name}"))?;
            let conditions = kind.status.and_then(|status| status.conditions).unwrap_or_default();
            Ok(conditions
                .iter()
                .any(|condition| condition.type_ == "Established" && condition.status == "True"))
        })
        .await
    }

    async fn remove_namespace(&self) -> Result<()> {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        match namespaces.delete(NAMESPACE, &DeleteParams::default()).await {
            Err(kube::Error::Api(status)) if status.code == 404 => return Ok(()),
            result => result.map(drop).when("delete the namespace")?,
        }
        self.until("the namespace to be gone", async || {
            Ok(namespaces.get_opt(NAMESPACE).await.when("read the namespace")?.is_none())
        })
        .await
    }
}

/// The server would drop fields that it does not know.
fn has_same_schemas(a: &CustomResourceDefinition, b: &CustomResourceDefinition) -> bool {
    let schemas = |kind: &CustomResourceDefinition| {
        kind.spec.versions.iter().map(|version| version.schema.clone()).collect::<Vec<_>>()
    };
    schemas(a) == schemas(b)
}

fn owned(flags: &[&str]) -> Vec<String> {
    flags.iter().map(|flag| (*flag).to_owned()).collect()
}
