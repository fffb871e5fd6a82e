//! EndpointPools.

use mainstay_faults::{
    model::{
        kinds::Kind,
        object::{is_terminating, items},
        server::Server,
    },
    play::{
        controller::Controller,
        explore::explore,
        oracle::{Oracle, Written},
        scenario::{Scenario, change, create, delete, node},
    },
    world::Cluster,
};
use serde_json::{Value, json};

const POOL: &str = "/apis/mainstay.dev/v1alpha1/namespaces/ns/endpointpools/web";
/// The addresses that the model gives to the first and to the second pod.
const FIRST: &str = "10.244.0.2";

fn pod(name: &str, app: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": app}},
        "spec": {"containers": [{"name": "web", "image": "web:1",
            "ports": [{"name": "http", "containerPort": 8080}]}]},
    })
}

fn pool(besides: &Value) -> Value {
    let mut pool = json!({
        "apiVersion": "mainstay.dev/v1alpha1", "kind": "EndpointPool", "metadata": {"name": "web"},
        "spec": {
            "serviceRef": {"name": "web", "create": {"spec": {"ports": [
                {"name": "http", "port": 80, "targetPort": "http"}]}}},
            "members": [{"name": "main", "podSelector": {"matchLabels": {"app": "web"}}}],
            "check": {"type": "TCP", "intervalSeconds": 5, "timeoutSeconds": 2},
        },
    });
    for (field, value) in besides.as_object().into_iter().flatten() {
        pool["spec"][field] = value.clone();
    }
    pool
}

fn ready<'a>(written: &'a Written<'_>) -> impl Iterator<Item = &'a Value> {
    let slices = written.store.all(Kind::named("endpointslices")).filter(|slice| !is_terminating(slice));
    slices
        .flat_map(|slice| items(&slice["endpoints"]))
        .filter(|endpoint| endpoint["conditions"]["ready"] != false)
}

/// Once so many endpoints are ready in slices, no fewer are, for as long as the pool is wanted.
fn none_lost(least: usize) -> Box<dyn Oracle> {
    let mut were_ready = false;
    Box::new(move |written: &Written<'_>| {
        let ready = ready(written).count();
        were_ready |= ready >= least;
        let pool = written.store.find(Kind::named("endpointpools"), "ns", "web");
        // What another process that takes itself for the leader has put in is not known to be in use.
        let is_wanted = pool.is_some_and(|pool| !is_terminating(pool)) && !written.contested;
        (is_wanted && were_ready && ready < least)
            .then(|| format!("endpoints: {ready} are ready, {least} were"))
    })
}

/// Only addresses of these networks are written.
fn of_networks(networks: &'static [&'static str]) -> Box<dyn Oracle> {
    Box::new(move |written: &Written<'_>| {
        let addresses = ready(written).filter_map(|endpoint| endpoint["addresses"][0].as_str());
        let mut strange = addresses.filter(|it| !networks.iter().any(|network| it.starts_with(network)));
        strange.next().map(|address| format!("forbidden: {address} is an endpoint"))
    })
}

fn played(name: &'static str, pool: Value) -> Scenario {
    let given = [node("a"), node("b"), pod("one", "web"), pod("two", "web"), pool];
    let mut scenario = Scenario::new(name, Controller::Endpoints, given).about(POOL);
    // In which order endpoints came to their slice makes no difference, nor does which of its writes was the last: the
    // annotation says since when the change waited that came with it, if that is known.
    scenario.scrub = |object| {
        if let Some(metadata) = object["metadata"].as_object_mut()
            && let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut)
        {
            annotations.remove("endpoints.kubernetes.io/last-change-trigger-time");
            if annotations.is_empty() {
                metadata.remove("annotations");
            }
        }
        if let Some(endpoints) = object["endpoints"].as_array_mut() {
            endpoints.sort_by_key(|endpoint| endpoint.to_string());
        }
    };
    scenario
}

fn kept(scenario: Scenario, least: usize) -> Scenario {
    scenario.watched(move || vec![none_lost(least), of_networks(&["10.244.", "192.0.2."])])
}

fn dead(address: &'static str) -> impl Fn(&mut Server, &mut Cluster) + Send + Sync {
    move |_, cluster| {
        cluster.dead.insert(address.parse().expect("an address"));
    }
}

