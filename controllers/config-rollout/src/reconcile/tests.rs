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

fn rollout(targets: &[&str]) -> Value {
    let targets: Vec<_> = targets.iter().map(|name| json!({"kind": "Deployment", "name": name})).collect();
    json!({
        "apiVersion": "mainstay.dev/v1alpha1", "kind": "ConfigRollout",
        "metadata": {"name": "web", "namespace": "ns", "uid": "r", "generation": 1, "resourceVersion": "2"},
        "spec": {
            "mode": "Repoint",
            "debounce": "0s",
            "sources": [{"kind": "ConfigMap", "name": "web"}],
            "stages": [{"name": "all", "targets": targets}],
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

fn target(name: &str) -> Value {
    json!({
        "metadata": {"name": name, "namespace": "ns", "uid": name, "resourceVersion": "1", "generation": 1},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"app": name}}, "template": {"spec": {"containers": [
            {"name": "app", "envFrom": [{"configMapRef": {"name": "web"}}]},
        ]}}},
    })
}

/// How the server answers.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Server {
    /// It creates the revision without an answer, and the watch shows it when the server is asked for it.
    LosesAnswers,
    /// It creates the revision, which the watch shows at once, and refuses to change the target `a`.
    RefusesA,
    /// It does not list the pods of the target `a`.
    HidesPodsOfA,
}

/// A controller of a rollout with these targets.
fn reconciler(how: Server, targets: &'static [&'static str]) -> (Arc<ConfigRollouts>, Sent) {
    let (sent, registry) = (Sent::default(), Registry::new());
    let stores = Stores::new(&registry);
    let (log, shows) = (Arc::clone(&sent), stores.clone());
    let made = Arc::new(Mutex::new(None::<Value>));
    let server = tower::service_fn(move |request: Request<Body>| {
        let (log, shows, made) = (Arc::clone(&log), shows.clone(), Arc::clone(&made));
        async move {
            let (method, path) = (request.method().clone(), request.uri().path().to_owned());
            let is_of_a = request.uri().query().is_some_and(|query| query.contains("app%3Da"));
            log.lock().push((method.clone(), path.clone()));
            let body = request.into_body().collect_bytes().await.unwrap();
            let (mut code, name) = (200, path.rsplit('/').next().unwrap_or_default());
            let answer = match method {
                Method::POST if name == "configmaps" => {
                    let mut object: Value = serde_json::from_slice(&body).unwrap();
                    object["metadata"]["uid"] = json!("made");
                    object["metadata"]["resourceVersion"] = json!("4");
                    made.lock().get_or_insert(object.clone());
                    if how == Server::LosesAnswers {
                        return Err(std::io::Error::other("the connection breaks"));
                    }
                    shows.config_maps.apply(shown(&object), |_| {});
                    object
                }
                Method::PATCH if path.contains("/deployments/") && name == "a" && how == Server::RefusesA => {
                    code = 403;
                    json!({"status": "Failure", "code": 403, "reason": "Forbidden", "message": "a policy says no"})
                }
                _ if path.contains("/deployments/") => target(name),
                Method::GET if name == "pods" && is_of_a && how == Server::HidesPodsOfA => {
                    code = 403;
                    json!({"status": "Failure", "code": 403, "reason": "Forbidden", "message": "not the pods of a"})
                }
                Method::GET if name == "web" => source(),
                Method::GET if ["pods", "replicasets", "controllerrevisions"].contains(&name) => {
                    json!({"metadata": {}, "items": []})
                }
                Method::GET => {
                    let made = made.lock().clone().unwrap();
                    shows.config_maps.apply(shown(&made), |_| {});
                    made
                }
                _ => {
                    let mut written = rollout(targets);
                    written["metadata"]["resourceVersion"] = "9".into();
                    written
                }
            };
            let answer = Response::builder().status(code).body(Body::from(answer.to_string().into_bytes()));
            Ok::<_, std::io::Error>(answer.unwrap())
        }
    });
    let client = Client::new(server, "ns");
    stores.config_maps.apply(shown(&source()), |_| {});
    for name in targets {
        let target: WatchedWorkload<Deployment> = serde_json::from_value(target(name)).unwrap();
        stores.deployments.apply(Event::Apply(target.into()), |_| {});
    }
    let reconciler = ConfigRollouts {
        client: client.clone(),
        writer: Writer::new(client.clone(), stores.clone()),
        stores,
        status_writer: Arc::new(StatusWriter::new(client.clone(), FIELD_MANAGER, STATUS_PACE)),
        announcer: Announcer {
            events: Events::start(client, FIELD_MANAGER, "test"),
            metrics: Metrics::new(&registry),
        },
        slots: Slots::new(1),
        work: Work::new(LoopMetrics::new(&registry, "configrollout", 1)),
        max_in_flight: 1,
        admits: true,
        memory: Memories::default(),
        probes: Probes::default(),
    };
    (Arc::new(reconciler), sent)
}

