//! Nodes that kwok plays, for a test alone.

use k8s_openapi::api::core::v1::Node;
use kube::{
    Api,
    api::{ListParams, PostParams},
};
use serde_json::{Value, json};

use crate::{Scenario, command::kubectl, eventually, pods::PAUSE};

const LABEL: &str = "e2e.mainstay.dev/nodes-of";
const ZONE: &str = "topology.kubernetes.io/zone";

/// Fake nodes on which only pods of one test run. They are deleted when this is dropped.
pub struct FakeNodes {
    nodes: Api<Node>,
    /// Value of the label and the taint that set these nodes apart.
    mark: String,
    names: Vec<String>,
}

impl FakeNodes {
    /// Makes a node in each of `zones`, of which the cluster has `zone-a`, `zone-b` and `zone-c`, and waits until
    /// they are ready. `None`, and a line that says so, where no kwok plays nodes.
    pub async fn make(scenario: &Scenario, zones: &[&str]) -> Option<Self> {
        let nodes: Api<Node> = Api::all(scenario.client.clone());
        let fake = nodes.list(&ListParams::default().labels("type=kwok").limit(1)).await;
        if fake.expect("nodes are listed").items.is_empty() {
            eprintln!("skipped: this cluster has no fake nodes (label type=kwok)");
            return None;
        }
        let mark = scenario.namespace.clone();
        let names: Vec<_> = (0..zones.len()).map(|number| format!("{mark}-{number}")).collect();
        let made = Self { nodes, mark, names };
        for (name, zone) in made.names.iter().zip(zones) {
            let node = serde_json::from_value(node(name, &made.mark, zone)).expect("a node");
            made.nodes.create(&PostParams::default(), &node).await.expect("the node is created");
        }
        let ours = ListParams::default().labels(&format!("{LABEL}={}", made.mark));
        eventually("the fake nodes are ready", async || {
            let nodes = made.nodes.list(&ours).await.map_err(|error| error.to_string())?.items;
            let ready = nodes.iter().filter(|node| is_ready(node)).count();
            (ready == zones.len()).then_some(()).ok_or(format!("{ready} of {} are", zones.len()))
        })
        .await;
        Some(made)
    }

    /// Name of node number `number`.
    pub fn name(&self, number: usize) -> &str {
        &self.names[number]
    }

    /// A pod for these nodes, wherever the scheduler puts it.
    pub fn pod(&self) -> Value {
        json!({
            "nodeSelector": {LABEL: self.mark},
            "tolerations": [{"operator": "Exists", "effect": "NoSchedule"}],
            // Nobody need wait for a fake kubelet.
            "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "none", "image": PAUSE}],
        })
    }

    /// A pod for node number `number`.
    pub fn pod_on(&self, number: usize) -> Value {
        let mut pod = self.pod();
        pod["nodeName"] = self.name(number).into();
        pod
    }
}

impl Drop for FakeNodes {
    fn drop(&mut self) {
        kubectl(&format!("delete nodes --selector={LABEL}={} --wait=false", self.mark));
    }
}

fn is_ready(node: &Node) -> bool {
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let not_ready = |taint: &&k8s_openapi::api::core::v1::Taint| taint.key == "node.kubernetes.io/not-ready";
    let tainted =
        node.spec.iter().flat_map(|spec| spec.taints.iter().flatten()).any(|taint| not_ready(&taint));
    !tainted
        && conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

fn node(name: &str, mark: &str, zone: &str) -> Value {
    let room = json!({"cpu": "64", "memory": "256Gi", "pods": "500"});
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            // kwok plays the nodes of this type, zone by zone.
            "labels": {"type": "kwok", "kubernetes.io/hostname": name, ZONE: zone, LABEL: mark},
            "annotations": {"kwok.x-k8s.io/node": "fake"},
        },
        // Pods of others stay away, and so do DaemonSets without a word.
        "spec": {"taints": [
            {"key": LABEL, "value": mark, "effect": "NoSchedule"},
            {"key": "kwok.x-k8s.io/node", "value": "fake", "effect": "NoSchedule"},
        ]},
        "status": {"allocatable": room, "capacity": room},
    })
}
