//! Pods that join a group or leave it.

use std::{collections::BTreeMap, sync::Arc};

use mainstay_runtime::owner;
use serde_json::json;

use super::{Applied, ApplyError, Job, Writer, hook::take_off};
use crate::{
    names::{IN_PLACE, PRE_DELETE_FINALIZER, REVISION},
    plan::Plan,
    pod::Pod,
};

impl Writer {
    /// Adopts and releases. Returns `false` when one of these was not to be had: creations and deletions were counted
    /// with it, and an orphan that another group was quicker to adopt may even be among the victims.
    pub(super) async fn claim(
        &self,
        job: &Job<'_>,
        plan: &Plan,
        applied: &mut Applied,
    ) -> Result<bool, ApplyError> {
        for index in &plan.adopt {
            applied.adopted += usize::from(self.adopt(job, job.observed.pod(*index)).await?);
        }
        for index in &plan.release {
            applied.released += usize::from(self.release(job, job.observed.pod(*index)).await?);
        }
        Ok(applied.adopted == plan.adopt.len() && applied.released == plan.release.len())
    }

    /// Makes the group the pod's controller; a pod without a revision is from then on of the one that is wanted. Returns
    /// `false` when the pod is gone or another was quicker.
    async fn adopt(&self, job: &Job<'_>, pod: &Pod) -> Result<bool, ApplyError> {
        let failed = |source| ApplyError::Adopt { pod: Arc::clone(&pod.header.key.name), source };
        let owner = owner::reference(job.group);
        let mut patch = json!({"metadata": {"uid": &*pod.header.uid, "ownerReferences": [owner]}});
        if !pod.labels.contains_key(REVISION) {
            patch["metadata"]["labels"] = json!({REVISION: &*job.observed.revisions.wanted});
        }
        let changing = pod.in_place.as_ref().is_some_and(|in_place| in_place.changing);
        if !pod.restarted.is_empty() && !changing {
            let note = serde_json::to_string(&pod.before(BTreeMap::new()));
            let note = note.map_err(|error| failed(error.into()))?;
            patch["metadata"]["annotations"] = json!({IN_PLACE: note});
        }
        // Who leaves a group loses its hook, and who joins one gets it.
        if let Some(pre_delete) = job.group.spec.lifecycle.pre_delete.as_ref().filter(|_| pod.hook.is_none())
        {
            patch["metadata"]["annotations"][PRE_DELETE_FINALIZER] = json!(pre_delete.finalizer);
            patch["metadata"]["finalizers"] = json!([pre_delete.finalizer]);
        }
        self.patch(job, pod, patch).await.map_err(failed)
    }

    /// Takes the group's owner reference off a pod that its selector no longer matches or that outlives it, and with it the
    /// hook: nobody would tell its owner any more, nor end it in time, so that the pod could not be deleted.
    async fn release(&self, job: &Job<'_>, pod: &Pod) -> Result<bool, ApplyError> {
        let owner = json!({"$patch": "delete", "uid": &*job.observed.uid});
        let mut patch = json!({"metadata": {"uid": &*pod.header.uid, "ownerReferences": [owner]}});
        if let Some(hook) = &pod.hook {
            take_off(hook, &mut patch["metadata"]);
        }
        let failed = |source| ApplyError::Release { pod: Arc::clone(&pod.header.key.name), source };
        self.patch(job, pod, patch).await.map_err(failed)
    }
}
