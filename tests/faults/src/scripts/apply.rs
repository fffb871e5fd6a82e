//! Server-side apply and field owners.

use serde_json::{Value, json};

use super::{
    script::{Script, script},
    step::{Step, apply, delete, get, merge, post, put},
};

const A: &str = "/api/v1/namespaces/{ns}/configmaps/a";
const REPAIR: &str = "/apis/repair.example.com/v1/namespaces/{ns}/repairs/a";
const STATUS: &str = "/apis/repair.example.com/v1/namespaces/{ns}/repairs/a/status";
const STRANGER: &str = "00000000-0000-4000-8000-00000000abcd";

fn config(labels: Value, data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "labels": labels}, "data": data})
}

fn by(manager: &str, body: Value) -> Step {
    apply(&format!("{A}?fieldManager={manager}"), body)
}

fn forced(manager: &str, body: Value) -> Step {
    apply(&format!("{A}?fieldManager={manager}&force=true"), body)
}

pub(super) fn scripts() -> Vec<Script> {
    vec![owners(), updates(), preconditions(), conditions(), lists(), custom(), services()]
}

fn owners() -> Script {
    script(
        "fields have owners",
        [
            by("one", config(json!({"l": "1"}), json!({"a": "1", "b": "1"}))).gives(201),
            by("one", config(json!({"l": "1"}), json!({"a": "1", "b": "1"}))),
            by("one", config(json!({"l": "1"}), json!({"a": "1"}))),
            by("two", config(json!({}), json!({"a": "2"}))).gives(409),
            by("two", config(json!({}), json!({"a": "1"}))),
            by("one", config(json!({"l": "1"}), json!({"a": "3"}))).gives(409),
            forced("two", config(json!({}), json!({"a": "2"}))),
            by("one", config(json!({"l": "1"}), json!({}))),
            by("two", config(json!({"l": "1"}), json!({"a": "2", "c": "1"}))),
            by("one", json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}})),
            by("two", config(json!({}), json!({"c": "2"}))),
            by(
                "three",
                json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a",
                "finalizers": ["example.com/a"], "annotations": {"a": "b"}}}),
            ),
            by(
                "four",
                json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a",
                "finalizers": ["example.com/b"], "annotations": {"a": "b", "c": "d"}}}),
            ),
            by("three", json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}})),
            by("four", json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}})),
            get(A),
        ],
    )
}

fn updates() -> Script {
    script(
        "updates take fields over",
        [
            by("one", config(json!({"l": "1"}), json!({"a": "1", "b": "1", "c": "1"}))).gives(201),
            merge(A, json!({"data": {"a": "2", "d": "1"}, "metadata": {"labels": {"m": "1"}}})),
            merge(A, json!({"data": {"a": "2"}})),
            by("one", config(json!({"l": "1"}), json!({"a": "1", "b": "1", "c": "1"}))).gives(409),
            by("one", config(json!({"l": "1"}), json!({"b": "1", "c": "1"}))),
            merge(A, json!({"data": {"b": null}})),
            by("one", config(json!({"l": "1"}), json!({"b": "1", "c": "1"}))),
            forced("one", config(json!({"l": "1"}), json!({"a": "1", "b": "1"}))),
            put(A, config(json!({"l": "1"}), json!({"a": "9"}))),
            merge(&format!("{A}?fieldManager=other"), json!({"data": null})),
            by("one", config(json!({"l": "1"}), json!({"a": "1"}))),
            merge(A, json!({"metadata": {"labels": null}})),
            get(A),
        ],
    )
}

