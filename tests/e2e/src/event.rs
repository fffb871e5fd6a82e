//! Events about an object.

use k8s_openapi::api::events::v1::Event;
use kube::{Api, Client, api::ListParams};

use crate::wait::eventually;

/// Waits for an event of this reason about the object of this name and UID; returns its sentence.
pub(crate) async fn event(
    client: &Client,
    namespace: &str,
    (name, uid): (&str, &str),
    reason: &str,
) -> String {
    let events: Api<Event> = Api::namespaced(client.clone(), namespace);
    eventually(&format!("an event {reason} about {name}"), async || {
        let listed = events.list(&ListParams::default()).await.map_err(|error| error.to_string())?.items;
        let is_ours = |event: &&Event| {
            event.regarding.as_ref().is_some_and(|object| object.uid.as_deref() == Some(uid))
        };
        let ours: Vec<_> = listed.iter().filter(is_ours).collect();
        let wanted = ours.iter().find(|event| event.reason.as_deref() == Some(reason));
        let reasons = || format!("{:?}", ours.iter().map(|event| &event.reason).collect::<Vec<_>>());
        wanted.and_then(|event| event.note.clone()).ok_or_else(reasons)
    })
    .await
}
