//! Whether each controller works: a small change of an object of its own, again and again, and when it was answered.

use std::{cell::RefCell, rc::Rc, time::Duration};

use futures::{FutureExt, future::LocalBoxFuture};
use kube::Api;
use mainstay_crds::{AccountPolicy, ConfigRollout, EndpointPool, NodeHealthPolicy, ReplicaGroup};
use mainstay_e2e::{AccountsDraft, Component, Kind, PolicyDraft, config_rollout, group, pods, pool};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};

use crate::world::{World, insist};

/// The name of all of these objects.
const NAME: &str = "pulse";
const PAUSE: Duration = Duration::from_millis(500);
/// How long an answer may take: servers are killed in between.
const LIMIT: Duration = Duration::from_secs(180);
/// How often an answer is looked for.
const LOOK: Duration = Duration::from_millis(200);

/// A change.
#[derive(Clone, Copy)]
struct Beat {
    begun: Instant,
    /// `None` when it was not within [`LIMIT`].
    answered: Option<Instant>,
}

/// The beats of one controller, oldest first.
#[derive(Clone, Default)]
pub(crate) struct Pulse(Rc<RefCell<Vec<Beat>>>);

impl Pulse {
    /// How long after `then` a change that was begun afterwards was answered.
    pub(crate) fn recovery(&self, then: Instant) -> Option<Duration> {
        let beats = self.0.borrow();
        let answers = beats.iter().filter(|beat| beat.begun >= then);
        answers.filter_map(|beat| beat.answered).next().map(|answered| answered - then)
    }

    /// How many changes were not answered.
    pub(crate) fn unanswered(&self) -> usize {
        self.0.borrow().iter().filter(|beat| beat.answered.is_none()).count()
    }

    async fn beat<K>(self, world: &World, api: Api<K>, changes: [Value; 2])
    where
        K: Kind,
    {
        let mut turn = 0;
        while world.next_step(PAUSE).await {
            let begun = Instant::now();
            turn += 1;
            world.merge(&api, NAME, json!({"spec": changes[turn % 2]})).await;
            let answer = async {
                loop {
                    let object = insist(async || api.get(NAME).await).await;
                    let answered = object.status().and_then(K::observed_generation);
                    if answered.is_some() && answered == object.meta().generation {
                        return Instant::now();
                    }
                    sleep(LOOK).await;
                }
            };
            let answered = timeout(LIMIT, answer).await.ok();
            self.0.borrow_mut().push(Beat { begun, answered });
        }
    }
}

/// A pulse of each controller, and what keeps them going until the load ends.
pub(crate) async fn of_all(world: &World) -> (Vec<(Component, Pulse)>, Vec<LocalBoxFuture<'_, ()>>) {
    make(world).await;
    let pulses = Component::ALL.map(|component| (component, Pulse::default()));
    let beats = pulses.clone().map(|(component, pulse)| {
        let members = |ip: &str| json!({"members": [{"name": "a", "addresses": [{"ip": ip}]}]});
        let pair = |key: &str, values: [Value; 2]| values.map(|value| json!({key: value}));
        let (seconds, cluster) = (["1s".into(), "2s".into()], world.client.clone());
        match component {
            Component::Replication => {
                let changes = pair("replicas", [1.into(), 2.into()]);
                pulse.beat::<ReplicaGroup>(world, world.api(), changes).boxed_local()
            }
            Component::Endpoints => {
                let changes = ["192.0.2.1", "192.0.2.2"].map(members);
                pulse.beat::<EndpointPool>(world, world.api(), changes).boxed_local()
            }
            Component::NodeHealth => {
                let changes = pair("healthyFor", seconds);
                pulse.beat::<NodeHealthPolicy>(world, Api::all(cluster), changes).boxed_local()
            }
            Component::ConfigRollout => {
                let changes = pair("debounce", seconds);
                pulse.beat::<ConfigRollout>(world, world.api(), changes).boxed_local()
            }
            Component::Accounts => {
                let changes = pair("gracePeriod", seconds);
                pulse.beat::<AccountPolicy>(world, Api::all(cluster), changes).boxed_local()
            }
        }
    });
    (pulses.into(), beats.into())
}

/// Makes the objects, which concern nobody.
async fn make(world: &World) {
    let scenario = &world.scenario;
    let nobody = json!({"matchLabels": {"soak": "nobody"}});
    scenario.create(&group(NAME, pods::gated())).await;
    scenario.create(&pool(NAME).without_service().addresses("a", &["192.0.2.1".to_owned()])).await;
    scenario.config_map(NAME, &[("a", "b")]).await;
    let rollout = config_rollout(NAME)
        .with("spec.sources", json!([{"kind": "ConfigMap", "name": NAME}]))
        .with("spec.stages.0.targets.0.name", NAME);
    scenario.create(&rollout).await;
    let health = PolicyDraft::new(NAME, json!({"nodeSelector": nobody}));
    let accounts = json!({"namespaceSelector": nobody, "serviceAccounts": [{"name": "bot"}]});
    // They are deleted with the cluster.
    std::mem::forget(health.create(&scenario.client).await);
    std::mem::forget(AccountsDraft::new(NAME, accounts).create(&scenario.client).await);
}
