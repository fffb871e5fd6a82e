//! What one concern of a pool does to the others when the server refuses it.

use http::{Method, Request, Response};
use kube::{client::Body, runtime::watcher::Event};
use mainstay_runtime::{events::Events, labels::LabelPool, metrics::LoopMetrics, reconcile::Work};
use prometheus::Registry;
use serde_json::{Value, json};

use super::*;
use crate::{
    checker::CheckMetrics,
    lookups::LookupMetrics,
    names::{FIELD_MANAGER, MANAGED_BY, MANAGER, POOL},
    network::Network,
    watched::{Pod, Service, WatchedNode, WatchedPod, WatchedService, WatchedSlice},
};

mod checked;
mod followed;
mod frozen;
mod gates;
mod slices;

/// Which requests were sent: method, path and body.
type Sent = Arc<Mutex<Vec<(Method, String, Value)>>>;

fn service() -> Value {
    json!({
        "metadata": {"name": "web", "namespace": "ns", "uid": "service", "resourceVersion": "5",
            "ownerReferences": [{"apiVersion": "mainstay.dev/v1alpha1", "kind": "EndpointPool", "name": "pool", "uid": "pool", "controller": true}]},
        "spec": {"ports": [{"name": "http", "port": 80, "protocol": "TCP"}], "ipFamilies": ["IPv4"]},
    })
}

/// What the server does with a request instead of storing it: a status and an answer, or a connection that breaks.
type Instead = Option<Result<(u16, Value), std::io::Error>>;

fn refusal() -> Instead {
    Some(Ok((
        422,
        json!({"status": "Failure", "code": 422, "reason": "Invalid", "message": "the port is taken"}),
    )))
}

/// A controller whose server refuses whatever has this in its path, and stores everything else.
fn endpoints(refuses: &'static str) -> (Arc<Endpoints>, Sent) {
    endpoints_at(move |_, path, _| if path.contains(refuses) { refusal() } else { None })
}

