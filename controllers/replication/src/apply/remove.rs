//! Pods that go, as the plan says how: deleted, evicted, or brought to another revision in place of that.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use futures::{StreamExt, future, stream};
use mainstay_runtime::failure::RequestError;

use super::{Applied, ApplyError, DELETION, Job, Writer, path};
use crate::{
    plan::{How, Plan, Victim, Why},
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

/// How far the removal of pods may go, shared by those that are under way.
struct Limits {
    /// This many more may be brought to another revision in place.
    exchange: AtomicUsize,
    /// A budget has refused an eviction, and would refuse the next as well.
    blocked: AtomicBool,
}

impl Writer {
    /// Removes the pods that the plan names, or brings them to the revision that the group is updating to.
    pub(super) async fn delete(&self, job: &Job<'_>, plan: &Plan, applied: &mut Applied) -> Vec<ApplyError> {
        let mut victims = Vec::with_capacity(plan.delete.len());
        for victim in plan.delete.iter().filter(|victim| job.may_try(DELETION, victim.pod)) {
            victims.push((Arc::clone(job.observed.pod(victim.pod)), *victim));
        }
        let victims = stream::iter(victims).filter(|(pod, _)| future::ready(self.begins(job, DELETION, pod)));
        let limits = Limits { exchange: AtomicUsize::new(plan.exchange), blocked: AtomicBool::new(false) };
        let limits = &limits;
        let deletes = victims.map(|(pod, victim)| async move {
            (self.remove(job, plan, limits, &pod, victim).await, pod, victim)
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
                    limits.blocked.store(true, Ordering::Relaxed);
                    applied.blocked = Some(text);
                }
                Err(source) => failed.push(ApplyError::Delete { pod: name, source }),
            }
        }
        failed
    }

    /// Brings a pod to the revision that the group is updating to, or removes it where that cannot be.
    async fn remove(
        &self,
        job: &Job<'_>,
        plan: &Plan,
        limits: &Limits,
        pod: &Pod,
        victim: Victim,
    ) -> Result<Removal, RequestError> {
        let Limits { exchange, blocked } = limits;
        let take = |left: usize| left.checked_sub(1);
        if let Some(target) = plan.target.as_deref().filter(|_| victim.why == Why::Outdated)
            && exchange.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
        {
            if let Some(step) = self.change_in_place(job, pod, target).await? {
                return Ok(step);
            }
            exchange.fetch_add(1, Ordering::Relaxed);
        }
        if victim.how == How::Evict && blocked.load(Ordering::Relaxed) {
            job.waits(DELETION, pod);
            return Ok(Removal::Held);
        }
        match pod.hook.as_ref().filter(|hook| hook.held) {
            Some(hook) if hook.since.is_some() => Ok(Removal::Held),
            Some(_) => self.notify(job, pod).await.map(|()| Removal::Told),
            None => self.delete_one(job, pod, victim.how).await.map(|()| Removal::Deleted),
        }
    }

    /// Deletes or evicts one pod. Where it is not certain what became of the request, the pod stays noted as unanswered,
    /// so that no other victim is chosen in its place before the server has told.
    async fn delete_one(&self, job: &Job<'_>, pod: &Pod, how: How) -> Result<(), RequestError> {
        let (pods, pod) = (self.pods(job), &pod.header);
        match how {
            How::Delete => pods.delete(&path(&pod.key), &pod.uid, None).await.map(drop),
            How::Evict => pods.evict(&pod.key, &pod.uid).await.map(drop),
        }
    }
}
