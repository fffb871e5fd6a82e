//! What the controller says in the slices that it makes.

use super::*;

#[tokio::test]
async fn the_first_slice_says_since_when_the_service_is_there() {
    let (endpoints, sent) = endpoints("nothing");
    let mut created = service();
    created["metadata"]["creationTimestamp"] = json!("2026-01-01T00:00:00Z");
    let service: Service = serde_json::from_value::<WatchedService>(created).unwrap().into();
    endpoints.stores.services.apply(Event::Apply(service), |_| {});
    Arc::clone(&endpoints).reconcile(pool(), Turn::default()).await;
    let sent = sent.lock();
    let (_, _, body) = sent.iter().find(|(_, path, _)| path.contains("/endpointslices")).unwrap();
    let trigger = &body["metadata"]["annotations"][crate::names::TRIGGER_TIME];
    assert!(trigger.as_str().is_some_and(|time| time.starts_with("2026-01-01T00:00:00")), "{body}");
}
