//! Nodes that die, and how soon that is noticed and they are cleared.

use super::eyes::{Eyes, Moments, Seen};
use crate::{
    bed::Bed,
    error::{Context, Error, Result},
    names::NAMESPACE,
    pods::{self, object},
    side::Side,
    statistics::percentile,
};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::{
    api::{
        coordination::v1::Lease,
        core::v1::{Node, Pod, Service},
    },
    jiff::Timestamp,
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use serde::Serialize;
use serde_json::json;
use std::{
    collections::BTreeMap,
    fmt,
    time::{Duration, Instant},
};

/// Requests under way when many objects are made.
const IN_FLIGHT: usize = 32;
/// Between two deaths of nodes that die one after the other.
const APART: Duration = Duration::from_secs(10);
/// kube-controller-manager deletes the pods of a dead node after 50 s and 300 s more, one node in 10 s a zone.
const LIMIT: Duration = Duration::from_secs(900);
const PAUSE: Duration = Duration::from_millis(200);
const ZONE: &str = "topology.kubernetes.io/zone";

/// What happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Scenario {
    /// Nodes die, one after the other.
    Single(usize),
    /// Nodes of all zones die at once.
    Many(usize),
    /// A zone dies.
    Zone,
}

impl Scenario {
    pub(crate) fn all(single: usize, many: usize) -> [Self; 3] {
        [Self::Single(single), Self::Many(many), Self::Zone]
    }

    /// For people.
    pub(crate) fn title(self) -> String {
        match self {
            Self::Single(count) => format!("{count} nodes, one after the other"),
            Self::Many(count) => format!("{count} nodes at once"),
            Self::Zone => "a zone".into(),
        }
    }
}

/// What became of one scenario.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub side: Side,
    pub scenario: Scenario,
    /// Nodes that died.
    pub nodes: usize,
    /// From the last sign of life to the moment at which the side shows the node as unhealthy, seconds.
    pub detected: Times,
    /// To the moment at which its taint keeps new pods away.
    pub tainted: Option<Times>,
    /// To the moment at which no Service sends to a pod of it.
    pub unserved: Option<Times>,
    /// To the moment at which a pod of it is deleted.
    pub deleted: Option<Times>,
}

/// Half of them, and 99 %, were not later, in seconds.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Times {
    pub p50: f64,
    pub p99: f64,
}

impl Times {
    fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        (!values.is_empty()).then(|| Self { p50: percentile(&values, 0.50), p99: percentile(&values, 0.99) })
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |times: Option<Times>| {
            times.map_or("–".into(), |times| format!("{:.1} and {:.1} s", times.p50, times.p99))
        };
        write!(
            f,
            "{}, {}: noticed after {} (p50 and p99), tainted after {}, unserved after {}, pods deleted after {}",
            self.side.title(),
            self.scenario.title(),
            shown(Some(self.detected)),
            shown(self.tainted),
            shown(self.unserved),
            shown(self.deleted)
        )
    }
}

/// The fake nodes that have not died yet, by zone.
pub(crate) struct Nodes {
    zones: BTreeMap<String, Vec<String>>,
}

impl Nodes {
    pub(crate) async fn find(bed: &Bed) -> Result<Self> {
        let nodes: Api<Node> = Api::all(bed.client.clone());
        let mut zones: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for node in nodes.list(&ListParams::default().labels("type=kwok")).await.when("list nodes")? {
            let zone = node.labels().get(ZONE).cloned().unwrap_or_default();
            zones.entry(zone).or_default().push(node.name_any());
        }
        if zones.len() < 2 {
            let wanted = "the bench needs fake nodes in zones: `mainstay-cluster up --nodes 1000 --zones 3`";
            return Err(Error::Refused(wanted.into()));
        }
        Ok(Self { zones })
    }

    pub(crate) fn len(&self) -> usize {
        self.zones.values().map(Vec::len).sum()
    }

    fn all(&self) -> impl Iterator<Item = &String> {
        self.zones.values().flatten()
    }

    /// So many that die, from all zones in turn.
    fn take(&mut self, count: usize) -> Vec<String> {
        let mut taken = Vec::with_capacity(count);
        while taken.len() < count {
            let before = taken.len();
            for nodes in self.zones.values_mut().filter(|nodes| nodes.len() > 1) {
                if taken.len() < count {
                    taken.extend(nodes.pop());
                }
            }
            if taken.len() == before {
                break;
            }
        }
        taken
    }

