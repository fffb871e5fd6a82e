//! Nodes: their Leases, and what kube-controller-manager says of those that are silent.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::timers::Timers;
use crate::model::{
    kinds::Kind,
    object::{items, name, uid},
    store::{Store, key, now},
};

/// The kubelet renews a Lease so often.
const RENEWS: Duration = Duration::from_secs(10);
/// kube-controller-manager's `--node-monitor-grace-period`.
const GRACE: Duration = Duration::from_secs(50);
const LEASES: &str = "kube-node-lease";
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";

pub(super) fn step(store: &mut Store, silent: &BTreeSet<String>, timers: &mut Timers) {
    let nodes: Vec<Arc<Value>> = store.all(Kind::named("nodes")).cloned().collect();
    for node in nodes {
        let is_silent = silent.contains(name(&node));
        if !is_silent && is_due(store, &node, timers) {
            renew(store, name(&node));
        }
        let lost = is_silent && timers.passed(uid(&node), "lost", GRACE);
        if !is_silent {
            timers.forget(uid(&node), "lost");
        }
        mark(store, &node, !lost);
    }
}

fn is_due(store: &Store, node: &Value, timers: &mut Timers) -> bool {
    if store.find(Kind::named("leases"), LEASES, name(node)).is_none() {
        return true;
    }
    let due = timers.passed(uid(node), "renew", RENEWS);
    if due {
        timers.forget(uid(node), "renew");
        timers.passed(uid(node), "renew", RENEWS);
    }
    due
}

fn renew(store: &mut Store, node: &str) {
    let leases = Kind::named("leases");
    let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string();
    match store.find(leases, LEASES, node).map(|lease| key(lease)) {
        Some(lease) => store.edit(leases, &lease, |lease| lease["spec"]["renewTime"] = now.into()),
        None => {
            let lease = json!({
                "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
                "metadata": {"name": node, "namespace": LEASES},
                "spec": {"holderIdentity": node, "leaseDurationSeconds": 40, "renewTime": now},
            });
            store.create(leases, lease);
        }
    }
}

/// What kube-controller-manager's node lifecycle controller says of a node.
fn mark(store: &mut Store, node: &Value, answers: bool) {
    let status = if answers { "True" } else { "Unknown" };
    store.edit(Kind::named("nodes"), &key(node), |node| {
        let ready = items(&node["status"]["conditions"]).find(|condition| condition["type"] == "Ready");
        if ready.is_some_and(|ready| ready["status"] == status) {
            return;
        }
        node["status"]["conditions"] = json!([{
            "type": "Ready", "status": status, "reason": if answers { "KubeletReady" } else { "NodeStatusUnknown" },
            "lastHeartbeatTime": now(), "lastTransitionTime": now(),
        }]);
        let others = items(&node["spec"]["taints"]).filter(|taint| taint["key"] != UNREACHABLE).cloned();
        let mut taints: Vec<Value> = others.collect();
        if !answers {
            let taint = |effect| json!({"key": UNREACHABLE, "effect": effect, "timeAdded": now()});
            taints.extend(["NoSchedule", "NoExecute"].map(taint));
        }
        let spec = crate::model::object::map(node, "spec");
        if taints.is_empty() {
            spec.remove("taints");
        } else {
            spec.insert("taints".to_owned(), taints.into());
        }
    });
}
