use http::{Method, Request, Response};
use kube::{Client, client::Body, runtime::watcher::Event};
use mainstay_crds::EndpointPool;
use parking_lot::Mutex;
use prometheus::Registry;
use serde_json::{Value, json};

use super::*;
use crate::{metrics::Metrics, stores::Stores, watched::WatchedSlice};

/// What was put.
type Put = Arc<Mutex<Vec<Value>>>;

/// A writer on a server that has this slice, or none, and changes none of the name `refused`.
fn writer(slice: Option<Value>) -> (Writer, Put) {
    let put = Put::default();
    let log = Arc::clone(&put);
    let service = tower::service_fn(move |request: Request<Body>| {
        let (log, slice) = (Arc::clone(&log), slice.clone());
        async move {
            let method = request.method().clone();
            let is_refused = method == Method::PUT && request.uri().path().ends_with("/refused");
            let body = request.into_body().collect_bytes().await.map_err(std::io::Error::other)?;
            let found = slice.ok_or_else(|| json!({"status": "Failure", "code": 404, "reason": "NotFound"}));
            if is_refused {
                let refusal = json!({"status": "Failure", "code": 403, "reason": "Forbidden"});
                let body = Body::from(refusal.to_string().into_bytes());
                return Ok(Response::builder().status(403).body(body).unwrap());
            }
            if method == Method::PUT {
                log.lock().push(serde_json::from_slice(&body).unwrap());
            }
            let (code, body) = found.map_or_else(|none| (404, none), |found| (200, found));
            let answer = Response::builder().status(code);
            Ok::<_, std::io::Error>(answer.body(Body::from(body.to_string().into_bytes())).unwrap())
        }
    });
    let registry = Registry::new();
    let metrics = Arc::new(Metrics::new(&registry));
    (Writer::new(Client::new(service, "default"), Stores::new(&registry), metrics, 4), put)
}

/// A slice with these labels whose owner has this UID.
fn slice(uid: &str, labels: Value, owner: &str) -> Value {
    let owner =
        json!({"apiVersion": "x", "kind": "EndpointPool", "name": "pool", "uid": owner, "controller": true});
    json!({
        "metadata": {
            "name": "web-a", "namespace": "ns", "uid": uid, "resourceVersion": "7", "labels": labels,
            "ownerReferences": [owner],
        },
        "addressType": "IPv4", "endpoints": [],
    })
}

fn watched(uid: &str, labels: Value) -> Slice {
    serde_json::from_value::<WatchedSlice>(slice(uid, labels, "pool")).unwrap().into()
}

fn pool() -> EndpointPool {
    let metadata = json!({"name": "pool", "namespace": "ns", "uid": "pool"});
    let spec = json!({"serviceRef": {"name": "web"}, "members": []});
    let pool = json!({
        "apiVersion": "mainstay.dev/v1alpha1", "kind": "EndpointPool", "metadata": metadata, "spec": spec,
    });
    serde_json::from_value(pool).unwrap()
}

#[tokio::test]
async fn a_slice_that_has_lost_its_labels_gets_them_back_if_it_is_the_pools() {
    let (key, pool) = (ObjectKey::new("ns", "pool"), pool());
    let job = Job { pool: &pool, key: &key, slices: &[] };
    let theirs = || json!({"kubernetes.io/service-name": "web"});
    for (there, is_put) in [
        (Some(slice("s", theirs(), "pool")), true),
        (Some(slice("s", theirs(), "another")), false),
        (Some(slice("another", theirs(), "pool")), false),
        (None, false),
    ] {
        let (writer, put) = writer(there.clone());
        assert!(!writer.find_lost(&job).await.0, "none is looked for");
        writer.gone(Some(&key), &watched("s", json!({MANAGED_BY: MANAGER, POOL: "pool"})));
        let (found, failed) = writer.find_lost(&job).await;
        assert_eq!((found, failed.map(|error| error.to_string())), (is_put, None), "{there:?}");
        assert_eq!(writer.may_write(&key).await.unwrap(), !is_put, "it is waited for");
        let puts = put.lock().clone();
        assert_eq!(puts.len(), usize::from(is_put));
        for put in puts {
            let labels = json!({"kubernetes.io/service-name": "web", MANAGED_BY: MANAGER, POOL: "pool"});
            let metadata = &put["metadata"];
            assert_eq!((&metadata["labels"], &metadata["resourceVersion"]), (&labels, &json!("7")));
        }
        assert!(!writer.find_lost(&job).await.0, "it is looked for once");
    }
}

#[tokio::test]
async fn a_slice_that_cannot_be_changed_keeps_no_other_waiting_and_is_tried_again() {
    let (key, pool) = (ObjectKey::new("ns", "pool"), pool());
    let job = Job { pool: &pool, key: &key, slices: &[] };
    let (writer, put) = writer(Some(slice("s", json!({}), "pool")));
    for name in ["a", "b", "c", "refused", "d", "e", "f"] {
        let mut lost = slice("s", json!({POOL: "pool"}), "pool");
        lost["metadata"]["name"] = json!(name);
        writer.gone(Some(&key), &serde_json::from_value::<WatchedSlice>(lost).unwrap().into());
    }
    for found in [true, false] {
        let (has_found, failed) = writer.find_lost(&job).await;
        assert_eq!((has_found, put.lock().len()), (found, 6));
        assert!(matches!(failed, Some(ApplyError::Update { slice, .. }) if *slice == *"refused"));
    }
}

#[tokio::test]
async fn a_slice_that_this_process_deletes_is_not_looked_for() {
    let (key, ours) = (ObjectKey::new("ns", "pool"), watched("s", json!({POOL: "pool"})));
    let (writer, _) = writer(None);
    writer.deleted.lock().insert("s".into());
    writer.gone(Some(&key), &ours);
    assert!(writer.lost.lock().is_empty() && writer.deleted.lock().is_empty());
}

#[tokio::test]
async fn what_was_gone_before_it_was_deleted_is_not_remembered() {
    let (key, pool) = (ObjectKey::new("ns", "pool"), pool());
    let job = Job { pool: &pool, key: &key, slices: &[] };
    let (writer, _) = writer(None);
    assert!(writer.delete_one(&job, &watched("s", json!({POOL: "pool"}))).await.unwrap());
    assert!(writer.deleted.lock().is_empty(), "no watch may show that it goes");
}

#[tokio::test]
async fn the_slices_of_a_pool_that_is_gone_are_not_remembered() {
    let (writer, _) = writer(None);
    writer.gone(None, &watched("s", json!({POOL: "pool"})));
    assert!(writer.lost.lock().is_empty());
}

#[test]
fn a_slice_is_that_of_its_owner_whatever_its_labels_say() {
    let stores = Stores::new(&Registry::new());
    for labels in [json!({}), json!({POOL: "pool"}), json!({POOL: "another"})] {
        stores.slices.apply(Event::Apply(watched("s", labels)), |_| {});
        assert_eq!(stores.slices.count(&ObjectKey::new("ns", "pool")), 1);
        assert_eq!(stores.slices.count(&ObjectKey::new("ns", "another")), 0);
    }
}