fn count(sent: &Sent, method: &Method, end: &str) -> usize {
    sent.lock().iter().filter(|(sent, path)| sent == method && path.ends_with(end)).count()
}

#[tokio::test(start_paused = true)]
async fn a_revision_that_the_store_shows_while_the_server_is_asked_for_it_is_not_made_twice() {
    let (reconciler, sent) = reconciler(Server::LosesAnswers, &["web"]);
    let rollout: Arc<ConfigRollout> = Arc::new(serde_json::from_value(rollout(&["web"])).unwrap());
    for _ in 0..3 {
        Arc::clone(&reconciler).reconcile(Arc::clone(&rollout), Turn::default()).await;
    }
    assert_eq!(count(&sent, &Method::POST, "/configmaps"), 1, "{:?}", sent.lock());
}

#[tokio::test(start_paused = true)]
async fn a_target_that_is_refused_keeps_no_other_from_its_revision_and_is_named_until_it_has_it() {
    let (reconciler, sent) = reconciler(Server::RefusesA, &["a", "b"]);
    let rollout: Arc<ConfigRollout> = Arc::new(serde_json::from_value(rollout(&["a", "b"])).unwrap());
    let (work, key) = (Arc::clone(&reconciler.work), ObjectKey::of(&*rollout));
    work.root_changed(None, Some(&*rollout), |_| false);
    let tried = || ["a", "b"].map(|name| count(&sent, &Method::PATCH, &format!("/deployments/{name}")));
    // One target at a time: the one that is refused gives its place to the other.
    for expected in [[0, 0], [1, 0], [1, 1]] {
        let outcomes = Arc::clone(&reconciler).reconcile(Arc::clone(&rollout), work.turn(&key)).await;
        work.conclude(&key, Duration::ZERO, outcomes);
        assert_eq!(tried(), expected, "{:?}", sent.lock());
        if expected == [0, 0] {
            continue;
        }
        let status = reconciler.status_writer.ahead_of(&*rollout).unwrap();
        let failed = status.conditions.iter().find(|condition| condition.type_ == "TargetsFailed").unwrap();
        assert!(
            failed.message.contains("Deployment/a") && failed.message.contains("a policy says no"),
            "{failed:?}"
        );
    }
}

/// Revision 2 is being rolled out to `a`, and `b` waits for it.
fn in_progress(reconciler: &ConfigRollouts, name_of_a: &str) -> Value {
    for (number, version) in [(1, "1"), (2, "3")] {
        let mark = crate::watched::Mark {
            rollout: "web".into(),
            source: "web".into(),
            number,
            source_uid: "s".into(),
            source_version: version.into(),
        };
        let mut metadata = json!(mark.write("ns"));
        (metadata["uid"], metadata["resourceVersion"]) = (json!(format!("web-{number}")), json!("4"));
        reconciler.stores.config_maps.apply(shown(&json!({"metadata": metadata})), |_| {});
    }
    for (name, config) in [("a", name_of_a), ("b", "web-1")] {
        let mut target = target(name);
        target["spec"]["template"]["spec"]["containers"][0]["envFrom"][0]["configMapRef"]["name"] =
            config.into();
        let target: WatchedWorkload<Deployment> = serde_json::from_value(target).unwrap();
        reconciler.stores.deployments.apply(Event::Apply(target.into()), |_| {});
    }
    let now = Timestamp::now();
    let state = |name: &str, revision: u8| json!({"kind": "Deployment", "name": name, "uid": name, "stage": "all", "revision": revision, "state": "Pending"});
    let mut targets = json!([state("a", 1), state("b", 1)]);
    if name_of_a == "web-2" {
        (targets[0]["revision"], targets[0]["changedAt"]) = (json!(2), json!(now.to_string()));
    }
    let mut rollout = rollout(&["a", "b"]);
    rollout["status"] = json!({
        "observedGeneration": 1, "revision": 2, "currentRevision": 1, "targets": targets,
        "rollout": {"revision": 2, "stage": "all", "startedAt": now.to_string()},
    });
    rollout
}

