//! Pods that join a group or leave it.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use futures::{StreamExt, future::ready, stream};
use mainstay_runtime::owner;
use serde_json::json;

use super::{ADOPTION, Applied, ApplyError, Job, Writer, hook::take_off};
use crate::{
    names::{IN_PLACE, PRE_DELETE_FINALIZER, REVISION},
    plan::Plan,
    pod::Pod,
};

/// What is done about the relation of a pod to the group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Claiming {
    Adopt,
    /// Adopt one of which that was refused before.
    Again,
    Release,
}

impl Writer {
    /// Adopts and releases. Returns `false` when another was quicker to have one of these, or when one was adopted that does
    /// not count yet: creations and deletions were counted otherwise, so that the plan is to be made again. While one could not be adopted, no pod is deleted.
    pub(super) async fn claim(&self, job: &mut Job<'_>, plan: &Plan, applied: &mut Applied) -> bool {
        if job.turn.held(ADOPTION).is_some() {
            job.strangers = !plan.adopt.is_empty();
            return true;
        }
        let this = &*job;
        let may_try = |index: &usize| this.may_try(ADOPTION, *index);
        let (due, held): (Vec<_>, Vec<_>) = plan.adopt.iter().copied().partition(may_try);
        let releases = plan.release.iter().copied().filter(may_try);
        let refused = plan.adopt_again.iter().map(|index| (*index, Claiming::Again));
        let due = due.into_iter().map(|index| (index, Claiming::Adopt));
        let claims: Vec<_> =
            due.chain(refused).chain(releases.map(|index| (index, Claiming::Release))).collect();
        // A plan that counts on pods of which the adoption did not begin deletes none either.
        let late = AtomicBool::new(!held.is_empty());
        let claims = stream::iter(claims).filter(|(index, how)| {
            let begins = self.begins(this, ADOPTION, this.observed.pod(*index));
            late.fetch_or(*how == Claiming::Adopt && !begins, Ordering::Relaxed);
            ready(begins)
        });
        let claims = claims.map(|(index, how)| async move {
            let pod = this.observed.pod(index);
            let releases = how == Claiming::Release;
            let claimed = if releases { self.release(this, pod).await } else { self.adopt(this, pod).await };
            (how, claimed)
        });
        let mut claims = claims.buffer_unordered(self.max_in_flight);
        let (mut strangers, mut failed, mut all) = (false, Vec::new(), true);
        while let Some((how, claimed)) = claims.next().await {
            match claimed {
                Ok(true) => {
                    applied.adopted += usize::from(how != Claiming::Release);
                    applied.released += usize::from(how == Claiming::Release);
                    all &= how != Claiming::Again;
                }
                Ok(false) => all &= how == Claiming::Again,
                Err(error) => {
                    strangers |= how == Claiming::Adopt;
                    failed.push(error);
                }
            }
        }
        drop(claims);
        job.strangers = strangers || late.into_inner();
        applied.ended.push((ADOPTION, failed));
        all
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
    /// hook: no controller would tell its owner any more, nor end it in time, so that the pod could not be deleted.
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
