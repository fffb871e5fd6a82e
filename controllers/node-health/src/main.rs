//! The NodeHealthPolicy controller as a program.

use std::process::ExitCode;

use clap::Parser;
use mainstay_node_health::controller;
use mainstay_runtime::{flags::Flags, manager};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Takes nodes that are dead out of use, and gives them back when they live again; never believes a storm.
#[derive(Debug, Parser)]
#[command(name = "mainstay-node-health", version)]
struct Arguments {
    #[command(flatten)]
    flags: Flags,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let Arguments { flags } = Arguments::parse();
    manager::run("mainstay-node-health", flags, async |manager| controller::build(manager).await).await
}
