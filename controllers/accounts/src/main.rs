//! The AccountPolicy controller as a program.

use std::process::ExitCode;

use clap::Parser;
use mainstay_accounts::controller::{self, Options};
use mainstay_runtime::{flags::Flags, manager};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Gives service accounts, pull secrets, role bindings and rotating tokens to the namespaces that AccountPolicies pick.
#[derive(Debug, Parser)]
#[command(name = "mainstay-accounts", version)]
struct Arguments {
    #[command(flatten)]
    flags: Flags,
    #[command(flatten)]
    options: Options,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let Arguments { flags, options } = Arguments::parse();
    manager::run("mainstay-accounts", flags, async |manager| controller::build(manager, options).await).await
}
