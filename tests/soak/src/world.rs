//! What all parts of a soak share: the connection, the names, and the patience with an API server that is often away.

use std::{fmt::Display, time::Duration};

use kube::{
    Api, Client, Config,
    api::{Patch, PatchParams},
};
use mainstay_e2e::{FakeNodes, Scenario};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};

/// Between two tries of something that was not answered.
const PAUSE: Duration = Duration::from_millis(300);
/// A request that takes longer is given up; the API server may have been killed in between.
const ANSWER: Duration = Duration::from_secs(10);

/// What fails for longer than this is told: no server is away for as long.
const LONG: Duration = Duration::from_secs(60);

/// See the module.
pub(crate) struct World {
    /// A connection that tries nothing again by itself.
    pub(crate) client: Client,
    /// The namespace in which everything is.
    pub(crate) scenario: Scenario,
    /// Nodes, of which the first [`World::SILENCED`] fall silent in turn.
    pub(crate) nodes: FakeNodes,
    over: watch::Sender<bool>,
}

impl World {
    /// How many of the nodes fall silent in turn. The others are healthy all the time.
    pub(crate) const SILENCED: usize = 3;
    /// How many nodes are always healthy.
    pub(crate) const HEALTHY: usize = 3;

    /// Installs the controllers in the cluster that KUBECONFIG names, and makes the nodes.
    pub(crate) async fn make() -> Result<Self, String> {
        let scenario = Scenario::start("soak", &[]).await;
        let zones = ["zone-a", "zone-b", "zone-c", "zone-a", "zone-b", "zone-c"];
        let nodes = FakeNodes::make(&scenario, &zones).await.ok_or("the cluster plays no nodes")?;
        let mut config = Config::infer().await.map_err(|error| error.to_string())?;
        config.default_retry = false;
        let client = Client::try_from(config).map_err(|error| error.to_string())?;
        Ok(Self { client, scenario, nodes, over: watch::Sender::new(false) })
    }

    /// Objects of a kind in the namespace.
    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), &self.scenario.namespace)
    }

    /// Ends the load.
    pub(crate) fn end_load(&self) {
        self.over.send_replace(true);
    }

    /// Waits for the next step of a load; false when there is none.
    pub(crate) async fn next_step(&self, pause: Duration) -> bool {
        let mut over = self.over.subscribe();
        timeout(pause, over.wait_for(|over| *over)).await.is_err()
    }

    /// Merges `patch` into an object.
    pub(crate) async fn merge<K>(&self, api: &Api<K>, name: &str, patch: Value)
    where
        K: Clone + DeserializeOwned + std::fmt::Debug,
    {
        let patch = Patch::Merge(patch);
        insist(async || api.patch(name, &PatchParams::default(), &patch).await).await;
    }
}

/// Asks until it is answered with success. Servers are killed for seconds only, and the whole soak is bounded.
pub(crate) async fn insist<T, E: Display>(mut ask: impl AsyncFnMut() -> Result<T, E>) -> T {
    let mut told = Instant::now();
    loop {
        let wrong = match timeout(ANSWER, ask()).await {
            Ok(Ok(answer)) => return answer,
            Ok(Err(error)) => error.to_string(),
            Err(late) => late.to_string(),
        };
        if told.elapsed() > LONG {
            told = Instant::now();
            eprintln!("still tried: {wrong}");
        }
        sleep(PAUSE).await;
    }
}
