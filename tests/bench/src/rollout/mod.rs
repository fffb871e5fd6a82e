//! A rollout of a ReplicaGroup beside a rollout of a Deployment: how long the exchange of all pods takes, and
//! how many writes to the API server it costs.
//!
//! In each round every side in turn changes the image of the same pods within the same bounds. The order moves
//! on by one from round to round. Controllers are started anew for each turn, so that none has the memory of
//! an earlier one.

mod complete;
mod report;
mod turn;

use crate::{
    bed::Bed,
    error::Result,
    run::{self, Common},
    side::Side,
};
use clap::{
    Args, ValueEnum,
    builder::{PossibleValuesParser, TypedValueParser},
};
use serde::Serialize;
use turn::{Bench, Row};

/// The sides that have a controller.
const SIDES: [Side; 4] = [Side::Mainstay, Side::AloneLifted, Side::Alone, Side::Shipped];
/// Of kube-controller-manager.
const UPSTREAM: &[&str] = &["deployment-controller", "replicaset-controller"];

/// What is measured, and how often.
#[derive(Args)]
pub(crate) struct Options {
    /// Number of pods
    #[arg(long, default_value_t = 1000)]
    pods: usize,
    /// Sides that take part [default: all]
    #[arg(long, value_parser = side(), value_delimiter = ',', default_values = SIDES.map(Side::name),
        hide_default_value = true)]
    sides: Vec<Side>,
    #[command(flatten)]
    common: Common,
}

fn side() -> impl TypedValueParser<Value = Side> {
    let names = SIDES.map(|side| side.to_possible_value().expect("no side is hidden"));
    PossibleValuesParser::new(names).try_map(|name| Side::from_str(&name, false))
}

/// All that was measured.
#[derive(Debug, Default, Serialize)]
struct Measured {
    /// One row a side and round.
    rows: Vec<Row>,
}

/// Runs the bench, puts the cluster back, and writes what was measured.
pub(crate) async fn run(options: &Options) -> Result<()> {
    let measure = async |bed: &mut Bed, measured: &mut Measured| measure(bed, options, measured).await;
    run::run("rollout", &options.common, measure, |measured| report::section(&measured.rows)).await
}

async fn measure(bed: &mut Bed, options: &Options, measured: &mut Measured) -> Result<()> {
    let bench =
        Bench { stage: options.common.stage(bed, "replication", UPSTREAM).await?, pods: options.pods };
    for round in 0..options.common.rounds {
        for side in Side::order(&options.sides, round, options.common.limited_rounds) {
            let row = bench.turn(side, round).await?;
            bench.stage.bed.progress.say(&row);
            measured.rows.push(row);
        }
    }
    Ok(())
}
