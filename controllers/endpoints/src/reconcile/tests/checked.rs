//! Checks as a reconcile asks for them.

use std::{future::ready, net::SocketAddr};

use futures::FutureExt;
use mainstay_probe::{Check, Failure, Outcome};
use mainstay_runtime::solo::Beat;
use tokio_util::sync::CancellationToken;

use super::*;

/// Has all checks answered so, by the port, and notes who is asked.
pub(super) fn answers(
    endpoints: &mut Arc<Endpoints>,
    passes: impl Fn(u16) -> bool + Send + Sync + 'static,
) -> Arc<Mutex<Vec<SocketAddr>>> {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&asked);
    let ask = move |_: Arc<Check>, address: SocketAddr| {
        log.lock().push(address);
        let result = if passes(address.port()) { Ok(()) } else { Err(Failure::Refused) };
        ready(Outcome { took: Duration::ZERO, result }).boxed()
    };
    let checker = Checker::new(ask, 4, CheckMetrics::new(&Registry::new()), endpoints.clock, |_| {});
    Arc::get_mut(endpoints).unwrap().checker = Arc::new(checker);
    asked
}

/// Makes the checks that are due within three seconds.
pub(super) async fn check(endpoints: &Endpoints) {
    let (beat, shutdown) = (Beat::new("checks"), CancellationToken::new());
    let checking = endpoints.checker.run(&beat, shutdown);
    tokio::time::timeout(Duration::from_secs(3), checking).await.unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn two_pods_on_the_network_of_one_node_have_each_their_own_verdict() {
    let (mut endpoints, sent) = endpoints("nothing");
    answers(&mut endpoints, |port| port == 8080);
    let mut named = service();
    named["spec"]["ports"][0]["targetPort"] = json!("http");
    let service: Service = serde_json::from_value::<WatchedService>(named).unwrap().into();
    endpoints.stores.services.apply(Event::Apply(service), |_| {});
    let node: WatchedNode = serde_json::from_value(json!({"metadata": {"name": "n"}})).unwrap();
    endpoints.stores.nodes.apply(Event::Apply(node.into()), |_| {});
    for (name, port) in [("one", 8080), ("two", 8081)] {
        let pod: WatchedPod = serde_json::from_value(json!({
            "metadata": {"name": name, "namespace": "ns", "uid": name, "labels": {"app": "web"}},
            "spec": {"nodeName": "n", "hostNetwork": true,
                "containers": [{"ports": [{"name": "http", "containerPort": port}]}]},
            "status": {"phase": "Running", "podIPs": [{"ip": "10.0.0.1"}],
                "conditions": [{"type": "Ready", "status": "True"}]},
        }))
        .unwrap();
        endpoints.stores.pods.apply(Event::Apply(Pod::slim(pod, &mut LabelPool::default())), |_| {});
    }
    let mut pool = EndpointPool::clone(&pool());
    pool.spec.service_ref.create = None;
    pool.spec.members =
        serde_json::from_value(json!([{"name": "pods", "podSelector": {"matchLabels": {"app": "web"}}}]))
            .unwrap();
    pool.spec.check = serde_json::from_value(json!({"type": "TCP", "failureThreshold": 1})).unwrap();
    let pool = Arc::new(pool);
    Arc::clone(&endpoints).reconcile(Arc::clone(&pool), Turn::default()).await;
    check(&endpoints).await;
    sent.lock().clear();
    endpoints.writer.forget(&ObjectKey::new("ns", "pool"));
    Arc::clone(&endpoints).reconcile(pool, Turn::default()).await;
    let sent = sent.lock();
    let slices =
        sent.iter().filter(|(method, path, _)| *method == Method::POST && path.contains("/endpointslices"));
    let mut ready: Vec<_> = slices
        .map(|(_, _, body)| {
            (body["ports"][0]["port"].as_u64(), body["endpoints"][0]["conditions"]["ready"] == true)
        })
        .collect();
    ready.sort_unstable();
    assert_eq!(ready, [(Some(8080), true), (Some(8081), false)], "{sent:?}");
}
