//! What a pool makes of what its Service says: ports, families of slices, zones, DNS, and whose it is.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};
use kube::ResourceExt;
use mainstay_e2e::{Component::Endpoints, OUT, Pool, STANDBY, Scenario, USED, eventually, pods, pool};
use serde_json::{Value, json};

/// A Service without a selector that no pool has made.
fn service(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
           "spec": {"ports": [{"port": 80, "targetPort": 8080}]}})
}

/// The numbers of the ports of each address, by the ports' names.
async fn ports(pool: &Pool) -> BTreeMap<String, BTreeMap<String, i32>> {
    let mut ports = BTreeMap::new();
    for slice in pool.slices().await {
        let named: BTreeMap<_, _> = slice
            .ports
            .into_iter()
            .flatten()
            .map(|port| (port.name.unwrap_or_default(), port.port.unwrap_or_default()))
            .collect();
        for endpoint in slice.endpoints.into_iter().flatten() {
            ports.insert(endpoint.addresses[0].clone(), named.clone());
        }
    }
    ports
}

#[tokio::test]
async fn target_ports_are_those_that_each_pod_and_each_set_names() {
    let scenario = Scenario::start("ports", &[Endpoints]).await;
    let server = async |name: &str, ports: Value| {
        let mut spec = pods::web();
        spec["containers"][0]["ports"] = ports;
        spec["terminationGracePeriodSeconds"] = 1.into();
        scenario.orphan(name, "web", spec).await;
        scenario.kubectl(&format!("wait --for=condition=Ready pod/{name} --timeout=60s")).succeeded();
        scenario.pods().get(name).await.unwrap().status.unwrap().pod_ip.unwrap()
    };
    let http = json!({"name": "http", "containerPort": 8080});
    let both = server("both", json!([http, {"name": "metrics", "containerPort": 9090}])).await;
    let other = server("other", json!([http, {"name": "metrics", "containerPort": 9091}])).await;
    let half = server("half", json!([http])).await;
    let draft = pool("web")
        .pods("web", 0)
        .set(json!({
            "name": "outside",
            "addresses": [{"ip": "192.0.2.1"}],
            "ports": [{"name": "web", "port": 8443}, {"name": "metrics", "port": 9443}],
        }))
        .with(
            "spec.serviceRef.create.spec.ports",
            json!([
                {"name": "web", "port": 80, "targetPort": "http"},
                {"name": "metrics", "port": 90, "targetPort": "metrics"},
            ]),
        );
    let web = scenario.create(&draft).await;
    web.has(&[(&both, USED), (&other, USED), (&half, USED), ("192.0.2.1", USED)]).await;
    let named = |ports: &[(&str, i32)]| -> BTreeMap<_, _> {
        ports.iter().map(|(name, port)| ((*name).to_owned(), *port)).collect()
    };
    let expected = BTreeMap::from([
        (both, named(&[("web", 8080), ("metrics", 9090)])),
        (other, named(&[("web", 8080), ("metrics", 9091)])),
        (half, named(&[("web", 8080)])),
        ("192.0.2.1".to_owned(), named(&[("web", 8443), ("metrics", 9443)])),
    ]);
    assert_eq!(ports(&web).await, expected);
    let sentence = web.says("MembersAccepted", false, "PortNotFound").await;
    assert!(sentence.contains("half") && sentence.contains("\"metrics\""), "{sentence}");
}

