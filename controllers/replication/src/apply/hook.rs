//! Hooks: their owners are told which pods are to go, and are not waited for without end.

use std::sync::Arc;

use futures::{StreamExt, future::ready, stream};
use jiff::Timestamp;
use kube::Resource;
use mainstay_crds::ReplicaGroup;
use mainstay_runtime::{failure::RequestError, outcome::all, request::ObjectPath};
use serde_json::json;

use super::{Applied, ApplyError, HOOKS, Job, Writer};
use crate::{
    names::{FINALIZER, PRE_DELETE, PRE_DELETE_FINALIZER},
    plan::Plan,
    pod::{Hook, Pod},
};

impl Writer {
    /// Tells the owners of hooks of pods that need not go after all, and gives up those that have taken too long.
    pub(super) async fn follow_hooks(
        &self,
        job: &Job<'_>,
        plan: &Plan,
        applied: &mut Applied,
    ) -> Vec<ApplyError> {
        let (notified, mut failed) = self.patch_hooks(job, &plan.cancel, cancelled).await;
        let (ended, others) = self.patch_hooks(job, &plan.time_out, timed_out).await;
        applied.cancelled = notified.into_iter().flatten().count();
        applied.timed_out = ended.into_iter().flatten().collect();
        failed.extend(others);
        failed
    }

    /// Tells the owner of a pod's hook that the pod is to go.
    pub(super) async fn notify(&self, job: &Job<'_>, pod: &Pod) -> Result<(), RequestError> {
        let since = Timestamp::now().strftime("%FT%TZ").to_string();
        self.patch(
            job,
            pod,
            json!({"metadata": {"uid": &*pod.header.uid, "annotations": {PRE_DELETE: since}}}),
        )
        .await
        .map(drop)
    }

    /// Patches pods that have a hook, and returns the names of those that were there to be patched.
    async fn patch_hooks(
        &self,
        job: &Job<'_>,
        pods: &[usize],
        body: fn(&Pod, &Hook) -> serde_json::Value,
    ) -> (Vec<Option<Arc<str>>>, Vec<ApplyError>) {
        let due = pods.iter().filter(|index| job.may_try(HOOKS, **index));
        let pods: Vec<_> = due.map(|&index| Arc::clone(job.observed.pod(index))).collect();
        let pods = stream::iter(pods).filter(|pod| ready(self.begins(job, HOOKS, pod)));
        let patches = pods.map(|pod| async move {
            let Some(hook) = &pod.hook else { return Ok(None) };
            let name = Arc::clone(&pod.header.key.name);
            match self.patch(job, &pod, body(&pod, hook)).await {
                Ok(done) => Ok(done.then_some(name)),
                Err(source) => Err(ApplyError::Hook { pod: name, source }),
            }
        });
        all(patches.buffer_unordered(self.max_in_flight)).await
    }

    /// Sets or removes the finalizer by which the deletion of the group waits for hooks. It is the only field of the
    /// group besides its status that is ever written, and applied alone, so that it overwrites no other's. Returns `false` where
    /// the group is gone.
    pub(super) async fn set_finalizer(&self, job: &Job<'_>, wanted: bool) -> Result<bool, RequestError> {
        let finalizers = if wanted { vec![FINALIZER] } else { Vec::new() };
        // The UID keeps the server from making a group where there is none any more.
        let patch = json!({
            "apiVersion": ReplicaGroup::api_version(&()),
            "kind": ReplicaGroup::kind(&()),
            "metadata": {"uid": &*job.observed.uid, "finalizers": finalizers},
        });
        match self.writes.apply(&ObjectPath::of::<ReplicaGroup>(&job.observed.key), patch).await {
            Ok(_) => Ok(true),
            Err(RequestError::NotFound(_) | RequestError::Conflict(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// The pod stays, and has its hook for the next time.
fn cancelled(pod: &Pod, hook: &Hook) -> serde_json::Value {
    json!({"metadata": {
        "uid": &*pod.header.uid,
        "annotations": {PRE_DELETE: null},
        "finalizers": [hook.finalizer],
    }})
}

/// Takes a hook with all that is said of it off a pod, by a patch of its metadata.
pub(super) fn take_off(hook: &Hook, metadata: &mut serde_json::Value) {
    metadata["annotations"] = json!({PRE_DELETE: null, PRE_DELETE_FINALIZER: null});
    metadata["$deleteFromPrimitiveList/finalizers"] = json!([hook.finalizer]);
}

fn timed_out(pod: &Pod, hook: &Hook) -> serde_json::Value {
    json!({"metadata": {"uid": &*pod.header.uid, "$deleteFromPrimitiveList/finalizers": [hook.finalizer]}})
}
