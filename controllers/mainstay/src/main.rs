//! The one program: `mainstay replication` runs the ReplicaGroup controller, and so on. Each controller is a separate
//! Deployment with its own account, permissions and Lease.

use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use mainstay_runtime::{flags::Flags, process};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Kubernetes controllers for replicas, endpoints, dead nodes, configuration and credentials; each subcommand runs one
#[derive(Debug, Parser)]
#[command(name = "mainstay", version)]
struct Arguments {
    #[command(subcommand)]
    controller: Controller,
}

/// A controller, with the flags that it takes. Its name is that of its Lease, and `controller` in its first log line.
#[derive(Debug, Subcommand)]
enum Controller {
    /// Keep the pods of every ReplicaGroup as its spec says
    Replication(Alone),
    /// Write the endpoints of EndpointPools that pass their checks
    Endpoints(With<mainstay_endpoints::controller::Options>),
    /// Cordon and drain dead nodes, and restore them when they are healthy; stop when too many fail at once
    NodeHealth(Alone),
    /// Roll Secrets and ConfigMaps out to workloads as immutable revisions, and roll back those that fail
    ConfigRollout(With<mainstay_config_rollout::controller::Options>),
    /// Create service accounts, pull secrets, role bindings and rotating tokens in namespaces
    Accounts(With<mainstay_accounts::controller::Options>),
}

/// The flags of a controller that has none of its own.
#[derive(Debug, Args)]
struct Alone {
    #[command(flatten)]
    flags: Flags,
}

/// The flags of every controller, and those of this one.
#[derive(Debug, Args)]
struct With<O: Args> {
    #[command(flatten)]
    flags: Flags,
    #[command(flatten)]
    options: O,
}

// One thread serves thousands of pods and checks a second; more would spend their time on waking each other.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match Arguments::parse().controller {
        Controller::Replication(Alone { flags }) => {
            process::run("mainstay-replication", flags, mainstay_replication::controller::build).await
        }
        Controller::Endpoints(With { flags, options }) => {
            let build = async |manager: &_| mainstay_endpoints::controller::build(manager, options).await;
            process::run("mainstay-endpoints", flags, build).await
        }
        Controller::NodeHealth(Alone { flags }) => {
            process::run("mainstay-node-health", flags, mainstay_node_health::controller::build).await
        }
        Controller::ConfigRollout(With { flags, options }) => {
            let build =
                async |manager: &_| mainstay_config_rollout::controller::build(manager, options).await;
            process::run("mainstay-config-rollout", flags, build).await
        }
        Controller::Accounts(With { flags, options }) => {
            let build = async |manager: &_| mainstay_accounts::controller::build(manager, options).await;
            process::run("mainstay-accounts", flags, build).await
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn no_two_flags_of_a_controller_collide() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_controller_must_be_named() {
        let error = Arguments::try_parse_from(["mainstay"]).expect_err("no controller is named");
        let text = error.to_string();
        for name in ["replication", "endpoints", "node-health", "config-rollout", "accounts"] {
            assert!(text.contains(name), "{name} is not in:\n{text}");
        }
        Arguments::try_parse_from(["mainstay", "replication", "--webhook-name=x"])
            .expect_err("a flag of another controller is refused");
    }
}
