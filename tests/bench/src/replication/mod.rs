//! ReplicaGroup beside ReplicaSet: how fast pods come and go, and what their controllers cost.
//!
//! In each round every side in turn makes the same pods on the same cluster, from zero to ready to zero. The
//! order moves on by one from round to round. Controllers are started anew for each turn, so that none has
//! the memory of an earlier one.

mod raw;
mod report;
mod side;
mod turn;

use crate::{
    bed::{Bed, NAMESPACE},
    bounded,
    credentials::Account,
    document,
    error::{Error, Result},
};
use clap::Args;
use serde::Serialize;
use side::Side;
use std::{fs, path::PathBuf, time::Duration};
use turn::Row;

/// What is measured, and how often.
#[derive(Args)]
pub(crate) struct Options {
    /// Numbers of pods
    #[arg(long, value_delimiter = ',', default_values_t = [1000, 5000])]
    sizes: Vec<usize>,
    /// Sides that take part [default: all]
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Side::ALL, hide_default_value = true)]
    sides: Vec<Side>,
    /// Rounds of the sides that have no client limit
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Rounds of the sides at default client limits, which take 10 minutes each for 5,000 pods; 0 = none
    #[arg(long, default_value_t = 1)]
    limited_rounds: u32,
    /// For how long a settled controller's requests are counted, in seconds
    #[arg(long, default_value_t = 30)]
    settled: u64,
    /// Ends the bench, whatever it does, after this many minutes
    #[arg(long, default_value_t = 150)]
    max_minutes: u64,
    /// The controller [default: mainstay-replication beside this program]
    #[arg(long)]
    controller: Option<PathBuf>,
    /// Document whose section `replication` is written
    #[arg(long, default_value = "docs/benchmarks.md")]
    document: PathBuf,
    /// Folder for replication.json, the rows as measured, and the controller's log
    #[arg(long, default_value = "target/bench")]
    output: PathBuf,
}

/// All that was measured.
#[derive(Debug, Default, Serialize)]
struct Measured {
    environment: String,
    command: String,
    /// How many requests the bare client had under way at a time, and what that brought.
    trials: Vec<raw::Trial>,
    /// One row a side and round.
    rows: Vec<Row>,
}

/// Runs the bench, puts the cluster back, and writes what was measured.
pub(crate) async fn run(options: &Options) -> Result<()> {
    let limit = Duration::from_secs(options.max_minutes * 60);
    fs::create_dir_all(&options.output)
        .map_err(|source| Error::io(format!("cannot make {}", options.output.display()), source))?;
    let mut bed = Bed::open().await?;
    let mut measured = Measured {
        environment: document::environment(&bed.client).await?,
        command: document::command(),
        ..Measured::default()
    };
    let result = bounded(limit, measure(&mut bed, options, &mut measured)).await;
    if let Err(error) = &result {
        bed.progress.say(format_args!("{error}; putting the cluster back"));
    }
    // A second Ctrl-C ends this too.
    let cleared = bounded(Duration::from_secs(600), bed.clear()).await;
    // What was measured before a failure is kept, and shown, but is no result for the documentation.
    document::write_json(&options.output.join("replication.json"), &measured)?;
    let section = report::section(&measured);
    println!("{section}");
    result?;
    document::write_section(&options.document, "replication", &section)?;
    bed.progress.say(format_args!("{} written", options.document.display()));
    cleared
}

async fn measure(bed: &mut Bed, options: &Options, measured: &mut Measured) -> Result<()> {
    let program = program(options)?;
    let account = bed.prepare("replication").await?;
    let bed = &*bed;
    let smallest = options.sizes.iter().copied().min().unwrap_or_default();
    let in_flight = if options.sides.contains(&Side::Bare) {
        raw::best_in_flight(bed, &account, smallest, &mut measured.trials).await?
    } else {
        0
    };
    let bench = Bench { bed, account, program, in_flight, options };
    for &pods in &options.sizes {
        for round in 0..options.rounds {
            for side in Side::order(&options.sides, round, options.limited_rounds) {
                let name = format!("{}-{pods}-{round}", side.name());
                let row = bench.turn(side, pods, round, &name).await?;
                bed.progress.say(&row);
                measured.rows.push(row);
            }
        }
    }
    Ok(())
}

/// What every turn needs.
struct Bench<'a> {
    bed: &'a Bed,
    account: Account,
    program: PathBuf,
    /// Requests that the bare client has under way at a time.
    in_flight: usize,
    options: &'a Options,
}

impl Bench<'_> {
    fn log(&self) -> PathBuf {
        self.options.output.join("mainstay-replication.log")
    }
}

fn program(options: &Options) -> Result<PathBuf> {
    let beside = || Some(std::env::current_exe().ok()?.with_file_name("mainstay-replication"));
    let program = options.controller.clone().or_else(beside).unwrap_or_default();
    if program.is_file() {
        return Ok(program);
    }
    Err(Error::Refused(format!(
        "{} is missing: build it with `cargo build --release -p mainstay-replication`",
        program.display()
    )))
}

/// The template of every pod, the same on all sides: one small container on a fake node.
fn template(round: &str) -> serde_json::Value {
    serde_json::json!({
        "metadata": {"labels": {crate::observer::ROUND: round}},
        "spec": {
            "containers": [{
                "name": "pause",
                "image": "registry.k8s.io/pause:3.10.2",
                "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}},
            }],
            "nodeSelector": {"type": "kwok"},
            "tolerations": [{"key": "kwok.x-k8s.io/node", "operator": "Exists", "effect": "NoSchedule"}],
        },
    })
}

/// A ReplicaGroup or ReplicaSet, which are alike as far as the bench goes.
fn owner(kind: &kube::api::ApiResource, round: &str, replicas: usize) -> serde_json::Value {
    serde_json::json!({
        "apiVersion": kind.api_version,
        "kind": kind.kind,
        "metadata": {"name": round, "namespace": NAMESPACE},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {crate::observer::ROUND: round}},
            "template": template(round),
        },
    })
}
