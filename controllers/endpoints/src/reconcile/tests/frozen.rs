//! What leaves the slices although not all can be done.

use mainstay_crds::EndpointGrant;

use super::*;

/// Has a slice of the pool hold these addresses, each of a pod or of none.
pub(super) fn stands(endpoints: &Endpoints, owner: &str, all: &[(&str, Value)]) {
    stands_as(endpoints, owner, all, |_| true);
}

/// The same, ready or not.
pub(super) fn stands_as(
    endpoints: &Endpoints,
    owner: &str,
    all: &[(&str, Value)],
    is_ready: impl Fn(&str) -> bool,
) {
    let of = |(address, target): &(&str, Value)| {
        let ready = is_ready(address);
        let conditions = json!({"ready": ready, "serving": ready, "terminating": false});
        json!({"addresses": [address], "conditions": conditions, "targetRef": target})
    };
    let slice: WatchedSlice = serde_json::from_value(json!({
        "metadata": {
            "name": "web-a", "namespace": "ns", "uid": "s", "resourceVersion": "3",
            "labels": {MANAGED_BY: MANAGER, POOL: "pool", "kubernetes.io/service-name": "web", "of-the-service": "then"},
            "ownerReferences": [{"apiVersion": "mainstay.dev/v1alpha1", "kind": "EndpointPool", "name": "pool",
                "uid": owner, "controller": true}],
        },
        "addressType": "IPv4", "endpoints": all.iter().map(of).collect::<Vec<_>>(),
        "ports": [{"name": "http", "port": 80, "protocol": "TCP"}],
    }))
    .unwrap();
    endpoints.stores.slices.apply(Event::Apply(slice.into()), |_| {});
}

fn pod(endpoints: &Endpoints, namespace: &str, name: &str, address: &str) -> Value {
    let pod: WatchedPod = serde_json::from_value(json!({
        "metadata": {"name": name, "namespace": namespace, "uid": name, "labels": {"app": "web"}},
        "status": {"phase": "Running", "podIPs": [{"ip": address}]},
    }))
    .unwrap();
    endpoints.stores.pods.apply(Event::Apply(Pod::slim(pod, &mut LabelPool::default())), |_| {});
    json!({"kind": "Pod", "namespace": namespace, "name": name, "uid": name})
}

fn grant(endpoints: &Endpoints) {
    let grant: EndpointGrant = serde_json::from_value(json!({
        "apiVersion": "mainstay.dev/v1alpha1", "kind": "EndpointGrant",
        "metadata": {"name": "grant", "namespace": "other"}, "spec": {"from": [{"namespace": "ns"}]},
    }))
    .unwrap();
    endpoints.stores.grants.apply(Event::Apply(grant.into()), |_| {});
}

/// The addresses in the slices that were replaced.
fn put(sent: &Sent) -> Vec<Vec<String>> {
    let of = |body: &Value| {
        let all = body["endpoints"].as_array().unwrap().iter();
        all.map(|endpoint| endpoint["addresses"][0].as_str().unwrap().to_owned()).collect()
    };
    let sent = sent.lock();
    sent.iter().filter(|(method, ..)| *method == Method::PUT).map(|(_, _, body)| of(body)).collect()
}

pub(super) fn unreadable() -> EndpointPool {
    let mut pool = EndpointPool::clone(&pool());
    pool.spec.check = serde_json::from_value(
        json!({"type": "HTTP", "http": {"path": "/", "expectedStatuses": ["399-200"]}}),
    )
    .unwrap();
    pool
}

pub(super) fn held_back() -> EndpointPool {
    let mut pool = EndpointPool::clone(&pool());
    pool.metadata = serde_json::from_value(json!({
        "name": "pool", "namespace": "ns", "uid": "pool", "deletionTimestamp": "2026-01-01T00:00:00Z",
        "finalizers": ["example.com/held"],
    }))
    .unwrap();
    pool
}

