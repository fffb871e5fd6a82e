//! NodeHealthPolicy beside kube-controller-manager's node lifecycle: how soon dead nodes are noticed and cleared, what
//! watching a thousand nodes costs, and whether a cluster at its limit makes either call a node dead that lives.
//!
//! The nodes are fake, and die for real: another takes their Lease, and kwok lets go of them. Each side has nodes of its
//! own to die, in turn, since the faster one would leave nothing to do for the other.

mod deaths;
mod eyes;
mod load;
mod policy;
mod report;

use crate::{
    bed::Bed,
    controller::Controller,
    error::Result,
    run::{self, Common},
    side::Side,
};
use clap::Args;
use report::Measured;
use std::time::Duration;

/// What is measured, and for how long.
#[derive(Args)]
pub(crate) struct Options {
    /// Pods on each fake node
    #[arg(long, default_value_t = 3)]
    pods: usize,
    /// Nodes that die one after the other
    #[arg(long, default_value_t = 10)]
    single: usize,
    /// Nodes that die at once
    #[arg(long, default_value_t = 20)]
    many: usize,
    /// For how long the API server is kept at its limit, in seconds; 0 = not at all
    #[arg(long, default_value_t = 600)]
    load_seconds: u64,
    #[command(flatten)]
    common: Common,
}

/// The controllers of kube-controller-manager that do this.
const UPSTREAM: [&str; 2] = ["node-lifecycle-controller", "taint-eviction-controller"];
/// What kube-controller-manager does by default (cmd/kube-controller-manager, 1.36). The test cluster's own is faster.
const DEFAULTS: [&str; 2] = ["--node-monitor-period=5s", "--node-monitor-grace-period=50s"];
/// Who notices and clears dead nodes.
const SIDES: [Side; 3] = [Side::Mainstay, Side::AloneLifted, Side::Shipped];

/// Runs the bench, puts the cluster back, and writes what was measured.
pub(crate) async fn run(options: &Options) -> Result<()> {
    let measure = async |bed: &mut Bed, measured: &mut Measured| measure(bed, options, measured).await;
    run::run("node-health", &options.common, measure, report::section).await
}

async fn measure(bed: &mut Bed, options: &Options, measured: &mut Measured) -> Result<()> {
    let mut stage = options.common.stage(bed, "node-health", &UPSTREAM).await?;
    stage.flags = &DEFAULTS;
    let mut nodes = deaths::Nodes::find(stage.bed).await?;
    measured.nodes = nodes.len();
    deaths::make_pods(stage.bed, &nodes, options.pods).await?;
    stage.bed.progress.say(format_args!("{} nodes with {} pods each are ready", nodes.len(), options.pods));
    let _policy = policy::Policy::make(stage.bed).await?;
    // First, as it needs all nodes alive.
    if options.load_seconds > 0 {
        let upstream = stage.start(Side::AloneLifted).await?.meter.expect("a side of upstream has a meter");
        let ours = Controller::start(stage.bed, &stage.program, &stage.account, &stage.log).await?;
        let span = Duration::from_secs(options.load_seconds);
        for busy in [false, true] {
            // At rest a few minutes show what there is to see.
            let span = if busy { span } else { span / 5 };
            measured.load.push(load::measure(stage.bed, [&ours.meter, &upstream], span, busy).await?);
        }
    }
    for side in Side::order(&SIDES, 0, options.common.limited_rounds) {
        let _running = stage.start(side).await?;
        let eyes = eyes::Eyes::open(&stage.bed.client).await?;
        for scenario in deaths::Scenario::all(options.single, options.many) {
            let row = deaths::turn(stage.bed, &mut nodes, &eyes, side, scenario).await?;
            stage.bed.progress.say(&row);
            measured.deaths.push(row);
        }
    }
    Ok(())
}
