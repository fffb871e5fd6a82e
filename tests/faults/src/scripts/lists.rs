//! Lists, metadata alone, and watches.

use serde_json::{Value, json};

use super::{
    script::{Script, script},
    step::{delete, get, merge, post, watch},
};

const SECRETS: &str = "/api/v1/namespaces/{ns}/secrets";
const REPAIRS: &str = "/apis/repair.example.com/v1/namespaces/{ns}/repairs";

fn secret(name: &str, labels: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "labels": labels}})
}

fn repair(name: &str, label: &str) -> Value {
    json!({"apiVersion": "repair.example.com/v1", "kind": "Repair",
        "metadata": {"name": name, "labels": {"app": label}}, "spec": {"size": 1}})
}

pub(super) fn scripts() -> Vec<Script> {
    vec![selectors(), pages(), metadata(), watches(), partial_watches(), first_events(), ends()]
}

fn selectors() -> Script {
    let mut steps = vec![
        post(SECRETS, secret("a", &json!({"app": "web", "tier": "1", "script": "{ns}"}))),
        post(SECRETS, secret("b", &json!({"app": "db", "script": "{ns}"}))),
        post(
            SECRETS,
            json!({"apiVersion": "v1", "kind": "Secret", "type": "example.com/own", "metadata": {"name": "c"}}),
        ),
    ];
    for labels in [
        "app=web",
        "app==web",
        "app!=web",
        "app in (web, db)",
        "app in (web),tier in (1,2)",
        "app notin (web)",
        "tier",
        "!tier",
        "app,!tier",
    ] {
        steps.push(get(&format!("{SECRETS}?labelSelector={}", encoded(labels))).shows(&[
            "/items/0/metadata/name",
            "/items/1/metadata/name",
            "/items/2/metadata/name",
        ]));
    }
    for (fields, code) in [
        ("metadata.name=a", 200),
        ("metadata.name!=a", 200),
        ("metadata.name==a,metadata.namespace={ns}", 200),
        ("type=example.com/own", 200),
        ("data.a=b", 400),
        ("spec.nodeName=a", 400),
    ] {
        steps.push(get(&format!("{SECRETS}?fieldSelector={}", encoded(fields))).gives(code));
    }
    for (path, fields, code) in [
        (REPAIRS, "metadata.name=a", 200),
        (REPAIRS, "metadata.namespace={ns}", 200),
        (REPAIRS, "spec.size=1", 400),
        ("/api/v1/namespaces/{ns}/pods", "spec.nodeName=none,status.phase!=Failed", 200),
        ("/api/v1/namespaces/{ns}/pods", "metadata.labels=a", 400),
        ("/api/v1/namespaces", "metadata.name={ns}-none", 200),
        ("/api/v1/namespaces/{ns}/services", "spec.type=ClusterIP", 200),
        ("/api/v1/namespaces/{ns}/serviceaccounts", "metadata.name=none", 200),
    ] {
        steps.push(get(&format!("{path}?fieldSelector={}", encoded(fields))).gives(code));
    }
    steps.extend([
        get("/api/v1/secrets?labelSelector=script%3D{ns}"),
        get(&format!("{SECRETS}?labelSelector={}", encoded("app in ("))).gives(400),
        get(&format!("{SECRETS}?resourceVersion=0&labelSelector=app")).shows(&["/kind", "/items/2"]),
        get(&format!("{SECRETS}/a?resourceVersion=0")).shows(&["/metadata/name"]),
    ]);
    script("selectors", steps)
}

/// A selector as a query writes it; placeholders stay.
fn encoded(selector: &str) -> String {
    form_urlencoded::byte_serialize(selector.as_bytes())
        .collect::<String>()
        .replace("%7B", "{")
        .replace("%7D", "}")
}

fn pages() -> Script {
    script(
        "a list in pages",
        [
            post(REPAIRS, repair("a", "x")),
            post(REPAIRS, repair("b", "x")),
            post(REPAIRS, repair("c", "y")),
            get(&format!("{REPAIRS}?limit=2")).keeps("next", "/metadata/continue"),
            post(REPAIRS, repair("d", "x")),
            get(&format!("{REPAIRS}?limit=2&continue={{next}}")),
            get(&format!("{REPAIRS}?limit=1&labelSelector=app%3Dx")).keeps("next", "/metadata/continue"),
            get(&format!("{REPAIRS}?limit=1&labelSelector=app%3Dx&continue={{next}}"))
                .keeps("next", "/metadata/continue"),
            get(&format!("{REPAIRS}?limit=4")),
            get(REPAIRS).keeps("all", "/metadata/resourceVersion"),
            post(REPAIRS, repair("e", "x")),
            get(&format!("{REPAIRS}?resourceVersion={{all}}&resourceVersionMatch=NotOlderThan"))
                .shows(&["/items/4/metadata/name"]),
            get(&format!("{REPAIRS}?resourceVersion={{all}}&resourceVersionMatch=Exact"))
                .shows(&["/items/3/metadata/name", "/items/4"]),
        ],
    )
}

