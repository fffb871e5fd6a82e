//! NodeHealthPolicies: drafts of them, those that exist, and what they have made of nodes.

use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt;
use mainstay_crds::{NodeHealthPolicy, NodeHealthPolicyStatus};
use serde_json::json;

use crate::{
    event::event,
    nodes::FakeNodes,
    object::{DraftOf, Made},
    scenario::Scenario,
    wait::eventually,
};

/// The annotation of a node that carries something of a policy.
const RECORD: &str = "mainstay.dev/node-health";
/// The taint of one.
const TAINT: &str = "mainstay.dev/unhealthy";

/// A policy as a user writes it.
pub type PolicyDraft = DraftOf<NodeHealthPolicy>;

/// A policy that exists; what it took is handed back when it is deleted.
pub type Health = Made<NodeHealthPolicy>;

/// A policy for the fake nodes of a test, named after its namespace, that hands back soon. Their kubelets are not asked: all
/// fake nodes have the address of a real one, which lives.
pub fn policy(scenario: &Scenario, nodes: &FakeNodes) -> PolicyDraft {
    let (label, mark) = nodes.label();
    let spec = json!({
        "nodeSelector": {"matchLabels": {label: mark}},
        "healthyFor": "2s",
        "secondOpinion": {"kubelet": {"enabled": false}},
        "actions": {"drain": {"after": "0s"}},
        "breakers": {"closeAfter": "3s"},
    });
    PolicyDraft::new(&scenario.namespace, spec)
}

impl Health {
    /// Waits until it watches so many nodes, and all are well.
    pub async fn watches(&self, count: i32) -> NodeHealthPolicyStatus {
        self.until("watches its nodes", |status| status.nodes.total == count && status.nodes.healthy == count)
            .await
    }

    /// Waits until the node of this name is in this state.
    pub async fn finds(&self, node: &str, state: &str) -> NodeHealthPolicyStatus {
        self.until(&format!("{node} is {state}"), |status| state_of(status, node) == Some(state)).await
    }
}

/// The state of a node as its policy lists it.
fn state_of<'a>(status: &'a NodeHealthPolicyStatus, node: &str) -> Option<&'a str> {
    let listed = status.unhealthy_nodes.iter().find(|listed| listed.name == node);
    listed.map(|listed| listed.state.as_str())
}

/// What stands on a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stand {
    /// Whether it takes no new pods.
    pub cordoned: bool,
    /// The effect of the taint that policies set.
    pub taint: Option<String>,
    /// Whether the record says that it is taken.
    pub taken: bool,
}

impl Stand {
    /// Nothing.
    pub const CLEAR: Self = Self { cordoned: false, taint: None, taken: false };

    /// What stands on `node`.
    pub fn of(node: &Node) -> Self {
        let spec = node.spec.as_ref();
        let taints = spec.and_then(|spec| spec.taints.as_ref());
        let taint = taints.into_iter().flatten().find(|taint| taint.key == TAINT);
        let record = node.annotations().get(RECORD).map_or("", String::as_str);
        Self {
            cordoned: spec.and_then(|spec| spec.unschedulable).unwrap_or_default(),
            taint: taint.map(|taint| taint.effect.clone()),
            taken: record.contains(r#""taken""#),
        }
    }
}

impl FakeNodes {
    /// Waits until this stands on node number `number`.
    pub async fn carries(&self, number: usize, stand: &Stand) {
        eventually(&format!("{} carries {stand:?}", self.name(number)), async || {
            let seen = Stand::of(&self.get(number).await);
            (seen == *stand).then_some(()).ok_or_else(|| format!("{seen:?}"))
        })
        .await;
    }

    /// Waits for an event of this reason about node number `number`; returns its sentence.
    pub async fn event(&self, scenario: &Scenario, number: usize, reason: &str) -> String {
        let uid = self.get(number).await.uid().unwrap_or_default();
        event(&scenario.client, "default", (self.name(number), &uid), reason).await
    }
}
