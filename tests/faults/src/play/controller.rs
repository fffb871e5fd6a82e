//! The five controllers, started as the program starts them.

use clap::{Args, Parser};
use futures::FutureExt;
use http::Response;
use kube::client::{Body, ClientBuilder};
use mainstay_endpoints::network::Network;
use mainstay_runtime::{
    flags::Flags,
    process::{RunError, serve},
};
use tokio_util::sync::CancellationToken;
use tower::{BoxError, util::BoxService};

use crate::model::service::Answer;

/// A connection of one process.
pub(super) type Connection = ClientBuilder<BoxService<http::Request<Body>, Response<Answer>, BoxError>>;

/// A controller of Mainstay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Controller {
    /// Of ReplicaGroups.
    Replication,
    /// Of EndpointPools.
    Endpoints,
    /// Of NodeHealthPolicies.
    NodeHealth,
    /// Of ConfigRollouts.
    ConfigRollout,
    /// Of AccountPolicies.
    Accounts,
}

#[derive(Debug, Clone, Args)]
struct Nothing {}

#[derive(Debug, Parser)]
struct With<O: Args> {
    #[command(flatten)]
    flags: Flags,
    #[command(flatten)]
    options: O,
}

/// Reads flags as the program does, with no server of its own.
fn read<O: Args>(flags: &[&str]) -> With<O> {
    let always = ["mainstay", "--metrics-bind-address=0", "--health-probe-bind-address=0"];
    With::parse_from(always.iter().chain(flags))
}

impl Controller {
    /// Runs it in a process of its own, until `shutdown`.
    pub(super) async fn run(
        self,
        flags: &[&str],
        client: Connection,
        network: Network,
        shutdown: CancellationToken,
    ) -> Result<(), RunError> {
        let running = match self {
            Self::Replication => {
                let With::<Nothing> { flags, .. } = read(flags);
                let build = mainstay_replication::controller::build;
                serve("mainstay-replication", flags, client, shutdown, build).boxed_local()
            }
            Self::Endpoints => {
                let With { flags, options } = read(flags);
                let build = async move |manager: &_| {
                    mainstay_endpoints::controller::build_on(manager, options, network).await
                };
                serve("mainstay-endpoints", flags, client, shutdown, build).boxed_local()
            }
            Self::NodeHealth => {
                let With::<Nothing> { flags, .. } = read(flags);
                let build = mainstay_node_health::controller::build;
                serve("mainstay-node-health", flags, client, shutdown, build).boxed_local()
            }
            Self::ConfigRollout => {
                let With { flags, options } = read(flags);
                let build = async move |manager: &_| {
                    mainstay_config_rollout::controller::build(manager, options).await
                };
                serve("mainstay-config-rollout", flags, client, shutdown, build).boxed_local()
            }
            Self::Accounts => {
                let With { flags, options } = read(flags);
                let build =
                    async move |manager: &_| mainstay_accounts::controller::build(manager, options).await;
                serve("mainstay-accounts", flags, client, shutdown, build).boxed_local()
            }
        };
        running.await
    }
}
