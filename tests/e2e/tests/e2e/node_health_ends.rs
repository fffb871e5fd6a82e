//! What needs more than a policy: proof of death, and those who repair.

use kube::ResourceExt;
use mainstay_e2e::{
    Component::NodeHealth, Controller, FakeNodes, NAMESPACE, Scenario, Stand, eventually, kubectl, policy,
    rolled_out, run,
};
use serde_json::{Value, json};

const A: &str = "zone-a";
const B: &str = "zone-b";
const C: &str = "zone-c";
const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

async fn is_out_of_service(nodes: &FakeNodes, number: usize) -> bool {
    let spec = nodes.get(number).await.spec.unwrap_or_default();
    spec.taints.iter().flatten().any(|taint| taint.key == OUT_OF_SERVICE)
}

async fn comes_to(nodes: &FakeNodes, number: usize, out_of_service: bool) {
    eventually(&format!("out of service: {out_of_service}"), async || {
        let is = is_out_of_service(nodes, number).await;
        (is == out_of_service).then_some(()).ok_or_else(|| format!("{is}"))
    })
    .await;
}

#[tokio::test]
async fn volumes_detach_only_with_proof_and_until_the_node_has_booted_anew() {
    let scenario = Scenario::start("proof", &[NodeHealth]).await;
    let Some(nodes) = FakeNodes::make(&scenario, &[A, B, C]).await else { return };
    let boot = |id: &str| json!({"nodeInfo": {"bootID": id}});
    nodes.patch_status(1, boot("boot-1")).await;
    let draft = policy(&scenario, &nodes).with("spec.actions.outOfService.enabled", true);
    let health = draft.create(&scenario.client).await;
    health.watches(3).await;
    nodes.silence(&[1]).await;
    let status = health
        .until("proof is waited for", |status| {
            let node = status.unhealthy_nodes.first();
            node.and_then(|node| node.waiting_for.as_ref()).is_some_and(|words| words.contains("proof"))
        })
        .await;
    let words = status.unhealthy_nodes[0].waiting_for.clone().unwrap_or_default();
    assert!(!is_out_of_service(&nodes, 1).await);
    // What the sentence says is what is done.
    let (_, line) = words.split_once("kubectl ").expect("the sentence has a command line");
    assert!(line.contains("confirmed-dead=boot-1."), "{words}");
    kubectl(line).succeeded();
    comes_to(&nodes, 1, true).await;
    nodes.revive(&[1]).await;
    // Until the node has booted anew, the rest is handed back and this is not.
    health.finds(nodes.name(1), "Recovering").await;
    eventually("the cordon is handed back", async || {
        let stand = Stand::of(&nodes.get(1).await);
        (!stand.cordoned).then_some(()).ok_or_else(|| format!("{stand:?}"))
    })
    .await;
    assert!(is_out_of_service(&nodes, 1).await);
    nodes.patch_status(1, boot("boot-2")).await;
    comes_to(&nodes, 1, false).await;
    nodes.event(&scenario, 1, "OutOfServiceRemoved").await;
    health.watches(3).await;
}

/// A kind of remediation and its templates, as a remediator brings them, with the rights that its contract asks for.
struct Remediator {
    group: String,
    namespace: String,
}

impl Remediator {
    fn install(scenario: &Scenario) -> Self {
        let group = format!("{}.remediation.test", scenario.namespace);
        let made = Self { group, namespace: scenario.namespace.clone() };
        let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
        let kind = |kind: &str, plural: &str| {
            json!({
                "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
                "metadata": {"name": format!("{plural}.{}", made.group)},
                "spec": {
                    "group": made.group, "scope": "Namespaced",
                    "names": {"kind": kind, "plural": plural, "singular": kind.to_lowercase()},
                    "versions": [{
                        "name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
                        "schema": {"openAPIV3Schema": schema},
                    }],
                },
            })
        };
        let role = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
            "metadata": {
                "name": made.group,
                "labels": {"rbac.ext-remediation/aggregate-to-ext-remediation": "true"},
            },
            "rules": [{
                "apiGroups": [made.group], "resources": ["repairs", "repairtemplates"],
                "verbs": ["get", "list", "create", "patch", "delete"],
            }],
        });
        for object in [kind("Repair", "repairs"), kind("RepairTemplate", "repairtemplates"), role] {
            run("kubectl", &["create", "--filename=-"], &object.to_string()).succeeded();
        }
        let kinds = format!("crd/repairs.{0} crd/repairtemplates.{0}", made.group);
        kubectl(&format!("wait --for=condition=Established {kinds} --timeout=60s")).succeeded();
        made
    }

    fn template(&self, scenario: &Scenario, name: &str) -> Value {
        let template = json!({
            "apiVersion": format!("{}/v1", self.group), "kind": "RepairTemplate",
            "metadata": {
                "name": name,
                "annotations": {"remediation.medik8s.io/multiple-templates-support": "true"},
            },
            "spec": {"template": {"spec": {"how": name}}},
        });
        scenario.kubectl_create(&template, &[]).succeeded();
        json!({
            "apiVersion": format!("{}/v1", self.group), "kind": "RepairTemplate",
            "name": name, "namespace": self.namespace, "timeout": "10m",
        })
    }

    /// The remediations that stand, by the name of their template.
    fn standing(&self, scenario: &Scenario) -> Vec<(String, Value)> {
        let listed = scenario.kubectl(&format!("get repairs.{} --output=json", self.group));
        let listed: Value = serde_json::from_str(&listed.succeeded()).expect("kubectl prints JSON");
        let items = listed["items"].as_array().cloned().unwrap_or_default();
        let named = items.into_iter().map(|item| {
            let how = item["spec"]["how"].as_str().unwrap_or_default().to_owned();
            (how, item)
        });
        named.collect()
    }

    async fn has(&self, scenario: &Scenario, expected: &[&str]) -> Vec<(String, Value)> {
        eventually(&format!("remediations by {expected:?} stand"), async || {
            let standing = self.standing(scenario);
            let names: Vec<_> = standing.iter().map(|(how, _)| how.as_str()).collect();
            if names == expected { Ok(standing.clone()) } else { Err(format!("{names:?}")) }
        })
        .await
    }

    /// Plays the remediator: says how its work on an object went.
    fn says(&self, scenario: &Scenario, object: &Value, succeeded: &str) {
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let status = json!({"status": {"conditions": [{"type": "Succeeded", "status": succeeded}]}});
        let line =
            format!("patch repairs.{} {name} --subresource=status --type=merge --patch={status}", self.group);
        scenario.kubectl(&line).succeeded();
    }
}