fn metadata() -> Script {
    let a = format!("{SECRETS}/a");
    script(
        "metadata alone",
        [
            post(SECRETS, secret("a", &json!({"app": "web"}))).partial().keeps("uid", "/metadata/uid"),
            get(&a).partial(),
            get(&format!("{SECRETS}?limit=1")).partials(),
            merge(&a, json!({"metadata": {"annotations": {"a": "b"}}})).partial(),
            get(&format!("{SECRETS}/none")).partial().gives(404),
            delete(&a, Value::Null).partial(),
            post(REPAIRS, repair("a", "x")).partial(),
            get(&format!("{REPAIRS}?labelSelector=app")).partials(),
            get(&format!("{REPAIRS}/a")).partial(),
        ],
    )
}

fn watches() -> Script {
    let label = |label: &str| json!({"metadata": {"labels": {"app": label}}});
    let (a, b) = (format!("{REPAIRS}/a"), format!("{REPAIRS}/b"));
    script(
        "a watch shows what has changed",
        [
            get(REPAIRS).keeps("all", "/metadata/resourceVersion"),
            post(REPAIRS, repair("a", "x")).keeps("first", "/metadata/resourceVersion"),
            post(REPAIRS, repair("b", "y")),
            merge(&a, label("y")),
            merge(&b, label("x")),
            merge(&a, json!({"metadata": {"finalizers": ["example.com/a"]}})),
            delete(&a, Value::Null),
            merge(&a, json!({"metadata": {"finalizers": null}})),
            delete(&b, Value::Null),
            watch(&format!("{REPAIRS}?resourceVersion={{all}}"), 8),
            watch(&format!("{REPAIRS}?resourceVersion={{first}}"), 3),
            watch(&format!("{REPAIRS}?resourceVersion={{all}}&labelSelector=app%3Dx"), 4),
            watch(&format!("{REPAIRS}?resourceVersion={{all}}&labelSelector=app%3Dy"), 6),
            watch(&format!("{REPAIRS}?resourceVersion={{all}}&fieldSelector=metadata.name%3Db"), 3),
        ],
    )
}

fn partial_watches() -> Script {
    script(
        "a watch of metadata alone",
        [
            get(SECRETS).partials().shows(&["/kind"]).keeps("all", "/metadata/resourceVersion"),
            post(SECRETS, secret("a", &json!({"app": "web"}))),
            delete(&format!("{SECRETS}/a"), Value::Null),
            watch(&format!("{SECRETS}?resourceVersion={{all}}"), 2).partial(),
        ],
    )
}

fn first_events() -> Script {
    let streamed = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    script(
        "a watch begins with what is there",
        [
            post(REPAIRS, repair("b", "x")),
            post(REPAIRS, repair("a", "x")),
            post(REPAIRS, repair("c", "y")),
            watch(REPAIRS, 3),
            watch(&format!("{REPAIRS}?resourceVersion=0"), 3),
            watch(&format!("{REPAIRS}?{streamed}&labelSelector=app%3Dx"), 3),
            watch(&format!("{REPAIRS}?{streamed}&labelSelector=app%3Dnone"), 1).partial(),
            watch(&format!("{REPAIRS}?sendInitialEvents=true&allowWatchBookmarks=true"), 1).gives(422),
        ],
    )
}

fn ends() -> Script {
    script(
        "how a watch ends",
        [
            post(REPAIRS, repair("a", "x")).keeps("version", "/metadata/resourceVersion"),
            watch(&format!("{REPAIRS}?resourceVersion={{version}}&timeoutSeconds=1"), 1),
            watch(
                &format!("{REPAIRS}?resourceVersion={{version}}&timeoutSeconds=2&allowWatchBookmarks=true"),
                1,
            ),
            watch(&format!("{REPAIRS}?resourceVersion=1"), 2),
            watch(&format!("{REPAIRS}?resourceVersion=1&allowWatchBookmarks=true"), 2),
        ],
    )
}
