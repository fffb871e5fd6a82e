//! What checks do to traffic.

use std::time::Duration;

use mainstay_crds::EndpointPoolStatus;
use mainstay_e2e::{
    Component::Endpoints, Connection, DRAINING, OUT, STANDBY, Scenario, Traffic, USED, client, cluster_ip,
    eventually, is_local, pool, within,
};
use serde_json::json;

#[tokio::test]
async fn traffic_leaves_a_server_that_fails_its_check_and_stays_ready_and_returns_to_it() {
    let scenario = Scenario::start("leaves", &[Endpoints]).await;
    client(&scenario).await;
    let (first, second) = (scenario.server("a", "web").await, scenario.server("b", "web").await);
    let web = scenario.create(&pool("web").pods("web", 0).checked()).await;
    web.has(&[(&first, USED), (&second, USED)]).await;
    let traffic = Traffic::through(&scenario, "web").await;
    scenario.serving("a", false).await;
    web.has(&[(&first, OUT), (&second, USED)]).await;
    let failing = |status: &EndpointPoolStatus| status.out.iter().any(|out| out.reason == "CheckFailed");
    let status = web.until("says why it is out", failing).await;
    let out = &status.out[0];
    assert_eq!(
        (out.address.as_str(), out.set.as_str(), out.reason.as_str()),
        (first.as_str(), "web", "CheckFailed")
    );
    assert_eq!(out.name.as_deref(), Some("a"));
    assert!(out.message.as_deref().is_some_and(|text| text.contains("NOT_SERVING")), "{out:?}");
    traffic.only("b").await;
    scenario.serving("a", true).await;
    web.has(&[(&first, USED), (&second, USED)]).await;
    traffic.also("a").await;
    assert!(traffic.end().await > 0, "no request was lost on the way");
}

#[tokio::test]
async fn an_address_outside_dies_and_returns() {
    let scenario = Scenario::start("outside", &[Endpoints]).await;
    client(&scenario).await;
    // To the pool they are mere addresses; that they are pods lets the test end their servers.
    let (first, second) = (scenario.server("a", "other").await, scenario.server("b", "other").await);
    let draft = pool("web").addresses("outside", &[first.clone(), second.clone()]).checked();
    let web = scenario.create(&draft.with("spec.check.type", "TCP").with("spec.check.port", 8080)).await;
    web.has(&[(&first, USED), (&second, USED)]).await;
    let traffic = Traffic::through(&scenario, "web").await;

    // A container that ends again and again is started ever later. It is ended until the other one alone is asked: on a busy
    // machine it may serve again before kube-proxy has heard that it was taken out.
    within(Duration::from_secs(180), "the address is taken out, and only b answers", async || {
        scenario.end_server("a", 8080).await;
        let endpoints = web.endpoints().await;
        let is_out = endpoints.get(&first) == Some(&OUT);
        if is_out { traffic.is_only("b") } else { Err(format!("{endpoints:?}")) }
    })
    .await;
    within(Duration::from_secs(180), "the address is back", async || {
        let endpoints = web.endpoints().await;
        (endpoints.get(&first) == Some(&USED)).then_some(()).ok_or(format!("{endpoints:?}"))
    })
    .await;
    traffic.also("a").await;
}

#[tokio::test]
async fn checks_of_every_kind_reach_their_servers() {
    let scenario = Scenario::start("kinds", &[Endpoints]).await;
    let address = scenario.server("a", "web").await;
    for (name, check, passes) in [
        ("tcp", json!({"type": "TCP"}), true),
        ("http", json!({"type": "HTTP", "http": {"path": "/hostname"}}), true),
        ("status", json!({"type": "HTTP", "http": {"path": "/echo?msg=no&code=503"}}), false),
        (
            "expected",
            json!({"type": "HTTP", "http": {"path": "/echo?msg=no&code=503", "expectedStatuses": ["503"]}}),
            true,
        ),
        ("grpc", json!({"type": "GRPC", "port": 8090}), true),
        ("plain", json!({"type": "HTTP", "tls": {"serverName": "example.com"}}), false),
        ("nobody", json!({"type": "TCP", "port": 8099}), false),
    ] {
        let draft = pool(name).pods("web", 0).checked().with("spec.panicThreshold", 0).with("spec.check", {
            let mut check = check;
            for key in ["intervalSeconds", "edgeIntervalSeconds", "timeoutSeconds"] {
                check[key] = 1.into();
            }
            check
        });
        let checked = scenario.create(&draft).await;
        checked.has(&[(&address, if passes { USED } else { OUT })]).await;
        if !passes {
            checked.says("Ready", false, "NoneHealthy").await;
        }
    }
}

