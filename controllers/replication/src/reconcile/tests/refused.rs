//! What of a group goes on while the server refuses some of its writes.

use mainstay_runtime::{labels::LabelPool, metrics::LoopMetrics, reconcile::Work};

use super::*;
use crate::{plan::Claim, pod::Pod};

/// A running pod of this image; an orphan without an owner.
fn pod(name: &str, image: &str, owners: &Value) -> Value {
    json!({
        "metadata": {
            "name": name, "namespace": "ns", "uid": name, "resourceVersion": "1", "ownerReferences": owners,
            "labels": {"app": "web", REVISION: &*hash(image)}, "creationTimestamp": "2026-01-01T00:00:00Z",
        },
        "spec": {},
        "status": {"phase": "Running", "conditions": [
            {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"},
        ]},
    })
}

/// A group of so many pods and of this image, of which all were once of revision a.
fn complete(replicas: i32, image: &str) -> ReplicaGroup {
    let mut group = group(image);
    group.metadata.resource_version = Some("1".to_owned());
    group.spec.replicas = replicas;
    let current_revision = Some(revision::name("web", &hash("a")));
    group.status = Some(ReplicaGroupStatus { current_revision, ..ReplicaGroupStatus::default() });
    group
}

/// A controller of this group and these pods. The server answers writes to paths with this in them with this reason.
fn serving(
    group: &ReplicaGroup,
    pods: &[Value],
    (refused, reason): (&'static str, &'static str),
) -> (Replication, Sent) {
    let sent = Sent::default();
    let (noted, shown) = (Arc::clone(&sent), serde_json::to_value(group).unwrap());
    let list = json!({"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": {}, "items": pods});
    let server = tower::service_fn(move |request: Request<Body>| {
        let (noted, shown, list) = (Arc::clone(&noted), shown.clone(), list.clone());
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect_bytes().await.unwrap();
            let path = head.uri.path().to_owned();
            let forbids = head.method != Method::GET && path.contains(refused);
            let made = json!({"metadata": {"name": "made", "uid": "made", "resourceVersion": "9"}});
            let (code, answer) = match head.method {
                Method::GET if path.ends_with("/pods") => (200, list),
                Method::GET => (200, shown),
                _ if forbids => {
                    let code = if reason == "NotFound" { 404 } else { 403 };
                    (code, json!({"status": "Failure", "code": code, "reason": reason, "message": "no"}))
                }
                _ => (200, made),
            };
            if head.method != Method::GET && !path.contains("/events") {
                noted.lock().push((head.method, path, serde_json::from_slice(&body).unwrap_or_default()));
            }
            let answer = Response::builder().status(code).body(Body::from(answer.to_string().into_bytes()));
            Ok::<_, std::io::Error>(answer.unwrap())
        }
    });
    let (replication, mut groups) = built(Client::new(server, "ns"), &[("a", 1), ("b", 2)]);
    groups.apply_watcher_event(&Event::Apply(group.clone()));
    for pod in pods {
        let pod = Pod::slim(serde_json::from_value(pod.clone()).unwrap(), &mut LabelPool::default());
        replication.stores.pods.apply(Event::Apply(pod), |_| {});
    }
    (replication, sent)
}

#[tokio::test]
async fn lost_pods_come_back_while_the_status_cannot_be_written() {
    let group = complete(3, "b");
    let pods = ["web-1", "web-2"].map(|name| pod(name, "a", &owner("web", "u")));
    let (replication, sent) = serving(&group, &pods, ("/status", "Forbidden"));
    let mut outcomes = Outcomes::default();
    replication.pass(&group, &Turn::default(), &mut outcomes).await;
    assert!(outcomes.has_failed(STATUS), "{outcomes:?}");
    let sent = sent.lock();
    let of = |wanted| sent.iter().filter(move |(method, ..)| *method == wanted);
    let made: Vec<_> = of(Method::POST).map(|(_, _, body)| &body["metadata"]["labels"][REVISION]).collect();
    assert_eq!(made, [&*hash("a")], "of what they were, as the change cannot be noted: {sent:?}");
    assert_eq!(of(Method::DELETE).count(), 0, "{sent:?}");
}

#[tokio::test]
async fn an_orphan_that_may_not_be_adopted_is_none_of_the_groups_pods() {
    let group = complete(1, "a");
    let own = ["web-1", "web-2"].map(|name| pod(name, "a", &owner("web", "u")));
    let pods = [&own[..], &[pod("orphan", "a", &json!([]))]].concat();
    let (replication, _) = serving(&group, &pods, ("/orphan", "Forbidden"));
    let mut outcomes = Outcomes::default();
    replication.pass(&group, &Turn::default(), &mut outcomes).await;
    assert!(outcomes.refused(ADOPTION, "orphan"), "{outcomes:?}");
    let observed = replication.observe(&group, &Turn::default(), &mut outcomes).unwrap();
    let foreign = observed.pods().filter(|(_, claim)| *claim == Claim::Foreign);
    let foreign: Vec<_> = foreign.map(|(pod, _)| &*pod.header.key.name).collect();
    assert_eq!(foreign, ["orphan"]);
    let plan = replication.assess(&group, &observed, Timestamp::now(), false).plan;
    assert_eq!((plan.adopt.len(), plan.delete.len(), plan.counts.active), (0, 1, 2));
}

#[tokio::test(start_paused = true)]
async fn an_orphan_whose_adoption_is_tried_again_keeps_nothing_else_from_being_done() {
    let group = complete(1, "a");
    let own = ["web-1", "web-2"].map(|name| pod(name, "a", &owner("web", "u")));
    let pods = [&own[..], &[pod("orphan", "a", &json!([]))]].concat();
    let (replication, sent) = serving(&group, &pods, ("/orphan", "Forbidden"));
    let work = Work::new(LoopMetrics::new(&Registry::new(), "replicagroup", 1));
    work.root_changed(None, Some(&group), |_| false);
    let key = ObjectKey::of(&group);
    let mut deleted = Vec::new();
    for _ in 0..2 {
        sent.lock().clear();
        let mut outcomes = Outcomes::default();
        replication.pass(&group, &work.turn(&key), &mut outcomes).await;
        work.conclude(&key, Duration::ZERO, outcomes);
        let of = |wanted: Method, name: &str| {
            sent.lock().iter().filter(|(method, path, _)| *method == wanted && path.contains(name)).count()
        };
        assert_eq!(of(Method::PATCH, "/orphan"), 1, "{:?}", sent.lock());
        deleted.push(of(Method::DELETE, "/pods/web-"));
        // The next one is that in which it is due.
        tokio::time::advance(Duration::from_secs(60)).await;
    }
    assert_eq!(deleted, [0, 1]);
}

#[tokio::test]
async fn no_pod_is_made_for_a_group_that_turns_out_to_be_gone() {
    let mut group = complete(3, "a");
    group.spec.lifecycle =
        serde_json::from_value(json!({"preDelete": {"finalizer": "example.com/drain"}})).unwrap();
    let (replication, sent) = serving(&group, &[], ("/replicagroups/web", "NotFound"));
    replication.pass(&group, &Turn::default(), &mut Outcomes::default()).await;
    let sent = sent.lock();
    assert!(sent.iter().any(|(_, path, _)| path.ends_with("/replicagroups/web")), "{sent:?}");
    assert!(
        !sent.iter().any(|(method, path, _)| *method == Method::POST && path.ends_with("/pods")),
        "{sent:?}"
    );
}
