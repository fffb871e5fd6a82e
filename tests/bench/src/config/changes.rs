//! Changes of one ConfigMap that many Deployments use.

use super::{
    objects::{completes, make_deployments, make_rollout},
    settings::Options,
};
use crate::{
    bed::Bed,
    controller::Controller,
    error::{Context, Error, Result},
    meter::{added, total, writes},
    names::NAMESPACE,
};
use futures::TryStreamExt;
use k8s_openapi::api::{apps::v1::Deployment, core::v1::ConfigMap};
use kube::{
    Api, ResourceExt,
    api::{ListParams, Patch, PatchParams, WatchEvent, WatchParams},
};
use serde::Serialize;
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    pin::pin,
    time::{Duration, Instant},
};

const APP: &str = "shared";
/// How long all templates may take.
const LIMIT: Duration = Duration::from_secs(60);
/// For what a controller puts off.
const AFTERWARDS: Duration = Duration::from_secs(5);

/// One change.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    /// From the answer to the write of the ConfigMap to the event of each template that names the new revision, in
    /// seconds, sorted.
    pub seconds: Vec<f64>,
    /// Requests of the controller for it.
    pub requests: u64,
}

fn template() -> Value {
    json!({"containers": [{
        "name": "none", "image": "localhost/none:1",
        "env": [{"name": "VALUE", "valueFrom": {"configMapKeyRef": {"name": APP, "key": "value"}}}],
    }]})
}

/// Measures the changes, and returns the requests that change something after a change of a key that no target uses.
pub(super) async fn measure(
    bed: &Bed,
    controller: &Controller,
    options: &Options,
    rows: &mut Vec<Row>,
) -> Result<u64> {
    write(bed, &json!({"value": "0", "unused": "0"})).await?;
    make_deployments(bed, APP, &vec![template(); options.deployments]).await?;
    make_rollout(bed, APP, json!({"kind": "ConfigMap", "name": APP}), "0s").await?;
    for change in 1..=options.changes {
        bed.quiet(&[&controller.meter]).await?;
        let revision = change as i64 + 1;
        let row = one(bed, controller, change, revision, options.deployments).await?;
        completes(bed, APP, revision).await?;
        if let (Some(first), Some(last)) = (row.seconds.first(), row.seconds.last()) {
            bed.progress
                .say(format_args!("change {change}: first template after {first:.3} s, last {last:.3} s"));
        }
        rows.push(row);
    }
    bed.quiet(&[&controller.meter]).await?;
    let before = controller.meter.requests().await?;
    write(bed, &json!({"value": options.changes.to_string(), "unused": "1"})).await?;
    tokio::time::sleep(AFTERWARDS).await;
    let mut sent = added(&before, &controller.meter.requests().await?);
    let read = sent.get("GET").copied().unwrap_or_default();
    if read == 0 {
        return Err(Error::Refused("the controller has not looked at a change of an unused key".into()));
    }
    // The Lease is kept with PUT, by this controller alone.
    sent.remove("PUT");
    let writes = writes(&sent);
    bed.progress.say(format_args!("a change of an unused key: {writes} writes"));
    Ok(writes)
}

async fn write(bed: &Bed, data: &Value) -> Result<()> {
    let maps: Api<ConfigMap> = Api::namespaced(bed.client.clone(), NAMESPACE);
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": APP}, "data": data});
    let params = PatchParams::apply("mainstay-bench").force();
    maps.patch(APP, &params, &Patch::Apply(map)).await.map(drop).when("write the ConfigMap")
}

async fn one(
    bed: &Bed,
    controller: &Controller,
    change: usize,
    revision: i64,
    deployments: usize,
) -> Result<Row> {
    let api: Api<Deployment> = Api::namespaced(bed.client.clone(), NAMESPACE);
    let which = format!("app={APP}");
    let listed = api.list(&ListParams::default().labels(&which)).await.when("list Deployments")?;
    let from = listed.metadata.resource_version.unwrap_or_default();
    let params = WatchParams::default().labels(&which).timeout(LIMIT.as_secs() as u32);
    let mut events = pin!(api.watch(&params, &from).await.when("watch Deployments")?);
    let before = controller.meter.requests().await?;
    write(bed, &json!({"value": change.to_string(), "unused": "0"})).await?;
    let start = Instant::now();
    let (mut seen, mut seconds) = (BTreeSet::new(), Vec::new());
    let name = format!("{APP}-{revision}");
    let mut collect = async || {
        while seconds.len() < deployments {
            let Some(event) = events.try_next().await.when("watch Deployments")? else { break };
            let (WatchEvent::Added(deployment) | WatchEvent::Modified(deployment)) = event else { continue };
            if names(&deployment, &name) && seen.insert(deployment.name_any()) {
                seconds.push(start.elapsed().as_secs_f64());
            }
        }
        Ok::<_, Error>(())
    };
    let late = |seen: usize| Error::Late {
        what: format!("all templates to name {name}"),
        seen: format!("{seen} of {deployments} do"),
        limit: LIMIT,
    };
    let ended = tokio::time::timeout(LIMIT, collect()).await;
    if ended.is_err() || seconds.len() < deployments {
        return Err(late(seconds.len()));
    }
    let requests = total(&added(&before, &controller.meter.requests().await?));
    Ok(Row { seconds, requests })
}

fn names(deployment: &Deployment, name: &str) -> bool {
    let pod = deployment.spec.as_ref().and_then(|spec| spec.template.spec.as_ref());
    let env = pod.into_iter().flat_map(|pod| &pod.containers).flat_map(|it| it.env.iter().flatten());
    let mut keys = env.filter_map(|env| env.value_from.as_ref()?.config_map_key_ref.as_ref());
    keys.any(|key| key.name == name)
}
