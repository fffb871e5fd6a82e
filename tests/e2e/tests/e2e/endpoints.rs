//! EndpointPools: who becomes an endpoint, and what their slices say.

use k8s_openapi::api::{
    core::v1::{Endpoints, Service},
    discovery::v1::EndpointSlice,
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, Patch, PatchParams},
};
use mainstay_e2e::{
    CLIENT, Component, OUT, STANDBY, Scenario, USED, client, cluster_ip, dial, eventually, pool,
};
use serde_json::json;

#[tokio::test]
async fn the_example_makes_its_service_and_fails_over() {
    let scenario = Scenario::start("shop", &[Component::Endpoints]).await;
    client(&scenario).await;
    scenario.kubectl("apply --filename=examples/endpointpool.yaml").succeeded();
    scenario.kubectl("wait --for=condition=Ready endpointpool/shop --timeout=120s").succeeded();
    scenario
        .kubectl("wait --for=jsonpath={.status.members.inUse}=2 endpointpool/shop --timeout=60s")
        .succeeded();
    let address = cluster_ip(&scenario, "shop");
    eventually("the first set answers", async || {
        let who = dial(&scenario, CLIENT, &address).await?;
        who.starts_with("shop-main").then_some(()).ok_or(who)
    })
    .await;
    scenario.kubectl("scale deployment/shop-main --replicas=0").succeeded();
    scenario.kubectl("wait --for=condition=FailedOver endpointpool/shop --timeout=60s").succeeded();
    eventually("the second set answers", async || {
        let who = dial(&scenario, CLIENT, &address).await?;
        who.starts_with("shop-standby").then_some(()).ok_or(who)
    })
    .await;
    let table = scenario.kubectl("get epp").succeeded();
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["NAME", "SERVICE", "MEMBERS", "IN-USE", "TIER", "REASON", "AGE"]);
    assert_eq!((rows[1][1], rows[1][4], rows[1][5]), ("shop", "1", "Serving"));
}

#[tokio::test]
async fn slices_say_of_pods_what_upstreams_say_and_come_back_when_somebody_touches_them() {
    let scenario = Scenario::start("slices", &[Component::Endpoints]).await;
    let address = scenario.server("a", "web").await;
    let web = scenario.create(&pool("web").pods("web", 0)).await;
    web.has(&[(&address, USED)]).await;
    let slice = web.slices().await.remove(0);
    let labels = slice.labels();
    assert_eq!(labels["kubernetes.io/service-name"], "web");
    assert_eq!(labels["endpointslice.kubernetes.io/managed-by"], "endpointpool.mainstay.dev");
    let owner = &slice.owner_references()[0];
    assert_eq!((owner.kind.as_str(), owner.uid.as_str()), ("EndpointPool", web.uid()));
    let endpoint = &slice.endpoints.as_ref().unwrap()[0];
    let pod = scenario.pods().get("a").await.unwrap();
    let target = endpoint.target_ref.as_ref().unwrap();
    assert_eq!((target.kind.as_deref(), target.name.as_deref()), (Some("Pod"), Some("a")));
    assert_eq!(target.uid, pod.uid());
    assert_eq!(endpoint.node_name, pod.spec.unwrap().node_name);
    assert!(endpoint.zone.is_some());
    let port = &slice.ports.as_ref().unwrap()[0];
    assert_eq!(
        (port.name.as_deref(), port.port, port.protocol.as_deref()),
        (Some(""), Some(8080), Some("TCP"))
    );

    let slices = scenario.api::<EndpointSlice>();
    slices.delete(&slice.name_any(), &DeleteParams::default()).await.unwrap();
    web.has(&[(&address, USED)]).await;
    let again = web.slices().await.remove(0);
    assert_ne!(again.uid(), slice.uid());
    let wrong = Patch::Merge(json!({"endpoints": [{"addresses": ["192.0.2.9"]}]}));
    slices.patch(&again.name_any(), &PatchParams::default(), &wrong).await.unwrap();
    web.has(&[(&address, USED)]).await;
    assert_eq!(
        scenario.api::<Endpoints>().get_opt("web").await.unwrap(),
        None,
        "no Endpoints object is made"
    );
}