    fn zone(&self) -> Vec<String> {
        self.zones.values().next_back().cloned().unwrap_or_default()
    }
}

/// Makes the pods of all nodes and a Service before them, and waits until they are ready.
pub(crate) async fn make_pods(bed: &Bed, nodes: &Nodes, each: usize) -> Result<()> {
    let services: Api<Service> = Api::namespaced(bed.client.clone(), NAMESPACE);
    let service = json!({
        "metadata": {"name": "all"},
        "spec": {"selector": {"app": "all"}, "ports": [{"port": 80}]},
    });
    services.create(&PostParams::default(), &object(service)?).await.when("create the Service")?;
    let pods: Api<Pod> = Api::namespaced(bed.client.clone(), NAMESPACE);
    let all = nodes.all().flat_map(|node| (0..each).map(move |number| (node, number)));
    let made = all.map(|(node, number)| {
        let (pods, pod) = (&pods, pod(node, number));
        async move { pods.create(&PostParams::default(), &pod?).await.when("create a pod").map(drop) }
    });
    stream::iter(made).buffer_unordered(IN_FLIGHT).try_collect::<Vec<()>>().await?;
    pods::ready(bed).await
}

fn pod(node: &str, number: usize) -> Result<Pod> {
    object(json!({
        "metadata": {"name": format!("{node}.{number}"), "labels": {"app": "all"}},
        "spec": {
            "nodeName": node,
            "automountServiceAccountToken": false,
            "containers": [{"name": "none", "image": "registry.k8s.io/pause:3.10.2"}],
        },
    }))
}

/// Lets nodes die as the scenario says, waits until the side has cleared them, and brings them back.
pub(crate) async fn turn(
    bed: &Bed,
    nodes: &mut Nodes,
    eyes: &Eyes,
    side: Side,
    scenario: Scenario,
) -> Result<Row> {
    let victims = match scenario {
        Scenario::Single(count) | Scenario::Many(count) => nodes.take(count),
        Scenario::Zone => nodes.zone(),
    };
    eyes.begin();
    let mut died = BTreeMap::new();
    let apart = matches!(scenario, Scenario::Single(_));
    for group in victims.chunks(if apart { 1 } else { victims.len() }) {
        died.extend(kill(bed, group).await?);
        if apart {
            tokio::time::sleep(APART).await;
        }
    }
    let clears = scenario != Scenario::Zone;
    until(eyes, side, &died, clears).await?;
    let row = row(&eyes.seen(), side, scenario, &died, clears);
    revive(bed, &victims).await?;
    row.ok_or_else(|| Error::Refused("no node has died: the cluster has too few fake nodes".into()))
}

/// Takes the Leases of nodes, so that kwok lets go of them. Returns when each was taken: that write is its last sign of
/// life. It lies in the future of kwok's clock, or kwok would take it back.
async fn kill(bed: &Bed, nodes: &[String]) -> Result<Vec<(String, Instant)>> {
    let leases: Api<Lease> = Api::namespaced(bed.client.clone(), "kube-node-lease");
    let renewed = (Timestamp::now() + Duration::from_secs(7200)).strftime("%FT%T.000000Z").to_string();
    let patch = Patch::Merge(json!({"spec": {"holderIdentity": "dead", "renewTime": renewed}}));
    let killed = nodes.iter().map(|node| {
        let (leases, patch) = (&leases, &patch);
        async move {
            leases.patch(node, &PatchParams::default(), patch).await.when("take a Lease")?;
            Ok::<_, Error>((node.clone(), Instant::now()))
        }
    });
    stream::iter(killed).buffer_unordered(IN_FLIGHT).try_collect().await
}

/// Brings nodes back, and waits until they are ready and nothing of a policy stands on them.
async fn revive(bed: &Bed, victims: &[String]) -> Result<()> {
    let leases: Api<Lease> = Api::namespaced(bed.client.clone(), "kube-node-lease");
    let freed = victims.iter().map(|node| {
        let leases = &leases;
        async move { leases.delete(node, &DeleteParams::default()).await.when("free a Lease").map(drop) }
    });
    stream::iter(freed).buffer_unordered(IN_FLIGHT).try_collect::<Vec<()>>().await?;
    let nodes: Api<Node> = Api::all(bed.client.clone());
    bed.until("all nodes to be back", async || {
        let listed = nodes.list(&ListParams::default().labels("type=kwok")).await.when("list nodes")?;
        let is_back = |node: &Node| {
            let taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
            let own = |key: &str| key.starts_with("node.kubernetes.io/") || key.starts_with("mainstay.dev/");
            !taints.into_iter().any(|taint| own(&taint.key))
        };
        Ok(listed.iter().all(is_back))
    })
    .await
}

