//! NodeHealthPolicies: drafts of them, those that exist, and what they have made of nodes.

use k8s_openapi::api::core::v1::Node;
use kube::{
    Api, Client, ResourceExt,
    api::{Patch, PatchParams, PostParams},
};
use mainstay_crds::{NodeHealthPolicy, NodeHealthPolicyStatus};
use serde_json::{Value, json};

use crate::{FakeNodes, Scenario, command::kubectl, draft::set, event::event, eventually};

/// The annotation of a node that carries something of a policy.
const RECORD: &str = "mainstay.dev/node-health";
/// The taint of one.
const TAINT: &str = "mainstay.dev/unhealthy";

/// A policy as a user writes it.
#[derive(Clone, Debug)]
pub struct PolicyDraft(Value);

/// A policy for the fake nodes of a test, named after its namespace, that hands back soon.
pub fn policy(scenario: &Scenario, nodes: &FakeNodes) -> PolicyDraft {
    let (label, mark) = nodes.label();
    PolicyDraft(json!({
        "apiVersion": "mainstay.dev/v1alpha1",
        "kind": "NodeHealthPolicy",
        "metadata": {"name": scenario.namespace},
        "spec": {
            "nodeSelector": {"matchLabels": {label: mark}},
            "healthyFor": "2s",
            "actions": {"drain": {"after": "0s"}},
            "breakers": {"closeAfter": "3s"},
        },
    }))
}

impl PolicyDraft {
    /// Sets the field of this path, whose parts are divided by dots.
    pub fn with(mut self, path: &str, value: impl Into<Value>) -> Self {
        set(&mut self.0, path, value);
        self
    }

    /// The object.
    pub fn object(&self) -> &Value {
        &self.0
    }

    /// Makes the policy.
    ///
    /// # Panics
    /// When the API server refuses it.
    pub async fn create(&self, client: &Client) -> Health {
        let policies: Api<NodeHealthPolicy> = Api::all(client.clone());
        let policy = serde_json::from_value(self.0.clone()).expect("a policy");
        let made = policies.create(&PostParams::default(), &policy).await.expect("the policy is created");
        let uid = made.uid().expect("it has a UID");
        Health { client: client.clone(), policies, name: made.name_any(), uid }
    }
}

/// A policy that exists. It is deleted when this is dropped, and what it took is handed back then.
pub struct Health {
    client: Client,
    policies: Api<NodeHealthPolicy>,
    name: String,
    uid: String,
}

impl Health {
    /// The policy as it is.
    ///
    /// # Panics
    /// When it cannot be read.
    pub async fn get(&self) -> NodeHealthPolicy {
        self.policies.get(&self.name).await.expect("the policy is there")
    }

    /// Merges `patch` into the policy.
    ///
    /// # Panics
    /// When it cannot be.
    pub async fn patch(&self, patch: Value) {
        let patched = self.policies.patch(&self.name, &PatchParams::default(), &Patch::Merge(patch)).await;
        patched.expect("the policy is patched");
    }

    /// Waits until the status is so.
    pub async fn until(
        &self,
        what: &str,
        holds: impl Fn(&NodeHealthPolicyStatus) -> bool,
    ) -> NodeHealthPolicyStatus {
        eventually(&format!("policy {}: {what}", self.name), async || {
            let policy = self.policies.get(&self.name).await.map_err(|error| error.to_string())?;
            let status = policy.status.unwrap_or_default();
            if holds(&status) { Ok(status) } else { Err(format!("{status:?}")) }
        })
        .await
    }

    /// Waits until it watches so many nodes, and all are well.
    pub async fn watches(&self, count: i32) -> NodeHealthPolicyStatus {
        self.until("watches its nodes", |status| status.nodes.total == count && status.nodes.healthy == count)
            .await
    }

    /// Waits until the node of this name is in this state.
    pub async fn finds(&self, node: &str, state: &str) -> NodeHealthPolicyStatus {
        self.until(&format!("{node} is {state}"), |status| state_of(status, node) == Some(state)).await
    }

    /// Waits until the condition has this status and reason; returns its sentence.
    pub async fn says(&self, kind: &str, holds: bool, reason: &str) -> String {
        let wanted = if holds { "True" } else { "False" };
        let status = self
            .until(&format!("{kind} is {wanted} for {reason}"), |status| {
                status.conditions.iter().any(|condition| {
                    condition.type_ == kind && condition.status == wanted && condition.reason == reason
                })
            })
            .await;
        let condition = status.conditions.into_iter().find(|condition| condition.type_ == kind);
        condition.map(|condition| condition.message).unwrap_or_default()
    }

    /// Waits for an event of this reason about the policy; returns its sentence.
    pub async fn event(&self, reason: &str) -> String {
        event(&self.client, "default", (&self.name, &self.uid), reason).await
    }
}

impl Drop for Health {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let seen = kubectl(&format!("get nodehealthpolicy {} --output=yaml", self.name));
            eprintln!("policy {} when the test failed:\n{}{}", self.name, seen.stdout, seen.stderr);
        }
        kubectl(&format!("delete nodehealthpolicy {} --wait=false", self.name));
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
