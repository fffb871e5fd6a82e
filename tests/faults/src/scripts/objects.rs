//! Create, get, list, replace and delete; versions and preconditions.

use serde_json::{Value, json};

use super::{
    script::{Script, script},
    step::{delete, get, merge, post, put},
};

const CONFIGMAPS: &str = "/api/v1/namespaces/{ns}/configmaps";
const A: &str = "/api/v1/namespaces/{ns}/configmaps/a";
const SECRETS: &str = "/api/v1/namespaces/{ns}/secrets";
const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/{ns}/leases";
const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/{ns}/leases/a";
const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";

fn config(metadata: Value, value: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"k": value}})
}

fn secret(name: &str, besides: Value) -> Value {
    let mut secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}});
    for (field, value) in besides.as_object().into_iter().flatten() {
        secret[field] = value.clone();
    }
    secret
}

fn lease(metadata: Value, holder: &str) -> Value {
    json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata,
        "spec": {"holderIdentity": holder, "leaseDurationSeconds": 15}})
}

pub(super) fn scripts() -> Vec<Script> {
    vec![life(), creation(), leases(), secrets(), roles(), slices(), services()]
}

fn life() -> Script {
    let labels = json!({"name": "a", "labels": {"app": "a"}});
    script(
        "an object is created, replaced and deleted",
        [
            post(CONFIGMAPS, config(labels.clone(), "1"))
                .keeps("uid", "/metadata/uid")
                .keeps("first", "/metadata/resourceVersion"),
            post(CONFIGMAPS, config(labels, "2")).gives(409),
            get(A),
            get("/api/v1/namespaces/{ns}/configmaps/none").gives(404),
            get(&format!("{CONFIGMAPS}?labelSelector=app%3Da")),
            put(A, config(json!({"name": "a", "resourceVersion": "{first}"}), "2"))
                .keeps("second", "/metadata/resourceVersion"),
            put(A, config(json!({"name": "a", "resourceVersion": "{first}"}), "3")).gives(409),
            put(A, config(json!({"name": "a"}), "3")),
            put(A, config(json!({"name": "a"}), "3")),
            put(A, config(json!({"name": "a", "uid": "00000000-0000-4000-8000-00000000abcd"}), "4"))
                .gives(409),
            put(A, config(json!({"name": "b"}), "4")).gives(400),
            put("/api/v1/namespaces/{ns}/configmaps/none", config(json!({"name": "none"}), "4")).gives(404),
            get(A).keeps("third", "/metadata/resourceVersion"),
            delete(A, json!({"preconditions": {"uid": "00000000-0000-4000-8000-00000000abcd"}})).gives(409),
            delete(A, json!({"preconditions": {"resourceVersion": "{second}"}})).gives(409),
            delete(A, json!({"preconditions": {"uid": "{uid}", "resourceVersion": "{third}"}})),
            delete(A, Value::Null).gives(404),
            get(A).gives(404),
        ],
    )
}

fn creation() -> Script {
    script(
        "what is said when an object is created",
        [
            post(
                CONFIGMAPS,
                config(json!({"generateName": "made-", "labels": {}, "annotations": {"a": ""}}), "1"),
            ),
            post(CONFIGMAPS, config(json!({}), "1")).gives(422),
            post(CONFIGMAPS, config(json!({"name": "a", "namespace": "default"}), "1")).gives(400),
            post(CONFIGMAPS, config(json!({"name": "a", "resourceVersion": "5"}), "1")).gives(500),
            post("/api/v1/namespaces/{ns}-none/configmaps", config(json!({"name": "a"}), "1")).gives(404),
            post(&format!("{CONFIGMAPS}?dryRun=All"), config(json!({"name": "a"}), "1")),
            get(A).gives(404),
            post(
                &format!("{CONFIGMAPS}?fieldManager="),
                config(json!({"name": "a", "uid": "mine", "generation": 7}), "1"),
            ),
            put(&format!("{A}?dryRun=All"), config(json!({"name": "a"}), "2")),
            delete(&format!("{A}?dryRun=All"), Value::Null),
            get(A),
        ],
    )
}

fn leases() -> Script {
    script(
        "a Lease is only replaced with its version",
        [
            post(LEASES, lease(json!({"name": "a"}), "one")).keeps("first", "/metadata/resourceVersion"),
            put(LEASE, lease(json!({"name": "a"}), "two")).gives(422),
            put(LEASE, lease(json!({"name": "a", "resourceVersion": "{first}"}), "two"))
                .keeps("second", "/metadata/resourceVersion"),
            put(LEASE, lease(json!({"name": "a", "resourceVersion": "{first}"}), "three")).gives(409),
            merge(
                LEASE,
                json!({"metadata": {"resourceVersion": "{first}"}, "spec": {"holderIdentity": "three"}}),
            )
            .gives(409),
            merge(
                LEASE,
                json!({"metadata": {"resourceVersion": "{second}"}, "spec": {"holderIdentity": "three"}}),
            ),
            delete(LEASE, json!({"preconditions": {"resourceVersion": "{second}"}})).gives(409),
            delete(LEASE, Value::Null),
        ],
    )
}