fn preconditions() -> Script {
    let with = |metadata: Value| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"a": "2"}});
    script(
        "what an apply asks for",
        [
            by("one", with(json!({"name": "a", "uid": STRANGER}))).gives(409),
            by("one", with(json!({"name": "a", "resourceVersion": "7"}))).gives(201),
            delete(A, Value::Null),
            by("one", with(json!({"name": "b"}))).gives(400),
            by("one", with(json!({"name": "a", "managedFields": [{"manager": "x"}]}))).gives(400),
            apply(&format!("{A}?fieldManager=one&dryRun=All"), with(json!({"name": "a"}))).gives(201),
            get(A).gives(404),
            by("one", with(json!({"labels": {"a": "b"}}))).gives(400),
            by("one", with(json!({"name": "a", "labels": {"a": "b"}}))).gives(201)
                .keeps("uid", "/metadata/uid")
                .keeps("first", "/metadata/resourceVersion"),
            by("one", with(json!({"name": "a", "uid": "{uid}", "resourceVersion": "{first}"}))),
            by("one", with(json!({}))),
            by("one", with(json!({"name": "a", "resourceVersion": "{first}"}))).gives(409),
            by("one", with(json!({"name": "a", "uid": STRANGER}))).gives(422),
            apply(&format!("{A}?fieldManager=one&dryRun=All"), config(json!({}), json!({"a": "3"}))),
            get(A),
            apply("/api/v1/namespaces/{ns}-none/configmaps/a?fieldManager=one", with(json!({"name": "a"}))).gives(404),
            apply(&format!("{STATUS}?fieldManager=one"),
                json!({"apiVersion": "repair.example.com/v1", "kind": "Repair", "metadata": {"name": "a"}, "status": {"phase": "x"}}))
                .gives(404),
        ],
    )
}

fn conditions() -> Script {
    let spec = |manager: &str, body: Value| {
        let mut object =
            json!({"apiVersion": "repair.example.com/v1", "kind": "Repair", "metadata": {"name": "a"}});
        for (field, value) in body.as_object().into_iter().flatten() {
            object[field] = value.clone();
        }
        apply(&format!("{REPAIR}?fieldManager={manager}"), object)
    };
    let status = |manager: &str, force: bool, status: Value| {
        let object = json!({"apiVersion": "repair.example.com/v1", "kind": "Repair", "metadata": {"name": "a"},
            "status": status});
        apply(&format!("{STATUS}?fieldManager={manager}&force={force}"), object)
    };
    let condition = |kind: &str, status: &str| json!({"type": kind, "status": status, "message": status});
    script(
        "conditions are merged by their type",
        [
            spec("user", json!({"spec": {"size": 1}, "status": {"phase": "Lost"}})).gives(201),
            status(
                "one",
                false,
                json!({"phase": "New", "conditions": [condition("A", "True"), condition("B", "True")]}),
            ),
            status(
                "one",
                false,
                json!({"phase": "New", "conditions": [condition("A", "True"), condition("B", "True")]}),
            ),
            status("two", false, json!({"conditions": [condition("C", "True")]})),
            status("two", false, json!({"conditions": [condition("C", "True"), condition("A", "False")]}))
                .gives(409),
            status("two", true, json!({"conditions": [condition("C", "True"), condition("A", "False")]})),
            status("one", false, json!({"phase": "New", "conditions": [condition("B", "True")]})),
            status("two", false, json!({"conditions": [condition("C", "True")]})),
            merge(
                STATUS,
                json!({"status": {"conditions": [{"type": "B", "status": "True", "message": "mine"}, condition("C", "True")]}}),
            ),
            status("one", false, json!({"phase": "New"})),
            status("one", false, json!({})),
            status("two", false, json!({"items": ["a", "b"], "counts": {"a": 1}})),
            status("two", false, json!({"items": ["b"], "counts": {"b": 1}})),
            apply(
                &format!("{STATUS}?fieldManager=two"),
                json!({"apiVersion": "repair.example.com/v1", "kind": "Repair", "metadata": {"name": "a", "uid": STRANGER},
                    "status": {"phase": "Strange"}}),
            ),
            get(REPAIR),
        ],
    )
}

