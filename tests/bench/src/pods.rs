//! The bench's own objects, and its pods on fake nodes.

use crate::{
    bed::Bed,
    error::{Context, Error, Result},
    names::NAMESPACE,
};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, api::ListParams};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// An object that the bench has written down.
pub(crate) fn object<T: DeserializeOwned>(value: Value) -> Result<T> {
    serde_json::from_value(value).map_err(|error| Error::Refused(format!("the bench's own object: {error}")))
}

/// Waits until all pods of the namespace are ready.
pub(crate) async fn ready(bed: &Bed) -> Result<()> {
    let pods: Api<Pod> = Api::namespaced(bed.client.clone(), NAMESPACE);
    bed.until("all pods to be ready", async || {
        let listed = pods.list(&ListParams::default()).await.when("list pods")?;
        Ok(listed.iter().all(|pod| {
            let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
            let mut conditions = conditions.into_iter().flatten();
            conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True")
        }))
    })
    .await
}
