//! NodeHealthPolicies.

use mainstay_faults::{
    model::{
        kinds::Kind,
        object::{is_terminating, items},
    },
    play::{
        controller::Controller,
        explore::explore,
        fault::{Blow, Fault},
        oracle::{Oracle, Written},
        scenario::{Scenario, change, delete, node, revive, silence},
    },
};
use serde_json::{Value, json};

const POLICY: &str = "/apis/mainstay.dev/v1alpha1/nodehealthpolicies/workers";

fn policy(besides: &Value) -> Value {
    let mut policy = json!({
        "apiVersion": "mainstay.dev/v1alpha1", "kind": "NodeHealthPolicy", "metadata": {"name": "workers"},
        "spec": {
            "nodeSelector": {}, "dryRun": false, "unreachableAfter": "15s",
            // A check of a kubelet would be one of this machine's network.
            "secondOpinion": {"kubelet": {"enabled": false}},
            "breakers": {"zone": {"maxUnhealthy": "100%"}, "cluster": {"maxUnhealthy": "40%"}},
        },
    });
    for (field, value) in besides.as_object().into_iter().flatten() {
        policy["spec"][field] = value.clone();
    }
    policy
}

/// Of what the controller sets on a node, whether anything is there.
fn is_acted_on(node: &Value) -> bool {
    let is_ours = |taint: &Value| taint["key"].as_str().is_some_and(|key| key.starts_with("mainstay.dev/"));
    node["spec"]["unschedulable"] == true || items(&node["spec"]["taints"]).any(is_ours)
}

/// None but these nodes are cordoned or tainted.
fn left_alone(but: &'static [&'static str]) -> Box<dyn Oracle> {
    Box::new(move |written: &Written<'_>| {
        let mut nodes = written.store.all(Kind::named("nodes"));
        let acted = nodes
            .find(|node| is_acted_on(node) && !but.iter().any(|name| node["metadata"]["name"] == *name))?;
        Some(format!("healthy: node {} answers and was acted on", acted["metadata"]["name"]))
    })
}

/// No pod of another node than these is deleted or evicted.
fn pods_left_alone(but: &'static [&'static str]) -> Box<dyn Oracle> {
    Box::new(move |written: &Written<'_>| {
        let mut pods = written.store.all(Kind::named("pods")).filter(|pod| is_terminating(pod));
        let moved = pods.find(|pod| !but.iter().any(|name| pod["spec"]["nodeName"] == *name))?;
        Some(format!("drained: pod {} of node {}", moved["metadata"]["name"], moved["spec"]["nodeName"]))
    })
}

/// Never more than so many remediations, and none without a silent node.
fn repairs(most: usize) -> Box<dyn Oracle> {
    Box::new(move |written: &Written<'_>| {
        let made = written.store.all(Kind::named("repairs")).count();
        (made > most).then(|| format!("fenced: {made} remediations, at most {most} are due"))
    })
}

fn played(name: &'static str, besides: &Value) -> Scenario {
    let mut scenario = Scenario::new(
        name,
        Controller::NodeHealth,
        [node("a"), node("b"), node("c"), pod("on-a", "a"), pod("on-c", "c"), policy(besides)],
    );
    scenario.subject = Some(POLICY);
    // It asks whether it still hears of all nodes and of the silent one's pods, for as long as it runs.
    scenario.background = |request| {
        !request.is_write()
            && ["leases", "nodes", "pods", "repairs", "repairtemplates"]
                .iter()
                .any(|plural| request.is_of(plural))
    };
    // What is noted on the node says since when, which a fault delays.
    scenario.scrub = scrubbed;
    // How far the pod of the silent node was brought when the policy went, or when the node or the pod was made anew, is left
    // open.
    scenario.open = (
        |fault| matches!(fault, Fault::Deleted(_) | Fault::At(_, Blow::Recreated)),
        |object| {
            if is_moved_pod(object) {
                *object = Value::Null;
            }
        },
    );
    scenario
}

fn is_moved_pod(object: &Value) -> bool {
    object["kind"] == "Pod" && object["metadata"]["name"] == "on-c"
}

fn scrubbed(object: &mut Value) {
    if let Some(note) = object["metadata"]["annotations"].get_mut("mainstay.dev/node-health") {
        *note = "noted".into();
    }
    // A set: which of them came first says nothing.
    if let Some(taints) = object["spec"].get_mut("taints").and_then(Value::as_array_mut) {
        taints.sort_by_key(|taint| format!("{} {}", taint["key"], taint["effect"]));
    }
}