#[tokio::test]
async fn slices_hold_as_many_as_they_may_and_a_change_touches_one() {
    let scenario = Scenario::start("packed", &[Endpoints]).await;
    let addresses: Vec<_> = (1..=7).map(|number| format!("192.0.2.{number}")).collect();
    let draft = pool("web").addresses("outside", &addresses[..6]).with("spec.maxEndpointsPerSlice", 2);
    let web = scenario.create(&draft).await;
    let used = |addresses: &[String]| -> Vec<_> {
        addresses.iter().map(|address| (address.clone(), USED)).collect()
    };
    let has = async |addresses: &[String]| {
        let expected = used(addresses);
        web.has(&expected.iter().map(|(address, used)| (address.as_str(), *used)).collect::<Vec<_>>()).await;
    };
    let slices = async || -> BTreeMap<String, (usize, Option<String>)> {
        let size = |slice: &EndpointSlice| slice.endpoints.as_ref().map_or(0, Vec::len);
        let slices = web.slices().await;
        slices.iter().map(|slice| (slice.name_any(), (size(slice), slice.resource_version()))).collect()
    };
    has(&addresses[..6]).await;
    let before = slices().await;
    assert_eq!(before.values().map(|(size, _)| *size).collect::<Vec<_>>(), [2, 2, 2]);
    web.until("counts its slices", |status| status.slices == 3).await;

    // One server is exchanged for another: the one slice that held it is written.
    let exchanged: Vec<_> = addresses[1..].to_vec();
    let list: Vec<_> = exchanged.iter().map(|ip| json!({"ip": ip})).collect();
    web.patch(json!({"spec": {"members": [{"name": "outside", "addresses": list}]}})).await;
    has(&exchanged).await;
    let after = slices().await;
    assert_eq!(
        before.keys().collect::<BTreeSet<_>>(),
        after.keys().collect::<BTreeSet<_>>(),
        "the slices are the same ones"
    );
    let changed = before.iter().filter(|(name, was)| after[*name] != **was).count();
    assert_eq!(changed, 1, "{before:?} became {after:?}");
}

#[tokio::test]
async fn endpoints_in_use_carry_hints_for_their_zone() {
    let scenario = Scenario::start("zones", &[Endpoints]).await;
    let zoned = |tier: u8, ip: &str, zone: &str| {
        let addresses = json!([{"ip": ip, "zone": zone}]);
        json!({"name": format!("tier-{tier}"), "tier": tier, "addresses": addresses})
    };
    let draft = pool("web")
        .set(zoned(0, "192.0.2.1", "zone-a"))
        .set(zoned(1, "192.0.2.2", "zone-b"))
        .with("spec.serviceRef.create.spec.trafficDistribution", "PreferSameZone");
    let web = scenario.create(&draft).await;
    web.has(&[("192.0.2.1", USED), ("192.0.2.2", STANDBY)]).await;
    let hints: BTreeMap<_, _> = web
        .slices()
        .await
        .into_iter()
        .flat_map(|slice| slice.endpoints.unwrap_or_default())
        .map(|endpoint| {
            let zones = endpoint.hints.and_then(|hints| hints.for_zones).unwrap_or_default();
            let zones: Vec<_> = zones.into_iter().map(|zone| zone.name).collect();
            (endpoint.addresses[0].clone(), (endpoint.zone, zones))
        })
        .collect();
    assert_eq!(hints["192.0.2.1"], (Some("zone-a".to_owned()), vec!["zone-a".to_owned()]));
    assert_eq!(hints["192.0.2.2"], (Some("zone-b".to_owned()), vec![]), "it gets no traffic from any zone");
}

#[tokio::test]
async fn the_dns_of_a_headless_service_names_those_that_are_used() {
    let scenario = Scenario::start("headless", &[Endpoints]).await;
    let (first, second) = (scenario.server("a", "web").await, scenario.server("b", "web").await);
    let draft = pool("web")
        .pods("web", 0)
        .set(json!({"name": "outside", "addresses": [{"ip": "192.0.2.1", "hostname": "away"}]}))
        .checked()
        // A headless Service without a selector has both families unless it says otherwise.
        .with("spec.serviceRef.create.spec.ipFamilyPolicy", "SingleStack")
        .with("spec.serviceRef.create.spec.clusterIP", "None");
    let web = scenario.create(&draft).await;
    web.has(&[(&first, USED), (&second, USED), ("192.0.2.1", OUT)]).await;
    for slice in web.slices().await {
        assert!(slice.labels().contains_key("service.kubernetes.io/headless"), "{:?}", slice.labels());
    }
    // A pool of a name has the addresses that the cluster's DNS gives it.
    let named = async |name: &str, host: &str| {
        let host = format!("{host}.{}.svc.cluster.local", scenario.namespace);
        scenario.create(&pool(name).set(json!({"name": "named", "dnsNames": [host]}))).await
    };
    let all = named("all", "web").await;
    all.has(&[(&first, USED), (&second, USED)]).await;
    scenario.serving("a", false).await;
    all.has(&[(&second, USED)]).await;

    // Without a check the server outside counts as healthy, and has the name that the pool gives it.
    web.patch(json!({"spec": {"check": null}})).await;
    all.has(&[(&first, USED), (&second, USED), ("192.0.2.1", USED)]).await;
    named("one", "away.web").await.has(&[("192.0.2.1", USED)]).await;
}

