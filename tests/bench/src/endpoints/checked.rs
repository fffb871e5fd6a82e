//! What checks of thousands of addresses cost.

use crate::{
    bed::Bed,
    error::{Context, Error, Result},
    meter::Meter,
    names::NAMESPACE,
};
use kube::{
    Api,
    api::{ListParams, PostParams},
};
use mainstay_crds::EndpointPool;
use serde::Serialize;
use serde_json::json;
use std::{
    process::Command,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// Addresses of a network for benchmarks (RFC 2544), all of which are this machine's for as long as the bench runs.
const NETWORK: &str = "198.18.0.0/16";
const PORT: u16 = 18_090;
/// Addresses of a pool.
const OF_POOL: usize = 500;
/// Seconds from one check of an address to the next.
pub(crate) const INTERVAL: u32 = 5;
const SPAN: Duration = Duration::from_secs(60);

/// One kind of check.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    /// As in `spec.check.type`.
    pub kind: &'static str,
    pub addresses: usize,
    /// Those that were in use at the end.
    pub passing: usize,
    /// Checks a second that were made.
    pub rate: f64,
    /// Share of one CPU.
    pub cpu: f64,
    /// Peak of the controller's memory in bytes.
    pub rss: u64,
}

impl Row {
    /// Whether all addresses passed, and nearly as many checks were made as were due.
    pub(crate) fn is_kept_up(&self) -> bool {
        let due = self.addresses as f64 / f64::from(INTERVAL);
        self.passing == self.addresses && self.rate >= 0.95 * due
    }
}

/// Checks so many addresses by each kind in turn.
pub(crate) async fn measure(bed: &Bed, addresses: usize, meter: &Meter) -> Result<Vec<Row>> {
    let _network = Network::add()?;
    let _servers = serve().await?;
    let pools: Api<EndpointPool> = Api::namespaced(bed.client.clone(), NAMESPACE);
    let mut rows = Vec::new();
    for kind in ["TCP", "HTTP"] {
        for first in (0..addresses).step_by(OF_POOL) {
            let pool = pool(kind, first, OF_POOL.min(addresses - first))?;
            pools.create(&PostParams::default(), &pool).await.when("create a pool")?;
        }
        bed.until(&format!("all addresses to pass their {kind} check"), async || {
            Ok(passing(&pools).await? == addresses)
        })
        .await?;
        bed.quiet(&[]).await?;
        let (before, checks, start) = (meter.cpu()?, made(meter).await?, Instant::now());
        tokio::time::sleep(SPAN).await;
        let elapsed = start.elapsed().as_secs_f64();
        let row = Row {
            kind,
            addresses,
            passing: passing(&pools).await?,
            rate: (made(meter).await? - checks) / elapsed,
            cpu: (meter.cpu()? - before) / elapsed,
            rss: meter.usage()?.peak_resident_bytes,
        };
        bed.progress.say(format_args!("{kind}: {:.0} checks a second at {:.2} of a CPU", row.rate, row.cpu));
        rows.push(row);
        super::flips::remove_services(bed).await?;
    }
    Ok(rows)
}

fn pool(kind: &str, first: usize, count: usize) -> Result<EndpointPool> {
    let address = |number: usize| json!({"ip": format!("198.18.{}.{}", number / 250, number % 250 + 1)});
    let name = format!("checked-{}-{first}", kind.to_lowercase());
    let addresses: Vec<_> = (first..first + count).map(address).collect();
    let pool = json!({
        "apiVersion": "mainstay.dev/v1alpha1", "kind": "EndpointPool", "metadata": {"name": name},
        "spec": {
            "serviceRef": {"name": name, "create": {"spec": {"ports": [{"port": 80, "targetPort": PORT}]}}},
            "members": [{"name": "addresses", "addresses": addresses}],
            "check": {"type": kind, "intervalSeconds": INTERVAL},
        },
    });
    serde_json::from_value(pool).map_err(|error| Error::Refused(format!("the bench's own pool: {error}")))
}

/// How many addresses are in use, which those are that pass their check.
async fn passing(pools: &Api<EndpointPool>) -> Result<usize> {
    let all = pools.list(&ListParams::default()).await.when("list pools")?;
    let used = |pool: &EndpointPool| pool.status.as_ref().map_or(0, |status| status.members.in_use);
    Ok(all.iter().map(used).filter_map(|count| usize::try_from(count).ok()).sum())
}

/// Checks made so far.
async fn made(meter: &Meter) -> Result<f64> {
    let metrics = meter.scrape().await?;
    let checks = metrics.lines().filter(|line| line.starts_with("mainstay_endpoints_checks_total{"));
    Ok(checks.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum())
}

/// The network, which is taken away when this is dropped. The bench runs in the cluster's own network namespace.
struct Network;

impl Network {
    fn add() -> Result<Self> {
        // Left by a run that was killed.
        drop(ip("del"));
        ip("add")?;
        Ok(Self)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        drop(ip("del"));
    }
}

fn ip(action: &str) -> Result<()> {
    let done = Command::new("ip").args(["route", action, "local", NETWORK, "dev", "lo"]).output();
    let done = done.map_err(|source| Error::io("cannot run ip", source))?;
    let said = || String::from_utf8_lossy(&done.stderr).trim().to_owned();
    if done.status.success() { Ok(()) } else { Err(Error::Refused(format!("ip route {action}: {}", said()))) }
}

/// Answers every request with 200, until the set is dropped.
async fn serve() -> Result<JoinSet<()>> {
    let listener = TcpListener::bind(("0.0.0.0", PORT)).await;
    let listener = listener.map_err(|source| Error::io(format!("cannot listen on {PORT}"), source))?;
    let mut servers = JoinSet::new();
    servers.spawn(async move {
        loop {
            if let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream));
            }
        }
    });
    Ok(servers)
}

async fn answer(mut stream: TcpStream) {
    let mut request = [0; 1024];
    if stream.read(&mut request).await.is_ok_and(|read| read > 0) {
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        drop(stream.write_all(answer).await);
    }
}
