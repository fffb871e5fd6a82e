//! Prints what the stores take for 10,000 pods of other owners, and for 10,000 revisions:
//! `cargo run --package mainstay-replication --example memory`.

use std::fs;

use kube::runtime::watcher::Event;
use mainstay_replication::{
    names::REVISION,
    pod::{Pod, WatchedPod},
    revision::{Revision, WatchedRevision},
    stores::Stores,
};
use mainstay_runtime::labels::LabelPool;
use serde_json::{Value, json};

const COUNT: usize = 10_000;

/// A pod as a StatefulSet makes it, whose labels no other pod has.
fn pod(number: usize) -> Value {
    json!({
        "metadata": {
            "name": format!("web-{number}"), "namespace": "ns", "uid": format!("d7c95a3e-0000-4000-8000-{number:012}"),
            "resourceVersion": number.to_string(), "creationTimestamp": "2026-01-01T00:00:00Z",
            "labels": {
                "app.kubernetes.io/name": "web", "app.kubernetes.io/instance": "web",
                "controller-revision-hash": "web-5d5f5b8c6d", "statefulset.kubernetes.io/pod-name": format!("web-{number}"),
            },
            "ownerReferences": [{
                "apiVersion": "apps/v1", "kind": "StatefulSet", "name": format!("web-{}", number / 3),
                "uid": format!("0a1b2c3d-0000-4000-8000-{:012}", number / 3), "controller": true,
            }],
        },
        "spec": {"nodeName": format!("node-{}", number % 100)},
        "status": {
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:05Z"}],
            "containerStatuses": [{"name": "main", "restartCount": 1, "containerID": "c", "state": {"running": {}}}],
        },
    })
}

/// A revision whose template has 30 variables, 3 KB in all.
fn revision(number: usize) -> Value {
    let variable = |index| {
        let source = json!({"secretKeyRef": {"name": "settings", "key": format!("key-{index}")}});
        json!({"name": format!("VARIABLE_{index}"), "valueFrom": source})
    };
    let env: Vec<_> = (0..30).map(variable).collect();
    let container = json!({"name": "main", "image": format!("example.com/web:{number}"), "env": env});
    json!({
        "metadata": {
            "name": format!("web-{number:010}"), "namespace": "ns", "uid": format!("d7c95a3e-0000-4000-8000-{number:012}"),
            "labels": {REVISION: format!("{number:010}")},
        },
        "data": {"spec": {"template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [container]}}}},
        "revision": number,
    })
}

/// The memory of this process, in KiB.
fn resident() -> usize {
    let status = fs::read_to_string("/proc/self/status").expect("Linux has it");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it has a size");
    line.trim().trim_end_matches(" kB").parse().expect("it is a number")
}

fn print(what: &str, fill: impl FnOnce()) {
    let before = resident();
    fill();
    println!("{COUNT} {what}: {} bytes each", resident().saturating_sub(before) * 1024 / COUNT);
}

fn main() {
    let stores = Stores::default();
    println!("a pod without what it points to: {} bytes", size_of::<Pod>());
    print("pods of other owners", || {
        let mut pool = LabelPool::default();
        for number in 0..COUNT {
            let watched: WatchedPod = serde_json::from_str(&pod(number).to_string()).expect("a pod");
            stores.pods.apply(Event::Apply(Pod::slim(watched, &mut pool)), |_| {});
        }
    });
    print("revisions", || {
        for number in 0..COUNT {
            let watched: WatchedRevision =
                serde_json::from_str(&revision(number).to_string()).expect("a revision");
            stores.revisions.apply(Event::Apply(Revision::from(watched)), |_| {});
        }
    });
}