/// The same, where it is left to chance whether a process saw that a node was silent, and noted it.
fn not_noted(object: &mut Value) {
    scrubbed(object);
    if let Some(metadata) = object["metadata"].as_object_mut()
        && metadata["name"] == "c"
    {
        metadata.remove("annotations");
    }
}

fn pod(name: &str, node: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {"nodeName": node, "containers": [{"name": "web", "image": "web:1"}]},
    })
}

fn only(scenario: Scenario, but: &'static [&'static str]) -> Scenario {
    scenario.watched(move || vec![left_alone(but), pods_left_alone(but), repairs(0)])
}

pub(crate) fn scenarios() -> Vec<Scenario> {
    let plain = json!({});
    let template = json!({
        "apiVersion": "repair.example.com/v1", "kind": "RepairTemplate", "metadata": {"name": "reboot"},
        "spec": {"template": {"spec": {}}},
    });
    let remediation = json!({"remediation": {"after": "60s", "templates": [
        {"apiVersion": "repair.example.com/v1", "kind": "RepairTemplate", "name": "reboot", "namespace": "ns"}]}});
    let mut fenced = played("a silent node is remediated", &remediation).at(60, silence("c"));
    fenced.given.insert(0, template.clone());
    let mut returns =
        played("a node that is remediated answers", &remediation).at(60, silence("c")).at(200, revive("c"));
    returns.given.insert(0, template.clone());
    // A new leader may see the node answer before it has seen it silent.
    let mut early = played("a node answers before it is remediated", &remediation)
        .at(60, silence("c"))
        .at(100, revive("c"));
    early.given.insert(0, template);
    early.scrub = |object| {
        not_noted(object);
        if is_moved_pod(object) {
            *object = Value::Null;
        }
    };
    let mut moment = played("a node is silent for a moment", &plain).at(60, silence("c")).at(70, revive("c"));
    moment.scrub = not_noted;
    let change = |spec: Value| change(POLICY, json!({"spec": spec}));
    vec![
        only(played("one of three nodes goes silent", &plain).at(60, silence("c")), &["c"]),
        only(played("a silent node answers again", &plain).at(60, silence("c")).at(200, revive("c")), &["c"]),
        only(moment, &["c"]),
        only(played("a dry run", &json!({"dryRun": true})).at(60, silence("c")), &[]),
        only(
            played("two of three nodes go silent", &plain).at(60, silence("b")).at(60, silence("c")),
            &["b", "c"],
        ),
        only(
            played("all nodes go silent", &plain)
                .at(60, silence("a"))
                .at(60, silence("b"))
                .at(60, silence("c")),
            &[],
        ),
        only(
            played("a silent node is deleted", &plain)
                .at(60, silence("c"))
                .at(150, delete("/api/v1/nodes/c")),
            &["c"],
        ),
        only(
            played("a dry run begins while a node is silent", &plain)
                .at(60, silence("c"))
                .at(150, change(json!({"dryRun": true}))),
            &["c"],
        ),
        only(
            played("a dry run ends while a node is silent", &json!({"dryRun": true}))
                .at(60, silence("c"))
                .at(150, change(json!({"dryRun": false}))),
            &["c"],
        ),
        only(
            played("the policy selects a silent node no more", &plain)
                .at(60, silence("c"))
                .at(150, change(json!({"nodeSelector": {"matchLabels": {"role": "worker"}}}))),
            &["c"],
        ),
        only(
            played("pauses are asked for", &json!({"pauseRequests": ["maintenance"]}))
                .at(60, silence("c"))
                .at(150, change(json!({"pauseRequests": []}))),
            &["c"],
        ),
        fenced.watched(|| vec![left_alone(&["c"]), pods_left_alone(&["c"]), repairs(1)]),
        returns.watched(|| vec![left_alone(&["c"]), pods_left_alone(&["c"]), repairs(1)]),
        early.watched(|| vec![left_alone(&["c"]), pods_left_alone(&["c"]), repairs(0)]),
    ]
}

#[test]
fn whatever_happens_only_a_silent_node_is_acted_on() {
    explore("node-health", &scenarios());
}