fn lists() -> Script {
    let accounts = "/api/v1/namespaces/{ns}/serviceaccounts";
    let a = format!("{accounts}/a");
    let account = |manager: &str, secrets: &[&str], pull: &[&str]| {
        let list = |names: &[&str]| names.iter().map(|name| json!({"name": name})).collect::<Vec<_>>();
        apply(
            &format!("{a}?fieldManager={manager}"),
            json!({"apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": {"name": "a"}, "secrets": list(secrets), "imagePullSecrets": list(pull)}),
        )
    };
    let owner =
        |name: &str, uid: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "name": name, "uid": uid});
    let owned = |manager: &str, owners: Value| {
        apply(
            &format!("{a}?fieldManager={manager}"),
            json!({"apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": {"name": "a", "ownerReferences": owners}}),
        )
    };
    script(
        "lists of names and of owners",
        [
            account("one", &["s"], &["a", "b"]).gives(201),
            account("two", &["t"], &["c", "b"]).gives(409),
            account("two", &["t", "s"], &["a", "b"]),
            account("one", &[], &["a", "b"]),
            account("two", &["t"], &["c"]).gives(409),
            account("one", &[], &[]).gives(409),
            post(
                "/api/v1/namespaces/{ns}/configmaps",
                json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "owner"}}),
            )
            .keeps("owner", "/metadata/uid"),
            owned("three", json!([owner("owner", "{owner}")])),
            owned("four", json!([owner("owner", "{owner}")])),
            owned("three", json!([])),
            owned("four", json!([])),
            delete(&a, Value::Null),
        ],
    )
}

fn custom() -> Script {
    let object = |body: Value| json!({"apiVersion": "repair.example.com/v1", "kind": "Repair", "metadata": {"name": "a"}, "spec": body});
    let one = |body: Value| apply(&format!("{REPAIR}?fieldManager=one"), object(body));
    script(
        "maps and lists of a custom resource",
        [
            one(json!({"size": 1, "settings": {"a": "b", "c": "d"}, "steps": ["a", "b"]})).gives(201),
            one(json!({"size": 1, "settings": {"a": "b"}, "steps": ["b"]})),
            merge(REPAIR, json!({"spec": {"settings": {"e": "f"}}})),
            one(json!({"size": 2, "settings": {}})),
            one(json!({"size": 2})),
            apply(
                &format!("{REPAIR}?fieldManager=two"),
                object(json!({"size": 2, "template": {"kind": "X", "spec": {"a": {"b": 1}}}})),
            ),
            one(json!({})),
            apply(
                &format!("{REPAIR}?fieldManager=two"),
                object(json!({"template": {"spec": {"a": {"c": 1}}}})),
            ),
            put(&format!("{REPAIR}?dryRun=All"), object(json!({}))).gives(422),
            delete(REPAIR, Value::Null),
        ],
    )
}

fn services() -> Script {
    let service = "/api/v1/namespaces/{ns}/services/a";
    let ports = |manager: &str, ports: Value| {
        apply(
            &format!("{service}?fieldManager={manager}"),
            json!({"apiVersion": "v1", "kind": "Service",
            "metadata": {"name": "a"}, "spec": {"ports": ports, "selector": {"app": "a"}}}),
        )
    };
    let slice = "/apis/discovery.k8s.io/v1/namespaces/{ns}/endpointslices/a";
    let slices = |address: &str| {
        apply(
            &format!("{slice}?fieldManager=one"),
            json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"name": "a"}, "addressType": "IPv4", "ports": [{"name": "http", "port": 80}],
            "endpoints": [{"addresses": [address]}, {"addresses": ["10.1.0.9"], "conditions": {"ready": false}}]}),
        )
    };
    script(
        "ports of a Service, and endpoints",
        [
            ports("one", json!([{"name": "http", "port": 80}])).gives(201),
            ports("one", json!([{"name": "http", "port": 80, "protocol": "TCP", "targetPort": 8080}])),
            ports("two", json!([{"name": "https", "port": 443, "protocol": "TCP"}])),
            ports("one", json!([{"name": "web", "port": 80}])),
            slices("10.1.0.1").gives(201),
            slices("10.1.0.1"),
            slices("10.1.0.2"),
        ],
    )
}
