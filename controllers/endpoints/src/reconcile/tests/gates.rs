//! Readiness gates of pods whose pool has no Service to write endpoints for: their rollout waits for the check and not for
//! the Service.

use super::{checked::*, *};

/// A pod that waits for nothing but its gate.
fn waiting(endpoints: &Endpoints, name: &str, address: &str) {
    waiting_at(endpoints, name, address, 6);
}

fn waiting_at(endpoints: &Endpoints, name: &str, address: &str, version: u64) {
    let pod: WatchedPod = serde_json::from_value(json!({
        "metadata": {"name": name, "namespace": "ns", "uid": name, "resourceVersion": version.to_string(),
            "labels": {"app": "web"}},
        "spec": {"nodeName": "n", "readinessGates": [{"conditionType": crate::names::READINESS_GATE}]},
        "status": {"phase": "Running", "podIPs": [{"ip": address}],
            "conditions": [{"type": "ContainersReady", "status": "True"}]},
    }))
    .unwrap();
    let node: WatchedNode = serde_json::from_value(json!({"metadata": {"name": "n"}})).unwrap();
    endpoints.stores.nodes.apply(Event::Apply(node.into()), |_| {});
    endpoints.stores.pods.apply(Event::Apply(Pod::slim(pod, &mut LabelPool::default())), |_| {});
}

fn of_pods(check: Value) -> EndpointPool {
    let mut pool = EndpointPool::clone(&pool());
    pool.spec.service_ref.create = None;
    pool.spec.members =
        serde_json::from_value(json!([{"name": "pods", "podSelector": {"matchLabels": {"app": "web"}}}]))
            .unwrap();
    pool.spec.check = serde_json::from_value(check).unwrap();
    pool
}

fn with_selector(endpoints: &Endpoints) {
    let mut selecting = service();
    selecting["spec"]["selector"] = json!({"app": "web"});
    let service: Service = serde_json::from_value::<WatchedService>(selecting).unwrap().into();
    endpoints.stores.services.apply(Event::Apply(service), |_| {});
}

#[tokio::test]
async fn gates_are_opened_also_while_the_service_is_not_the_pools_to_write_for() {
    for case in ["a selector", "an older pool", "no Service"] {
        let (endpoints, sent) = endpoints("nothing");
        waiting(&endpoints, "web-1", "10.0.0.1");
        match case {
            "a selector" => with_selector(&endpoints),
            "an older pool" => {
                let mut older = of_pods(Value::Null);
                older.metadata.name = Some("older".to_owned());
                older.metadata.creation_timestamp =
                    serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap();
                endpoints.interests.set(&older);
            }
            _ => {
                let service: Service = serde_json::from_value::<WatchedService>(service()).unwrap().into();
                endpoints.stores.services.apply(Event::Delete(service), |_| {});
            }
        }
        let pool = Arc::new(of_pods(Value::Null));
        let outcomes = Arc::clone(&endpoints).reconcile(pool, Turn::default()).await;
        assert!(!outcomes.failed(), "{case}");
        assert_eq!(
            (count(&sent, "/pods/web-1"), count(&sent, "/endpointslices")),
            (1, 0),
            "{case}: {:?}",
            sent.lock()
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_waits_for_its_gate_is_checked_while_the_service_has_a_selector() {
    let (mut endpoints, sent) = endpoints("nothing");
    let asked = answers(&mut endpoints, |_| true);
    waiting(&endpoints, "web-1", "10.0.0.1");
    with_selector(&endpoints);
    let pool = Arc::new(of_pods(json!({"type": "TCP"})));
    Arc::clone(&endpoints).reconcile(Arc::clone(&pool), Turn::default()).await;
    assert_eq!(count(&sent, "/pods/"), 0, "its check has not passed yet");
    check(&endpoints).await;
    assert_eq!(*asked.lock(), ["10.0.0.1:80".parse().unwrap()]);
    Arc::clone(&endpoints).reconcile(pool, Turn::default()).await;
    assert_eq!((count(&sent, "/pods/web-1"), count(&sent, "/endpointslices")), (1, 0), "{:?}", sent.lock());
}

#[tokio::test]
async fn a_gate_that_was_closed_again_is_opened_again() {
    let (endpoints, sent) = endpoints("nothing");
    let pool = Arc::new(of_pods(Value::Null));
    // The server answers an opening with version 9: what the store shows before that does not know of it.
    for (version, opened) in [(6, 1), (6, 1), (8, 1), (12, 2)] {
        waiting_at(&endpoints, "web-1", "10.0.0.1", version);
        Arc::clone(&endpoints).reconcile(Arc::clone(&pool), Turn::default()).await;
        assert_eq!(count(&sent, "/pods/web-1"), opened, "{version}: {:?}", sent.lock());
    }
}
