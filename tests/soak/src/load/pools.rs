//! Pools of servers that fail and recover, and of pods that come and go.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use mainstay_e2e::{OUT, Pool, USED, pods, pool};
use tokio::net::TcpStream;

use crate::world::{World, insist};

const PAUSE: Duration = Duration::from_secs(5);
const SERVERS: [&str; 3] = ["server-a", "server-b", "server-c"];

/// The pools, and what was told to the servers last.
pub(crate) struct Pools {
    /// Of servers that are checked.
    checked: Pool,
    /// Of the pods of a group that is scaled.
    moving: Pool,
    /// The addresses of the servers, and whether they say that they serve.
    serving: BTreeMap<String, bool>,
    addresses: Vec<String>,
}

impl Pools {
    pub(crate) async fn make(world: &World) -> Self {
        let mut addresses = Vec::new();
        for name in SERVERS {
            addresses.push(world.scenario.server(name, "judged").await);
        }
        let checked = world.scenario.create(&pool("checked").pods("judged", 0).checked()).await;
        let moving = world.scenario.create(&pool("moving").pods("moving", 0)).await;
        let serving = addresses.iter().map(|address| (address.clone(), true)).collect();
        Self { checked, moving, serving, addresses }
    }

    /// Lets one of the servers say that it does not serve, a while later that it does, and then another.
    pub(crate) async fn load(&mut self, world: &World) {
        let mut step = 0;
        while world.next_step(PAUSE).await {
            let (place, serves) = (step / 2 % SERVERS.len(), step % 2 == 1);
            step += 1;
            let path = if serves { "make-serving" } else { "make-not-serving" };
            let url = format!(
                "/api/v1/namespaces/{}/pods/{}:8091/proxy/{path}",
                world.scenario.namespace, SERVERS[place]
            );
            insist(async || {
                let request = http::Request::get(&url).body(Vec::new()).expect("a valid request");
                world.client.request_text(request).await
            })
            .await;
            self.serving.insert(self.addresses[place].clone(), serves);
        }
    }

    /// The endpoints in use are those that serve and answer, and no others are there.
    pub(crate) async fn check(&self, world: &World) -> Result<(), String> {
        let wanted: BTreeMap<_, _> = self
            .serving
            .iter()
            .map(|(address, serves)| (address.clone(), if *serves { USED } else { OUT }))
            .collect();
        let seen = self.checked.endpoints().await;
        if seen != wanted {
            return Err(format!("checked has {seen:?}, not {wanted:?}"));
        }
        for address in wanted.keys() {
            TcpStream::connect((address.as_str(), 8080))
                .await
                .map_err(|error| format!("{address}: {error}"))?;
        }
        let ours = ListParams::default().labels("app=moving");
        let listed = world.api::<Pod>().list(&ours).await.map_err(|error| error.to_string())?;
        let ready = listed.iter().filter(|pod| pods::is_active(pod) && pods::is_ready(pod));
        let wanted: BTreeMap<_, _> =
            ready.filter_map(|pod| Some((pod.status.as_ref()?.pod_ip.clone()?, USED))).collect();
        let seen = self.moving.endpoints().await;
        (seen == wanted).then_some(()).ok_or_else(|| format!("moving has {seen:?}, not {wanted:?}"))
    }
}
