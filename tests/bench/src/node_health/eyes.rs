//! Sees what becomes of nodes and pods through the API server alone, with the same eyes for all sides.

use crate::{bed::NAMESPACE, error::Result};
use futures::StreamExt;
use k8s_openapi::api::{
    core::v1::{Node, Pod},
    discovery::v1::EndpointSlice,
};
use kube::{
    Api, Client, ResourceExt,
    core::PartialObjectMeta,
    runtime::{
        WatchStreamExt,
        watcher::{self, Event, watcher},
    },
};
use mainstay_crds::NodeHealthPolicy;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};
use tokio::task::JoinSet;

/// The taint of a node that Mainstay has taken.
const TAINT: &str = "mainstay.dev/unhealthy";

/// When things were first seen, since the last [`Eyes::begin`].
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Nodes that Mainstay has taken.
    pub taken: HashMap<String, Instant>,
    /// Nodes whose condition Ready is not True.
    pub not_ready: HashMap<String, Instant>,
    /// Pods that no Service sends to.
    pub unserved: HashMap<String, Instant>,
    /// Pods that are deleted, or are being deleted.
    pub deleted: HashMap<String, Instant>,
    /// Numbers of nodes that the policy finds unhealthy, each when it was first reached.
    pub unhealthy: Vec<(usize, Instant)>,
}

/// The watches, which end when this is dropped.
pub(crate) struct Eyes {
    seen: Arc<Mutex<Seen>>,
    _watches: JoinSet<()>,
}

impl Eyes {
    pub(crate) async fn open(client: &Client) -> Result<Self> {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let mut watches = JoinSet::new();
        watches.spawn(follow(watcher(Api::<Node>::all(client.clone()), config()), Arc::clone(&seen), node));
        let slices = Api::<EndpointSlice>::namespaced(client.clone(), NAMESPACE);
        watches.spawn(follow(watcher(slices, config()), Arc::clone(&seen), slice));
        let pods = Api::<PartialObjectMeta<Pod>>::namespaced(client.clone(), NAMESPACE);
        watches.spawn(follow(watcher(pods, config()), Arc::clone(&seen), pod));
        let policies = Api::<NodeHealthPolicy>::all(client.clone());
        watches.spawn(follow(watcher(policies, config()), Arc::clone(&seen), policy));
        Ok(Self { seen, _watches: watches })
    }

    /// Forgets what was seen.
    pub(crate) fn begin(&self) {
        *self.seen() = Seen::default();
    }

    pub(crate) fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn config() -> watcher::Config {
    watcher::Config::default()
}

async fn follow<K>(
    events: impl futures::Stream<Item = Result<Event<K>, watcher::Error>> + Send,
    seen: Arc<Mutex<Seen>>,
    note: fn(&mut Seen, &K, bool, Instant),
) where
    K: ResourceExt + Send,
{
    let mut events = events.default_backoff().boxed();
    while let Some(event) = events.next().await {
        let now = Instant::now();
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Ok(Event::Apply(object)) => note(&mut seen, &object, false, now),
            Ok(Event::Delete(object)) => note(&mut seen, &object, true, now),
            // What stood before is nothing that came about.
            Ok(Event::Init | Event::InitApply(_) | Event::InitDone) | Err(_) => {}
        }
    }
}

fn node(seen: &mut Seen, node: &Node, _: bool, now: Instant) {
    let taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    if taints.into_iter().any(|taint| taint.key == TAINT) {
        seen.taken.entry(node.name_any()).or_insert(now);
    }
    let mut conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    if conditions.any(|condition| condition.type_ == "Ready" && condition.status != "True") {
        seen.not_ready.entry(node.name_any()).or_insert(now);
    }
}

fn slice(seen: &mut Seen, slice: &EndpointSlice, _: bool, now: Instant) {
    for endpoint in slice.endpoints.iter().flatten() {
        let ready = endpoint.conditions.as_ref().and_then(|conditions| conditions.ready).unwrap_or(true);
        let pod = endpoint.target_ref.as_ref().and_then(|target| target.name.clone());
        if let Some(pod) = pod.filter(|_| !ready) {
            seen.unserved.entry(pod).or_insert(now);
        }
    }
}

fn pod(seen: &mut Seen, pod: &PartialObjectMeta<Pod>, gone: bool, now: Instant) {
    if gone || pod.metadata.deletion_timestamp.is_some() {
        seen.deleted.entry(pod.name_any()).or_insert(now);
    }
}

fn policy(seen: &mut Seen, policy: &NodeHealthPolicy, _: bool, now: Instant) {
    let nodes = policy.status.as_ref().map(|status| status.nodes).unwrap_or_default();
    let unhealthy = usize::try_from(nodes.waiting + nodes.acting).unwrap_or_default();
    if seen.unhealthy.last().is_none_or(|(most, _)| unhealthy > *most) {
        seen.unhealthy.push((unhealthy, now));
    }
}
