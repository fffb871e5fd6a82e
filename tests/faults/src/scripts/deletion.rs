//! Finalizers, and how deletions propagate.

use serde_json::{Value, json};

use super::{
    script::{Script, script},
    step::{apply, delete, get, json_patch, merge, post, put, watch},
};

const CONFIGMAPS: &str = "/api/v1/namespaces/{ns}/configmaps";
const A: &str = "/api/v1/namespaces/{ns}/configmaps/a";
const REPAIRS: &str = "/apis/repair.example.com/v1/namespaces/{ns}/repairs";
const REPAIR: &str = "/apis/repair.example.com/v1/namespaces/{ns}/repairs/a";

fn config(name: &str, finalizers: &[&str]) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "finalizers": finalizers}})
}

fn repair(finalizers: &[&str]) -> Value {
    json!({"apiVersion": "repair.example.com/v1", "kind": "Repair",
        "metadata": {"name": "a", "finalizers": finalizers}, "spec": {"size": 1}})
}

pub(super) fn scripts() -> Vec<Script> {
    vec![held(), custom(), propagation(), later(), many(), namespace()]
}

fn held() -> Script {
    let hold = ["example.com/a", "example.com/b"];
    script(
        "a finalizer holds what is deleted",
        [
            post(CONFIGMAPS, config("a", &hold)).keeps("first", "/metadata/resourceVersion"),
            delete(A, Value::Null),
            delete(A, Value::Null),
            delete(A, json!({"gracePeriodSeconds": 0})),
            post(CONFIGMAPS, config("a", &[])).gives(409),
            merge(A, json!({"metadata": {"labels": {"a": "b"}}, "data": {"a": "b"}})),
            merge(
                A,
                json!({"metadata": {"finalizers": ["example.com/a", "example.com/b", "example.com/c"]}}),
            )
            .gives(422),
            apply(&format!("{A}?fieldManager=other"), config("a", &["example.com/c"])).gives(422),
            apply(&format!("{A}?fieldManager=other"), config("a", &["example.com/a"])),
            merge(A, json!({"metadata": {"finalizers": ["example.com/b"]}})),
            merge(A, json!({"metadata": {"deletionTimestamp": null}})),
            put(A, config("a", &[])),
            get(A).gives(404),
            watch(&format!("{CONFIGMAPS}?resourceVersion={{first}}&fieldSelector=metadata.name%3Da"), 4),
            post(CONFIGMAPS, config("a", &hold)),
            json_patch(A, json!([{"op": "replace", "path": "/metadata/finalizers", "value": []}])),
            delete(A, Value::Null),
        ],
    )
}

fn custom() -> Script {
    script(
        "the generation of a custom resource that is deleted",
        [
            post(REPAIRS, repair(&["example.com/a"])),
            delete(REPAIR, Value::Null),
            delete(REPAIR, Value::Null),
            merge(REPAIR, json!({"spec": {"size": 2}})),
            merge(&format!("{REPAIR}/status"), json!({"status": {"phase": "Going"}})),
            json_patch(REPAIR, json!([{"op": "remove", "path": "/metadata/finalizers/0"}])),
            get(REPAIR).gives(404),
            merge(REPAIR, json!({"metadata": {"finalizers": null}})).gives(404),
        ],
    )
}

/// The garbage collector takes its finalizers away soon, so only the answers to the deletions are looked at.
fn propagation() -> Script {
    let mut steps = Vec::new();
    for policy in ["Foreground", "Orphan", "Background"] {
        let object = format!("{CONFIGMAPS}/{}", policy.to_lowercase());
        steps.extend([
            post(CONFIGMAPS, config(&policy.to_lowercase(), &["example.com/a"])),
            delete(&object, json!({"propagationPolicy": policy})),
            merge(&object, json!({"metadata": {"finalizers": null}})).shows(&["/metadata/name"]),
        ]);
    }
    steps.extend([
        post(CONFIGMAPS, config("plain", &[])),
        delete(&format!("{CONFIGMAPS}/plain"), json!({"propagationPolicy": "Foreground"})),
        post(CONFIGMAPS, config("alone", &[])),
        delete(&format!("{CONFIGMAPS}/alone"), json!({"propagationPolicy": "Background"})),
        post(REPAIRS, repair(&[])),
        delete(REPAIR, json!({"propagationPolicy": "Foreground"})),
    ]);
    script("how a deletion propagates", steps)
}

fn later() -> Script {
    script(
        "a deletion is told later how to propagate",
        [
            post(CONFIGMAPS, config("a", &["example.com/a"])),
            delete(A, Value::Null).shows(&["/metadata/finalizers", "/metadata/deletionGracePeriodSeconds"]),
            delete(A, json!({"propagationPolicy": "Foreground"}))
                .shows(&["/metadata/finalizers", "/metadata/deletionGracePeriodSeconds"]),
            merge(A, json!({"metadata": {"finalizers": null}})).shows(&["/metadata/name"]),
        ],
    )
}

fn many() -> Script {
    let labelled = |name: &str, label: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": {"app": label}}});
    script(
        "many are deleted at once",
        [
            post(CONFIGMAPS, labelled("a", "x")),
            post(CONFIGMAPS, labelled("b", "x")),
            post(CONFIGMAPS, labelled("c", "y")),
            delete(&format!("{CONFIGMAPS}?labelSelector=app%3Dx"), Value::Null),
            get(&format!("{CONFIGMAPS}?labelSelector=app")),
        ],
    )
}

fn namespace() -> Script {
    let namespace = "/api/v1/namespaces/{ns}-going";
    let configmaps = format!("{namespace}/configmaps");
    script(
        "nothing is made in a namespace that is deleted",
        [
            post(
                "/api/v1/namespaces",
                json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "{ns}-going"}}),
            ),
            post(&configmaps, config("a", &["example.com/a"])).keeps("uid", "/metadata/uid"),
            delete(namespace, Value::Null).shows(&[
                "/kind",
                "/status/phase",
                "/metadata/deletionTimestamp",
                "/spec/finalizers",
            ]),
            get(namespace).shows(&["/status/phase", "/metadata/deletionTimestamp"]),
            post(&configmaps, config("b", &[])).gives(403),
            apply(&format!("{configmaps}/b"), config("b", &[])).gives(403),
            merge(&format!("{configmaps}/a"), json!({"data": {"a": "b"}})).shows(&["/data"]),
            merge(&format!("{configmaps}/a"), json!({"metadata": {"finalizers": null}})).shows(&["/data"]),
        ],
    )
}
