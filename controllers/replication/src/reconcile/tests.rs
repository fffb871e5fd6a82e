//! What becomes of revisions when the server refuses a write.

mod refused;

use http::{Method, Request, Response};
use kube::{
    Client,
    client::Body,
    runtime::{reflector, watcher::Event},
};
use mainstay_runtime::events::Events;
use prometheus::Registry;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::{
    apply::REVISIONS,
    metrics::Metrics,
    names::{FIELD_MANAGER, REVISION},
    plan::Share,
    revision::{self, WatchedRevision},
    rollout::Rollout,
};

/// What was sent: the method, the object's name and the body.
type Sent = Arc<Mutex<Vec<(Method, String, Value)>>>;

fn template(image: &str) -> Value {
    json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": image}]}})
}

fn hash(image: &str) -> Arc<str> {
    revision::hash(&serde_json::from_value(template(image)).unwrap())
}

/// A group of this image.
fn group(image: &str) -> ReplicaGroup {
    serde_json::from_value(json!({
        "apiVersion": "mainstay.dev/v1alpha1", "kind": "ReplicaGroup",
        "metadata": {"name": "web", "namespace": "ns", "uid": "u", "generation": 1},
        "spec": {"selector": {"matchLabels": {"app": "web"}}, "template": template(image), "revisionHistoryLimit": 0},
    }))
    .unwrap()
}

fn owner(name: &str, uid: &str) -> Value {
    json!([{"apiVersion": "mainstay.dev/v1alpha1", "kind": "ReplicaGroup", "name": name, "uid": uid, "controller": true}])
}

/// A revision of this image, and of the group whose owner reference it has.
fn stored(image: &str, number: i64, owners: &Value) -> Value {
    let name = revision::name("web", &hash(image));
    json!({
        "metadata": {
            "name": name, "namespace": "ns", "uid": name, "resourceVersion": "1",
            "labels": {REVISION: &*hash(image)}, "ownerReferences": owners,
        },
        "data": {"spec": {"template": template(image)}}, "revision": number,
    })
}

/// A controller of a group with these revisions of its own. The server has `stands` where a revision is to be made, and answers
/// to a patch with this code.
fn controller(own: &[(&str, i64)], stands: Option<Value>, patched: u16) -> (Replication, Sent) {
    let sent = Sent::default();
    let noted = Arc::clone(&sent);
    let server = tower::service_fn(move |request: Request<Body>| {
        let (noted, stands) = (Arc::clone(&noted), stands.clone());
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect_bytes().await.unwrap();
            let name = head.uri.path().rsplit('/').next().unwrap_or_default().to_owned();
            if head.method != Method::GET {
                noted.lock().push((head.method.clone(), name, serde_json::from_slice(&body).unwrap()));
            }
            let refusal = |code, reason| {
                (code, json!({"status": "Failure", "code": code, "reason": reason, "message": "no"}))
            };
            let made = json!({"metadata": {"name": "made", "uid": "made", "resourceVersion": "9"}});
            let (code, answer) = match (head.method, stands) {
                (Method::POST, Some(_)) => refusal(409, "AlreadyExists"),
                (Method::GET, Some(stands)) => (200, stands),
                (Method::PATCH, _) if patched != 200 => refusal(patched, "Forbidden"),
                _ => (200, made),
            };
            let answer = Response::builder().status(code).body(Body::from(answer.to_string().into_bytes()));
            Ok::<_, std::io::Error>(answer.unwrap())
        }
    });
    (built(Client::new(server, "ns"), own).0, sent)
}

/// A controller of a group with these revisions of its own, and the store of groups.
fn built(client: Client, own: &[(&str, i64)]) -> (Replication, reflector::store::Writer<ReplicaGroup>) {
    let (stores, registry) = (Stores::default(), Registry::new());
    for (image, number) in own {
        let revision: WatchedRevision =
            serde_json::from_value(stored(image, *number, &owner("web", "u"))).unwrap();
        stores.revisions.apply(Event::Apply(revision.into()), |_| {});
    }
    let (groups, group_writer) = reflector::store();
    let writer = Writer::new(client.clone(), stores.clone(), groups.clone(), 1, CancellationToken::new());
    let replication = Replication {
        stores,
        groups,
        writer,
        status_writer: Arc::new(StatusWriter::new(client.clone(), FIELD_MANAGER, STATUS_PACE)),
        announcer: Announcer {
            events: Events::start(client, FIELD_MANAGER, "test"),
            metrics: Metrics::new(&registry),
        },
        metrics: LoopMetrics::new(&registry, "replicagroup", 1),
        memory: Mutex::default(),
        unsure: Backoff::new(ASK_AGAIN),
        clock: Clock::start(),
    };
    (replication, group_writer)
}