#[tokio::test]
async fn tiers_take_over_and_give_back_and_panic_uses_what_there_is() {
    let scenario = Scenario::start("tiers", &[Endpoints]).await;
    client(&scenario).await;
    let (first, second) = (scenario.server("a", "main").await, scenario.server("b", "main").await);
    let standby = scenario.server("c", "standby").await;
    let draft = pool("web")
        .pods("main", 0)
        .pods("standby", 1)
        .checked()
        .with("spec.failover", json!({"belowPercent": 60}));
    let web = scenario.create(&draft.with("spec.failover.returnSeconds", 5)).await;
    web.has(&[(&first, USED), (&second, USED), (&standby, STANDBY)]).await;
    let traffic = Traffic::through(&scenario, "web").await;

    scenario.serving("a", false).await;
    web.has(&[(&first, OUT), (&second, STANDBY), (&standby, USED)]).await;
    let sentence = web.says("FailedOver", true, "TierBelowShare").await;
    assert!(sentence.contains("tier 0 has 1 of 2 healthy members"), "{sentence}");
    assert!(web.event("FailedOver").await.starts_with("from tier 0 to tier 1"));
    traffic.only("c").await;

    scenario.serving("a", true).await;
    web.has(&[(&first, USED), (&second, USED), (&standby, STANDBY)]).await;
    web.says("FailedOver", false, "BestTierInUse").await;
    assert!(web.event("TierChanged").await.contains("returned from tier 1"));

    for pod in ["a", "b", "c"] {
        scenario.serving(pod, false).await;
    }
    web.says("Panic", true, "TooFewHealthy").await;
    assert!(web.event("PanicStarted").await.contains("0 of "));
    let kept = [true, false, false];
    eventually("one tier is used whatever its checks say", async || {
        let used: Vec<_> =
            web.endpoints().await.into_values().filter(|conditions| *conditions == kept).collect();
        (!used.is_empty()).then_some(()).ok_or(format!("{used:?}"))
    })
    .await;
    for pod in ["a", "b", "c"] {
        scenario.serving(pod, true).await;
    }
    web.says("Panic", false, "AsExpected").await;
    web.event("PanicEnded").await;
    assert!(traffic.end().await > 0, "no request was lost");
}

#[tokio::test]
async fn who_leaves_is_drained_and_keeps_its_connections() {
    let scenario = Scenario::start("drain", &[Endpoints]).await;
    client(&scenario).await;
    let (first, second) = (scenario.server("a", "web").await, scenario.server("b", "web").await);
    // Long enough for all that is looked at meanwhile, also on a busy machine.
    let web = scenario.create(&pool("web").pods("web", 0).with("spec.drainSeconds", 60)).await;
    web.has(&[(&first, USED), (&second, USED)]).await;
    let traffic = Traffic::through(&scenario, "web").await;
    let mut open = connected_to(&scenario, "a").await;
    scenario.kubectl("label pod a app=left --overwrite").succeeded();
    web.has(&[(&first, DRAINING), (&second, USED)]).await;
    traffic.only("b").await;
    if let Some(open) = &mut open {
        assert_eq!(open.who().await, Ok("a".to_owned()), "a connection that was open goes on");
    }
    web.has(&[(&second, USED)]).await;
    assert!(traffic.end().await > 0, "no request was lost");
}

/// A connection through the Service `web` that ends at this pod; none on a cluster whose addresses are not reached from
/// here.
async fn connected_to(scenario: &Scenario, pod: &str) -> Option<Connection> {
    if !is_local() {
        eprintln!("skipped: the Service is not reached from here");
        return None;
    }
    let address = cluster_ip(scenario, "web");
    let what = format!("a connection to {pod}");
    let connection = eventually(&what, async || {
        let mut connection = Connection::open(&address).await?;
        let who = connection.who().await?;
        if who == pod { Ok(connection) } else { Err(format!("{who} answered")) }
    });
    Some(connection.await)
}
