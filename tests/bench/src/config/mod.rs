//! ConfigRollouts: how soon a change of a ConfigMap is in all templates that use it, and what Secrets cost in memory.
//!
//! Nothing of Kubernetes does this, so there is nobody to be beside. The Deployments have no pods: what is measured is
//! the controller and the API server, not how soon containers start.

mod changes;
mod objects;
mod report;
mod secrets;
mod settings;

pub(crate) use settings::Options;

use crate::{
    bed::Bed,
    controller::Controller,
    error::Result,
    names::{LIFTED, MANAGER},
    run,
};
use report::Measured;

/// Runs the bench, puts the cluster back, and writes what was measured.
pub(crate) async fn run(options: &Options) -> Result<()> {
    let measure = async |bed: &mut Bed, measured: &mut Measured| measure(bed, options, measured).await;
    run::run("config", &options.common, measure, report::section).await
}

async fn measure(bed: &mut Bed, options: &Options, measured: &mut Measured) -> Result<()> {
    let stage = options.common.stage(bed, "config-rollout", &[]).await?;
    // Its Deployment controller would be what is measured.
    stage.bed.restart(MANAGER, &LIFTED).await?;
    let controller = Controller::start(stage.bed, &stage.program, &stage.account, &stage.log).await?;
    (measured.deployments, measured.secrets) = (options.deployments, options.secrets);
    let unused_writes = changes::measure(stage.bed, &controller, options, &mut measured.changes).await?;
    measured.unused_writes = Some(unused_writes);
    secrets::measure(stage.bed, &controller, options, &mut measured.sizes).await
}
