//! The wiring: which watches fill which stores, and which changes enqueue which groups.

use std::sync::Arc;

use futures::FutureExt;
use k8s_openapi::api::{core::v1, policy::v1::PodDisruptionBudget};
use kube::{
    core::{Selector, SelectorExt},
    runtime::{reflector, reflector::Store},
};
use mainstay_crds::ReplicaGroup;
use mainstay_runtime::{
    backoff::Backoff,
    clock::Clock,
    events::Events,
    index::{Change, Index, ObjectKey},
    labels::LabelPool,
    manager::{Controller, Manager},
    metrics::LoopMetrics,
    node::WatchedNode,
    reconcile::Work,
    report::StatusWriter,
    slim::MetadataOf,
};

use crate::{
    announce::Announcer,
    apply::Writer,
    claim::{self, Claim},
    metrics::Metrics,
    names::{FIELD_MANAGER, REVISION, SLOT},
    owner,
    pod::{Pod, WatchedPod},
    quota::{Quota, WatchedQuota},
    reconcile::{ASK_AGAIN, Replication, STATUS_PACE},
    revision::{Revision, WatchedRevision},
    stores::Stores,
};

/// The value of the label `controller` of the loop's series.
const LOOP: &str = "replicagroup";

/// Starts the watches and returns the loop.
pub async fn build(manager: &Manager) -> Controller {
    let flags = &manager.flags;
    let metrics = LoopMetrics::new(&manager.registry, LOOP, flags.max_concurrent_reconciles);
    let work = Work::new(metrics.clone());
    let stores = Stores::default();
    let (groups, group_writer) = reflector::store();
    let own_metrics = Metrics::new(&manager.registry);
    let pod_writer = Writer::new(
        manager.client.clone(),
        stores.clone(),
        groups.clone(),
        flags.max_in_flight_writes,
        manager.shutdown.clone(),
    );
    let replication = Arc::new(Replication {
        stores: stores.clone(),
        groups: groups.clone(),
        writer: pod_writer,
        announcer: Announcer {
            events: Events::start(manager.client.clone(), FIELD_MANAGER, &manager.identity),
            metrics: own_metrics.clone(),
        },
        status_writer: Arc::new(StatusWriter::new(manager.client.clone(), FIELD_MANAGER, STATUS_PACE)),
        metrics,
        memory: parking_lot::Mutex::default(),
        unsure: Backoff::new(ASK_AGAIN),
        clock: Clock::start(),
    });
    let watches = Watches {
        work: Arc::clone(&work),
        stores: stores.clone(),
        groups: groups.clone(),
        replication: Arc::clone(&replication),
    };
    watches.start(manager, group_writer);
    manager.while_leading(Arc::clone(&replication.status_writer).run(Arc::clone(&work)).boxed());

    let counted = groups.clone();
    let run = manager.reconcile(replication, groups, &work);
    manager.controller(&work, run, move || own_metrics.refresh(&counted.state()))
}

/// The watches' side of the controller.
#[derive(Clone)]
struct Watches {
    work: Arc<Work>,
    stores: Stores,
    groups: Store<ReplicaGroup>,
    replication: Arc<Replication>,
}

impl Watches {
    fn start(self, manager: &Manager, groups: reflector::store::Writer<ReplicaGroup>) {
        let this = self.clone();
        let changed = move |old: Option<&_>, new: Option<&_>| {
            let status_writer = &this.replication.status_writer;
            this.work.root_changed(old, new, |new: &ReplicaGroup| {
                status_writer.wrote(&ObjectKey::of(new), new.status.as_ref())
            });
        };
        // Without the group no reconcile is about it, and its pods are left alone.
        let status_writer = Arc::clone(&self.replication.status_writer);
        let lost = move |group: &ReplicaGroup| status_writer.withdraw(&ObjectKey::of(group));
        manager.watch().root(groups, FIELD_MANAGER, changed, lost);

        let mut pool = LabelPool::default();
        let slim = move |watched| Pod::slim(watched, &mut pool);
        let this = self.clone();
        manager.watch::<WatchedPod>().fill(&self.stores.pods, slim, move |change| this.pod_changed(change));

        manager.watch::<WatchedNode>().fill(&self.stores.nodes, Into::into, |_| {});
        manager.watch::<MetadataOf<PodDisruptionBudget>>().fill(&self.stores.budgets, Into::into, |_| {});

        let claims = manager.watch::<MetadataOf<v1::PersistentVolumeClaim>>().labels(SLOT);
        let this = self.clone();
        claims.fill(&self.stores.claims, Claim::from, move |change| this.claim_changed(&change));

        // Those of the built-in kinds are not ours to read.
        let revisions = manager.watch::<WatchedRevision>().labels(REVISION);
        let this = self.clone();
        revisions.fill(&self.stores.revisions, Revision::from, move |change| this.revision_changed(&change));

        let quotas = Index::<Quota>::default();
        let changed = move |change: Change<'_, Quota>| self.quota_changed(&change);
        manager.watch::<WatchedQuota>().fill(&quotas, Into::into, changed);
    }