/// Reconciles so often.
async fn reconcile(reconciler: &Arc<ConfigRollouts>, rollout: Value, times: usize) -> ConfigRolloutStatus {
    let rollout: Arc<ConfigRollout> = Arc::new(serde_json::from_value(rollout).unwrap());
    let (work, key) = (Arc::clone(&reconciler.work), ObjectKey::of(&*rollout));
    work.root_changed(None, Some(&*rollout), |_| false);
    for _ in 0..times {
        let outcomes = Arc::clone(reconciler).reconcile(Arc::clone(&rollout), work.turn(&key)).await;
        work.conclude(&key, Duration::ZERO, outcomes);
    }
    reconciler.status_writer.ahead_of(&*rollout).unwrap()
}

#[tokio::test(start_paused = true)]
async fn pods_that_cannot_be_listed_keep_no_order_from_being_carried_out() {
    let (reconciler, sent) = reconciler(Server::HidesPodsOfA, &["a", "b"]);
    let mut rollout = in_progress(&reconciler, "web-2");
    rollout["metadata"]["annotations"] = json!({"mainstay.dev/abort": "2"});
    let status = reconcile(&reconciler, rollout, 3).await;
    assert_eq!(status.failed_revision, Some(2), "{status:?}");
    assert!(count(&sent, &Method::PATCH, "/deployments/a") > 0, "it is rolled back: {:?}", sent.lock());
}

#[tokio::test(start_paused = true)]
async fn a_target_whose_pods_cannot_be_listed_waits_alone() {
    // The store does not show a change that was made, so that a second reconcile would take it for taken back.
    for (name_of_a, times) in [("web-1", 1), ("web-2", 3)] {
        let (mut reconciler, sent) = reconciler(Server::HidesPodsOfA, &["a", "b"]);
        Arc::get_mut(&mut reconciler).unwrap().slots = Slots::new(2);
        let rollout = in_progress(&reconciler, name_of_a);
        let status = reconcile(&reconciler, rollout, times).await;
        let tried = ["a", "b"].map(|name| count(&sent, &Method::PATCH, &format!("/deployments/{name}")));
        assert_eq!((tried, status.failed_revision), ([0, 1], None), "{name_of_a}: {:?}", sent.lock());
        let failed = status.conditions.iter().find(|condition| condition.type_ == "EvidenceFailed");
        let failed = failed.unwrap_or_else(|| panic!("{name_of_a}: {status:?}"));
        assert!(failed.message.contains("the pods of Deployment/a"), "{failed:?}");
        assert!(count(&sent, &Method::GET, "/pods") < 6, "it is not asked again at once: {:?}", sent.lock());
    }
}

/// The answer of the write that made it so may have been lost.
#[tokio::test(start_paused = true)]
async fn the_generation_that_the_store_shows_as_answered_is_the_last_one() {
    let (reconciler, _) = reconciler(Server::RefusesA, &["a"]);
    let first: Arc<ConfigRollout> = Arc::new(serde_json::from_value(rollout(&["a"])).unwrap());
    let answers =
        |observed_generation| ConfigRolloutStatus { observed_generation, ..ConfigRolloutStatus::default() };
    reconciler.status_writer.record(&*first, None, answers(1), |_, _| true).await.unwrap();
    assert_eq!(reconciler.answers(&first), Some(1), "the store is behind");
    let mut shown = ConfigRollout::clone(&first);
    (shown.metadata.generation, shown.metadata.resource_version) = (Some(2), Some("12".to_owned()));
    shown.status = Some(answers(2));
    assert_eq!(reconciler.answers(&shown), Some(2));
}
