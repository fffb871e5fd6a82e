//! Hooks that are waited for before a pod is deleted.

use k8s_openapi::{api::core::v1::Pod, jiff::Timestamp};
use kube::{
    ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::json;

use crate::{
    group::{Draft, Group},
    scenario::Scenario,
    wait::eventually,
};

/// The finalizer of the tests' hooks.
pub const FINALIZER: &str = "e2e.mainstay.dev/drain";

/// The annotation by which a pod is told that it is to go.
const TOLD: &str = "mainstay.dev/pre-delete";

impl Draft {
    /// Sets `spec.lifecycle.preDelete`: a hook of [`FINALIZER`] that is waited for that long.
    pub fn pre_delete(self, timeout_seconds: i64) -> Self {
        let hook = json!({"finalizer": FINALIZER, "timeoutSeconds": timeout_seconds});
        self.with("spec.lifecycle.preDelete", hook)
    }
}

/// When the pod was told that it is to go, if it was.
///
/// # Panics
/// When what it was told is no time.
pub fn told_at(pod: &Pod) -> Option<Timestamp> {
    let text = pod.annotations().get(TOLD)?;
    Some(text.parse().unwrap_or_else(|error| panic!("{}: {text:?} is no time: {error}", pod.name_any())))
}

/// Whether the pod was told that it is to go.
pub fn is_told(pod: &Pod) -> bool {
    told_at(pod).is_some()
}

impl Group {
    /// The pods that were told that they are to go, as soon as there are so many.
    pub async fn told(&self, count: usize) -> Vec<Pod> {
        eventually(&format!("{count} pods of {} are told to go", self.name()), async || {
            let mut pods = self.pods().await;
            let all = pods.len();
            pods.retain(is_told);
            if pods.len() == count { Ok(pods) } else { Err(format!("{} of {all}", pods.len())) }
        })
        .await
    }
}

impl Scenario {
    /// Takes a pod's finalizers off, as who has done what its hook is for; does nothing about a pod that is gone.
    ///
    /// # Panics
    /// When the API server refuses it.
    pub async fn finish(&self, pod: &Pod) {
        let patch = Patch::Merge(json!({"metadata": {"uid": pod.uid(), "finalizers": null}}));
        match self.pods().patch(&pod.name_any(), &PatchParams::default(), &patch).await {
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            patched => drop(patched.expect("the pod is patched")),
        }
    }
}