fn observe(replication: &Replication, group: &ReplicaGroup) -> Observed {
    replication.observe(group, &Turn::default(), &mut Outcomes::default()).unwrap()
}

/// Whether the template of this image is kept, what failed, and what was sent for it.
async fn kept(replication: &Replication, image: &str) -> (bool, Outcomes) {
    let group = group(image);
    let observed = observe(replication, &group);
    let mut outcomes = Outcomes::default();
    let stored = replication.keep_revision(&group, &observed, &Turn::default(), &mut outcomes).await;
    (stored, outcomes)
}

#[tokio::test]
async fn the_way_back_to_a_kept_template_does_not_wait_for_its_new_number() {
    let (replication, sent) = controller(&[("a", 1), ("b", 2)], None, 403);
    let (stored, outcomes) = kept(&replication, "a").await;
    let numbers: Vec<_> = sent.lock().iter().map(|(_, _, body)| body["revision"].clone()).collect();
    assert_eq!(numbers, [json!(3)]);
    assert!(stored, "the template is there, whatever its number");
    assert!(outcomes.failed() && !outcomes.has_failed(REVISIONS));
}

#[tokio::test]
async fn of_two_revisions_of_one_number_the_one_that_is_wanted_gets_the_next() {
    let (replication, sent) = controller(&[("a", 2), ("b", 2)], None, 200);
    assert!(kept(&replication, "a").await.0);
    let numbers: Vec<_> = sent.lock().iter().map(|(_, _, body)| body["revision"].clone()).collect();
    assert_eq!(numbers, [json!(3)]);
}

#[tokio::test]
async fn what_a_group_of_the_same_name_left_behind_is_waited_for_without_an_error() {
    let (replication, _) = controller(&[], Some(stored("a", 1, &owner("web", "old"))), 200);
    let (stored, outcomes) = kept(&replication, "a").await;
    assert_eq!((stored, outcomes.failed(), outcomes.due), (false, false, Some(RECHECK)));
    let (replication, _) = controller(&[], Some(stored_of_another()), 200);
    let (stored, outcomes) = kept(&replication, "a").await;
    assert_eq!((stored, outcomes.has_failed(REVISIONS)), (false, true));
}

fn stored_of_another() -> Value {
    stored("a", 1, &owner("other", "old"))
}

#[tokio::test]
async fn a_revision_that_is_taken_over_gets_the_next_number() {
    let (replication, sent) = controller(&[("b", 4)], Some(stored("a", 1, &json!([]))), 200);
    assert!(kept(&replication, "a").await.0);
    let sent = sent.lock();
    let (method, _, body) = sent.last().unwrap();
    assert_eq!((method, &body["revision"]), (&Method::PATCH, &json!(5)));
}

#[tokio::test]
async fn a_revision_that_a_paused_rollout_holds_is_not_removed() {
    let (replication, sent) = controller(&[("a", 1), ("b", 2), ("c", 3)], None, 200);
    let group = group("c");
    let observed = observe(&replication, &group);
    let held = vec![Share { revision: hash("b"), replicas: 1 }];
    let now = Timestamp::UNIX_EPOCH;
    let rollout = json!({
        "revision": revision::name("web", &hash("c")), "startedAt": now, "progressedAt": now,
        "held": [{"revision": revision::name("web", &hash("b")), "replicas": 1}],
    });
    let status = ReplicaGroupStatus {
        rollout: serde_json::from_value(rollout).unwrap(),
        ..ReplicaGroupStatus::default()
    };
    let state = State::read(&group, &status);
    assert_eq!(state.rollout.as_ref().map(|rollout: &Rollout| &rollout.held), Some(&held));
    let old = observed.superseded(&group, &state);
    replication.writer.prune_revisions(&old).await.unwrap();
    let removed: Vec<_> = sent.lock().iter().map(|(_, name, _)| name.clone()).collect();
    assert_eq!(removed, [revision::name("web", &hash("a"))]);
}
