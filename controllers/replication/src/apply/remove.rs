//! Pods that go, as the plan says how: deleted, evicted, or brought to another revision in place of that.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use futures::{StreamExt, future, stream};
use mainstay_runtime::failure::RequestError;

use super::{Applied, ApplyError, DELETION, Job, Writer, path};
use crate::{
    plan::{How, Plan, Step, Victim},
    pod::Pod,
};

/// What became of a pod that was to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Removal {
    /// It is deleted.
    Deleted,
    /// It is of another revision now, and its containers are being replaced.
    Changed,
    /// It is being taken out of service.
    Waiting,
    /// The owner of its hook was told.
    Told,
    /// Its hook is not done, or a PodDisruptionBudget lets none go just now.
    Held,
}

impl Writer {
    /// Removes the pods that the plan names, or brings them to the revision that the group is updating to.
    pub(super) async fn delete(&self, job: &Job<'_>, plan: &Plan, applied: &mut Applied) -> Vec<ApplyError> {
        let mut victims = Vec::with_capacity(plan.delete.len());
        for victim in plan.delete.iter().filter(|victim| job.may_try(DELETION, victim.pod)) {
            victims.push((Arc::clone(job.observed.pod(victim.pod)), *victim));
        }
        let victims = stream::iter(victims).filter(|(pod, _)| future::ready(self.begins(job, DELETION, pod)));
        // A budget that has refused an eviction would refuse the next as well.
        let blocked = &AtomicBool::new(false);
        let deletes = victims.map(|(pod, victim)| async move {
            (self.remove(job, plan, blocked, &pod, victim).await, pod, victim)
        });
        let mut deletes = deletes.buffer_unordered(self.max_in_flight);
        let mut failed = Vec::new();
        while let Some((result, pod, victim)) = deletes.next().await {
            let name = Arc::clone(&pod.header.key.name);
            match result {
                Ok(Removal::Deleted) => {
                    applied.evicted += usize::from(victim.how == How::Evict);
                    applied.deleted.push((name, victim.why));
                }
                Ok(Removal::Changed) => applied.changed += 1,
                Ok(Removal::Waiting) => applied.waiting = true,
                Ok(Removal::Told) => applied.notified += 1,
                Ok(Removal::Held) => {}
                Err(RequestError::DisruptionBudget(text)) => {
                    blocked.store(true, Ordering::Relaxed);
                    applied.blocked = Some(text);
                }
                Err(source) => failed.push(ApplyError::Delete { pod: name, source }),
            }
        }
        failed
    }

    /// Takes the step that is due with a pod.
    async fn remove(
        &self,
        job: &Job<'_>,
        plan: &Plan,
        blocked: &AtomicBool,
        pod: &Pod,
        victim: Victim,
    ) -> Result<Removal, RequestError> {
        if victim.how == How::Evict && blocked.load(Ordering::Relaxed) {
            job.waits(DELETION, pod);
            return Ok(Removal::Held);
        }
        match victim.step {
            Step::AwaitHook => Ok(Removal::Held),
            Step::TellHook => self.notify(job, pod).await.map(|()| Removal::Told),
            Step::AwaitNode => Ok(Removal::Waiting),
            Step::CloseGate => self.set_gate(job, pod, false).await.map(|()| Removal::Waiting),
            Step::Go => self.go(job, plan, pod, victim.how).await,
        }
    }

    /// Has a pod go. Where it is not certain what became of the request, the pod stays noted as unanswered, so that no
    /// other victim is chosen in its place before the server has told.
    async fn go(&self, job: &Job<'_>, plan: &Plan, pod: &Pod, how: How) -> Result<Removal, RequestError> {
        let (pods, header) = (self.pods(job), &pod.header);
        match how {
            How::Delete => pods.delete(&path(&header.key), &header.uid, None).await.map(drop)?,
            How::Evict => pods.evict(&header.key, &header.uid).await.map(drop)?,
            How::InPlace => return self.change_in_place(job, pod, plan.target.as_deref()).await,
        }
        Ok(Removal::Deleted)
    }
}
