//! Pods that go: deleted where there are too many, evicted where they make way for another revision.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use futures::{StreamExt, future, stream};
use http::{Request, header};
use mainstay_runtime::{
    failure::RequestError,
    gate::Intent,
    request::{METADATA_ONLY, malformed},
};
use serde::de::IgnoredAny;
use serde_json::json;

use super::{Applied, ApplyError, Job, Writer};
use crate::{
    plan::{Plan, Why},
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
    /// Its hook is not done.
    Held,
}

impl Writer {
    /// Removes the pods that the plan names, or brings them to the revision that the group is on its way to.
    pub(super) async fn delete(
        &self,
        job: &Job<'_>,
        plan: &Plan,
        applied: &mut Applied,
    ) -> Result<(), ApplyError> {
        let mut victims = Vec::with_capacity(plan.delete.len());
        for victim in &plan.delete {
            victims.push((Arc::clone(job.observed.pod(victim.pod)), victim.why));
        }
        // Once a budget has refused one eviction it would refuse the next as well.
        let blocked = AtomicBool::new(false);
        let is_open = || !blocked.load(Ordering::Relaxed) && self.may_begin(job);
        let victims = stream::iter(victims).take_while(|_| future::ready(is_open()));
        let exchange = AtomicUsize::new(plan.exchange);
        let exchange = &exchange;
        let deletes = victims
            .map(|(pod, why)| async move { (self.remove(job, plan, exchange, &pod, why).await, pod, why) });
        let mut deletes = deletes.buffer_unordered(self.max_in_flight);
        let mut failure = None;
        while let Some((result, pod, why)) = deletes.next().await {
            let name = Arc::clone(&pod.header.key.name);
            match result {
                Ok(Removal::Deleted) => applied.deleted.push((name, why)),
                Ok(Removal::Changed) => applied.changed += 1,
                Ok(Removal::Waiting) => applied.waiting = true,
                Ok(Removal::Told) => applied.told += 1,
                Ok(Removal::Held) => {}
                Err(RequestError::DisruptionBudget(text)) => {
                    blocked.store(true, Ordering::Relaxed);
                    applied.blocked = Some(text);
                }
                Err(source) => failure = Some(ApplyError::Delete { pod: name, source }),
            }
        }
        failure.map_or(Ok(()), Err)
    }

    /// Brings a pod to the revision that the group is on its way to, or removes it where that cannot be.
    async fn remove(
        &self,
        job: &Job<'_>,
        plan: &Plan,
        exchange: &AtomicUsize,
        pod: &Pod,
        why: Why,
    ) -> Result<Removal, RequestError> {
        let take = |left: usize| left.checked_sub(1);
        if let Some(target) = plan.target.as_deref().filter(|_| why == Why::Outdated)
            && exchange.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
        {
            if let Some(step) = self.change_in_place(job, pod, target).await? {
                return Ok(step);
            }
            exchange.fetch_add(1, Ordering::Relaxed);
        }
        match pod.hook.as_ref().filter(|hook| hook.held) {
            Some(hook) if hook.since.is_some() => Ok(Removal::Held),
            Some(_) => self.tell(job, pod).await.map(|()| Removal::Told),
            None => self.delete_one(job, pod, why).await.map(|()| Removal::Deleted),
        }
    }

    /// Deletes one pod, or evicts it where it only makes way for another revision. Where it is not certain what became
    /// of the request, the pod stays noted as unanswered, so that no other victim is chosen in its place before the
    /// server has told.
    async fn delete_one(&self, job: &Job<'_>, pod: &Pod, why: Why) -> Result<(), RequestError> {
        let group = &job.observed.key;
        // The server looks for budgets at each eviction, and writes the pod once more: all for nothing without one.
        let voluntary = why == Why::Outdated && self.stores.budgets.count(&pod.header.key.namespace) > 0;
        let request = if voluntary { eviction(pod) } else { deletion(pod) }.map_err(malformed)?;
        self.gate.intend(group, &pod.header.key, Intent::Delete(pod.header.uid.to_string()));
        let answer = self.send::<IgnoredAny>(request).await;
        match &answer {
            Ok(_) | Err(RequestError::NotFound(_)) => {
                self.gate.ended(group, &pod.header.key, &pod.header.uid);
                return Ok(());
            }
            // Another pod of the name stands there, or somebody else wrote this one at the same moment.
            Err(RequestError::Conflict(_)) => {}
            Err(error) if error.is_ambiguous() => {}
            Err(_) => self.gate.refused(group, &pod.header.key),
        }
        answer.map(drop)
    }
}

fn deletion(pod: &Pod) -> http::Result<Request<Vec<u8>>> {
    let options =
        json!({"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": &*pod.header.uid}});
    Request::delete(format!("/api/v1/namespaces/{}/pods/{}", pod.header.key.namespace, pod.header.key.name))
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::ACCEPT, METADATA_ONLY)
        .body(options.to_string().into_bytes())
}

fn eviction(pod: &Pod) -> http::Result<Request<Vec<u8>>> {
    let eviction = json!({
        "apiVersion": "policy/v1", "kind": "Eviction",
        "metadata": {"namespace": &*pod.header.key.namespace, "name": &*pod.header.key.name},
        "deleteOptions": {"preconditions": {"uid": &*pod.header.uid}},
    });
    Request::post(format!(
        "/api/v1/namespaces/{}/pods/{}/eviction",
        pod.header.key.namespace, pod.header.key.name
    ))
    .header(header::CONTENT_TYPE, "application/json")
    .body(eviction.to_string().into_bytes())
}