impl Drop for Remediator {
    fn drop(&mut self) {
        kubectl(&format!("delete crd repairs.{0} repairtemplates.{0} --wait=false", self.group));
        kubectl(&format!("delete clusterrole {}", self.group));
    }
}

#[tokio::test]
async fn remediations_escalate_prove_death_and_are_deleted_when_the_node_is_well() {
    let scenario = Scenario::start("repair", &[NodeHealth]).await;
    let Some(nodes) = FakeNodes::make(&scenario, &[A, B, C]).await else { return };
    let remediator = Remediator::install(&scenario);
    let mut templates = [remediator.template(&scenario, "gentle"), remediator.template(&scenario, "hard")];
    templates[1]["provesDeath"] = json!(true);
    nodes.patch_status(1, json!({"nodeInfo": {"bootID": "boot-1"}})).await;
    let health = policy(&scenario, &nodes)
        .with("spec.remediation", json!({"after": "0s", "templates": templates}))
        .with("spec.actions.outOfService.enabled", true)
        .create(&scenario.client)
        .await;
    health.watches(3).await;
    nodes.silence(&[1]).await;
    let standing = remediator.has(&scenario, &["gentle"]).await;
    let gentle = &standing[0].1;
    let metadata = &gentle["metadata"];
    assert_eq!(metadata["annotations"]["remediation.medik8s.io/node-name"], nodes.name(1));
    assert_eq!(metadata["ownerReferences"][0]["kind"], "NodeHealthPolicy");
    assert!(nodes.event(&scenario, 1, "RemediationCreated").await.contains("Repair"));

    remediator.says(&scenario, gentle, "False");
    let standing = remediator.has(&scenario, &["gentle", "hard"]).await;
    assert!(!is_out_of_service(&nodes, 1).await, "nothing has succeeded yet");
    remediator.says(&scenario, &standing[1].1, "True");
    comes_to(&nodes, 1, true).await;

    // The next boot is not dead, also before it renews its Lease.
    nodes.patch_status(1, json!({"nodeInfo": {"bootID": "boot-2"}})).await;
    comes_to(&nodes, 1, false).await;
    nodes.revive(&[1]).await;
    remediator.has(&scenario, &[]).await;
    comes_to(&nodes, 1, false).await;
    nodes.carries(1, &Stand::CLEAR).await;
    health.watches(3).await;
    let name = nodes.get(1).await.name_any();
    assert_eq!(name, nodes.name(1));
}

/// Lets another process lead, and waits until it finds one node of the policy in this state. Returns how many remediations
/// it has made by then.
async fn made_by_the_next_leader(controller: &Controller, policy: &str, state: &str) -> f64 {
    let before = controller.leader().await;
    kubectl(&format!("delete pod {before} --namespace={NAMESPACE} --wait=false")).succeeded();
    let next = controller.leader().await;
    assert_ne!(next, before, "a pod that is going does not lead");
    eventually(&format!("{next} finds a node {state}"), async || {
        let metrics = controller.metrics(&next).await;
        let found = metrics.sum("mainstay_node_health_nodes", &[("policy", policy), ("state", state)]);
        (found == 1.0).then_some(()).ok_or(format!("{found} nodes are"))
    })
    .await;
    let metrics = controller.metrics(&next).await;
    rolled_out(&controller.name()).succeeded();
    metrics.sum("mainstay_node_health_actions_total", &[("action", "remediate"), ("result", "success")])
}