#[tokio::test]
async fn a_service_that_publishes_who_is_not_ready_gets_all_of_them() {
    let scenario = Scenario::start("published", &[Endpoints]).await;
    let (first, second) = (scenario.server("a", "web").await, scenario.server("b", "web").await);
    let draft = pool("web")
        .pods("web", 0)
        .checked()
        .with("spec.serviceRef.create.spec.publishNotReadyAddresses", true);
    let web = scenario.create(&draft).await;
    web.has(&[(&first, USED), (&second, USED)]).await;
    scenario.serving("a", false).await;
    web.has(&[(&first, [true, false, false]), (&second, USED)]).await;
    web.until("counts the failing one", |status| status.members.failing == 1).await;
}

#[tokio::test]
async fn the_younger_pool_takes_a_service_over_that_the_older_leaves() {
    let scenario = Scenario::start("heir", &[Endpoints]).await;
    scenario.kubectl_create(&service("web"), &[]).succeeded();
    let of = |name: &str, address: &str| {
        let draft = pool(name).addresses("outside", &[address.to_owned()]);
        draft.with("spec.serviceRef", json!({"name": "web"}))
    };
    let older = scenario.create(&of("a-older", "192.0.2.1")).await;
    older.uses(1).await;
    // Creation times are told in whole seconds, and of equals the name decides.
    let younger = scenario.create(&of("b-younger", "192.0.2.2")).await;
    let sentence = younger.says("Ready", false, "ServiceTaken").await;
    assert!(sentence.contains("\"a-older\""), "{sentence}");
    assert!(younger.event("ServiceRefused").await.contains("older EndpointPool"));
    assert_eq!(younger.slices().await.len(), 0, "one pool writes");
    scenario.kubectl("delete endpointpool a-older").succeeded();
    younger.has(&[("192.0.2.2", USED)]).await;
    younger.says("Ready", true, "Serving").await;
    eventually("the slices of the older pool have gone with it", async || {
        let slices = older.slices().await;
        slices.is_empty().then_some(()).ok_or(format!("{} are left", slices.len()))
    })
    .await;
}

#[tokio::test]
async fn a_service_of_others_is_used_as_it_is_and_outlives_the_pool() {
    let scenario = Scenario::start("theirs", &[Endpoints]).await;
    scenario.kubectl_create(&service("web"), &[]).succeeded();
    let services = scenario.api::<Service>();
    let before = services.get("web").await.unwrap();
    let draft = pool("web").addresses("outside", &["192.0.2.1".into()]);
    let wish = json!([{"port": 81, "targetPort": 8081}]);
    let web = scenario.create(&draft.with("spec.serviceRef.create.spec.ports", wish)).await;
    web.uses(1).await;
    let ports: BTreeSet<_> = ports(&web).await.into_values().flat_map(BTreeMap::into_values).collect();
    assert_eq!(ports, BTreeSet::from([8080]), "the Service's port, not the one that the pool would make");
    scenario.kubectl("delete endpointpool web").succeeded();
    eventually("the slices have gone with the pool", async || {
        let left = web.slices().await.len();
        (left == 0).then_some(()).ok_or(format!("{left} are left"))
    })
    .await;
    assert_eq!(services.get("web").await.unwrap(), before, "it was written, or made anew");
}
