//! ReplicaGroup beside ReplicaSet: how fast pods come and go, and what their controllers cost.
//!
//! In each round every side in turn makes the same pods on the same cluster, from zero to ready to zero. The
//! order moves on by one from round to round. Controllers are started anew for each turn, so that none has
//! the memory of an earlier one.

mod kind;
mod raw;
mod report;
mod turn;

use crate::{
    bed::Bed,
    error::Result,
    run::{self, Common},
    side::Side,
};
use clap::Args;
use report::Measured;
use std::time::Duration;
use turn::Bench;

/// What is measured, and how often.
#[derive(Args)]
pub(crate) struct Options {
    /// Numbers of pods
    #[arg(long, value_delimiter = ',', default_values_t = [1000, 5000])]
    sizes: Vec<usize>,
    /// Sides that take part [default: all]
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Side::ALL, hide_default_value = true)]
    sides: Vec<Side>,
    /// For how long a settled controller's requests are counted, in seconds
    #[arg(long, default_value_t = 30)]
    settled: u64,
    #[command(flatten)]
    common: Common,
}

/// Runs the bench, puts the cluster back, and writes what was measured.
pub(crate) async fn run(options: &Options) -> Result<()> {
    let measure = async |bed: &mut Bed, measured: &mut Measured| measure(bed, options, measured).await;
    run::run("replication", &options.common, measure, report::section).await
}

async fn measure(bed: &mut Bed, options: &Options, measured: &mut Measured) -> Result<()> {
    let stage = options.common.stage(bed, "replication", &["replicaset-controller"]).await?;
    let smallest = options.sizes.iter().copied().min().unwrap_or_default();
    let in_flight = if options.sides.contains(&Side::Bare) {
        raw::best_in_flight(stage.bed, &stage.account, smallest, &mut measured.trials).await?
    } else {
        0
    };
    let bench = Bench { stage, in_flight, settled: Duration::from_secs(options.settled) };
    for &pods in &options.sizes {
        for round in 0..options.common.rounds {
            for side in Side::order(&options.sides, round, options.common.limited_rounds) {
                let name = format!("{}-{pods}-{round}", side.name());
                let row = bench.turn(side, pods, round, &name).await?;
                bench.stage.bed.progress.say(&row);
                measured.rows.push(row);
            }
        }
    }
    Ok(())
}
