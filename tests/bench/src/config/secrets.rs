//! Many Secrets that become larger and larger.

use super::{
    objects::{IN_FLIGHT, make_deployments, make_rollout},
    settings::Options,
};
use crate::{
    bed::Bed,
    controller::Controller,
    error::{Context, Result},
    names::NAMESPACE,
};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{
    Api,
    api::{ListParams, Patch, PatchParams},
};
use mainstay_crds::ConfigRollout;
use serde::Serialize;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const APP: &str = "many";
/// So many of the Secrets each Deployment uses.
const EACH: usize = 10;
/// Freed memory is given back after 10 s (jemalloc's decay), and old revisions are deleted meanwhile.
const SETTLED: Duration = Duration::from_secs(30);

/// All Secrets at one size.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    /// Of each, in KiB.
    pub kib: usize,
    /// From the last write to the last template, in seconds.
    pub seconds: f64,
    /// Of the controller, in bytes, when it has settled.
    pub rss: u64,
    /// And the most so far.
    pub peak: u64,
}

pub(super) async fn measure(
    bed: &Bed,
    controller: &Controller,
    options: &Options,
    rows: &mut Vec<Row>,
) -> Result<()> {
    let Some(first) = options.sizes.first() else { return Ok(()) };
    write(bed, options.secrets, *first, 0).await?;
    let pods: Vec<_> =
        (0..options.secrets.div_ceil(EACH)).map(|place| template(place, options.secrets)).collect();
    make_deployments(bed, APP, &pods).await?;
    let source = json!({"kind": "Secret", "selector": {"matchLabels": {"app": APP}}});
    make_rollout(bed, APP, source, "2s").await?;
    // The first size twice: what the controller keeps of a source has its place then.
    for (turn, kib) in [first].into_iter().chain(&options.sizes).enumerate() {
        write(bed, options.secrets, *kib, turn + 1).await?;
        let start = Instant::now();
        settled(bed, options.secrets).await?;
        let seconds = start.elapsed().as_secs_f64();
        tokio::time::sleep(SETTLED).await;
        let usage = controller.meter.usage()?;
        let row = Row { kib: *kib, seconds, rss: usage.resident_bytes, peak: usage.peak_resident_bytes };
        bed.progress.say(format_args!(
            "{} Secrets of {kib} KiB: in all templates after {seconds:.1} s, {:.1} MB",
            options.secrets,
            row.rss as f64 / 1e6
        ));
        if turn > 0 {
            rows.push(row);
        }
    }
    Ok(())
}

fn template(place: usize, secrets: usize) -> Value {
    let volumes: Vec<_> = (place * EACH..((place + 1) * EACH).min(secrets))
        .map(|secret| json!({"name": format!("v{secret}"), "secret": {"secretName": format!("{APP}-{secret}")}}))
        .collect();
    json!({"containers": [{"name": "none", "image": "localhost/none:1"}], "volumes": volumes})
}

/// Writes all Secrets anew.
async fn write(bed: &Bed, secrets: usize, kib: usize, turn: usize) -> Result<()> {
    let api: Api<Secret> = Api::namespaced(bed.client.clone(), NAMESPACE);
    let write = async |place: usize| {
        let name = format!("{APP}-{place}");
        let mut value = format!("{turn}-{place}-").into_bytes();
        value.resize(kib * 1024, b'x');
        let secret = json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name, "labels": {"app": APP}},
            "data": {"value": ByteString(value)},
        });
        let params = PatchParams::apply("mainstay-bench").force();
        api.patch(&name, &params, &Patch::Apply(secret)).await.map(drop).when("write a Secret")
    };
    stream::iter((0..secrets).map(write)).buffer_unordered(IN_FLIGHT).try_collect().await
}

/// Waits until the templates name copies of the Secrets as they are.
async fn settled(bed: &Bed, secrets: usize) -> Result<()> {
    let rollouts: Api<ConfigRollout> = Api::namespaced(bed.client.clone(), NAMESPACE);
    let api: Api<Secret> = Api::namespaced(bed.client.clone(), NAMESPACE);
    bed.until("all Secrets to be in all templates", async || {
        let status = rollouts.get(APP).await.when("read a ConfigRollout")?.status.unwrap_or_default();
        if status.rollout.is_some() || status.current_revision != Some(status.revision) {
            return Ok(false);
        }
        let listed = api.list_metadata(&ListParams::default()).await.when("list Secrets")?;
        let annotation = |metadata: &kube::api::PartialObjectMeta<Secret>, key: &str| {
            metadata.metadata.annotations.as_ref().and_then(|all| all.get(key).cloned())
        };
        let copied: std::collections::BTreeSet<_> =
            listed.iter().filter_map(|it| annotation(it, "mainstay.dev/source-resource-version")).collect();
        let ours = listed.iter().filter(|it| {
            it.metadata.labels.as_ref().is_some_and(|labels| labels.get("app").is_some_and(|app| app == APP))
        });
        let versions: Vec<_> = ours.filter_map(|it| it.metadata.resource_version.clone()).collect();
        Ok(versions.len() == secrets && versions.iter().all(|version| copied.contains(version)))
    })
    .await
}