fn secrets() -> Script {
    let data = json!({"data": {"k": "dg=="}});
    script(
        "a Secret's text, type and immutability",
        [
            post(
                SECRETS,
                secret("text", json!({"stringData": {"a": "b"}, "data": {"a": "dg==", "k": "dg=="}})),
            ),
            merge("/api/v1/namespaces/{ns}/secrets/text", json!({"stringData": {"c": "d"}})),
            merge("/api/v1/namespaces/{ns}/secrets/text", json!({"type": "example.com/other"})).gives(422),
            post(SECRETS, secret("fixed", json!({"immutable": true, "data": {"k": "dg=="}}))),
            merge("/api/v1/namespaces/{ns}/secrets/fixed", json!({"data": {"k": "dw=="}})).gives(422),
            merge("/api/v1/namespaces/{ns}/secrets/fixed", json!({"immutable": null})).gives(422),
            merge("/api/v1/namespaces/{ns}/secrets/fixed", json!({"metadata": {"labels": {"a": "b"}}})),
            post(SECRETS, secret("open", data)),
            merge("/api/v1/namespaces/{ns}/secrets/open", json!({"immutable": true})),
            merge("/api/v1/namespaces/{ns}/secrets/open", json!({"data": null})).gives(422),
            post(
                CONFIGMAPS,
                json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "fixed"},
                "immutable": true, "data": {"k": "v"}, "binaryData": {"b": "dg=="}}),
            ),
            merge("/api/v1/namespaces/{ns}/configmaps/fixed", json!({"binaryData": {"b": "dw=="}}))
                .gives(422),
        ],
    )
}

fn roles() -> Script {
    let role = "/apis/rbac.authorization.k8s.io/v1/clusterroles/{ns}-a";
    let binding = |role: &str| {
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "a"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            "subjects": [{"kind": "ServiceAccount", "name": "a", "namespace": "{ns}"}]})
    };
    let bindings = format!("{RBAC}/namespaces/{{ns}}/rolebindings");
    script(
        "roles, and a binding's role",
        [
            post(
                &format!("{RBAC}/clusterroles"),
                json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
                    "metadata": {"name": "{ns}-a"},
                    "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]}),
            ),
            get(role),
            post(&bindings, binding("{ns}-a")),
            put(&format!("{bindings}/a"), binding("{ns}-a")),
            put(&format!("{bindings}/a"), binding("{ns}-b")).gives(422),
            delete(&format!("{bindings}/a"), Value::Null),
            delete(role, Value::Null),
        ],
    )
}

fn slices() -> Script {
    let slices = "/apis/discovery.k8s.io/v1/namespaces/{ns}/endpointslices";
    let slice = |address: &str, label: &str| {
        json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"name": "a", "labels": {"example.com/a": label}}, "addressType": "IPv4",
            "endpoints": [{"addresses": [address], "conditions": {"ready": true}}],
            "ports": [{"name": "http", "port": 80}]})
    };
    let a = format!("{slices}/a");
    script(
        "the generation of an EndpointSlice",
        [
            post(slices, slice("10.1.0.1", "1")),
            put(&a, slice("10.1.0.2", "1")),
            put(&a, slice("10.1.0.2", "2")),
            merge(&a, json!({"metadata": {"annotations": {"a": "b"}}})),
            put(&a, slice("10.1.0.2", "2")),
            merge(&a, json!({"addressType": "IPv6"})).gives(422),
            delete(&a, Value::Null),
        ],
    )
}

fn services() -> Script {
    let services = "/api/v1/namespaces/{ns}/services";
    let service = |name: &str, spec: Value| json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec});
    script(
        "a Service's defaults",
        [
            post(services, service("plain", json!({"selector": {"app": "a"}, "ports": [{"port": 80}]}))),
            post(
                services,
                service(
                    "headless",
                    json!({"clusterIP": "None", "ports": [{"port": 80, "targetPort": "http", "name": "http"}]}),
                ),
            ),
            post(
                services,
                service("outside", json!({"type": "ExternalName", "externalName": "example.com"})),
            ),
            merge("/api/v1/namespaces/{ns}/services/plain", json!({"spec": {"selector": null}})),
            delete("/api/v1/namespaces/{ns}/services/plain", Value::Null),
        ],
    )
}
