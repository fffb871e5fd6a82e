//! Changes in place: new images in a pod that goes on running.
//!
//! The pod is taken out of service first, by a readiness gate that it has for this purpose, and only when its node
//! shows it as not ready are the images changed. The gate is opened again when the kubelet has replaced the
//! containers. What was there before is kept in an annotation, so that any process can go on.

use std::sync::Arc;

use futures::{StreamExt, future::ready, stream};
use jiff::Timestamp;
use kube::api::Patch;
use mainstay_runtime::{failure::RequestError, outcome::all};
use serde_json::json;

use super::{ApplyError, GATES, Job, Writer, path, remove::Removal};
use crate::{
    names::{IN_PLACE, READINESS_GATE, REVISION},
    plan::Plan,
    pod::Pod,
};

impl Writer {
    /// Opens the readiness gates that the plan names.
    pub(super) async fn open_gates(&self, job: &Job<'_>, plan: &Plan) -> Vec<ApplyError> {
        let due = plan.open.iter().filter(|index| job.may_try(GATES, **index));
        let pods: Vec<_> = due.map(|&index| Arc::clone(job.observed.pod(index))).collect();
        let pods = stream::iter(pods).filter(|pod| ready(self.begins(job, GATES, pod)));
        let opened = pods.map(|pod| async move {
            let failed = |source| ApplyError::Gate { pod: Arc::clone(&pod.header.key.name), source };
            self.set_gate(job, &pod, true).await.map_err(failed)
        });
        all(opened.buffer_unordered(self.max_in_flight)).await.1
    }

    /// Brings a pod that is out of service to `revision` in place.
    pub(super) async fn change_in_place(
        &self,
        job: &Job<'_>,
        pod: &Pod,
        revision: Option<&str>,
    ) -> Result<Removal, RequestError> {
        // The plan asks it only of a pod that has all of these.
        let (Some(state), Some(old), Some(revision)) = (&pod.in_place, pod.labels.get(REVISION), revision)
        else {
            return Ok(Removal::Waiting);
        };
        let changed = job.observed.revisions.changed_images(old, revision, job.group).unwrap_or_default();
        let replaced = changed.iter().filter_map(|image| {
            Some((image.container.clone(), state.containers.get(&image.container)?.clone()))
        });
        let before = pod.before(replaced.collect());
        let images: Vec<_> =
            changed.iter().map(|image| json!({"name": image.container, "image": image.image})).collect();
        let note = serde_json::to_string(&before)?;
        let patch = json!({
            "metadata": {
                "uid": &*pod.header.uid,
                "labels": {REVISION: revision},
                "annotations": {IN_PLACE: note},
            },
            "spec": {"containers": images},
        });
        let changed = self.patch(job, pod, patch).await?;
        Ok(if changed { Removal::Changed } else { Removal::Waiting })
    }

    /// Opens or closes a pod's readiness gate.
    pub(super) async fn set_gate(&self, job: &Job<'_>, pod: &Pod, open: bool) -> Result<(), RequestError> {
        let (status, reason) = if open { ("True", "InService") } else { ("False", "ChangedInPlace") };
        let condition = json!({
            "type": READINESS_GATE,
            "status": status,
            "reason": reason,
            "lastTransitionTime": Timestamp::now().strftime("%FT%TZ").to_string(),
        });
        let patch = json!({"metadata": {"uid": &*pod.header.uid}, "status": {"conditions": [condition]}});
        match self.pods(job).patch_status(&path(&pod.header.key), &Patch::Strategic(patch)).await {
            Ok(_) => Ok(()),
            // It is gone, or another pod has its name: nothing is to be opened or closed.
            Err(RequestError::NotFound(_) | RequestError::Conflict(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }
}