fn alive(address: &'static str) -> impl Fn(&mut Server, &mut Cluster) + Send + Sync {
    move |_, cluster| {
        cluster.dead.remove(&address.parse().expect("an address"));
    }
}

fn dns(addresses: &'static [&'static str]) -> impl Fn(&mut Server, &mut Cluster) + Send + Sync {
    move |_, cluster| {
        let addresses = addresses.iter().map(|address| address.parse().expect("an address")).collect();
        cluster.dns.insert("db.example.com".to_owned(), addresses);
    }
}

pub(crate) fn scenarios() -> Vec<Scenario> {
    let plain = || pool(&json!({}));
    let named = json!({"members": [{"name": "db", "dnsNames": ["db.example.com"],
        "ports": [{"name": "http", "port": 5432}]}]});
    let listed = |addresses: &[&str]| {
        let addresses: Vec<_> = addresses.iter().map(|ip| json!({"ip": ip})).collect();
        json!({"members": [
            {"name": "main", "podSelector": {"matchLabels": {"app": "web"}}},
            {"name": "outside", "addresses": addresses, "ports": [{"name": "http", "port": 8080}]}]})
    };
    let tiers = json!({
        "members": [
            {"name": "main", "podSelector": {"matchLabels": {"app": "web"}}},
            {"name": "spare", "tier": 1, "podSelector": {"matchLabels": {"app": "spare"}}}],
        "failover": {"belowPercent": 60, "returnPercent": 70, "returnSeconds": 30},
    });
    let with_spare = |name| {
        let mut scenario = played(name, pool(&tiers));
        scenario.given.insert(4, pod("spare", "spare"));
        scenario
    };
    let label =
        |app: &str| change("/api/v1/namespaces/ns/pods/two", json!({"metadata": {"labels": {"app": app}}}));
    vec![
        kept(played("two pods", plain()), 2),
        kept(played("two pods without a check", pool(&json!({"check": null}))), 2),
        kept(played("a pod comes", plain()).at(60, create(pod("three", "web"))), 2),
        kept(played("a pod goes", plain()).at(60, delete("/api/v1/namespaces/ns/pods/two")), 1),
        kept(
            played("a pod goes and drains", pool(&json!({"drainSeconds": 20})))
                .at(60, delete("/api/v1/namespaces/ns/pods/two")),
            1,
        ),
        kept(
            played("a label is taken away and given back", plain())
                .at(60, label("other"))
                .at(90, label("web")),
            1,
        ),
        kept(played("one of two servers is dead", plain()).at(60, dead(FIRST)), 1),
        kept(played("a server dies and comes back", plain()).at(60, dead(FIRST)).at(100, alive(FIRST)), 1),
        kept(played("all servers die", plain()).at(60, dead(FIRST)).at(60, dead("10.244.0.3")), 1),
        kept(played("addresses outside", pool(&listed(&["192.0.2.1", "192.0.2.2"]))), 4),
        kept(
            played("an address is forbidden", pool(&listed(&["192.0.2.1"])))
                .at(60, change(POOL, json!({"spec": listed(&["192.0.2.1", "127.0.0.1"])}))),
            3,
        ),
        kept(
            played("an address is taken off the list", pool(&listed(&["192.0.2.1", "192.0.2.2"])))
                .at(60, change(POOL, json!({"spec": listed(&["192.0.2.2"])}))),
            3,
        ),
        kept(played("a name of the DNS", pool(&named)).at(0, dns(&["192.0.2.1", "192.0.2.2"])), 2),
        kept(
            played("a name gets another address", pool(&named))
                .at(0, dns(&["192.0.2.1"]))
                .at(60, dns(&["192.0.2.1", "192.0.2.2"])),
            1,
        ),
        kept(with_spare("the spare tier stays in reserve"), 2),
        kept(with_spare("the first tier fails").at(60, dead(FIRST)), 1),
        kept(with_spare("the first tier fails and returns").at(60, dead(FIRST)).at(100, alive(FIRST)), 1),
        kept(
            played("the check is taken away", plain()).at(60, change(POOL, json!({"spec": {"check": null}}))),
            2,
        ),
    ]
}

#[test]
fn whatever_happens_what_answers_is_an_endpoint_in_the_end() {
    explore("endpoints", &scenarios());
}