#[tokio::test]
async fn a_pool_whose_spec_is_not_followed_keeps_nothing_that_it_may_not_use() {
    for is_granted in [false, true] {
        let (mut endpoints, sent) = endpoints("nothing");
        let forbidden = Forbidden(vec!["198.51.100.0/24".parse().unwrap()]);
        Arc::get_mut(&mut endpoints).unwrap().forbidden = forbidden;
        let (theirs, ours) =
            (pod(&endpoints, "other", "a", "10.0.0.1"), pod(&endpoints, "ns", "c", "10.0.0.3"));
        pod(&endpoints, "other", "b", "10.0.0.2");
        let gone = json!({"kind": "Pod", "namespace": "ns", "name": "gone", "uid": "gone"});
        let all = [
            ("10.0.0.1", theirs),
            ("10.0.0.2", Value::Null),
            ("10.0.0.3", ours),
            ("10.0.0.4", gone),
            ("192.0.2.1", Value::Null),
            ("198.51.100.1", Value::Null),
        ];
        stands(&endpoints, "pool", &all);
        let granted: &[_] = if is_granted {
            grant(&endpoints);
            &["10.0.0.1", "10.0.0.2", "10.0.0.3", "192.0.2.1"]
        } else {
            &["10.0.0.3", "192.0.2.1"]
        };
        let outcomes = Arc::clone(&endpoints).reconcile(Arc::new(unreadable()), Turn::default()).await;
        assert!(!outcomes.failed());
        assert_eq!(put(&sent), [granted], "{is_granted}");
        assert_eq!(count(&sent, "/endpointslices"), 1, "nothing is added: {:?}", sent.lock());
        let sent = sent.lock();
        let (_, _, body) = sent.iter().find(|(method, ..)| *method == Method::PUT).unwrap();
        assert_eq!(body["metadata"]["labels"]["of-the-service"], "then", "nothing else is changed");
    }
}

#[tokio::test]
async fn a_frozen_pool_is_found_by_its_endpoints_and_writes_nothing_where_all_may_stay() {
    let (endpoints, sent) = endpoints("nothing");
    endpoints.interests.set(&unreadable());
    stands(&endpoints, "pool", &[("10.0.0.1", Value::Null)]);
    Arc::clone(&endpoints).reconcile(Arc::new(unreadable()), Turn::default()).await;
    assert_eq!(count(&sent, "/endpointslices"), 0, "{:?}", sent.lock());
    assert_eq!(
        endpoints.interests.of_addresses(&["10.0.0.1".parse().unwrap()]),
        [ObjectKey::new("ns", "pool")]
    );
}

#[tokio::test]
async fn a_slice_that_was_orphaned_does_not_become_the_pools_again() {
    let (endpoints, sent) = endpoints("nothing");
    let gone = json!({"kind": "Pod", "namespace": "ns", "name": "gone", "uid": "gone"});
    stands(&endpoints, "another", &[("10.0.0.4", gone)]);
    Arc::clone(&endpoints).reconcile(Arc::new(held_back()), Turn::default()).await;
    assert_eq!(count(&sent, "/endpointslices"), 0, "{:?}", sent.lock());
}

#[tokio::test]
async fn what_is_gone_leaves_its_slice_although_no_slice_can_be_created() {
    let (endpoints, sent) =
        endpoints_at(move |method, _, _| if *method == Method::POST { refusal() } else { None });
    stands(&endpoints, "pool", &[("192.0.2.1", Value::Null), ("192.0.2.9", Value::Null)]);
    let mut pool = EndpointPool::clone(&pool());
    pool.spec.service_ref.create = None;
    pool.spec.max_endpoints_per_slice = 1;
    pool.spec.members = serde_json::from_value(
        json!([{"name": "outside", "addresses": [{"ip": "192.0.2.1"}, {"ip": "192.0.2.2"}]}]),
    )
    .unwrap();
    let outcomes = Arc::clone(&endpoints).reconcile(Arc::new(pool), Turn::default()).await;
    assert!(outcomes.failed(), "the refusal is told");
    assert_eq!(put(&sent), [["192.0.2.1"]]);
}