    /// A pod matters to the group that controls it, before or after the change, and an orphan to each group that it
    /// concerns.
    fn pod_changed(&self, change: Change<'_, Pod>) {
        for pod in [change.old, change.new].into_iter().flatten() {
            match &pod.controller {
                Some(controller) => self.trigger_controller(&pod.header.key, controller),
                None => self.trigger_all(&pod.header.key.namespace, |group| concerns(group, pod)),
            }
        }
    }

    /// A deleted revision must be recreated, and a new one may be what `spec.rollbackTo` names.
    fn revision_changed(&self, change: &Change<'_, Revision>) {
        for revision in [change.old, change.new].into_iter().flatten() {
            if let Some(controller) = &revision.controller {
                self.trigger_controller(&revision.header.key, controller);
            }
        }
    }

    /// A claim that comes or goes may be what a new pod waits for.
    fn claim_changed(&self, change: &Change<'_, Claim>) {
        for claim in [change.old, change.new].into_iter().flatten() {
            let (namespace, name) = (Arc::clone(&claim.header.key.namespace), Arc::clone(&claim.group));
            self.work.trigger(&ObjectKey { namespace, name });
        }
    }

    fn trigger_controller(&self, object: &ObjectKey, controller: &owner::Controller) {
        if let Some(group) = &controller.group {
            self.work
                .trigger(&ObjectKey { namespace: Arc::clone(&object.namespace), name: Arc::clone(group) });
        }
    }

    /// What a quota had refused is tried again at once when it would be admitted, or the quota is gone.
    fn quota_changed(&self, change: &Change<'_, Quota>) {
        let Some(quota) = change.new.or(change.old) else { return };
        let is_due = |refusal: &str| change.new.is_none_or(|quota| quota.admits(refusal));
        for key in self.work.keys_of(&quota.header.key.namespace) {
            self.work.retry_failed_for("QuotaExceeded", &key, is_due);
        }
    }

    fn trigger_all(&self, namespace: &str, is_due: impl Fn(&ReplicaGroup) -> bool) {
        for key in self.work.keys_of(namespace) {
            if self.groups.get(&key.reference()).is_some_and(|group| is_due(&group)) {
                self.work.trigger(&key);
            }
        }
    }
}

/// Whether an orphan is one that the group would adopt, whose hook it removes before it is deleted, or that may hold a set
/// of its volume claims, which is free when the pod is gone.
fn concerns(group: &ReplicaGroup, pod: &Pod) -> bool {
    let is_let_go = group.metadata.deletion_timestamp.is_some() && pod.hook.is_some();
    is_let_go
        || pod.slot.is_some() && claim::are_wanted(group)
        || Selector::try_from(group.spec.selector.clone()).is_ok_and(|selector| selector.matches(&pod.labels))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_stray_pod_with_a_slot_wakes_the_groups_that_may_wait_for_its_claims() {
        let group = |templates: Value| -> ReplicaGroup {
            let spec = json!({"selector": {"matchLabels": {"app": "web"}}, "template": {}, "volumeClaimTemplates": templates});
            let object = json!({
                "apiVersion": "mainstay.dev/v1alpha1", "kind": "ReplicaGroup", "metadata": {"name": "web"}, "spec": spec
            });
            serde_json::from_value(object).unwrap()
        };
        let pod = |labels: Value| {
            let pod = json!({"metadata": {"name": "p", "namespace": "ns", "uid": "p", "labels": labels}});
            Pod::slim(serde_json::from_value(pod).unwrap(), &mut LabelPool::default())
        };
        let with_claims = group(json!([{"metadata": {"name": "data"}, "spec": {}}]));
        let aside = pod(json!({"app": "debug", SLOT: "bcdfg"}));
        assert!(concerns(&with_claims, &aside));
        assert!(
            !concerns(&group(json!([])), &aside) && !concerns(&with_claims, &pod(json!({"app": "debug"})))
        );
        assert!(concerns(&group(json!([])), &pod(json!({"app": "web"}))));
    }
}
