//! What watching the nodes costs, at rest and while the API server is kept at its limit, and whether a node is called
//! dead meanwhile.

use crate::{
    bed::Bed,
    error::{Context, Result},
    meter::Meter,
    names::NAMESPACE,
};
use k8s_openapi::api::core::v1::{ConfigMap, Node};
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams, PostParams},
};
use serde::Serialize;
use serde_json::json;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::task::JoinSet;

/// So many clients write as fast as they are answered, which on a small machine leaves the API server no time at all.
const CLIENTS: usize = 16;

/// One span.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    /// Whether the API server was kept at its limit.
    pub busy: bool,
    pub seconds: f64,
    /// Writes a second of the load.
    pub writes: f64,
    /// Of a CPU, the API server.
    pub api_server: f64,
    /// Of a CPU: Mainstay, and upstream.
    pub cpu: [f64; 2],
    /// Peak of memory in bytes: Mainstay, and upstream.
    pub rss: [u64; 2],
    /// Nodes that were called dead, although none was: by Mainstay, and by upstream at the end.
    pub verdicts: [f64; 2],
}

pub(crate) async fn measure(bed: &Bed, meters: [&Meter; 2], span: Duration, busy: bool) -> Result<Row> {
    let api_server = bed.api_server()?;
    let cpu = || -> Result<[f64; 3]> { Ok([meters[0].cpu()?, meters[1].cpu()?, api_server.cpu()?]) };
    // Lists are over, and what was started has settled.
    tokio::time::sleep(Duration::from_secs(20)).await;
    let (before, verdicts, start) = (cpu()?, verdicts(meters[0]).await?, Instant::now());
    let writes = Arc::new(AtomicU64::new(0));
    let mut load = JoinSet::new();
    for client in 0..if busy { CLIENTS } else { 0 } {
        load.spawn(write(bed.client.clone(), client, Arc::clone(&writes)));
    }
    tokio::time::sleep(span).await;
    drop(load);
    let (after, seconds) = (cpu()?, start.elapsed().as_secs_f64());
    let share = |index: usize| (after[index] - before[index]) / seconds;
    let row = Row {
        busy,
        seconds,
        writes: writes.load(Ordering::Relaxed) as f64 / seconds,
        api_server: share(2),
        cpu: [share(0), share(1)],
        rss: [meters[0].usage()?.peak_resident_bytes, meters[1].usage()?.peak_resident_bytes],
        verdicts: [self::verdicts(meters[0]).await? - verdicts, not_ready(bed).await? as f64],
    };
    bed.progress.say(format_args!(
        "{}: {:.0} writes a second, {:.2} of a CPU for the API server, {:.3} for Mainstay, {:.3} for upstream, {} and {} \
         false verdicts",
        if busy { "at the limit" } else { "at rest" },
        row.writes,
        row.api_server,
        row.cpu[0],
        row.cpu[1],
        row.verdicts[0],
        row.verdicts[1]
    ));
    Ok(row)
}

/// Writes and deletes until it is dropped.
async fn write(client: Client, number: usize, writes: Arc<AtomicU64>) {
    let maps: Api<ConfigMap> = Api::namespaced(client, NAMESPACE);
    let name = format!("load-{number}");
    let map = json!({"metadata": {"name": name}, "data": {"value": "x".repeat(1000)}});
    let map: ConfigMap = serde_json::from_value(map).expect("a ConfigMap");
    loop {
        let made = maps.create(&PostParams::default(), &map).await.is_ok();
        let gone = maps.delete(&name, &DeleteParams::default()).await.is_ok();
        writes.fetch_add(u64::from(made) + u64::from(gone), Ordering::Relaxed);
    }
}

/// Nodes that Mainstay has found unhealthy so far.
async fn verdicts(meter: &Meter) -> Result<f64> {
    let metrics = meter.scrape().await?;
    let found = metrics.lines().filter(|line| line.starts_with("mainstay_node_health_verdicts_total"));
    Ok(found.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum())
}

async fn not_ready(bed: &Bed) -> Result<usize> {
    let nodes: Api<Node> = Api::all(bed.client.clone());
    let listed = nodes.list(&ListParams::default().labels("type=kwok")).await.when("list nodes")?;
    let is_bad = |node: &&Node| {
        let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
        !conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
    };
    Ok(listed.iter().filter(is_bad).count())
}
