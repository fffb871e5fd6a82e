//! Patches, the status subresource and generations.

use serde_json::{Value, json};

use super::{
    script::{Script, script},
    step::{delete, get, json_patch, merge, post, put, strategic},
};

const REPAIRS: &str = "/apis/repair.example.com/v1/namespaces/{ns}/repairs";
const REPAIR: &str = "/apis/repair.example.com/v1/namespaces/{ns}/repairs/a";
const STATUS: &str = "/apis/repair.example.com/v1/namespaces/{ns}/repairs/a/status";
const STRANGER: &str = "00000000-0000-4000-8000-00000000abcd";

fn repair(metadata: Value, size: i64, phase: &str) -> Value {
    json!({"apiVersion": "repair.example.com/v1", "kind": "Repair", "metadata": metadata,
        "spec": {"size": size}, "status": {"phase": phase}})
}

pub(super) fn scripts() -> Vec<Script> {
    vec![custom(), json_patches(), strategic_patches(), grants(), workloads()]
}

fn custom() -> Script {
    let spec = |size: i64| json!({"spec": {"size": size}});
    let labelled = |version: &str| json!({"metadata": {"resourceVersion": version, "labels": {"at": "x"}}});
    script(
        "the status, the spec and the generation of a custom resource",
        [
            post(REPAIRS, repair(json!({"name": "a"}), 1, "New")),
            merge(REPAIR, json!({"status": {"phase": "Running"}})),
            merge(STATUS, json!({"status": {"phase": "Running"}, "spec": {"size": 5}, "metadata": {"labels": {"a": "b"}}}))
                .keeps("first", "/metadata/resourceVersion"),
            merge(REPAIR, spec(2)),
            merge(REPAIR, spec(2)),
            merge(REPAIR, json!({"metadata": {"labels": {"a": "b", "c": "d"}}})),
            merge(REPAIR, json!({"metadata": {"labels": {"a": null}}})).keeps("now", "/metadata/resourceVersion"),
            merge(REPAIR, labelled("{first}")).gives(409),
            merge(REPAIR, labelled("{now}")).keeps("now", "/metadata/resourceVersion"),
            merge(REPAIR, json!({"metadata": {"uid": STRANGER}})).gives(422),
            merge(STATUS, json!({"metadata": {"uid": STRANGER}, "status": {"phase": "Strange"}}))
                .keeps("now", "/metadata/resourceVersion"),
            put(STATUS, repair(json!({"name": "a", "resourceVersion": "{first}"}), 7, "Done")).gives(409),
            put(STATUS, repair(json!({"name": "a", "resourceVersion": "{now}"}), 7, "Done")),
            put(REPAIR, repair(json!({"name": "a"}), 7, "Lost")).gives(422),
            get(REPAIR).keeps("now", "/metadata/resourceVersion"),
            put(REPAIR, repair(json!({"name": "a", "resourceVersion": "{now}"}), 7, "Lost")),
            merge(STATUS, json!({"status": null})),
            strategic(REPAIR, spec(3)).gives(415),
            merge("/apis/repair.example.com/v1/namespaces/{ns}/repairs/none", spec(3)).gives(404),
            merge("/apis/repair.example.com/v1/namespaces/{ns}/repairs/none/status", json!({"status": {}})).gives(404),
            get(STATUS),
            delete(REPAIR, json!({"preconditions": {"uid": STRANGER}})).gives(409),
            delete(REPAIR, Value::Null),
        ],
    )
}

fn json_patches() -> Script {
    script(
        "JSON patches",
        [
            post(REPAIRS, repair(json!({"name": "a", "finalizers": ["example.com/a"]}), 1, "New")),
            json_patch(
                REPAIR,
                json!([{"op": "test", "path": "/spec/size", "value": 1},
                {"op": "replace", "path": "/spec/size", "value": 2}]),
            ),
            json_patch(
                REPAIR,
                json!([{"op": "test", "path": "/spec/size", "value": 1},
                {"op": "replace", "path": "/spec/size", "value": 3}]),
            )
            .gives(422),
            json_patch(REPAIR, json!([{"op": "remove", "path": "/spec/none"}])).gives(422),
            json_patch(REPAIR, json!([{"op": "replace", "path": "/spec/steps", "value": ["a"]}])),
            json_patch(
                REPAIR,
                json!([{"op": "add", "path": "/metadata/finalizers/-", "value": "example.com/b"}]),
            ),
            json_patch(
                REPAIR,
                json!([{"op": "test", "path": "/metadata/finalizers/0", "value": "example.com/a"},
                {"op": "remove", "path": "/metadata/finalizers/0"}]),
            ),
            json_patch(REPAIR, json!([{"op": "add", "path": "/metadata/labels", "value": {"a/b": "c"}}])),
            json_patch(REPAIR, json!([{"op": "remove", "path": "/metadata/labels/a~1b"}])),
            json_patch(REPAIR, json!([{"op": "add", "path": "/metadata/annotations/a", "value": "b"}]))
                .gives(422),
            merge(REPAIR, json!({"metadata": {"finalizers": null}})),
        ],
    )
}

