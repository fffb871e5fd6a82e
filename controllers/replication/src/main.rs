//! The ReplicaGroup controller as a program.

use std::process::ExitCode;

use clap::Parser;
use mainstay_runtime::{flags::Flags, manager};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Keeps the pods of every ReplicaGroup as its spec wants them.
#[derive(Debug, Parser)]
#[command(name = "mainstay-replication", version)]
struct Arguments {
    #[command(flatten)]
    flags: Flags,
}

// One thread serves thousands of pods a second; more would spend their time on waking each other.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    manager::run("mainstay-replication", arguments.flags, mainstay_replication::controller::build).await
}