#[tokio::test]
async fn a_service_that_goes_takes_its_slices_along_and_one_that_comes_back_is_served_again() {
    let scenario = Scenario::start("service", &[Component::Endpoints]).await;
    let address = scenario.server("a", "web").await;
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "labels": {"team": "x"}},
                         "spec": {"ports": [{"port": 80, "targetPort": 8080}]}});
    let web = scenario.create(&pool("web").pods("web", 0).without_service()).await;
    web.says("Ready", false, "ServiceNotFound").await;
    scenario.kubectl_create(&service, &[]).succeeded();
    web.has(&[(&address, USED)]).await;
    assert_eq!(web.slices().await[0].labels()["team"], "x", "slices mirror the Service's labels");

    scenario.kubectl("delete service web").succeeded();
    web.says("Ready", false, "ServiceNotFound").await;
    eventually("the slices are gone", async || {
        let left = web.slices().await.len();
        (left == 0).then_some(()).ok_or(format!("{left} are left"))
    })
    .await;
    scenario.kubectl_create(&service, &[]).succeeded();
    web.has(&[(&address, USED)]).await;

    scenario.kubectl("set selector service/web app=web").succeeded();
    let sentence = web.says("Ready", false, "ServiceHasSelector").await;
    assert!(sentence.contains("remove spec.selector"), "{sentence}");
    web.says("Stalled", true, "ServiceHasSelector").await;
    assert!(web.event("ServiceRefused").await.contains("selector"));
}

#[tokio::test]
async fn a_service_that_is_a_mere_name_is_refused() {
    let scenario = Scenario::start("name", &[Component::Endpoints]).await;
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
                         "spec": {"type": "ExternalName", "externalName": "web.example.com"}});
    scenario.kubectl_create(&service, &[]).succeeded();
    let draft = pool("web").addresses("outside", &["192.0.2.1".into()]).without_service();
    let web = scenario.create(&draft).await;
    let sentence = web.says("Stalled", true, "ServiceIsExternalName").await;
    assert!(sentence.contains("change its type"), "{sentence}");
    assert_eq!(web.slices().await.len(), 0);
}

#[tokio::test]
async fn the_pool_keeps_the_service_that_it_made_and_takes_it_along() {
    let scenario = Scenario::start("made", &[Component::Endpoints]).await;
    let web = scenario.create(&pool("web").addresses("outside", &["192.0.2.1".into()])).await;
    web.uses(1).await;
    let services = scenario.api::<Service>();
    let wrong = Patch::Merge(json!({"spec": {"ports": [{"port": 81, "targetPort": 8080}]}}));
    services.patch("web", &PatchParams::default(), &wrong).await.unwrap();
    let has_port = async |expected: i32| {
        eventually(&format!("its only port is {expected}"), async || {
            let service = services.get("web").await.map_err(|error| error.to_string())?;
            let ports = service.spec.and_then(|spec| spec.ports).unwrap_or_default();
            let ports: Vec<_> = ports.into_iter().map(|port| port.port).collect();
            (ports == [expected]).then_some(()).ok_or(format!("{ports:?}"))
        })
        .await;
    };
    has_port(80).await;
    web.patch(
        json!({"spec": {"serviceRef": {"create": {"spec": {"ports": [{"port": 82, "targetPort": 8080}]}}}}}),
    )
    .await;
    has_port(82).await;
    scenario.kubectl("delete endpointpool web").succeeded();
    eventually("Service and slices have gone with the pool", async || {
        let (service, slices) =
            (services.get_opt("web").await.map_err(|error| error.to_string())?, web.slices().await);
        let gone = service.is_none() && slices.is_empty();
        gone.then_some(()).ok_or(format!("{} slices, the Service: {}", slices.len(), service.is_some()))
    })
    .await;
}