fn strategic_patches() -> Script {
    let accounts = "/api/v1/namespaces/{ns}/serviceaccounts";
    let account = "/api/v1/namespaces/{ns}/serviceaccounts/a";
    let owner = |uid: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": uid});
    script(
        "strategic merge patches",
        [
            post(
                "/api/v1/namespaces/{ns}/configmaps",
                json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "owner"}}),
            )
            .keeps("owner", "/metadata/uid"),
            post(
                accounts,
                json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "a"},
                "imagePullSecrets": [{"name": "one"}]}),
            )
            .keeps("uid", "/metadata/uid"),
            strategic(account, json!({"imagePullSecrets": [{"name": "two"}]})),
            strategic(account, json!({"imagePullSecrets": [{"name": "one", "$patch": "delete"}]})),
            strategic(account, json!({"metadata": {"finalizers": ["example.com/a", "example.com/b"]}})),
            strategic(account, json!({"metadata": {"finalizers": ["example.com/c"]}})),
            strategic(
                account,
                json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["example.com/a", "example.com/b"]}}),
            ),
            strategic(account, json!({"metadata": {"uid": "{uid}", "ownerReferences": [owner("{owner}")]}})),
            strategic(account, json!({"metadata": {"uid": STRANGER, "ownerReferences": [owner("{owner}")]}}))
                .gives(422),
            strategic(
                account,
                json!({"metadata": {"ownerReferences": [{"uid": "{owner}", "controller": true}]}}),
            ),
            strategic(
                account,
                json!({"metadata": {"ownerReferences": [{"uid": "{owner}", "$patch": "delete"}]}}),
            ),
            strategic(account, json!({"metadata": {"labels": {"a": "b"}, "annotations": {"c": "d"}}})),
            strategic(account, json!({"metadata": {"labels": {"a": null}, "annotations": null}})),
            merge(
                account,
                json!({"imagePullSecrets": [{"name": "three"}], "metadata": {"finalizers": null}}),
            ),
            merge(account, json!({"metadata": {"ownerReferences": [owner(STRANGER), owner(STRANGER)]}})),
        ],
    )
}

/// A kind without a status, that no controller writes.
fn grants() -> Script {
    let grants = "/apis/mainstay.dev/v1alpha1/namespaces/{ns}/endpointgrants";
    let grant = |metadata: Value, name: &str| {
        json!({"apiVersion": "mainstay.dev/v1alpha1", "kind": "EndpointGrant", "metadata": metadata,
            "spec": {"from": [{"namespace": name}]}})
    };
    let a = format!("{grants}/a");
    script(
        "the generation of a kind without a status",
        [
            post(grants, grant(json!({"name": "a"}), "x")),
            merge(&a, json!({"metadata": {"annotations": {"a": "b"}}})),
            merge(&a, grant(json!({}), "y")),
            merge(&format!("{a}/status"), json!({})).gives(404),
            delete(&a, Value::Null),
        ],
    )
}

/// Their controllers write them too, so only the generation is compared.
fn workloads() -> Script {
    const GENERATION: &[&str] = &["/metadata/generation"];
    let template =
        json!({"metadata": {"labels": {"app": "a"}}, "spec": {"containers": [{"name": "a", "image": "a"}]}});
    let object = |kind: &str, spec: Value| {
        let mut spec = spec;
        spec["selector"] = json!({"matchLabels": {"app": "a"}});
        spec["template"] = template.clone();
        json!({"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": "a"}, "spec": spec})
    };
    let mut steps = Vec::new();
    for (plural, kind, spec) in [
        ("deployments", "Deployment", json!({"replicas": 0, "paused": true})),
        ("statefulsets", "StatefulSet", json!({"replicas": 0, "serviceName": "a"})),
        ("replicasets", "ReplicaSet", json!({"replicas": 0})),
    ] {
        let all = format!("/apis/apps/v1/namespaces/{{ns}}/{plural}");
        let a = format!("{all}/a");
        steps.extend([
            post(&all, object(kind, spec)).shows(GENERATION),
            strategic(&a, json!({"metadata": {"labels": {"a": "b"}}})).shows(GENERATION),
            strategic(&a, json!({"metadata": {"annotations": {"a": "b"}}})).shows(GENERATION),
            strategic(&a, json!({"spec": {"minReadySeconds": 5}})).shows(GENERATION),
            strategic(
                &a,
                json!({"spec": {"template": {"spec": {"containers": [{"name": "a", "image": "b"}]}}}}),
            )
            .shows(&[
                "/metadata/generation",
                "/spec/template/spec/containers/0/image",
                "/spec/template/spec/containers/1",
            ]),
            strategic(
                &format!("{a}/status"),
                json!({"status": {"replicas": 0}, "spec": {"minReadySeconds": 7}}),
            )
            .shows(&["/metadata/generation", "/spec/minReadySeconds"]),
            delete(&a, json!({"propagationPolicy": "Background"})).shows(&[
                "/kind",
                "/status",
                "/details/kind",
            ]),
        ]);
    }
    script("the generation of workloads", steps)
}
