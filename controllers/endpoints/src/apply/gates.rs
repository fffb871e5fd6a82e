//! Readiness gates: opened when a pod has answered its first check, so that a rollout waits for it.

use std::{collections::HashSet, sync::Arc};

use futures::{StreamExt, stream};
use jiff::Timestamp;
use k8s_openapi::api::core::v1;
use kube::api::Patch;
use mainstay_runtime::{failure::RequestError, index::ObjectKey, outcome::all, request::ObjectPath};
use serde_json::json;

use super::{Writer, error::ApplyError};
use crate::{names::READINESS_GATE, watched::Pod};

impl Writer {
    /// Opens the gates of these pods, each once until the store shows it closed after that. Returns how many, and what failed: the
    /// other gates are opened all the same.
    pub async fn open_gates(&self, pool: &ObjectKey, pods: &[Arc<Pod>]) -> (usize, Vec<ApplyError>) {
        if pods.is_empty() {
            self.opened.lock().remove(pool);
            return (0, Vec::new());
        }
        let uids: HashSet<_> = pods.iter().map(|pod| pod.header.uid.clone()).collect();
        let known = {
            let mut opened = self.opened.lock();
            let opened = opened.entry(pool.clone()).or_default();
            opened.retain(|uid, _| uids.contains(uid));
            opened.clone()
        };
        let is_open = |pod: &&Arc<Pod>| {
            let opened = known.get(&pod.header.uid);
            opened.is_some_and(|opened| pod.header.version <= *opened)
        };
        let closed: Vec<_> = pods.iter().filter(|pod| !is_open(pod)).cloned().collect();
        let opens = stream::iter(closed).map(|pod| async move {
            let failed = |source| ApplyError::Gate { pod: Arc::clone(&pod.header.key.name), source };
            let version = self.open_gate(&pod).await.map_err(failed)?;
            Ok(version.map(|version| (pod.header.uid.clone(), Some(version))))
        });
        let (opened, failed) = all(opens.buffer_unordered(self.max_in_flight)).await;
        let opened: Vec<_> = opened.into_iter().flatten().collect();
        let count = opened.len();
        self.opened.lock().entry(pool.clone()).or_default().extend(opened);
        (count, failed)
    }

    /// Returns the pod's version after that; `None` where it could not be opened now, and the next reconcile looks again.
    async fn open_gate(&self, pod: &Pod) -> Result<Option<u64>, RequestError> {
        let patch = json!({
            "metadata": {"uid": &*pod.header.uid},
            "status": {"conditions": [{
                "type": READINESS_GATE, "status": "True", "reason": "EndpointReady",
                "message": "an EndpointPool has checked the pod", "lastTransitionTime": Timestamp::now(),
            }]},
        });
        let pod = ObjectPath::of::<v1::Pod>(&pod.header.key);
        match self.writes.patch_status(&pod, &Patch::Strategic(patch)).await {
            Ok(written) => Ok(written.version()),
            // It is gone, another pod has its name, or others write it too often.
            Err(RequestError::NotFound(_) | RequestError::Conflict(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }
}
