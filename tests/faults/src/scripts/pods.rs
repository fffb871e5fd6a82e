//! Pods: deletion with a grace period, and eviction.

use serde_json::{Value, json};

use super::{
    script::{Script, script},
    step::{Step, delete, get, json_patch, merge, post, strategic},
};

const PODS: &str = "/api/v1/namespaces/{ns}/pods";
const A: &str = "/api/v1/namespaces/{ns}/pods/a";
const GONE: &[&str] = &[
    "/kind",
    "/metadata/deletionTimestamp",
    "/metadata/deletionGracePeriodSeconds",
    "/metadata/generation",
    "/metadata/finalizers",
];
const STRANGER: &str = "00000000-0000-4000-8000-00000000abcd";

/// A pod that no scheduler and no kubelet cares for. Its node is never there; a cluster deletes it, but only after a while.
fn pod(name: &str, node: Option<&str>) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": "a"}},
        "spec": {"nodeName": node, "schedulerName": "none", "automountServiceAccountToken": false,
            "terminationGracePeriodSeconds": 20, "containers": [{"name": "a", "image": "a"}]},
    })
}

/// What a kubelet says of a pod.
fn says(name: &str, phase: &str, ready: &str) -> Step {
    let conditions = ["Ready", "ContainersReady"]
        .map(|kind| json!({"type": kind, "status": ready, "lastTransitionTime": "2026-01-01T00:00:00Z"}));
    strategic(&format!("{PODS}/{name}/status"), json!({"status": {"phase": phase, "conditions": conditions}}))
        .shows(&["/status/phase", "/status/conditions", "/metadata/generation"])
}

fn evict(name: &str, options: Value) -> Step {
    post(
        &format!("{PODS}/{name}/eviction"),
        json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}, "deleteOptions": options}),
    )
}

pub(super) fn scripts() -> Vec<Script> {
    vec![defaults(), status(), graceful(), evictions(), budgets(), unready()]
}

fn defaults() -> Script {
    script(
        "a pod's defaults",
        [
            post(PODS, pod("a", Some("{ns}"))),
            post(PODS, pod("b", None)),
            get(&format!("{PODS}?fieldSelector=spec.nodeName%3D{{ns}}%2Cstatus.phase%3DPending"))
                .shows(&["/items/0/metadata/name", "/items/1"]),
        ],
    )
}

fn status() -> Script {
    script(
        "a pod's status and its generation",
        [
            post(PODS, pod("a", Some("{ns}"))).shows(GONE),
            says("a", "Running", "False"),
            says("a", "Running", "True"),
            merge(A, json!({"status": {"phase": "Failed"}, "metadata": {"labels": {"b": "c"}}})).shows(&[
                "/status/phase",
                "/metadata/labels",
                "/metadata/generation",
            ]),
            strategic(A, json!({"spec": {"containers": [{"name": "a", "image": "b"}]}}))
                .shows(&["/spec/containers/0/image", "/metadata/generation"]),
            merge(&format!("{A}/status"), json!({"spec": {"containers": null}, "status": {"message": "m"}}))
                .shows(&[
                    "/spec/containers/0/image",
                    "/status/message",
                    "/status/phase",
                    "/metadata/generation",
                ]),
            merge(A, json!({"spec": {"nodeName": "other"}})).gives(422),
            json_patch(A, json!([{"op": "add", "path": "/metadata/finalizers", "value": ["example.com/a"]}]))
                .shows(GONE),
            strategic(A, json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["example.com/a"]}}))
                .shows(GONE),
        ],
    )
}

