//! What one concern of a pool does to the others when the server refuses it.

use http::{Method, Request, Response};
use kube::{client::Body, runtime::watcher::Event};
use mainstay_probe::Resolver;
use mainstay_runtime::{events::Events, metrics::LoopMetrics};
use prometheus::Registry;
use serde_json::{Value, json};

use super::*;
use crate::{
    checker::CheckMetrics,
    lookups::LookupMetrics,
    names::FIELD_MANAGER,
    watched::{Service, WatchedService},
};

/// Which requests were sent: method and path.
type Sent = Arc<Mutex<Vec<(Method, String)>>>;

fn service() -> Value {
    json!({
        "metadata": {"name": "web", "namespace": "ns", "uid": "service", "resourceVersion": "5",
            "ownerReferences": [{"apiVersion": "mainstay.dev/v1alpha1", "kind": "EndpointPool", "name": "pool", "uid": "pool", "controller": true}]},
        "spec": {"ports": [{"name": "http", "port": 80, "protocol": "TCP"}], "ipFamilies": ["IPv4"]},
    })
}

/// A controller whose server refuses whatever `refuses` says, and stores everything else.
fn endpoints(refuses: &'static str) -> (Arc<Endpoints>, Sent) {
    let sent = Sent::default();
    let log = Arc::clone(&sent);
    let server = tower::service_fn(move |request: Request<Body>| {
        let log = Arc::clone(&log);
        async move {
            let (method, path) = (request.method().clone(), request.uri().path().to_owned());
            log.lock().push((method, path.clone()));
            let mut stored: Value =
                serde_json::from_slice(&request.into_body().collect_bytes().await.unwrap())
                    .unwrap_or_else(|_| json!({"metadata": {}}));
            stored["metadata"]["uid"] = json!("stored");
            stored["metadata"]["resourceVersion"] = json!("9");
            let (code, answer) = if path.contains(refuses) {
                (
                    422,
                    json!({"status": "Failure", "code": 422, "reason": "Invalid", "message": "the port is taken"}),
                )
            } else {
                (200, stored)
            };
            let answer = Response::builder().status(code).body(Body::from(answer.to_string().into_bytes()));
            Ok::<_, std::io::Error>(answer.unwrap())
        }
    });
    let (client, registry, clock) = (Client::new(server, "ns"), Registry::new(), Clock::start());
    let (stores, metrics) = (Stores::new(&registry), Arc::new(Metrics::new(&registry)));
    let service: Service = serde_json::from_value::<WatchedService>(service()).unwrap().into();
    stores.services.apply(Event::Apply(service), |_| {});
    let endpoints = Endpoints {
        client: client.clone(),
        interests: Interests::default(),
        forbidden: Forbidden::default(),
        checker: Arc::new(Checker::new(1, CheckMetrics::new(&registry), clock, |_| {})),
        lookups: Arc::new(Lookups::new(
            Resolver::from_system(),
            LookupMetrics::new(&registry),
            clock,
            |_| {},
        )),
        writer: Writer::new(client.clone(), stores.clone(), Arc::clone(&metrics), 4),
        reports: Arc::new(Reports::new(FIELD_MANAGER, STATUS_PACE)),
        announcer: Announcer::new(Events::start(client, FIELD_MANAGER, "test")),
        stores,
        metrics,
        loop_metrics: LoopMetrics::new(&registry, "endpointpool", 1),
        clock,
        memory: Mutex::default(),
    };
    (Arc::new(endpoints), sent)
}

fn pool() -> Arc<EndpointPool> {
    let port = json!({"name": "http", "port": 80, "nodePort": 30080});
    let spec = json!({
        "serviceRef": {"name": "web", "create": {"spec": {"type": "NodePort", "ports": [port]}}},
        "members": [{"name": "outside", "addresses": [{"ip": "192.0.2.1"}]}],
    });
    let metadata = json!({"name": "pool", "namespace": "ns", "uid": "pool", "generation": 1});
    let pool = json!({
        "apiVersion": "mainstay.dev/v1alpha1", "kind": "EndpointPool", "metadata": metadata, "spec": spec,
    });
    Arc::new(serde_json::from_value(pool).unwrap())
}

fn count(sent: &Sent, part: &str) -> usize {
    sent.lock().iter().filter(|(method, path)| *method != Method::GET && path.contains(part)).count()
}

#[tokio::test]
async fn a_service_that_is_refused_keeps_no_endpoint_from_its_slice() {
    let (endpoints, sent) = endpoints("/services");
    let outcomes = Arc::clone(&endpoints).reconcile(pool(), Turn::new(Vec::new())).await;
    assert!(outcomes.failed());
    assert_eq!((count(&sent, "/services"), count(&sent, "/endpointslices")), (1, 1), "{:?}", sent.lock());
    let status = endpoints.reports.wanted(&ObjectKey::new("ns", "pool")).unwrap();
    let failed = status.conditions.iter().find(|condition| condition.type_ == "ServiceFailed").unwrap();
    assert!(failed.status == "True" && failed.message.contains("the port is taken"), "{failed:?}");

    // While it waits, the slices follow all the same.
    let key = ObjectKey::new("ns", "pool");
    endpoints.writer.forget(&key);
    let held = Turn::new(vec![((SERVICE, None), Duration::from_secs(60))]);
    let outcomes = Arc::clone(&endpoints).reconcile(pool(), held).await;
    assert!(!outcomes.failed());
    assert_eq!((count(&sent, "/services"), count(&sent, "/endpointslices")), (1, 2), "{:?}", sent.lock());
    let status = endpoints.reports.wanted(&key).unwrap();
    assert!(status.conditions.iter().any(|condition| condition.type_ == "ServiceFailed"), "it is still so");
}

#[tokio::test]
async fn slices_that_are_refused_keep_nobody_from_saying_so() {
    let (endpoints, _) = endpoints("/endpointslices");
    let outcomes = Arc::clone(&endpoints).reconcile(pool(), Turn::new(Vec::new())).await;
    assert!(outcomes.failed());
    let status = endpoints.reports.wanted(&ObjectKey::new("ns", "pool")).unwrap();
    let kinds: Vec<_> = status.conditions.iter().map(|condition| condition.type_.as_str()).collect();
    assert!(kinds.contains(&"SlicesFailed") && !kinds.contains(&"ServiceFailed"), "{kinds:?}");
}
