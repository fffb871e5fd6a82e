//! What a rollout does when an answer is lost.

use http::{Method, Request, Response};
use k8s_openapi::api::{apps::v1::Deployment, core::v1::ConfigMap};
use kube::{client::Body, runtime::watcher::Event};
use mainstay_runtime::{events::Events, metrics::LoopMetrics, slim::MetadataOf};
use parking_lot::Mutex;
use prometheus::Registry;
use serde_json::{Value, json};

use super::*;
use crate::{metrics::Metrics, names::FIELD_MANAGER, watched::WatchedWorkload};

/// Which requests were sent: method and path.
type Sent = Arc<Mutex<Vec<(Method, String)>>>;

fn rollout() -> Value {
    json!({
        "apiVersion": "mainstay.dev/v1alpha1", "kind": "ConfigRollout",
        "metadata": {"name": "web", "namespace": "ns", "uid": "r", "generation": 1, "resourceVersion": "2"},
        "spec": {
            "debounce": "0s",
            "sources": [{"kind": "ConfigMap", "name": "web"}],
            "stages": [{"name": "all", "targets": [{"kind": "Deployment", "name": "web"}]}],
        },
    })
}

fn source() -> Value {
    json!({
        "metadata": {"name": "web", "namespace": "ns", "uid": "s", "resourceVersion": "3"},
        "data": {"key": "value"},
    })
}

fn shown(object: &Value) -> Event<crate::watched::Config> {
    Event::Apply(serde_json::from_value::<MetadataOf<ConfigMap>>(object.clone()).unwrap().into())
}

/// A controller whose server makes what it is asked to and says nothing, and whose watch shows that when the server is asked.
fn reconciler() -> (Arc<ConfigRollouts>, Sent) {
    let (sent, registry) = (Sent::default(), Registry::new());
    let stores = Stores::new(&registry);
    let (log, shows) = (Arc::clone(&sent), stores.clone());
    let made = Arc::new(Mutex::new(None::<Value>));
    let server = tower::service_fn(move |request: Request<Body>| {
        let (log, shows, made) = (Arc::clone(&log), shows.clone(), Arc::clone(&made));
        async move {
            let (method, path) = (request.method().clone(), request.uri().path().to_owned());
            log.lock().push((method.clone(), path.clone()));
            let body = request.into_body().collect_bytes().await.unwrap();
            let answer = match (&method, path.rsplit('/').next().unwrap_or_default()) {
                (&Method::POST, "configmaps") => {
                    let mut object: Value = serde_json::from_slice(&body).unwrap();
                    object["metadata"]["uid"] = json!("made");
                    object["metadata"]["resourceVersion"] = json!("4");
                    made.lock().get_or_insert(object);
                    return Err(std::io::Error::other("the connection breaks"));
                }
                (&Method::GET, "web") => source(),
                (&Method::GET, _) => {
                    let made = made.lock().clone().unwrap();
                    shows.config_maps.apply(shown(&made), |_| {});
                    made
                }
                _ => rollout(),
            };
            Ok::<_, std::io::Error>(Response::new(Body::from(answer.to_string().into_bytes())))
        }
    });
    let client = Client::new(server, "ns");
    stores.config_maps.apply(shown(&source()), |_| {});
    let target = json!({
        "metadata": {"name": "web", "namespace": "ns", "uid": "d", "resourceVersion": "1", "generation": 1},
        "spec": {"replicas": 1, "template": {"spec": {"containers": [
            {"name": "app", "envFrom": [{"configMapRef": {"name": "web"}}]},
        ]}}},
    });
    let target: WatchedWorkload<Deployment> = serde_json::from_value(target).unwrap();
    stores.deployments.apply(Event::Apply(target.into()), |_| {});
    let reconciler = ConfigRollouts {
        client: client.clone(),
        writer: Writer::new(client.clone(), stores.clone()),
        stores,
        reports: Arc::new(Reports::new(FIELD_MANAGER, STATUS_PACE)),
        announcer: Announcer {
            events: Events::start(client, FIELD_MANAGER, "test"),
            metrics: Metrics::new(&registry),
        },
        slots: Slots::new(1),
        work: Work::new(LoopMetrics::new(&registry, "configrollout", 1)),
        max_in_flight: 1,
        admits: true,
        memory: Memories::default(),
    };
    (Arc::new(reconciler), sent)
}

#[tokio::test(start_paused = true)]
async fn a_revision_that_the_store_shows_while_the_server_is_asked_for_it_is_not_made_twice() {
    let (reconciler, sent) = reconciler();
    let rollout: Arc<ConfigRollout> = Arc::new(serde_json::from_value(rollout()).unwrap());
    for _ in 0..3 {
        Arc::clone(&reconciler).reconcile(Arc::clone(&rollout), Turn::default()).await;
    }
    let is_create =
        |(method, path): &&(Method, String)| *method == Method::POST && path.ends_with("/configmaps");
    let creates = sent.lock().iter().filter(is_create).count();
    assert_eq!(creates, 1, "{:?}", sent.lock());
}
