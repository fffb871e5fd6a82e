//! Speed and cost of Mainstay's controllers beside those of kube-controller-manager, on the cluster that
//! `mainstay-cluster` runs. Each bench is a subcommand and a module of its own; the other modules are what
//! all of them need.
//!
//! Promises: sides are measured in one run, in turn, on the same API server; every wait has a deadline and
//! tells what was seen; a bench ends by itself, and puts the cluster back also when it fails or is
//! interrupted.

mod accounts;
mod bed;
mod config;
mod controller;
mod credentials;
mod document;
mod endpoints;
mod error;
mod meter;
mod names;
mod node_health;
mod observer;
mod owner;
mod pods;
mod replication;
mod rollout;
mod run;
mod served;
mod side;
mod statistics;
mod table;

use clap::{Parser, Subcommand};
use error::Error;
use std::process::ExitCode;

/// Measures Mainstay's controllers beside Kubernetes' own. Run it on a quiet machine, in the project's
/// folder, as `mainstay-cluster exec -- target/release/mainstay-bench BENCH`.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Subcommand)]
enum Bench {
    /// ReplicaGroup beside ReplicaSet, and both beside what the API server can take
    Replication(replication::Options),
    /// A rollout of a ReplicaGroup beside a rollout of a Deployment
    Rollout(rollout::Options),
    /// EndpointPools beside Services with a selector, and what checks cost
    Endpoints(endpoints::Options),
    /// NodeHealthPolicy beside the node lifecycle controller, on a thousand fake nodes
    NodeHealth(node_health::Options),
    /// ConfigRollouts: from a change to all templates, and what Secrets cost
    Config(config::Options),
    /// AccountPolicy beside the service account controller, on a thousand namespaces
    Accounts(accounts::Options),
}

#[tokio::main(worker_threads = 2)]
async fn main() -> ExitCode {
    let result = match Arguments::parse().bench {
        Bench::Replication(options) => replication::run(&options).await,
        Bench::Rollout(options) => rollout::run(&options).await,
        Bench::Endpoints(options) => endpoints::run(&options).await,
        Bench::NodeHealth(options) => node_health::run(&options).await,
        Bench::Config(options) => config::run(&options).await,
        Bench::Accounts(options) => accounts::run(&options).await,
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mainstay-bench: {error}");
            ExitCode::from(if matches!(error, Error::Interrupted) { 130 } else { 1 })
        }
    }
}