fn graceful() -> Script {
    script(
        "a pod is given time to end",
        [
            post(PODS, pod("a", Some("{ns}"))).shows(GONE),
            delete(A, Value::Null).shows(GONE),
            delete(A, json!({"gracePeriodSeconds": 60})).shows(GONE),
            delete(A, Value::Null).shows(GONE),
            delete(A, json!({"gracePeriodSeconds": 15, "preconditions": {"uid": STRANGER}})).gives(409),
            delete(A, json!({"gracePeriodSeconds": 15})).shows(GONE),
            delete(A, json!({"gracePeriodSeconds": 0})).shows(&["/kind", "/metadata/name"]),
            get(A).gives(404),
            post(PODS, pod("a", None)).shows(GONE),
            delete(A, Value::Null).shows(&["/kind", "/metadata/name"]),
            get(A).gives(404),
            post(PODS, pod("a", Some("{ns}"))).shows(GONE),
            says("a", "Failed", "False"),
            delete(A, Value::Null).shows(&["/kind", "/metadata/name"]),
            get(A).gives(404),
            post(PODS, pod("a", None)).shows(GONE),
            merge(A, json!({"metadata": {"finalizers": ["example.com/a"]}})).shows(GONE),
            delete(A, Value::Null).shows(GONE),
            delete(A, json!({"propagationPolicy": "Foreground"})).shows(GONE),
            merge(A, json!({"metadata": {"finalizers": null}})).shows(&["/kind", "/metadata/name"]),
            get(A).gives(404),
            post(PODS, pod("a", Some("{ns}"))).shows(GONE),
            delete(A, json!({"gracePeriodSeconds": 20, "propagationPolicy": "Background"})).shows(GONE),
            delete(A, json!({"propagationPolicy": "Foreground"})).shows(GONE),
            delete(A, json!({"gracePeriodSeconds": 0})).shows(&["/kind", "/metadata/name"]),
        ],
    )
}

fn evictions() -> Script {
    script(
        "a pod is evicted",
        [
            evict("a", Value::Null).gives(404),
            post(PODS, pod("a", Some("{ns}"))).shows(GONE).keeps("uid", "/metadata/uid"),
            says("a", "Running", "True"),
            evict("a", json!({"preconditions": {"uid": STRANGER}})).gives(409),
            evict("a", json!({"dryRun": ["All"]})),
            get(A).shows(GONE),
            evict("a", json!({"preconditions": {"uid": "{uid}"}, "gracePeriodSeconds": 10})),
            get(A).shows(&[
                "/metadata/deletionTimestamp",
                "/metadata/deletionGracePeriodSeconds",
                "/metadata/generation",
                "/status/conditions/2/type",
                "/status/conditions/2/status",
                "/status/conditions/2/reason",
            ]),
            evict("a", Value::Null),
            post(PODS, pod("b", None)).shows(GONE),
            evict("b", Value::Null),
            get(&format!("{PODS}/b")).gives(404),
        ],
    )
}

fn budget(name: &str, spec: Value) -> Step {
    let mut spec = spec;
    spec["selector"] = json!({"matchLabels": {"app": "a"}});
    post(
        "/apis/policy/v1/namespaces/{ns}/poddisruptionbudgets",
        json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": name}, "spec": spec}),
    )
    .shows(&["/kind", "/metadata/generation", "/spec"])
}

fn budgets() -> Script {
    let budgets = "/apis/policy/v1/namespaces/{ns}/poddisruptionbudgets";
    script(
        "a budget allows evictions, or does not",
        [
            post(PODS, pod("a", Some("{ns}"))).shows(GONE),
            post(PODS, pod("b", Some("{ns}"))).shows(GONE),
            says("a", "Running", "True"),
            budget("one", json!({"minAvailable": 1})),
            evict("a", Value::Null).gives(429).settles(),
            says("b", "Running", "True"),
            evict("a", Value::Null).settles(),
            evict("b", Value::Null).gives(429).settles(),
            budget("two", json!({"minAvailable": 0})),
            evict("b", Value::Null).gives(500),
            delete(&format!("{budgets}/one"), Value::Null).shows(&["/kind", "/status"]),
            delete(&format!("{budgets}/two"), Value::Null).shows(&["/kind", "/status"]),
            evict("b", Value::Null),
        ],
    )
}

fn unready() -> Script {
    script(
        "a budget and a pod that is not ready",
        [
            post(PODS, pod("a", Some("{ns}"))).shows(GONE),
            post(PODS, pod("b", Some("{ns}"))).shows(GONE),
            says("a", "Running", "False"),
            budget("one", json!({"minAvailable": 1})),
            evict("a", Value::Null).gives(429).settles(),
            says("b", "Running", "True"),
            evict("a", Value::Null).settles(),
            delete("/apis/policy/v1/namespaces/{ns}/poddisruptionbudgets/one", Value::Null).shows(&["/kind"]),
            post(PODS, pod("c", Some("{ns}"))).shows(GONE),
            says("c", "Running", "False"),
            budget("always", json!({"minAvailable": 5, "unhealthyPodEvictionPolicy": "AlwaysAllow"})),
            evict("c", Value::Null).settles(),
        ],
    )
}