#[tokio::test]
async fn a_new_leader_makes_no_remediation_for_a_node_that_is_well() {
    let scenario = Scenario::alone("handover", &[NodeHealth]).await;
    let Some(nodes) = FakeNodes::make(&scenario, &[A, B, C]).await else { return };
    let remediator = Remediator::install(&scenario);
    let gentle = remediator.template(&scenario, "gentle");
    let flapping = json!({"count": 1, "window": "1h", "quarantine": "30m", "maxQuarantine": "1h"});
    let health = policy(&scenario, &nodes)
        .with("spec.remediation", json!({"after": "0s", "templates": [gentle]}))
        .with("spec.flapping", flapping)
        .create(&scenario.client)
        .await;
    health.watches(3).await;
    nodes.silence(&[1]).await;
    remediator.has(&scenario, &["gentle"]).await;
    nodes.revive(&[1]).await;
    health.finds(nodes.name(1), "Quarantined").await;
    remediator.has(&scenario, &[]).await;

    let controller = scenario.health_controller();
    let made = made_by_the_next_leader(&controller, &scenario.namespace, "Quarantined").await;
    assert_eq!(made, 0.0, "a remediation was made for a node that is well");
    remediator.has(&scenario, &[]).await;
    assert!(Stand::of(&nodes.get(1).await).cordoned);
}

#[tokio::test]
async fn no_remediation_comes_before_its_time() {
    let scenario = Scenario::alone("later", &[NodeHealth]).await;
    let Some(nodes) = FakeNodes::make(&scenario, &[A, B, C]).await else { return };
    let remediator = Remediator::install(&scenario);
    let gentle = remediator.template(&scenario, "gentle");
    let health = policy(&scenario, &nodes)
        .with("spec.remediation", json!({"after": "1h", "templates": [gentle]}))
        .create(&scenario.client)
        .await;
    health.watches(3).await;
    nodes.silence(&[1]).await;
    let status = health.finds(nodes.name(1), "Acting").await;
    assert_eq!(status.unhealthy_nodes[0].next_step.as_deref(), Some("Remediate"));
    let controller = scenario.health_controller();
    let made = made_by_the_next_leader(&controller, &scenario.namespace, "Acting").await;
    assert_eq!(made, 0.0);
    remediator.has(&scenario, &[]).await;
    // The first leader has made none, either.
    let of_node = format!("involvedObject.name={},reason=RemediationCreated", nodes.name(1));
    let events = kubectl(&format!("get events --namespace=default --field-selector={of_node} --output=name"));
    assert_eq!(events.succeeded().trim(), "");
}

#[tokio::test]
async fn a_template_of_a_kind_that_is_not_there_keeps_no_node() {
    let scenario = Scenario::start("missing", &[NodeHealth]).await;
    let Some(nodes) = FakeNodes::make(&scenario, &[A, B, C]).await else { return };
    let missing = json!({
        "apiVersion": "nobody.example.com/v1", "kind": "RepairTemplate", "name": "x", "namespace": "default",
    });
    let health = policy(&scenario, &nodes)
        .with("spec.remediation", json!({"after": "0s", "templates": [missing]}))
        .create(&scenario.client)
        .await;
    health.watches(3).await;
    // It is told before a node needs it.
    assert!(health.says("Ready", false, "TemplatesUnusable").await.contains("RepairTemplate default/x"));
    nodes.silence(&[1]).await;
    assert!(nodes.event(&scenario, 1, "WriteFailed").await.contains("the kind Repair"));
    nodes.revive(&[1]).await;
    nodes.carries(1, &Stand::CLEAR).await;
    health.watches(3).await;
}

#[tokio::test]
async fn remediations_end_with_the_template_and_with_the_policy_that_asked_for_them() {
    let scenario = Scenario::start("leftovers", &[NodeHealth]).await;
    let Some(nodes) = FakeNodes::make(&scenario, &[A, B, C]).await else { return };
    let remediator = Remediator::install(&scenario);
    let [gentle, hard] = ["gentle", "hard"].map(|name| remediator.template(&scenario, name));
    let health = policy(&scenario, &nodes)
        .with("spec.remediation", json!({"after": "0s", "templates": [gentle]}))
        .create(&scenario.client)
        .await;
    health.watches(3).await;
    nodes.silence(&[1]).await;
    remediator.has(&scenario, &["gentle"]).await;

    health.patch(json!({"spec": {"remediation": {"templates": [hard]}}})).await;
    remediator.has(&scenario, &["hard"]).await;

    // Its template is gone, and so is what was made from it when the node is well.
    let templates = format!("repairtemplates.{}", remediator.group);
    scenario.kubectl(&format!("delete {templates} hard")).succeeded();
    nodes.revive(&[1]).await;
    nodes.carries(1, &Stand::CLEAR).await;
    remediator.has(&scenario, &[]).await;
    remediator.template(&scenario, "hard");
    nodes.silence(&[1]).await;
    remediator.has(&scenario, &["hard"]).await;

    // A person takes the node out of all policies; it is as silent as before.
    let excluded =
        json!({"metadata": {"labels": {"remediation.medik8s.io/exclude-from-remediation": "true"}}});
    nodes.patch(1, excluded).await;
    nodes.carries(1, &Stand::CLEAR).await;
    remediator.has(&scenario, &[]).await;
}
