//! ConfigRollouts: how soon a change of a ConfigMap is in all templates that use it, and what Secrets cost in memory.
//!
//! Nothing of Kubernetes does this, so there is nobody to be beside. The Deployments have no pods: what is measured is
//! the controller and the API server, not how soon containers start.

mod changes;
mod report;
mod secrets;

use crate::{
    bed::Bed,
    controller::Controller,
    error::{Context, Result},
    names::{LIFTED, MANAGER, NAMESPACE},
    pods::object,
    run::{self, Common},
};
use clap::Args;
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::apps::v1::Deployment;
use kube::{Api, api::PostParams};
use mainstay_crds::ConfigRollout;
use serde::Serialize;
use serde_json::{Value, json};

/// Requests under way when many objects are made.
pub(super) const IN_FLIGHT: usize = 16;

/// What is measured.
#[derive(Args)]
pub(crate) struct Options {
    /// Deployments that use the ConfigMap
    #[arg(long, default_value_t = 50)]
    deployments: usize,
    /// Changes of the ConfigMap
    #[arg(long, default_value_t = 30)]
    changes: usize,
    /// Secrets
    #[arg(long, default_value_t = 500)]
    secrets: usize,
    /// Their sizes, one after the other, in KiB
    #[arg(long, value_delimiter = ',', default_values_t = [1, 100, 500])]
    sizes: Vec<usize>,
    #[command(flatten)]
    common: Common,
}

/// All that was measured.
#[derive(Debug, Default, Serialize)]
struct Measured {
    deployments: usize,
    secrets: usize,
    changes: Vec<changes::Row>,
    /// Requests that change something, of a change that no target uses.
    unused_writes: Option<u64>,
    sizes: Vec<secrets::Row>,
}

/// Runs the bench, puts the cluster back, and writes what was measured.
pub(crate) async fn run(options: &Options) -> Result<()> {
    let measure = async |bed: &mut Bed, measured: &mut Measured| measure(bed, options, measured).await;
    run::run("config", &options.common, measure, report::section).await
}

async fn measure(bed: &mut Bed, options: &Options, measured: &mut Measured) -> Result<()> {
    let stage = options.common.stage(bed, "config-rollout", &[]).await?;
    // Its Deployment controller would be what is measured.
    stage.bed.restart(MANAGER, &LIFTED).await?;
    let controller = Controller::start(stage.bed, &stage.program, &stage.account, &stage.log).await?;
    (measured.deployments, measured.secrets) = (options.deployments, options.secrets);
    changes::measure(stage.bed, &controller, options, measured).await?;
    secrets::measure(stage.bed, &controller, options, measured).await
}

/// Makes Deployments without pods that have these parts in their template.
pub(super) async fn make_deployments(bed: &Bed, app: &str, pods: &[Value]) -> Result<()> {
    let deployments: Api<Deployment> = Api::namespaced(bed.client.clone(), NAMESPACE);
    let make = async |(index, pod): (usize, &Value)| {
        let name = format!("{app}-{index}");
        let deployment = object(json!({
            "metadata": {"name": name, "labels": {"app": app}},
            "spec": {
                "replicas": 0,
                "revisionHistoryLimit": 0,
                "selector": {"matchLabels": {"name": name}},
                "template": {"metadata": {"labels": {"name": name}}, "spec": pod},
            },
        }))?;
        deployments.create(&PostParams::default(), &deployment).await.map(drop).when("create a Deployment")
    };
    stream::iter(pods.iter().enumerate().map(make)).buffer_unordered(IN_FLIGHT).try_collect().await
}

/// Makes a rollout of all Deployments of `app`, and waits until they have its first revision.
pub(super) async fn make_rollout(bed: &Bed, app: &str, source: Value, debounce: &str) -> Result<()> {
    let rollouts: Api<ConfigRollout> = Api::namespaced(bed.client.clone(), NAMESPACE);
    let rollout = object(json!({
        "apiVersion": "mainstay.dev/v1alpha1",
        "kind": "ConfigRollout",
        "metadata": {"name": app},
        "spec": {
            "sources": [source],
            "debounce": debounce,
            "historyLimit": 0,
            // The bench itself has made the Deployments.
            "takeOverFrom": ["mainstay-bench", "unknown"],
            "stages": [{
                "name": "all",
                "targets": [{"kind": "Deployment", "selector": {"matchLabels": {"app": app}}}],
            }],
        },
    }))?;
    rollouts.create(&PostParams::default(), &rollout).await.when("create a ConfigRollout")?;
    completes(bed, app, 1).await
}

/// Waits until all targets have this revision or a later one, and nothing is on its way.
pub(super) async fn completes(bed: &Bed, app: &str, revision: i64) -> Result<()> {
    let rollouts: Api<ConfigRollout> = Api::namespaced(bed.client.clone(), NAMESPACE);
    bed.until(&format!("revision {revision} of {app} to be in all targets"), async || {
        let status = rollouts.get(app).await.when("read a ConfigRollout")?.status.unwrap_or_default();
        Ok(status.rollout.is_none() && status.current_revision.is_some_and(|current| current >= revision))
    })
    .await
}
