//! The wiring: which watches fill which stores, and which changes make which groups due.

use std::sync::Arc;

use k8s_openapi::api::{core::v1, policy::v1::PodDisruptionBudget};
use kube::{
    Api, ResourceExt,
    core::{Selector, SelectorExt},
    runtime::{WatchStreamExt, reflector, reflector::Store, watcher},
};
use mainstay_crds::ReplicaGroup;
use mainstay_runtime::{
    backoff::Backoff,
    client::watch_config,
    clock::Clock,
    events::Events,
    index::{Change, Index, ObjectKey},
    labels::LabelPool,
    manager::{Controller, Manager},
    metrics::LoopMetrics,
    reconcile::{self, Work},
    report::Reports,
    root,
    slim::MetadataOf,
};

use crate::{
    announce::Announcer,
    apply::Writer,
    claim::Claim,
    metrics::Metrics,
    names::{FIELD_MANAGER, REVISION, SLOT},
    owner,
    pod::{Labelled, Pod, WatchedPod},
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
    let (work, keys) = Work::new(metrics.clone());
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
        client: manager.client.clone(),
        stores: stores.clone(),
        groups: groups.clone(),
        writer: pod_writer,
        announcer: Announcer {
            events: Events::start(manager.client.clone(), FIELD_MANAGER, &manager.identity),
            metrics: own_metrics.clone(),
        },
        reports: Reports::new(FIELD_MANAGER, STATUS_PACE),
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
    watches.start(manager, watch_config(&manager.client).await, group_writer);

    let (synced_groups, counted) = (groups.clone(), groups.clone());
    let synced = async move {
        // The writer lives in a task that ends with the process, so waiting cannot fail.
        let _ = synced_groups.wait_until_ready().await;
        stores.pods.synced().await;
        stores.nodes.synced().await;
        stores.revisions.synced().await;
        stores.budgets.synced().await;
        stores.claims.synced().await;
    };
    let (passed, shutdown) = (Arc::clone(&work), manager.shutdown.clone());
    let run = reconcile::run(replication, groups, passed, keys, manager.bounds(), shutdown);
    let refresh = move || own_metrics.groups.set(i64::try_from(counted.len()).unwrap_or(i64::MAX));
    manager.controller(&work, synced, run, refresh)
}

/// The watches' side of the controller. Each runs in a task of its own until the process ends.
#[derive(Clone)]
struct Watches {
    work: Arc<Work>,
    stores: Stores,
    groups: Store<ReplicaGroup>,
    replication: Arc<Replication>,
}

impl Watches {
    fn start(
        self,
        manager: &Manager,
        config: watcher::Config,
        groups: reflector::store::Writer<ReplicaGroup>,
    ) {
        let client = || manager.client.clone();
        let this = self.clone();
        let changed = move |old: Option<&_>, new: Option<&_>| this.group_changed(old, new);
        // Without the group no pass is about it, and its pods are left alone.
        root::start(manager, config.clone(), groups, FIELD_MANAGER, changed, |_| {});

        let events = watcher(Api::<WatchedPod>::all(client()), config.clone()).default_backoff();
        let this = self.clone();
        tokio::spawn(async move {
            let mut pool = LabelPool::default();
            let slim = |watched| Pod::slim(watched, &mut pool);
            this.stores.pods.follow(events, slim, |change| this.pod_changed(change)).await;
        });

        let events = watcher(Api::<MetadataOf<v1::Node>>::all(client()), config.clone()).default_backoff();
        let this = self.clone();
        tokio::spawn(async move { this.stores.nodes.follow(events, Into::into, |_| {}).await });

        let events =
            watcher(Api::<MetadataOf<PodDisruptionBudget>>::all(client()), config.clone()).default_backoff();
        let this = self.clone();
        tokio::spawn(async move { this.stores.budgets.follow(events, Into::into, |_| {}).await });

        let claims = config.clone().labels(SLOT);
        let events =
            watcher(Api::<MetadataOf<v1::PersistentVolumeClaim>>::all(client()), claims).default_backoff();
        let this = self.clone();
        tokio::spawn(async move {
            this.stores.claims.follow(events, Claim::from, |change| this.claim_changed(&change)).await;
        });

        // Those of the built-in kinds are not ours to read.
        let revisions = config.clone().labels(REVISION);
        let events = watcher(Api::<WatchedRevision>::all(client()), revisions).default_backoff();
        let this = self.clone();
        tokio::spawn(async move {
            this.stores
                .revisions
                .follow(events, Revision::from, |change| this.revision_changed(&change))
                .await;
        });

        let events = watcher(Api::<MetadataOf<v1::ResourceQuota>>::all(client()), config).default_backoff();
        tokio::spawn(async move {
            let quotas = Index::<Labelled>::default();
            quotas.follow(events, Into::into, |change| self.quota_changed(change)).await;
        });
    }

    fn group_changed(&self, old: Option<&ReplicaGroup>, new: Option<&ReplicaGroup>) {
        let Some(group) = new.or(old) else { return };
        let key = ObjectKey::of(group);
        let replaced = matches!((old, new), (Some(old), Some(new)) if old.uid() != new.uid());
        if new.is_none() || replaced {
            self.work.forget(&key);
            self.replication.forget(&key);
        }
        if let Some(new) = new {
            if old.is_some_and(|old| old.metadata.generation != new.metadata.generation) {
                // A changed spec may be a right one: it is tried at once.
                self.work.backoff.forget(&key);
            }
            self.work.trigger(&key);
        }
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

    /// A revision that somebody deletes is missed, one that comes may be what `spec.rollbackTo` names.
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

    /// Groups that were refused something try again at once when a quota of their namespace changes.
    fn quota_changed(&self, change: Change<'_, Labelled>) {
        let Some(quota) = change.new.or(change.old) else { return };
        self.trigger_all(&quota.header.key.namespace, |group| {
            self.work.backoff.forget(&ObjectKey::of(group))
        });
    }

    fn trigger_all(&self, namespace: &str, is_due: impl Fn(&ReplicaGroup) -> bool) {
        for group in self.groups.state() {
            if group.namespace().as_deref() == Some(namespace) && is_due(&group) {
                self.work.trigger(&ObjectKey::of(&*group));
            }
        }
    }
}

/// Whether an orphan is one that the group would adopt, or whose hook it takes off before it goes.
fn concerns(group: &ReplicaGroup, pod: &Pod) -> bool {
    let is_let_go = group.metadata.deletion_timestamp.is_some() && pod.hook.is_some();
    is_let_go
        || Selector::try_from(group.spec.selector.clone()).is_ok_and(|selector| selector.matches(&pod.labels))
}
