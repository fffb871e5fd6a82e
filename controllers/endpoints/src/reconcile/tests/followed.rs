//! Pools whose spec cannot be followed any more are served by what is known of it.

use super::{frozen::*, *};

/// A pod of the pool's own namespace as it is now.
fn pod(endpoints: &Endpoints, name: &str, address: &str, ready: bool, ends: bool) -> Value {
    let mut pod = json!({
        "metadata": {"name": name, "namespace": "ns", "uid": name, "labels": {"app": "web"}},
        "status": {"phase": "Running", "podIPs": [{"ip": address}],
            "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}]},
    });
    if ends {
        pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    }
    let pod: WatchedPod = serde_json::from_value(pod).unwrap();
    endpoints.stores.pods.apply(Event::Apply(Pod::slim(pod, &mut LabelPool::default())), |_| {});
    json!({"kind": "Pod", "namespace": "ns", "name": name, "uid": name})
}

fn of_pods() -> EndpointPool {
    let mut pool = EndpointPool::clone(&pool());
    pool.spec.service_ref.create = None;
    pool.spec.members =
        serde_json::from_value(json!([{"name": "pods", "podSelector": {"matchLabels": {"app": "web"}}}]))
            .unwrap();
    pool
}

/// Each endpoint of the slice that was replaced last, with whether it is ready.
fn last_put(sent: &Sent) -> Vec<(String, bool)> {
    let sent = sent.lock();
    let (_, _, body) =
        sent.iter().rev().find(|(method, ..)| *method == Method::PUT).expect("a slice is replaced");
    let all = body["endpoints"].as_array().unwrap().iter();
    let of = |endpoint: &Value| {
        (endpoint["addresses"][0].as_str().unwrap().to_owned(), endpoint["conditions"]["ready"] == true)
    };
    all.map(of).collect()
}

#[tokio::test]
async fn a_pool_whose_spec_became_unusable_is_served_by_the_last_one_that_could_be_used() {
    for is_deleted in [false, true] {
        let (endpoints, sent) = endpoints("nothing");
        let (one, two) = (
            pod(&endpoints, "one", "10.0.0.1", true, false),
            pod(&endpoints, "two", "10.0.0.2", true, false),
        );
        stands(&endpoints, "pool", &[("10.0.0.1", one), ("10.0.0.2", two)]);
        Arc::clone(&endpoints).reconcile(Arc::new(of_pods()), Turn::default()).await;
        endpoints.writer.forget(&ObjectKey::new("ns", "pool"));
        let mut changed = of_pods();
        if is_deleted {
            changed.metadata = held_back().metadata;
        } else {
            changed.metadata.generation = Some(2);
            changed.spec.check = unreadable().spec.check;
        }
        pod(&endpoints, "one", "10.0.0.1", false, false);
        pod(&endpoints, "three", "10.0.0.3", true, false);
        let outcomes = Arc::clone(&endpoints).reconcile(Arc::new(changed.clone()), Turn::default()).await;
        assert!(!outcomes.failed(), "{is_deleted}");
        let all = [("10.0.0.1", false), ("10.0.0.2", true), ("10.0.0.3", true)];
        assert_eq!(last_put(&sent), all.map(|(address, ready)| (address.to_owned(), ready)), "{is_deleted}");
        if !is_deleted {
            let status = endpoints.status_writer.ahead_of(&changed).unwrap();
            let ready = status.conditions.iter().find(|condition| condition.type_ == "Ready").unwrap();
            assert_eq!(
                (&*ready.status, &*ready.reason),
                ("False", "SettingsInvalid"),
                "it is said all the same"
            );
        }
    }
}

#[tokio::test]
async fn a_pool_in_its_deletion_gets_no_slice_and_no_service_any_more() {
    let (endpoints, sent) = endpoints("nothing");
    pod(&endpoints, "one", "10.0.0.1", true, false);
    let mut deleted = of_pods();
    deleted.spec.service_ref = pool().spec.service_ref.clone();
    deleted.metadata = held_back().metadata;
    Arc::clone(&endpoints).reconcile(Arc::new(deleted), Turn::default()).await;
    assert_eq!((count(&sent, "/endpointslices"), count(&sent, "/services")), (0, 0), "{:?}", sent.lock());
}

#[tokio::test]
async fn of_a_pool_that_was_never_readable_no_pod_that_does_not_serve_stays_ready() {
    let (endpoints, sent) = endpoints("nothing");
    let all = [
        ("10.0.0.1", pod(&endpoints, "one", "10.0.0.1", true, false)),
        ("10.0.0.2", pod(&endpoints, "two", "10.0.0.2", false, false)),
        ("10.0.0.3", pod(&endpoints, "three", "10.0.0.3", true, true)),
        ("192.0.2.1", Value::Null),
    ];
    stands(&endpoints, "pool", &all);
    let pool = Arc::new(unreadable());
    Arc::clone(&endpoints).reconcile(Arc::clone(&pool), Turn::default()).await;
    let expected = |two| {
        let all = [("10.0.0.1", true), ("10.0.0.2", two), ("10.0.0.3", false), ("192.0.2.1", true)];
        all.map(|(address, ready)| (address.to_owned(), ready))
    };
    assert_eq!(last_put(&sent), expected(false));

    // What it has lowered itself it raises again.
    let ready: Vec<_> = all.iter().map(|(address, target)| (*address, target.clone())).collect();
    stands_as(&endpoints, "pool", &ready, |address| !["10.0.0.2", "10.0.0.3"].contains(&address));
    pod(&endpoints, "two", "10.0.0.2", true, false);
    endpoints.writer.forget(&ObjectKey::new("ns", "pool"));
    Arc::clone(&endpoints).reconcile(pool, Turn::default()).await;
    assert_eq!(last_put(&sent), expected(true));
}
