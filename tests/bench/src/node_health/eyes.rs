//! Sees what becomes of nodes and pods through the API server alone, with the same eyes for all sides.

use crate::{error::Result, names::NAMESPACE};
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
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};
use tokio::task::JoinSet;

/// The taint of a node that Mainstay has taken.
const TAINT: &str = "mainstay.dev/unhealthy";
/// The taint that upstream gives a node of which it hears nothing.
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
/// The states in which the policy's verdict is that a node is unhealthy.
const VERDICT: [&str; 2] = ["Waiting", "Acting"];

/// When it was first seen of whom.
pub(super) type Moments = HashMap<String, Instant>;

/// When things were first seen, since the last [`Eyes::begin`].
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Nodes that the policy lists as unhealthy. It lists no more than a hundred.
    pub listed: Moments,
    /// Nodes that Mainstay has taken.
    pub taken: Moments,
    /// Nodes whose condition Ready is not True.
    pub not_ready: Moments,
    /// Nodes that upstream keeps pods away from.
    pub unreachable: Moments,
    /// Pods that no Service sends to.
    pub unserved: Moments,
    /// Pods that are deleted, or are being deleted.
    pub deleted: Moments,
    /// Numbers of nodes that the policy finds unhealthy, each when it was first reached.
    pub unhealthy: Vec<(usize, Instant)>,
    /// The pods to which each slice sends now.
    served: HashMap<String, HashSet<String>>,
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

    /// Forgets when things were seen.
    pub(crate) fn begin(&self) {
        let mut seen = self.seen();
        *seen = Seen { served: std::mem::take(&mut seen.served), ..Seen::default() };
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
            // A list shows what has come about while the watch was away.
            Ok(Event::Apply(object) | Event::InitApply(object)) => note(&mut seen, &object, false, now),
            Ok(Event::Delete(object)) => note(&mut seen, &object, true, now),
            Ok(Event::Init | Event::InitDone) | Err(_) => {}
        }
    }
}

fn node(seen: &mut Seen, node: &Node, _: bool, now: Instant) {
    for taint in node.spec.iter().flat_map(|spec| spec.taints.iter().flatten()) {
        let tainted = match taint.key.as_str() {
            TAINT => &mut seen.taken,
            UNREACHABLE => &mut seen.unreachable,
            _ => continue,
        };
        tainted.entry(node.name_any()).or_insert(now);
    }
    let mut conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    if conditions.any(|condition| condition.type_ == "Ready" && condition.status != "True") {
        seen.not_ready.entry(node.name_any()).or_insert(now);
    }
}

/// A pod may leave a slice without having been shown as not ready, and may have moved to another one.
fn slice(seen: &mut Seen, slice: &EndpointSlice, gone: bool, now: Instant) {
    let endpoints = slice.endpoints.iter().flatten().filter(|endpoint| {
        !gone && endpoint.conditions.as_ref().and_then(|conditions| conditions.ready).unwrap_or(true)
    });
    let pods = endpoints.filter_map(|endpoint| endpoint.target_ref.as_ref()?.name.clone()).collect();
    let before = seen.served.insert(slice.name_any(), pods).unwrap_or_default();
    for pod in before {
        if !seen.served.values().any(|pods| pods.contains(&pod)) {
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
    let Some(status) = &policy.status else { return };
    for node in status.unhealthy_nodes.iter().filter(|node| VERDICT.contains(&node.state.as_str())) {
        seen.listed.entry(node.name.clone()).or_insert(now);
    }
    let unhealthy = usize::try_from(status.nodes.waiting + status.nodes.acting).unwrap_or_default();
    if seen.unhealthy.last().is_none_or(|(most, _)| unhealthy > *most) {
        seen.unhealthy.push((unhealthy, now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn sends_to(name: &str, pods: &[(&str, bool)]) -> EndpointSlice {
        let endpoint = |(pod, ready): &(&str, bool)| {
            let (conditions, target) = (json!({"ready": ready}), json!({"name": pod}));
            json!({"addresses": [], "conditions": conditions, "targetRef": target})
        };
        let endpoints: Vec<_> = pods.iter().map(endpoint).collect();
        let slice = json!({"metadata": {"name": name}, "addressType": "IPv4", "endpoints": endpoints});
        serde_json::from_value(slice).expect("a slice")
    }

    #[test]
    fn a_pod_is_unserved_when_no_slice_sends_to_it_any_more() {
        let (mut seen, now) = (Seen::default(), Instant::now());
        let unserved = |seen: &Seen| {
            let mut pods: Vec<_> = seen.unserved.keys().cloned().collect();
            pods.sort();
            pods
        };
        slice(&mut seen, &sends_to("a", &[("one", true), ("two", true), ("three", true)]), false, now);
        slice(&mut seen, &sends_to("b", &[("three", true), ("new", false)]), false, now);
        assert_eq!(unserved(&seen), [""; 0], "one that was never served is none");
        slice(&mut seen, &sends_to("a", &[("one", false)]), false, now);
        assert_eq!(unserved(&seen), ["one", "two"], "three has moved");
        slice(&mut seen, &sends_to("b", &[]), true, now);
        assert_eq!(unserved(&seen), ["one", "three", "two"]);
    }
}
