//! Each oracle sees a defect: with one built in, the same runs break its promise.

use std::sync::atomic::{AtomicUsize, Ordering};

use http::Method;
use mainstay_faults::{
    model::{kinds::Kind, object::is_terminating, request::Request, server::Server, store::key},
    play::{
        explore::{Clean, explore_all},
        fault::Fault,
        scenario::{Defect, Scenario},
    },
};
use serde_json::{Value, json};

fn is(request: &Request, method: &Method, plural: &str) -> bool {
    request.method == *method && request.is_of(plural)
}

/// A client sends each create twice, and the name is drawn anew.
fn creates_twice(server: &mut Server, request: &mut Request) {
    if is(request, &Method::POST, "pods") && request.subresource.is_empty() {
        let mut again = request.clone();
        again.body["metadata"]["name"] = format!("web-again-{}", server.store.version()).into();
        server.handle(&again);
    }
}

/// A plan forgets what it deletes already.
fn deletes_twice(server: &mut Server, request: &mut Request) {
    let goes = is(request, &Method::DELETE, "pods") || request.subresource == "eviction";
    let is_other = |pod: &Value| !is_terminating(pod) && pod["metadata"]["name"] != request.object();
    let other = server.store.all(Kind::named("pods")).find(|pod| is_other(pod)).map(|pod| key(pod));
    if let Some(other) = other.filter(|_| goes) {
        server.store.delete(Kind::named("pods"), &other, None);
    }
}

/// A rollout takes what it waits for to have failed.
fn fails_early(_: &mut Server, request: &mut Request) {
    if request.is_of("replicagroups") && request.subresource == "status" {
        request.body["status"]["failedRevision"] = "web-1".into();
    }
    if request.is_of("configrollouts") && request.subresource == "status" {
        request.body["status"]["conditions"] = json!([{"type": "RolledBack", "status": "True"}]);
    }
}

/// A new leader, which has not looked at anything, takes it to be gone.
fn knows_nothing(server: &mut Server, request: &mut Request) {
    let mut slices = server.store.all(Kind::named("endpointslices"));
    let stands = slices.any(|slice| slice["endpoints"][1].is_object());
    drop(slices);
    if stands && request.is_of("endpointslices") && request.is_write() {
        request.body["endpoints"] = json!([]);
    }
}

/// A range is not looked at.
fn admits_all(_: &mut Server, request: &mut Request) {
    if request.is_of("endpointslices") && request.body["endpoints"][0].is_object() {
        request.body["endpoints"][0]["addresses"] = json!(["127.0.0.1"]);
    }
}

/// One node is taken for another.
fn takes_another_node(server: &mut Server, request: &mut Request) {
    if is(request, &Method::PATCH, "nodes") {
        let place = (String::new(), "a".to_owned());
        server.store.edit(Kind::named("nodes"), &place, |node| node["spec"]["unschedulable"] = true.into());
    }
}

/// The pods of all nodes are listed, and not those of one.
fn drains_all(server: &mut Server, request: &mut Request) {
    if request.is_of("pods") && request.subresource == "eviction" {
        let place = ("ns".to_owned(), "on-a".to_owned());
        server.store.delete(Kind::named("pods"), &place, None);
    }
}

/// The name of a remediation is drawn anew at each try.
fn repairs_twice(server: &mut Server, request: &mut Request) {
    if is(request, &Method::POST, "repairs") {
        let mut again = request.clone();
        again.body["metadata"]["name"] = "again".into();
        server.handle(&again);
    }
}

/// A source is taken for an old revision.
fn prunes_source(server: &mut Server, request: &mut Request) {
    if is(request, &Method::PATCH, "deployments") {
        server.store.delete(Kind::named("configmaps"), &("ns".to_owned(), "web".to_owned()), None);
    }
}

/// A stage does not wait for the one before.
fn skips_stage(server: &mut Server, request: &mut Request) {
    if request.is_of("deployments") && request.is_write() && request.name == "web" {
        let place = ("ns".to_owned(), "last".to_owned());
        server.store.edit(Kind::named("deployments"), &place, |last| {
            let used = &mut last["spec"]["template"]["spec"]["containers"][0]["env"][0]["valueFrom"];
            used["configMapKeyRef"]["name"] = "web-unproven".into();
        });
    }
}

/// A second revision is taken for the first.
fn stays_behind(_: &mut Server, request: &mut Request) {
    if request.is_of("deployments") && request.is_write() {
        let body = request.body.to_string().replace("web-2", "web-1");
        request.body = body.parse().unwrap_or_default();
    }
}

/// What is written is never stored.
fn never_stored(request: &mut Request) {
    if request.is_write() {
        request.query.insert("dryRun".to_owned(), "All".to_owned());
    }
}

/// Of a token that holds for a day it is noted that it has expired.
fn notes_wrong_times(_: &mut Server, request: &mut Request) {
    let annotations = &mut request.body["metadata"]["annotations"];
    if annotations["mainstay.dev/expires-at"].is_string() {
        annotations["mainstay.dev/expires-at"] = "2020-01-01T00:00:00Z".into();
    }
}

/// An account is deleted before its tokens.
fn loses_account(server: &mut Server, request: &mut Request) {
    if request.is_of("secrets") && request.is_write() {
        let place = ("blue".to_owned(), "pipeline".to_owned());
        server.store.delete(Kind::named("serviceaccounts"), &place, None);
    }
}

