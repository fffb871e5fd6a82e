//! ReplicaGroup beside ReplicaSet: how fast pods come and go, and what their controllers cost.
//!
//! In each round every side in turn makes the same pods on the same cluster, from zero to ready to zero. The
//! order moves on by one from round to round. Controllers are started anew for each turn, so that none has
//! the memory of an earlier one.

mod raw;
mod report;
mod turn;

use crate::{
    bed::Bed,
    error::Result,
    run::{self, Common},
    side::{Side, Stage},
};
use clap::Args;
use k8s_openapi::api::apps::v1::ReplicaSet;
use kube::api::ApiResource;
use mainstay_crds::ReplicaGroup;
use serde::Serialize;
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
    /// For how long a settled controller's requests are counted, in seconds
    #[arg(long, default_value_t = 30)]
    settled: u64,
    #[command(flatten)]
    common: Common,
}

/// All that was measured.
#[derive(Debug, Default, Serialize)]
struct Measured {
    /// How many requests the bare client had under way at a time, and what that brought.
    trials: Vec<raw::Trial>,
    /// One row a side and round.
    rows: Vec<Row>,
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
    let bench = Bench { stage, in_flight, options };
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

/// What every turn needs.
struct Bench<'a> {
    stage: Stage<'a>,
    /// Requests that the bare client has under way at a time.
    in_flight: usize,
    options: &'a Options,
}

/// The kind that owns the pods. The bare client's belong to a ReplicaGroup of 0 replicas, so that they are the
/// same pods; nobody keeps it meanwhile.
fn owner_kind(side: Side) -> ApiResource {
    match side {
        Side::Mainstay | Side::Bare => ApiResource::erase::<ReplicaGroup>(&()),
        Side::AloneLifted | Side::Alone | Side::Shipped => ApiResource::erase::<ReplicaSet>(&()),
    }
}
