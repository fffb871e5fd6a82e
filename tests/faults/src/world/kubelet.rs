//! What the kubelets do with the pods of their nodes.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};

use super::cluster::{Cluster, Life, Then};
use crate::model::{
    kinds::Kind,
    object::{condition, is_terminating, is_true, items, uid},
    store::{Key, Store, key, now},
};

/// Between two crashes of a container.
const CRASHES: Duration = Duration::from_secs(10);
/// A container that has crashed so often is left alone by the model, so that a run becomes quiet.
const MOST_CRASHES: i64 = 8;

pub(super) fn step(store: &mut Store, cluster: &mut Cluster) {
    let on_node = |pod: &&Arc<Value>| pod["spec"]["nodeName"].is_string();
    let pods: Vec<Arc<Value>> = store.all(Kind::named("pods")).filter(on_node).cloned().collect();
    for pod in pods {
        if pod["spec"]["nodeName"].as_str().is_some_and(|node| cluster.silent.contains(node)) {
            continue;
        }
        let life = (cluster.life)(&pod);
        if is_terminating(&pod) {
            end(store, cluster, &pod, life);
        } else {
            live(store, cluster, &pod, life);
        }
    }
}

fn end(store: &mut Store, cluster: &mut Cluster, pod: &Value, life: Life) {
    let grace = pod["metadata"]["deletionGracePeriodSeconds"].as_u64().unwrap_or_default();
    let Some(ends) = life.ends else { return };
    if cluster.timers.passed(uid(pod), "end", ends.min(Duration::from_secs(grace))) {
        store.edit(Kind::named("pods"), &key(pod), |pod| {
            pod["metadata"]["deletionGracePeriodSeconds"] = 0.into();
        });
    }
}

fn live(store: &mut Store, cluster: &mut Cluster, pod: &Value, life: Life) {
    let (uid, place) = (uid(pod), key(pod));
    if ["Failed", "Succeeded"].iter().any(|phase| pod["status"]["phase"] == *phase) {
        return;
    }
    if !cluster.timers.passed(uid, "start", life.starts) {
        return;
    }
    let address = cluster.addresses.len();
    let address = cluster
        .addresses
        .entry(uid.to_owned())
        .or_insert_with(|| format!("10.244.{}.{}", address / 250, address % 250 + 2));
    let address = address.clone();
    match life.then {
        Then::Ready(after) => {
            let is_ready = cluster.timers.passed(uid, "ready", after);
            run(store, &place, &address, is_ready, 0);
        }
        Then::NeverReady => run(store, &place, &address, false, 0),
        Then::Fails(after) => {
            if cluster.timers.passed(uid, "fail", after) {
                store.edit(Kind::named("pods"), &place, |pod| {
                    pod["status"]["phase"] = "Failed".into();
                    pod["status"]["reason"] = "Error".into();
                    ready(pod, "Ready", false);
                });
            } else {
                run(store, &place, &address, true, 0);
            }
        }
        Then::Crashes => {
            let restarts = items(&pod["status"]["containerStatuses"]).next();
            let restarts = restarts.and_then(|status| status["restartCount"].as_i64()).unwrap_or_default();
            let more = restarts < MOST_CRASHES && cluster.timers.passed(uid, "crash", CRASHES);
            if more {
                cluster.timers.forget(uid, "crash");
            }
            run(store, &place, &address, false, restarts + i64::from(more));
        }
        Then::NoImage => store.edit(Kind::named("pods"), &place, |pod| {
            pod["status"]["phase"] = "Pending".into();
            pod["status"]["containerStatuses"] = containers(pod, |name, image| {
                json!({"name": name, "image": image, "imageID": "", "ready": false, "restartCount": 0,
                    "state": {"waiting": {"reason": "ImagePullBackOff", "message": "not found"}}})
            });
            ready(pod, "Ready", false);
        }),
    }
}

fn run(store: &mut Store, place: &Key, address: &str, runs: bool, restarts: i64) {
    store.edit(Kind::named("pods"), place, |pod| {
        pod["status"]["phase"] = "Running".into();
        pod["status"]["podIP"] = address.into();
        pod["status"]["podIPs"] = json!([{"ip": address}]);
        if pod["status"]["startTime"].is_null() {
            pod["status"]["startTime"] = now().into();
        }
        let started = pod["status"]["startTime"].clone();
        let state = if restarts > 0 {
            json!({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}})
        } else {
            json!({"running": {"startedAt": started}})
        };
        pod["status"]["containerStatuses"] = containers(pod, |name, image| {
            json!({"name": name, "image": image, "imageID": image, "ready": runs, "started": restarts == 0,
                "restartCount": restarts, "state": state})
        });
        pod["status"]["observedGeneration"] = pod["metadata"]["generation"].clone();
        ready(pod, "Initialized", true);
        ready(pod, "ContainersReady", runs);
        let gates = items(&pod["spec"]["readinessGates"]).filter_map(|gate| gate["conditionType"].as_str());
        let is_ready = runs && gates.into_iter().all(|gate| is_true(pod, gate));
        ready(pod, "Ready", is_ready);
    });
}

fn containers(pod: &Value, status: impl Fn(&Value, &Value) -> Value) -> Value {
    items(&pod["spec"]["containers"])
        .map(|container| status(&container["name"], &container["image"]))
        .collect()
}

/// Sets a condition, with the time where it changes.
fn ready(pod: &mut Value, type_: &str, holds: bool) {
    let status = if holds { "True" } else { "False" };
    if condition(pod, type_).is_some_and(|condition| condition["status"] == status) {
        return;
    }
    let mut conditions: Vec<_> =
        items(&pod["status"]["conditions"]).filter(|condition| condition["type"] != type_).cloned().collect();
    conditions.push(json!({"type": type_, "status": status, "lastTransitionTime": now()}));
    pod["status"]["conditions"] = conditions.into();
}