/// When a side called nodes unhealthy: in the status of its policy, or in the node's own.
fn noticed(seen: &Seen, side: Side) -> &Moments {
    if side == Side::Mainstay { &seen.listed } else { &seen.not_ready }
}

/// When a side kept new pods away from nodes.
fn tainted(seen: &Seen, side: Side) -> &Moments {
    if side == Side::Mainstay { &seen.taken } else { &seen.unreachable }
}

/// Waits until all nodes are noticed, and cleared where the side is to clear them. A storm is noticed by Mainstay when
/// its policy counts all nodes as unhealthy; it takes none of them.
async fn until(eyes: &Eyes, side: Side, died: &BTreeMap<String, Instant>, clears: bool) -> Result<()> {
    let start = Instant::now();
    loop {
        {
            let seen = eyes.seen();
            let found = if !clears && side == Side::Mainstay {
                seen.unhealthy.last().map_or(0, |(most, _)| *most)
            } else {
                died.keys().filter(|node| noticed(&seen, side).contains_key(*node)).count()
            };
            let cleared = |moments: &Moments| {
                died.keys().filter(|node| moments.keys().any(|pod| of(pod, node))).count()
            };
            let (unserved, deleted) = (cleared(&seen.unserved), cleared(&seen.deleted));
            let all = died.len();
            if found >= all && (!clears || unserved >= all && deleted >= all) {
                return Ok(());
            }
            if start.elapsed() > LIMIT {
                let seen = format!("{found} noticed, {unserved} unserved, {deleted} cleared, of {all}");
                return Err(Error::Late {
                    what: format!("{} to clear dead nodes", side.title()),
                    seen,
                    limit: LIMIT,
                });
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Whether the pod is on the node.
fn of(pod: &str, node: &str) -> bool {
    pod.strip_prefix(node).is_some_and(|rest| rest.starts_with('.'))
}

fn row(
    seen: &Seen,
    side: Side,
    scenario: Scenario,
    died: &BTreeMap<String, Instant>,
    clears: bool,
) -> Option<Row> {
    let since = |died: Instant, at: Instant| at.saturating_duration_since(died).as_secs_f64();
    let nodes = |moments: &Moments| -> Vec<f64> {
        died.iter().filter_map(|(node, at)| Some(since(*at, *moments.get(node)?))).collect()
    };
    let detected = if !clears && side == Side::Mainstay {
        let last = died.values().max()?;
        seen.unhealthy
            .iter()
            .filter(|(most, _)| *most >= died.len())
            .map(|(_, at)| since(*last, *at))
            .take(1)
            .collect()
    } else {
        nodes(noticed(seen, side))
    };
    let pods = |moments: &Moments| {
        let all = moments.iter().filter_map(|(pod, at)| {
            let node = pod.rsplit_once('.')?.0;
            Some(since(*died.get(node)?, *at))
        });
        Times::of(all.collect()).filter(|_| clears)
    };
    Some(Row {
        side,
        scenario,
        nodes: died.len(),
        detected: Times::of(detected)?,
        tainted: Times::of(nodes(tainted(seen, side))).filter(|_| clears),
        unserved: pods(&seen.unserved),
        deleted: pods(&seen.deleted),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_is_on_the_node_that_it_is_named_after() {
        assert!(of("node-1.0", "node-1"));
        assert!(!of("node-10.0", "node-1"));
    }

    #[test]
    fn nodes_die_in_all_zones_in_turn() {
        let names = |zone: &str| (0..3).map(|number| format!("{zone}{number}")).collect();
        let zones = BTreeMap::from([("a".to_owned(), names("a")), ("b".to_owned(), names("b"))]);
        let mut nodes = Nodes { zones };
        assert_eq!(nodes.take(3), ["a2", "b2", "a1"]);
        assert_eq!(nodes.take(9), ["b1"], "one of each zone stays");
        assert_eq!(nodes.zone(), ["b0"]);
    }
}
