//! Nodes that fall silent, one at a time, and others that are always healthy.

use std::time::Duration;

use k8s_openapi::{
    api::{coordination::v1::Lease, core::v1::Node},
    jiff::Timestamp,
};
use kube::{Api, api::DeleteParams};
use mainstay_e2e::{Health, Stand, policy};
use serde_json::json;

use crate::world::{World, insist};

const LOOK: Duration = Duration::from_secs(2);
/// A node is silent for this many looks, and then none is for as many.
const LOOKS: usize = 30;
/// kwok renews a Lease every 10 s. One that it leaves for this many looks, each of which the API server answered, is of a
/// node that may be acted on: the policy's `unreachableAfter` is 15 s, and kwok too waits longer after each failure.
const UNRENEWED: usize = 7;

/// The policy, and what was done to the nodes.
pub(crate) struct Nodes {
    _policy: Health,
    /// How often a silent node was acted on.
    acted: usize,
    /// What was done to nodes whose Lease was renewed in time.
    wrong: Vec<String>,
    /// The nodes that are not silenced.
    healthy: Vec<Renewals>,
}

/// What is seen of a node's Lease.
#[derive(Default)]
struct Renewals {
    last: Option<Timestamp>,
    /// For how many looks it is the last.
    looks: usize,
    /// It was not renewed in time, and the node has not been restored since.
    is_late: bool,
    /// How often it was not.
    late: usize,
}

impl Renewals {
    fn note(&mut self, renewed: Option<Timestamp>) {
        self.looks = if self.last == renewed { self.looks + 1 } else { 0 };
        self.last = renewed;
        if self.looks >= UNRENEWED && !self.is_late {
            self.is_late = true;
            self.late += 1;
        }
    }
}

impl Nodes {
    pub(crate) async fn make(world: &World) -> Self {
        // A node that has been silent for the third time is not to be kept in quarantine.
        let draft = policy(&world.scenario, &world.nodes).with("spec.flapping", json!({"count": 0}));
        let policy = draft.create(&world.scenario.client).await;
        let healthy = (0..World::HEALTHY).map(|_| Renewals::default()).collect();
        Self { _policy: policy, acted: 0, wrong: Vec::new(), healthy }
    }

    /// Silences a node, and brings it back later.
    pub(crate) async fn load(&mut self, world: &World) {
        let mut silent = None;
        let mut step = 0;
        let mut acted = false;
        while world.next_step(LOOK).await {
            if step % (2 * LOOKS) == LOOKS {
                let name = world.nodes.name(step / (2 * LOOKS) % World::SILENCED);
                silence(world, name).await;
                silent = Some(name);
                acted = false;
            } else if step % (2 * LOOKS) == 0
                && let Some(name) = silent.take()
            {
                revive(world, name).await;
            }
            step += 1;
            if let Some(name) = silent
                && !acted
                && stand(world, name).await != Stand::CLEAR
            {
                acted = true;
                self.acted += 1;
            }
            self.look(world).await;
        }
        if let Some(name) = silent {
            revive(world, name).await;
        }
    }

    async fn look(&mut self, world: &World) {
        let leases = leases(world);
        for (place, renewals) in self.healthy.iter_mut().enumerate() {
            let name = world.nodes.name(World::SILENCED + place);
            let lease = insist(async || leases.get(name).await).await;
            renewals.note(lease.spec.and_then(|spec| spec.renew_time).map(|time| time.0));
            let seen = stand(world, name).await;
            if seen == Stand::CLEAR {
                renewals.is_late &= renewals.looks > 0;
            } else if !renewals.is_late {
                let looks = renewals.looks;
                self.wrong
                    .push(format!("{name}, whose Lease was renewed {looks} looks before, carried {seen:?}"));
            }
        }
    }

    /// How often a silent node was acted on.
    pub(crate) fn acted(&self) -> usize {
        self.acted
    }

    /// How often kwok itself did not renew the Lease of a healthy node in time.
    pub(crate) fn late(&self) -> usize {
        self.healthy.iter().map(|renewals| renewals.late).sum()
    }

    /// No node whose Lease was renewed in time was acted on, and by now nothing stands on any.
    pub(crate) async fn check(&self, world: &World) -> Result<(), String> {
        if let Some(first) = self.wrong.first() {
            return Err(format!("{first} ({} times)", self.wrong.len()));
        }
        for number in 0..World::SILENCED + World::HEALTHY {
            let seen = Stand::of(&world.nodes.get(number).await);
            if seen != Stand::CLEAR {
                return Err(format!("{} carries {seen:?}", world.nodes.name(number)));
            }
        }
        Ok(())
    }
}

async fn stand(world: &World, name: &str) -> Stand {
    let nodes: Api<Node> = Api::all(world.client.clone());
    Stand::of(&insist(async || nodes.get(name).await).await)
}

/// kwok lets go of a node whose Lease another holds.
async fn silence(world: &World, name: &str) {
    let renewed = (Timestamp::now() + Duration::from_secs(3600)).strftime("%FT%T.000000Z").to_string();
    let patch = json!({"spec": {"holderIdentity": "dead", "renewTime": renewed}});
    world.merge(&leases(world), name, patch).await;
}

async fn revive(world: &World, name: &str) {
    let leases = leases(world);
    insist(async || match leases.delete(name, &DeleteParams::default()).await {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        deleted => deleted.map(drop),
    })
    .await;
}

fn leases(world: &World) -> Api<Lease> {
    Api::namespaced(world.client.clone(), "kube-node-lease")
}
