//! All controllers under load on a real cluster, while the API server, etcd and leaders are killed in turn; at the end every
//! invariant is checked. `make soak` runs it on a cluster of its own, that is removed afterwards.
//!
//! Promises: it ends by itself, a few minutes after the time that it was given at the latest; its exit code tells whether all
//! checks passed, and what it prints tells which did not.

mod checks;
mod kills;
mod load;
mod pulse;
mod report;
mod vitals;
mod world;

use std::{process::ExitCode, time::Duration};

use clap::Parser;
use futures::future::join_all;
use mainstay_e2e::Component;
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{Instant, timeout},
};

use load::{accounts::Tenants, config::Configuration, groups::Groups, nodes::Nodes, pools::Pools};
use vitals::Vitals;
use world::World;

/// The first reading of memory is taken after this share of a short soak, and after five minutes of a long one.
const FIRST_READING: (f64, f64) = (0.25, 5.0);
/// For how long memory is read each time; processes are of different age.
const READING: Duration = Duration::from_secs(60);
/// What comes before the load, and after it.
const MARGIN: Duration = Duration::from_secs(600);

/// Runs all controllers under load and kills servers and leaders, in the cluster of `mainstay-cluster exec`
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// How long the load lasts
    #[arg(long, default_value_t = 20.0)]
    minutes: f64,
}

#[tokio::main]
async fn main() -> ExitCode {
    let length = Duration::from_secs_f64(Arguments::parse().minutes * 60.0);
    let (Ok(mut interrupt), Ok(mut terminate)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        eprintln!("mainstay-soak: signals cannot be waited for");
        return ExitCode::FAILURE;
    };
    let result = tokio::select! {
        result = timeout(length + MARGIN, soak(length)) => {
            result.unwrap_or_else(|_| Err("it did not end in time".into()))
        }
        _ = interrupt.recv() => Err("interrupted".into()),
        _ = terminate.recv() => Err("interrupted".into()),
    };
    let code = match result {
        Ok(true) => 0,
        Ok(false) => 1,
        Err(error) => {
            eprintln!("mainstay-soak: {error}");
            2
        }
    };
    // What is still in progress is in the cluster, which is removed as a whole.
    std::process::exit(code)
}

/// Whether all checks passed.
async fn soak(length: Duration) -> Result<bool, String> {
    let world = World::make().await?;
    let (mut groups, mut pools) = (Groups::make(&world).await, Pools::make(&world).await);
    let (mut configuration, mut tenants) = (Configuration::make(&world).await, Tenants::make(&world).await);
    let mut nodes = Nodes::make(&world).await;
    let (pulses, beats) = pulse::of_all(&world).await;
    let (begun, end) = (Instant::now(), Instant::now() + length);
    eprintln!("the load begins, for {:.1} minutes", length.as_secs_f64() / 60.0);

    let kills = async {
        let kills = kills::kill(&world, end).await;
        world.end_load();
        kills
    };
    let (kills, mut vitals, ..) = tokio::join!(
        kills,
        Vitals::default().follow(&world),
        join_all(beats),
        groups.load(&world),
        pools.load(&world),
        configuration.load(&world),
        tenants.load(&world),
        nodes.load(&world),
    );
    let over = Instant::now();
    eprintln!("the load has ended; what is left is checked");

    let first =
        begun + (length.mul_f64(FIRST_READING.0)).min(Duration::from_secs_f64(FIRST_READING.1 * 60.0));
    let memory: Vec<report::Memory> = Component::ALL
        .iter()
        .map(|component| {
            let of = |from: Instant| vitals.memory(*component, from, from + READING);
            (*component, of(first), of(over - READING))
        })
        .collect();
    let mut checked = checks::run(&world, &groups, &pools, &configuration, &tenants, &nodes).await;
    vitals.look(&world).await;
    let panics =
        vitals.panics.first().map_or(Ok(()), |first| Err(format!("{} times: {first}", vitals.panics.len())));
    checked.push(("no log and no metric tells of a panic".into(), panics));
    checked.push(("no memory has grown by more than 10 %".into(), report::has_not_grown(&memory)));
    let failed = kills.failed.first().map_or(Ok(()), |first| Err(first.clone()));
    checked.push(("everything whose turn it was could be killed".into(), failed));

    checked.push(("each change was answered within three minutes".into(), report::answered(&pulses)));

    println!("{}", report::kills(&kills, &pulses));
    println!(
        "Silent nodes acted on: {}. Leases that kwok did not renew in time: {}.\n",
        nodes.acted(),
        nodes.late()
    );
    println!("{}", report::checks(&checked));
    println!("{}", report::memory(&memory, (first - begun).as_secs_f64() / 60.0));
    Ok(checked.iter().all(|(_, result)| result.is_ok()))
}
