//! Live reads: what the stores say is checked against the server before it is acted on, where acting cannot be
//! undone or the stores have not proved themselves yet.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::{
    Api,
    api::{ListParams, PartialObjectMeta},
};
use mainstay_crds::ReplicaGroup;
use mainstay_runtime::{
    failure::RequestError,
    gate::Intent,
    index::ObjectKey,
    outcome::Turn,
    owner::controller,
    request::{ObjectPath, find, in_time, paged},
};

use super::{ApplyError, Job, Writer, is_going, path};
use crate::{observe::Observed, plan::Claim};

impl Writer {
    /// Whether the stores agree with the server on the group and its pods. Compared once a process, before its first
    /// write, since a process that has just begun to lead may have followed watches that had fallen behind its
    /// predecessor's writes, those of the status included.
    pub(super) async fn is_caught_up(&self, job: &Job<'_>) -> Result<bool, RequestError> {
        if self.compared.lock().contains(&job.observed.key) {
            return Ok(true);
        }
        let caught_up = self.group_is_current(job, true).await?
            && self.pods_are_current(job).await?
            && self.claims_are_current(job).await?;
        if caught_up {
            self.compared.lock().insert(job.observed.key.clone());
        }
        Ok(caught_up)
    }

    /// Whether the group is as the reconcile saw it: its spec, and with `status` its status too.
    pub(super) async fn group_is_current(&self, job: &Job<'_>, status: bool) -> Result<bool, RequestError> {
        let groups: Api<ReplicaGroup> = Api::namespaced(self.client.clone(), &job.observed.key.namespace);
        let live = match in_time(groups.get_metadata(&job.observed.key.name)).await {
            Err(RequestError::NotFound(_)) => return Ok(false),
            live => live?.metadata,
        };
        let seen = &job.group.metadata;
        let same = live.uid == seen.uid && live.generation == seen.generation;
        let same_status = !status || live.resource_version == seen.resource_version;
        Ok(same && same_status && is_going(&live) == is_going(seen))
    }

    async fn pods_are_current(&self, job: &Job<'_>) -> Result<bool, RequestError> {
        let seen =
            job.observed.pods().filter(|(_, claim)| matches!(claim, Claim::Mine | Claim::OrphanMatching));
        let seen: BTreeSet<_> =
            seen.map(|(pod, _)| (pod.header.uid.to_string(), pod.header.terminating)).collect();
        let live = self.live_pods(job).await?;
        let live = live.into_iter().filter(|pod| pod.is_of_or_free(job));
        Ok(live.map(|pod| (pod.uid, pod.terminating)).collect::<BTreeSet<_>>() == seen)
    }

    /// Whether the store shows the group's pods as the server does now. Asked before a change is given up: that cannot be
    /// undone, and a watch that hangs goes on showing pods as they were.
    ///
    /// # Errors
    /// [`ApplyError::Read`].
    pub async fn shows_pods(&self, group: &ReplicaGroup, observed: &Observed) -> Result<bool, ApplyError> {
        let turn = Turn::default();
        let job = self.job(group, observed, &turn);
        let mut live = self.live_pods(&job).await.map_err(ApplyError::Read)?;
        live.retain(|pod| pod.is_of_or_free(&job));
        let is_shown = |pod: &LivePod| {
            let shown = self.stores.pods.get(&ObjectKey::new(&observed.key.namespace, &pod.name));
            shown.is_some_and(|shown| shown.header.version >= pod.version)
        };
        let lives: BTreeSet<_> = live.iter().map(|pod| &*pod.uid).collect();
        let mut gone =
            observed.pods().filter(|(pod, claim)| *claim == Claim::Mine && !lives.contains(&*pod.header.uid));
        let none_outlives = gone.all(|(pod, _)| {
            self.stores.pods.get(&pod.header.key).is_none_or(|now| now.header.uid != pod.header.uid)
        });
        Ok(live.iter().all(is_shown) && none_outlives)
    }

    /// Whether every pod that the store shows as the group's is so still: it is there, selected and owned. The garbage
    /// collector orphans pods before it takes its finalizer off the group, but the watches need not show it in this order.
    pub(super) async fn pods_have_stayed(&self, job: &Job<'_>) -> Result<bool, RequestError> {
        let live = self.live_pods(job).await?;
        let own = live.iter().filter(|pod| pod.owner.as_deref() == Some(&*job.observed.uid));
        let own: BTreeSet<_> = own.map(|pod| &*pod.uid).collect();
        let mut seen =
            job.observed.pods().filter(|(pod, claim)| *claim == Claim::Mine && !pod.header.terminating);
        Ok(seen.all(|(pod, _)| own.contains(&*pod.header.uid)))
    }

    /// The pods that the group selects, as the server has them, whoever controls them.
    async fn live_pods(&self, job: &Job<'_>) -> Result<Vec<LivePod>, RequestError> {
        let list = |page| {
            let pods = job.pods.clone();
            async move { pods.list_metadata(&page).await }
        };
        paged(ListParams::default().labels_from(&job.observed.selector), list, LivePod::of).await
    }

    /// Looks up what became of the writes of this group whose answer was lost.
    pub(super) async fn settle(&self, job: &Job<'_>) -> Result<(), RequestError> {
        self.pods(job).settle(path).await?;
        self.claims(job).settle(ObjectPath::of::<PersistentVolumeClaim>).await
    }

    /// Looks up whether a pod that may have been created under this name is there, and the group's.
    pub(super) async fn look_up(&self, job: &Job<'_>, pod: &ObjectKey) -> Result<bool, RequestError> {
        let found = find(&self.client, &path(pod)).await?;
        let found =
            found.filter(|found| controller(found).is_some_and(|owner| *owner.uid == *job.observed.uid));
        self.gate.settle(&job.observed.key, pod, &Intent::Create, found.as_ref());
        Ok(found.is_some())
    }
}

/// What is kept of a pod that was listed.
struct LivePod {
    name: String,
    uid: String,
    version: Option<u64>,
    /// The UID of its controller.
    owner: Option<String>,
    terminating: bool,
}

impl LivePod {
    fn of(pod: PartialObjectMeta<Pod>) -> Option<Self> {
        let owner = controller(&pod.metadata).map(|owner| owner.uid.clone());
        let terminating = is_going(&pod.metadata);
        let version = pod.metadata.resource_version.and_then(|version| version.parse().ok());
        Some(Self { name: pod.metadata.name?, uid: pod.metadata.uid?, version, owner, terminating })
    }

    fn is_of_or_free(&self, job: &Job<'_>) -> bool {
        self.owner.as_deref().is_none_or(|uid| uid == &*job.observed.uid)
    }
}
