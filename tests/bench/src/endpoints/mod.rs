//! EndpointPools beside Services with a selector: how soon slices follow pods, and what it costs; and what checks of
//! thousands of addresses cost.
//!
//! Both sides serve the same pods at the same time: upstream by the selectors of its Services, Mainstay by pools before
//! Services of its own. So both see the same flips of readiness, one after the other at a steady rate.

mod checked;
mod flips;
mod report;
mod settings;
mod watch;

pub(crate) use settings::Options;

use crate::{bed::Bed, controller::Controller, error::Result, run, side::Side};
use report::Measured;

/// Runs the bench, puts the cluster back, and writes what was measured.
pub(crate) async fn run(options: &Options) -> Result<()> {
    let measure = async |bed: &mut Bed, measured: &mut Measured| measure(bed, options, measured).await;
    run::run("endpoints", &options.common, measure, report::section).await
}

async fn measure(bed: &mut Bed, options: &Options, measured: &mut Measured) -> Result<()> {
    let stage = options.common.stage(bed, "endpoints", &["endpointslice-controller"]).await?;
    let (client, progress) = (&stage.bed.client, &stage.bed.progress);
    flips::make_pods(stage.bed, options.services, options.pods).await?;
    progress.say(format_args!("{} pods are ready", options.services * options.pods));
    for round in 0..options.common.rounds {
        for side in Side::order(&Side::UPSTREAM, round, options.common.limited_rounds) {
            let running = stage.start(side).await?;
            let upstream = running.meter.as_ref().expect("a side of upstream has a meter");
            let ours = Controller::start(stage.bed, &stage.program, &stage.account, &stage.log).await?;
            if measured.flips.is_empty() {
                flips::make_services(stage.bed, options.services).await?;
            }
            let watch = watch::Watch::start(client, options.services * options.pods).await?;
            let row = flips::turn(stage.bed, options, (side, round), &watch, [&ours.meter, upstream]).await?;
            progress.say(&row);
            measured.flips.push(row);
        }
    }
    if options.checked > 0 {
        flips::remove_services(stage.bed).await?;
        stage.start(Side::Shipped).await?;
        let ours = Controller::start(stage.bed, &stage.program, &stage.account, &stage.log).await?;
        measured.checks = checked::measure(stage.bed, options.checked, &ours.meter).await?;
    }
    Ok(())
}