#[tokio::test]
async fn of_two_pools_the_older_has_the_service_until_it_goes() {
    let scenario = Scenario::start("taken", &[Component::Endpoints]).await;
    let older = scenario.create(&pool("web").addresses("outside", &["192.0.2.1".into()])).await;
    older.uses(1).await;
    // Creation times are told in whole seconds, and of equals the name decides.
    let draft = pool("younger")
        .addresses("outside", &["192.0.2.2".into()])
        .with("spec.serviceRef", json!({"name": "web"}));
    let younger = scenario.create(&draft).await;
    let sentence = younger.says("Ready", false, "ServiceTaken").await;
    assert!(sentence.contains("\"web\""), "{sentence}");
    older.has(&[("192.0.2.1", USED)]).await;
    scenario.kubectl("delete endpointpool web").succeeded();
    // The Service has gone with the pool that made it.
    younger.says("Ready", false, "ServiceNotFound").await;
}

#[tokio::test]
async fn dual_stack_services_have_slices_of_both_families() {
    let scenario = Scenario::start("dual", &[Component::Endpoints]).await;
    let kubernetes = Api::<Service>::namespaced(scenario.client.clone(), &scenario.namespace);
    let draft = pool("web")
        .pods("web", 0)
        .addresses("outside", &["192.0.2.1".into(), "2001:db8::1".into()])
        .with("spec.serviceRef.create.spec.ipFamilyPolicy", "PreferDualStack");
    let web = scenario.create(&draft).await;
    scenario.server("a", "web").await;
    let families = eventually("the Service is there", async || {
        let service = kubernetes.get("web").await.map_err(|error| error.to_string())?;
        service.spec.and_then(|spec| spec.ip_families).ok_or("it has no families".to_owned())
    })
    .await;
    if families.len() < 2 {
        eprintln!("skipped: this cluster has one address family");
        return;
    }
    web.uses(4).await;
    let pod = scenario.pods().get("a").await.unwrap();
    let addresses: Vec<_> =
        pod.status.unwrap().pod_ips.unwrap().into_iter().map(|address| address.ip).collect();
    assert_eq!(addresses.len(), 2, "{addresses:?}");
    let outside = ["192.0.2.1".to_owned(), "2001:db8::1".to_owned()];
    let all: Vec<_> = addresses.iter().chain(&outside).map(|address| (address.as_str(), USED)).collect();
    web.has(&all).await;
    let mut types: Vec<_> = web.slices().await.into_iter().map(|slice| slice.address_type).collect();
    types.sort();
    assert_eq!(types, ["IPv4", "IPv6"]);
}

#[tokio::test]
async fn readiness_and_tiers_are_told_by_conditions() {
    let scenario = Scenario::start("conditions", &[Component::Endpoints]).await;
    let first = scenario.server("a", "web").await;
    let second = scenario.server("b", "web").await;
    let standby = scenario.server("c", "standby").await;
    let web = scenario.create(&pool("web").pods("web", 0).pods("standby", 1)).await;
    web.has(&[(&first, USED), (&second, USED), (&standby, STANDBY)]).await;
    // Its kubelet would report it ready again, but only when something changes.
    scenario.kubectl("label pod b app=other --overwrite").succeeded();
    web.has(&[(&first, USED), (&standby, STANDBY)]).await;
    scenario.kubectl("label pod b app=web --overwrite").succeeded();
    web.has(&[(&first, USED), (&second, USED), (&standby, STANDBY)]).await;
    let gated = scenario.orphan("gated", "web", {
        let mut spec = mainstay_e2e::pods::judged();
        spec["readinessGates"] = json!([{"conditionType": "e2e.mainstay.dev/never"}]);
        spec
    });
    gated.await;
    let address = eventually("the gated pod has an address", async || {
        let pod = scenario.pods().get("gated").await.map_err(|error| error.to_string())?;
        pod.status.and_then(|status| status.pod_ip).ok_or("none yet".to_owned())
    })
    .await;
    web.has(&[(&first, USED), (&second, USED), (&standby, STANDBY), (&address, OUT)]).await;
}