/// The role of a binding is not the policy's.
fn gives_more(_: &mut Server, request: &mut Request) {
    if request.is_of("rolebindings") && request.body["roleRef"].is_object() {
        request.body["roleRef"]["name"] = "cluster-admin".into();
    }
}

/// The selector is not looked at.
fn selects_all(server: &mut Server, request: &mut Request) {
    if request.is_of("serviceaccounts") && request.is_write() && request.namespace == "blue" {
        let mut other = request.clone();
        other.namespace = "red".to_owned();
        other.body["metadata"]["namespace"] = "red".into();
        server.handle(&other);
    }
}

fn loses_status(_: &mut Server, request: &mut Request) {
    if request.subresource == "status" {
        never_stored(request);
    }
}

/// What the server refuses for ever is asked for again and again.
fn asks_for_too_little(_: &mut Server, request: &mut Request) {
    if request.subresource == "token" {
        request.body["spec"]["expirationSeconds"] = 1.into();
    }
}

/// A finalizer is never removed.
fn never_lets_go(_: &mut Server, request: &mut Request) {
    if request.is_of("accountpolicies") && request.body["metadata"]["finalizers"] == json!([]) {
        never_stored(request);
    }
}

/// How many rows are tried at the same time.
const AT_ONCE: usize = 4;

/// The promise, the scenario, what is wrong, and the fault that shows it.
type Row = (&'static str, Scenario, Defect, Fault);

fn named(scenarios: Vec<Scenario>, name: &str) -> Scenario {
    let is_meant = |scenario: &Scenario| scenario.name == name;
    scenarios.into_iter().find(is_meant).unwrap_or_else(|| panic!("there is no scenario {name:?}"))
}

fn table() -> Vec<Row> {
    let replication = |name| named(crate::replication::scenarios(), name);
    let endpoints = |name| named(crate::endpoints::scenarios(), name);
    let nodes = |name| named(crate::node_health::scenarios(), name);
    let config = |name| named(crate::config_rollout::scenarios(), name);
    let accounts = |name| named(crate::accounts::scenarios(), name);
    let silent = "one of three nodes goes silent";
    vec![
        ("pods", replication("three pods"), creates_twice, Fault::None),
        ("available", replication("a new image"), deletes_twice, Fault::None),
        ("rollback", replication("a new image"), fails_early, Fault::None),
        ("outcome", replication("three pods"), loses_status, Fault::None),
        ("requests", accounts("one namespace"), asks_for_too_little, Fault::None),
        ("quiet", accounts("one namespace"), asks_for_too_little, Fault::None),
        ("repeatable", replication("three pods"), loses_status, Fault::None),
        ("endpoints", endpoints("a pod comes"), knows_nothing, Fault::None),
        ("forbidden", endpoints("two pods"), admits_all, Fault::None),
        ("healthy", nodes(silent), takes_another_node, Fault::None),
        ("drained", nodes(silent), drains_all, Fault::None),
        ("fenced", nodes("a silent node is remediated"), repairs_twice, Fault::None),
        ("source", config("one change"), prunes_source, Fault::None),
        ("whole", config("two stages"), skips_stage, Fault::None),
        ("stage", config("two stages"), skips_stage, Fault::None),
        ("follows", config("one change"), stays_behind, Fault::None),
        ("rollback", config("one change"), fails_early, Fault::None),
        ("tokens", accounts("one namespace"), notes_wrong_times, Fault::None),
        ("account", accounts("one namespace"), loses_account, Fault::None),
        ("rights", accounts("one namespace"), gives_more, Fault::None),
        ("selected", accounts("one namespace"), selects_all, Fault::None),
        ("outcome", accounts("one namespace"), never_lets_go, Fault::Deleted(12)),
    ]
}

/// What is wrong with a row: that its promise is broken without the defect, or is not seen to be broken with it.
fn tried((promise, scenario, defect, fault): &Row) -> Option<String> {
    let clean = Clean::of(scenario);
    let broken = |scenario: &Scenario| -> Vec<String> {
        let report = explore_all(scenario, &clean, std::slice::from_ref(fault));
        report.violations.into_iter().flat_map(|violation| violation.broken).collect()
    };
    let without = broken(scenario);
    let found = broken(&scenario.clone().with(*defect));
    let first = found.iter().find(|words| words.starts_with(&format!("{promise}:")));
    println!(
        "{promise:10} | {:40} | {}",
        scenario.name,
        first.map_or("not seen", |it| it.lines().next().unwrap_or(it))
    );
    if !without.is_empty() {
        return Some(format!("{promise} ({}): broken without a defect: {without:?}", scenario.name));
    }
    first.is_none().then(|| format!("{promise} ({}): not seen, but {found:?}", scenario.name))
}

#[test]
fn each_promise_is_broken_by_a_defect_and_kept_without_it() {
    let (rows, next) = (table(), AtomicUsize::new(0));
    let blind = std::thread::scope(|scope| {
        let work = || {
            let next_row = || rows.get(next.fetch_add(1, Ordering::Relaxed));
            std::iter::from_fn(next_row).filter_map(tried).collect::<Vec<_>>()
        };
        let workers: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("no row panics")).collect::<Vec<_>>()
    });
    assert!(blind.is_empty(), "{}", blind.join("\n"));
}
