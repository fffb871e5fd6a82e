//! Nodes that kwok plays, for a test alone.

use std::time::Duration;

use futures::future::join_all;
use k8s_openapi::api::{coordination::v1::Lease, core::v1::Node};
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use crate::{last::at_the_end, pods::PAUSE, scenario::Scenario, wait::eventually};

const LABEL: &str = "e2e.mainstay.dev/nodes-of";
/// kwok's own annotation and taint.
const FAKE: &str = "kwok.x-k8s.io/node";
const ZONE: &str = "topology.kubernetes.io/zone";

/// Fake nodes on which only pods of one test run. They are deleted when this is dropped.
pub struct FakeNodes {
    client: Client,
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
        let made = Self { client: scenario.client.clone(), nodes, mark, names };
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

    /// The label that all of these nodes have, and no others.
    pub fn label(&self) -> (&'static str, &str) {
        (LABEL, &self.mark)
    }

    /// Node number `number`, as it is.
    ///
    /// # Panics
    /// When it cannot be read.
    pub async fn get(&self, number: usize) -> Node {
        self.nodes.get(self.name(number)).await.expect("the node is there")
    }

    /// Merges `patch` into node number `number`.
    ///
    /// # Panics
    /// When it cannot be.
    pub async fn patch(&self, number: usize, patch: Value) {
        let patched =
            self.nodes.patch(self.name(number), &PatchParams::default(), &Patch::Merge(patch)).await;
        patched.expect("the node is patched");
    }

    /// Merges `patch` into the status of node number `number`, lists by their keys.
    ///
    /// # Panics
    /// When it cannot be.
    pub async fn patch_status(&self, number: usize, status: Value) {
        let patch = Patch::Strategic(json!({"status": status}));
        let patched = self.nodes.patch_status(self.name(number), &PatchParams::default(), &patch).await;
        patched.expect("the node's status is patched");
    }

    /// Lets nodes fall silent: kwok lets go of a node whose Lease another holds. The last renewal lies in the future, so
    /// that kwok does not take the Lease back; those who go by the clock of the node would wait for it.
    ///
    /// # Panics
    /// When the Lease cannot be written.
    pub async fn silence(&self, numbers: &[usize]) {
        let params = PatchParams::default();
        let renewed = k8s_openapi::jiff::Timestamp::now() + Duration::from_secs(3600);
        let renewed = renewed.strftime("%FT%T.000000Z").to_string();
        let patch = Patch::Merge(json!({"spec": {"holderIdentity": "dead", "renewTime": renewed}}));
        let leases = self.leases();
        let silence = numbers.iter().map(|number| leases.patch(self.name(*number), &params, &patch));
        for silenced in join_all(silence).await {
            silenced.expect("the Lease is taken");
        }
    }

    /// Brings silent nodes back.
    ///
    /// # Panics
    /// When the Lease cannot be deleted.
    pub async fn revive(&self, numbers: &[usize]) {
        for number in numbers {
            self.leases().delete(self.name(*number), &Default::default()).await.expect("the Lease is free");
        }
    }

    /// The Leases of all nodes.
    pub fn leases(&self) -> Api<Lease> {
        Api::namespaced(self.client.clone(), "kube-node-lease")
    }

    /// A pod for these nodes, wherever the scheduler puts it.
    pub fn pod(&self) -> Value {
        let tolerations = [LABEL, FAKE].map(|key| json!({"key": key, "operator": "Exists"}));
        json!({
            "nodeSelector": {LABEL: self.mark},
            "tolerations": tolerations,
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
        let ours = ListParams::default().labels(&format!("{LABEL}={}", self.mark));
        at_the_end(&format!("the nodes of {} are deleted", self.mark), async move |client| {
            Api::<Node>::all(client).delete_collection(&DeleteParams::default(), &ours).await.map(drop)
        });
    }
}

/// Whether a node is ready, and not tainted as one that is not.
pub fn is_ready(node: &Node) -> bool {
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
            "annotations": {FAKE: "fake"},
        },
        // Pods of others stay away, and so do DaemonSets without a word.
        "spec": {"taints": [
            {"key": LABEL, "value": mark, "effect": "NoSchedule"},
            {"key": FAKE, "value": "fake", "effect": "NoSchedule"},
        ]},
        "status": {"allocatable": room, "capacity": room},
    })
}
