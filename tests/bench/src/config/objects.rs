//! What the bench makes: Deployments, and rollouts of them.

use crate::{
    bed::Bed,
    error::{Context, Result},
    names::NAMESPACE,
    pods::object,
};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::apps::v1::Deployment;
use kube::{Api, api::PostParams};
use mainstay_crds::ConfigRollout;
use serde_json::{Value, json};

/// Requests under way when many objects are made.
pub(super) const IN_FLIGHT: usize = 16;

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
            "mode": "Repoint",
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