fn endpoints_at(
    instead: impl Fn(&Method, &str, &Stores) -> Instead + Send + Sync + 'static,
) -> (Arc<Endpoints>, Sent) {
    let (sent, registry) = (Sent::default(), Registry::new());
    let (stores, instead) = (Stores::new(&registry), Arc::new(instead));
    let (log, shown) = (Arc::clone(&sent), stores.clone());
    let server = tower::service_fn(move |request: Request<Body>| {
        let (log, shown, instead) = (Arc::clone(&log), shown.clone(), Arc::clone(&instead));
        async move {
            let (method, path) = (request.method().clone(), request.uri().path().to_owned());
            let mut stored: Value =
                serde_json::from_slice(&request.into_body().collect_bytes().await.unwrap())
                    .unwrap_or_else(|_| json!({"metadata": {}}));
            log.lock().push((method.clone(), path.clone(), stored.clone()));
            stored["metadata"]["uid"] = json!("stored");
            stored["metadata"]["resourceVersion"] = json!("9");
            let (code, answer) = instead(&method, &path, &shown).unwrap_or(Ok((200, stored)))?;
            let answer = Response::builder().status(code).body(Body::from(answer.to_string().into_bytes()));
            Ok::<_, std::io::Error>(answer.unwrap())
        }
    });
    let (client, clock, network) = (Client::new(server, "ns"), Clock::start(), Network::of_host());
    let metrics = Arc::new(Metrics::new(&registry));
    let service: Service = serde_json::from_value::<WatchedService>(service()).unwrap().into();
    stores.services.apply(Event::Apply(service), |_| {});
    let endpoints = Endpoints {
        client: client.clone(),
        interests: Interests::default(),
        forbidden: Forbidden::default(),
        checker: Arc::new(Checker::new(network.check, 1, CheckMetrics::new(&registry), clock, |_| {})),
        lookups: Arc::new(Lookups::new(network.look_up, LookupMetrics::new(&registry), clock, |_| {})),
        writer: Writer::new(client.clone(), stores.clone(), Arc::clone(&metrics), 4),
        status_writer: Arc::new(StatusWriter::new(client.clone(), FIELD_MANAGER, STATUS_PACE)),
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
    sent.lock().iter().filter(|(method, path, _)| *method != Method::GET && path.contains(part)).count()
}

/// A loop that knows the pool.
fn work() -> Arc<Work> {
    let work = Work::new(LoopMetrics::new(&Registry::new(), "endpointpool", 1));
    work.root_changed(None, Some(&*pool()), |_| false);
    work
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_refused_keeps_no_endpoint_from_its_slice() {
    let (endpoints, sent) = endpoints("/services");
    let outcomes = Arc::clone(&endpoints).reconcile(pool(), Turn::default()).await;
    assert!(outcomes.failed());
    assert_eq!((count(&sent, "/services"), count(&sent, "/endpointslices")), (1, 1), "{:?}", sent.lock());
    let status = endpoints.status_writer.ahead_of(&*pool()).unwrap();
    let failed = status.conditions.iter().find(|condition| condition.type_ == "ServiceFailed").unwrap();
    assert!(failed.status == "True" && failed.message.contains("the port is taken"), "{failed:?}");

    // While it waits, the slices follow all the same.
    let key = ObjectKey::new("ns", "pool");
    endpoints.writer.forget(&key);
    let held = next(&work(), outcomes);
    let outcomes = Arc::clone(&endpoints).reconcile(pool(), held).await;
    assert!(!outcomes.failed());
    assert_eq!((count(&sent, "/services"), count(&sent, "/endpointslices")), (1, 2), "{:?}", sent.lock());
    let status = endpoints.status_writer.ahead_of(&*pool()).unwrap();
    assert!(status.conditions.iter().any(|condition| condition.type_ == "ServiceFailed"), "it is still so");
}

#[tokio::test]
async fn slices_that_are_refused_keep_nobody_from_saying_so() {
    let (endpoints, _) = endpoints("/endpointslices");
    let outcomes = Arc::clone(&endpoints).reconcile(pool(), Turn::default()).await;
    assert!(outcomes.failed());
    let status = endpoints.status_writer.ahead_of(&*pool()).unwrap();
    let kinds: Vec<_> = status.conditions.iter().map(|condition| condition.type_.as_str()).collect();
    assert!(kinds.contains(&"SlicesFailed") && !kinds.contains(&"ServiceFailed"), "{kinds:?}");
}

/// What the loop grants the pool's next reconcile after these outcomes.
fn next(work: &Work, outcomes: Outcomes) -> Turn {
    let key = ObjectKey::new("ns", "pool");
    work.conclude(&key, Duration::ZERO, outcomes);
    work.turn(&key)
}

#[tokio::test(start_paused = true)]
async fn a_gate_that_is_refused_is_told_also_while_it_waits_and_until_it_opens() {
    let refuses = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let refused = Arc::clone(&refuses);
    let (endpoints, sent) = endpoints_at(move |_, path, _| {
        let is_refused = path.contains("/pods/") && refused.load(std::sync::atomic::Ordering::SeqCst);
        if is_refused { refusal() } else { None }
    });
    let pod = json!({
        "metadata": {"name": "web-1", "namespace": "ns", "uid": "p", "resourceVersion": "6", "labels": {"app": "web"}},
        "spec": {"nodeName": "n", "readinessGates": [{"conditionType": crate::names::READINESS_GATE}]},
        "status": {"phase": "Running", "podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}],
            "conditions": [{"type": "ContainersReady", "status": "True"}]},
    });
    let node: WatchedNode = serde_json::from_value(json!({"metadata": {"name": "n"}})).unwrap();
    endpoints.stores.nodes.apply(Event::Apply(node.into()), |_| {});
    let pod: WatchedPod = serde_json::from_value(pod).unwrap();
    endpoints.stores.pods.apply(Event::Apply(Pod::slim(pod, &mut LabelPool::default())), |_| {});
    let mut pool = EndpointPool::clone(&pool());
    pool.spec.service_ref.create = None;
    pool.spec.members =
        serde_json::from_value(json!([{"name": "pods", "podSelector": {"matchLabels": {"app": "web"}}}]))
            .unwrap();
    let (pool, key) = (Arc::new(pool), ObjectKey::new("ns", "pool"));
    let work = work();
    let is_told = || {
        let status = endpoints.status_writer.ahead_of(&*pool).unwrap();
        status.conditions.iter().any(|condition| condition.type_ == "ReadinessGatesFailed")
    };
    let outcomes = Arc::clone(&endpoints).reconcile(Arc::clone(&pool), Turn::default()).await;
    assert!(is_told(), "{:?}", sent.lock());
    let held = next(&work, outcomes);
    let outcomes = Arc::clone(&endpoints).reconcile(Arc::clone(&pool), held.clone()).await;
    assert_eq!(count(&sent, "/pods/"), 1, "it waits");
    assert!(is_told(), "nothing has changed");
    work.conclude(&key, Duration::ZERO, outcomes);
    refuses.store(false, std::sync::atomic::Ordering::SeqCst);
    tokio::time::advance(Duration::from_secs(1)).await;
    Arc::clone(&endpoints).reconcile(Arc::clone(&pool), work.turn(&key)).await;
    assert_eq!((count(&sent, "/pods/"), is_told()), (2, false));
}

#[tokio::test(start_paused = true)]
async fn a_slice_whose_create_has_lost_its_answer_is_not_made_twice() {
    let broken = || std::io::Error::other("the connection breaks");
    let (endpoints, sent) = endpoints_at(move |method, path, stores| {
        let name = path.rsplit('/').next().unwrap_or_default();
        match *method {
            Method::POST if path.ends_with("/endpointslices") => Some(Err(broken())),
            // It was made, and the watch shows it just when the server is asked.
            Method::GET if path.contains("/endpointslices/") => {
                let slice = json!({
                    "metadata": {
                        "name": name, "namespace": "ns", "uid": "s", "resourceVersion": "8",
                        "labels": {MANAGED_BY: MANAGER, POOL: "pool", "kubernetes.io/service-name": "web"},
                        "ownerReferences": [{"apiVersion": "mainstay.dev/v1alpha1", "kind": "EndpointPool",
                            "name": "pool", "uid": "pool", "controller": true}],
                    },
                    "addressType": "IPv4",
                    "endpoints": [{"addresses": ["192.0.2.1"],
                        "conditions": {"ready": true, "serving": true, "terminating": false}}],
                    "ports": [{"name": "http", "port": 80, "protocol": "TCP"}],
                });
                let watched: WatchedSlice = serde_json::from_value(slice.clone()).unwrap();
                stores.slices.apply(Event::Apply(watched.into()), |_| {});
                Some(Ok((200, slice)))
            }
            _ => None,
        }
    });
    let mut pool = EndpointPool::clone(&pool());
    pool.spec.service_ref.create = None;
    let pool = Arc::new(pool);
    for _ in 0..2 {
        Arc::clone(&endpoints).reconcile(Arc::clone(&pool), Turn::default()).await;
    }
    let is_create =
        |method: &Method, path: &str| *method == Method::POST && path.ends_with("/endpointslices");
    let creates = sent.lock().iter().filter(|(method, path, _)| is_create(method, path)).count();
    assert_eq!(creates, 1, "{:?}", sent.lock());
}

#[tokio::test]
async fn a_pool_whose_service_cannot_be_created_is_counted_as_not_ready() {
    let (endpoints, _) = endpoints_at(|method, path, _| match *method {
        Method::GET if path.contains("/services/") => Some(Ok((
            404,
            json!({"status": "Failure", "code": 404, "reason": "NotFound", "message": "none"}),
        ))),
        _ if path.contains("/services") => refusal(),
        _ => None,
    });
    let service: Service = serde_json::from_value::<WatchedService>(service()).unwrap().into();
    endpoints.stores.services.apply(Event::Delete(service), |_| {});
    Arc::clone(&endpoints).reconcile(pool(), Turn::default()).await;
    assert_eq!(endpoints.metrics.not_ready("ServiceRefused"), 1);
}

#[tokio::test]
async fn pools_that_serve_nothing_are_counted_by_the_reason() {
    let (endpoints, _) = endpoints("nothing");
    let counted = |reason: &str| endpoints.metrics.not_ready(reason);
    let mut idle = EndpointPool::clone(&pool());
    idle.spec.service_ref.create = None;
    idle.spec.members =
        serde_json::from_value(json!([{"name": "pods", "podSelector": {"matchLabels": {"app": "idle"}}}]))
            .unwrap();
    Arc::clone(&endpoints).reconcile(Arc::new(idle.clone()), Turn::default()).await;
    assert_eq!((counted("NoMembers"), counted("MembersRefused")), (1, 0), "scaled to zero");
    idle.spec.members =
        serde_json::from_value(json!([{"name": "outside", "addresses": [{"ip": "2001:db8::1"}]}])).unwrap();
    idle.metadata.generation = Some(2);
    Arc::clone(&endpoints).reconcile(Arc::new(idle.clone()), Turn::default()).await;
    assert_eq!((counted("NoMembers"), counted("MembersRefused")), (0, 1), "all are refused");
    let mut older = idle.clone();
    older.metadata.name = Some("older".to_owned());
    older.metadata.creation_timestamp = serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap();
    endpoints.interests.set(&older);
    Arc::clone(&endpoints).reconcile(Arc::new(idle), Turn::default()).await;
    assert_eq!((counted("ServiceTaken"), counted("MembersRefused")), (1, 0), "a younger pool is no outage");
}

#[tokio::test(start_paused = true)]
async fn a_service_that_was_written_is_left_alone_until_the_watch_shows_it() {
    let (endpoints, sent) = endpoints_at(|method, path, _| {
        let missing = json!({"status": "Failure", "code": 404, "reason": "NotFound", "message": "none"});
        (*method == Method::GET && path.contains("/services/")).then_some(Ok((404, missing)))
    });
    let at = |version: &str| -> Service {
        let mut service = service();
        service["metadata"]["resourceVersion"] = json!(version);
        serde_json::from_value::<WatchedService>(service).unwrap().into()
    };
    endpoints.stores.services.apply(Event::Delete(at("6")), |_| {});
    let requests = || sent.lock().iter().filter(|(_, path, _)| path.contains("/services")).count();
    for _ in 0..3 {
        Arc::clone(&endpoints).reconcile(pool(), Turn::default()).await;
        assert_eq!(requests(), 2, "it is looked for and made: {:?}", sent.lock());
    }
    endpoints.stores.services.apply(Event::Apply(at("9")), |_| {});
    Arc::clone(&endpoints).reconcile(pool(), Turn::default()).await;
    assert_eq!(requests(), 2);
    endpoints.stores.services.apply(Event::Delete(at("10")), |_| {});
    Arc::clone(&endpoints).reconcile(pool(), Turn::default()).await;
    assert_eq!(requests(), 4, "somebody has deleted it");
}

/// The store does not show it yet.
#[tokio::test(start_paused = true)]
async fn a_service_of_somebody_else_is_left_alone_and_its_own_is_written_again() {
    for (owner, writes) in [("pool", 1), ("other", 0)] {
        let (endpoints, sent) = endpoints_at(move |method, path, _| {
            let found = json!({"metadata": {
                "name": "web", "namespace": "ns", "uid": "s", "resourceVersion": "3",
                "ownerReferences": [{"apiVersion": "v1", "kind": "K", "name": "n", "uid": owner, "controller": true}],
            }});
            (*method == Method::GET && path.contains("/services/")).then_some(Ok((200, found)))
        });
        let service: Service = serde_json::from_value::<WatchedService>(service()).unwrap().into();
        endpoints.stores.services.apply(Event::Delete(service), |_| {});
        Arc::clone(&endpoints).reconcile(pool(), Turn::default()).await;
        assert_eq!(count(&sent, "/services"), writes, "{owner}: {:?}", sent.lock());
    }
}
