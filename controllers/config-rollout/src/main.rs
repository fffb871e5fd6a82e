//! The ConfigRollout controller as a program.

use std::process::ExitCode;

use clap::Parser;
use mainstay_config_rollout::controller::{self, Options};
use mainstay_runtime::{flags::Flags, manager};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Brings Secrets and ConfigMaps to workloads as immutable revisions, and takes back those that do harm.
#[derive(Debug, Parser)]
#[command(name = "mainstay-config-rollout", version)]
struct Arguments {
    #[command(flatten)]
    flags: Flags,
    #[command(flatten)]
    options: Options,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let Arguments { flags, options } = Arguments::parse();
    manager::run("mainstay-config-rollout", flags, async |manager| controller::build(manager, options).await)
        .await
}
