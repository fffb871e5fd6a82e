//! What must hold when the load has ended, within a deadline.

use std::{panic::AssertUnwindSafe, time::Duration};

use futures::FutureExt;
use mainstay_e2e::{Component, Metrics};
use tokio::time::{Instant, sleep, timeout_at};

use crate::{
    load::{accounts::Tenants, config::Configuration, groups::Groups, nodes::Nodes, pools::Pools},
    report::Checks,
    vitals::scrape,
    world::World,
};

/// How long all that was asked for last may take: deadlines of rollouts and of silent nodes run until then.
const LIMIT: Duration = Duration::from_secs(240);
const PAUSE: Duration = Duration::from_secs(1);
/// How long nothing is written.
const QUIET: Duration = Duration::from_secs(15);

/// Runs all checks; each is repeated until it passes or the limit is over.
pub(crate) async fn run(
    world: &World,
    groups: &Groups,
    pools: &Pools,
    configuration: &Configuration,
    tenants: &Tenants,
    nodes: &Nodes,
) -> Checks {
    let end = Instant::now() + LIMIT;
    let mut checks = Checks::new();
    let mut note = |what: &str, result| checks.push((what.to_owned(), result));
    note(
        "each group is complete with exactly its pods, and never had more",
        until(end, async || groups.check().await).await,
    );
    note("each pool's endpoints are those that answer", until(end, async || pools.check(world).await).await);
    note(
        "each target has the newest revision, none has half of one, and the sources are there",
        until(end, async || configuration.check(world).await).await,
    );
    note(
        "each namespace has its account, its binding and a valid token",
        until(end, async || tenants.check(world).await).await,
    );
    note(
        "no node whose Lease was renewed in time was acted on, and nothing stands on any",
        until(end, async || nodes.check(world).await).await,
    );
    note("all queues are empty, and nothing fails", until(end, async || idle(world).await).await);
    note("no controller writes any more", until(end, async || quiet(world).await).await);
    checks
}

/// Asks until the answer is `Ok`, and at the end for why not. What the tests' library panics about is an answer too.
async fn until(end: Instant, mut ask: impl AsyncFnMut() -> Result<(), String>) -> Result<(), String> {
    let mut last = Err("there was no time left".to_owned());
    loop {
        match timeout_at(end + QUIET * 2, AssertUnwindSafe(ask()).catch_unwind()).await {
            Err(_) => return last,
            Ok(Ok(Ok(()))) => return Ok(()),
            Ok(Ok(wrong)) => last = wrong,
            Ok(Err(_)) => last = Err("it could not be read; see above".to_owned()),
        }
        if Instant::now() >= end {
            return last;
        }
        sleep(PAUSE).await;
    }
}

async fn idle(world: &World) -> Result<(), String> {
    for component in Component::ALL {
        let mut seen = 0;
        for (pod, text) in scrape(world, component).await? {
            let metrics = Metrics::parse(&text);
            seen += 1;
            // Those on standby keep what is to be done, each object once, and do nothing of it.
            let leads = metrics.sum("leader_election_master_status", &[]) > 0.0;
            let depth = leads.then_some("workqueue_depth");
            let others = ["controller_runtime_active_workers", "mainstay_reconcile_concerns_failing"];
            for series in depth.into_iter().chain(others) {
                let value = metrics.sum(series, &[]);
                if value != 0.0 {
                    return Err(format!("{pod}: {series} is {value}"));
                }
            }
        }
        if seen < 2 {
            return Err(format!("{seen} pods of {} answer", component.name()));
        }
    }
    Ok(())
}

/// The requests by which something is written other than a Lease, which is put.
async fn writes(world: &World) -> Result<Vec<(&'static str, f64)>, String> {
    let mut writes = Vec::new();
    for component in Component::ALL {
        let scraped = scrape(world, component).await?;
        let of = |text: &String| {
            let metrics = Metrics::parse(text);
            ["POST", "PATCH", "DELETE"]
                .map(|method| metrics.sum("rest_client_requests_total", &[("method", method)]))
        };
        writes.push((component.name(), scraped.iter().flat_map(|(_, text)| of(text)).sum()));
    }
    Ok(writes)
}

async fn quiet(world: &World) -> Result<(), String> {
    let before = writes(world).await?;
    // The time itself is what is waited for.
    sleep(QUIET).await;
    let after = writes(world).await?;
    let busy: Vec<_> = before
        .iter()
        .zip(&after)
        .filter(|(before, after)| before.1 != after.1)
        .map(|(before, after)| format!("{} has sent {} writes in {QUIET:?}", before.0, after.1 - before.1))
        .collect();
    if busy.is_empty() { Ok(()) } else { Err(busy.join(", ")) }
}
