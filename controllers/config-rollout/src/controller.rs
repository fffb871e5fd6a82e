//! The wiring: which watches fill which stores, and which changes enqueue which rollouts.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use clap::Args;
use futures::FutureExt;
use k8s_openapi::{
    api::{apps::v1 as apps, core::v1 as core},
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};
use kube::{
    Resource,
    core::{Selector, SelectorExt},
    runtime::reflector,
};
use mainstay_crds::{ConfigRollout, SourceKind, TargetKind};
use mainstay_runtime::{
    events::Events,
    index::{Change, ObjectKey},
    manager::{Controller, Manager},
    metrics::{LoopMetrics, set_each},
    reconcile::Work,
    report::StatusWriter,
};
use mainstay_webhook::WebhookFlags;
use parking_lot::RwLock;
use serde::de::DeserializeOwned;

use crate::{
    admission::{Admission, WEBHOOK},
    announce::Announcer,
    apply::Writer,
    memory::Memories,
    metrics::Metrics,
    names::FIELD_MANAGER,
    probes::Probes,
    reconcile::{ConfigRollouts, STATUS_PACE},
    record,
    slots::Slots,
    stores::Stores,
    watched::{Config, WatchedConfig, WatchedWorkload, Workload},
};

/// The value of the label `controller` of the loop's series.
const LOOP: &str = "configrollout";

/// The flags of this controller only.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// Where pods are admitted.
    #[command(flatten)]
    pub webhook: WebhookFlags,
    /// How many targets of all rollouts together may be updating at the same time
    #[arg(long, env = "MAINSTAY_MAX_TARGETS_ROLLING", default_value_t = 100,
          value_parser = clap::value_parser!(u16).range(1..))]
    pub max_targets_rolling: u16,
}

/// Starts the watches and returns the loop.
pub async fn build(manager: &Manager, options: Options) -> Controller {
    let flags = &manager.flags;
    let metrics = LoopMetrics::new(&manager.registry, LOOP, flags.max_concurrent_reconciles);
    let work = Work::new(metrics);
    let stores = Stores::new(&manager.registry);
    let (rollouts, rollout_writer) = reflector::store();
    let own_metrics = Metrics::new(&manager.registry);
    let reconciler = Arc::new(ConfigRollouts {
        client: manager.client.clone(),
        stores: stores.clone(),
        writer: Writer::new(manager.client.clone(), stores.clone()),
        status_writer: Arc::new(StatusWriter::new(manager.client.clone(), FIELD_MANAGER, STATUS_PACE)),
        announcer: Announcer {
            events: Events::start(manager.client.clone(), FIELD_MANAGER, &manager.identity),
            metrics: own_metrics.clone(),
        },
        slots: Slots::new(options.max_targets_rolling.into()),
        work: Arc::clone(&work),
        max_in_flight: flags.max_in_flight_writes.into(),
        admits: options.webhook.is_on(),
        memory: Memories::default(),
        probes: Probes::default(),
    });
    let watches = Watches {
        work: Arc::clone(&work),
        stores: stores.clone(),
        reconciler: Arc::clone(&reconciler),
        rollouts: Arc::default(),
    };
    watches.start(manager, rollout_writer);
    manager.while_leading(Arc::clone(&reconciler.status_writer).run(Arc::clone(&work)).boxed());

    let counted = rollouts.clone();
    let handler = Admission { client: manager.client.clone(), stores: stores.clone() };
    let admits = mainstay_webhook::start(manager, &options.webhook, WEBHOOK, handler);
    let run = manager.reconcile(reconciler, rollouts, &work);
    manager.controller(&work, run, move || refresh(&own_metrics, &counted.state())).ready_when(admits)
}

/// Brings the gauges up to date.
fn refresh(metrics: &Metrics, rollouts: &[Arc<ConfigRollout>]) {
    let mut reasons: BTreeMap<String, i64> = BTreeMap::new();
    let mut rolling = 0;
    for rollout in rollouts {
        let mut conditions = rollout.status.iter().flat_map(|status| &status.conditions);
        let ready = conditions.find(|condition| condition.type_ == "Ready").map(|ready| ready.reason.clone());
        *reasons.entry(ready.unwrap_or_else(|| "Unknown".to_owned())).or_default() += 1;
        rolling += record::state(rollout, None).in_progress();
    }
    set_each(&metrics.rollouts, &reasons);
    metrics.in_progress.set(i64::try_from(rolling).unwrap_or(i64::MAX));
}

/// The rollouts of each namespace, so that a change is compared only with those that it can affect.
type ByNamespace = HashMap<Arc<str>, BTreeMap<Arc<str>, Arc<ConfigRollout>>>;

/// The watches' side of the controller.
#[derive(Clone)]
struct Watches {
    work: Arc<Work>,
    stores: Stores,
    reconciler: Arc<ConfigRollouts>,
    rollouts: Arc<RwLock<ByNamespace>>,
}

impl Watches {
    fn start(self, manager: &Manager, rollouts: reflector::store::Writer<ConfigRollout>) {
        let this = self.clone();
        let changed = move |old: Option<&_>, new: Option<&_>| this.rollout_changed(old, new);
        // Without the rollout no reconcile is about it, and its revisions and targets are left alone.
        let reconciler = Arc::clone(&self.reconciler);
        let lost = move |rollout: &ConfigRollout| reconciler.lose(&ObjectKey::of(rollout));
        manager.watch().root(rollouts, FIELD_MANAGER, changed, lost);
        self.follow_sources::<core::ConfigMap>(manager, SourceKind::ConfigMap);
        self.follow_sources::<core::Secret>(manager, SourceKind::Secret);
        self.follow_targets::<apps::Deployment>(manager, TargetKind::Deployment);
        self.follow_targets::<apps::StatefulSet>(manager, TargetKind::StatefulSet);
        self.follow_targets::<apps::DaemonSet>(manager, TargetKind::DaemonSet);
        self.follow_groups(manager);
    }

    fn follow_sources<K>(&self, manager: &Manager, kind: SourceKind)
    where
        K: Resource<DynamicType = ()> + Clone + 'static,
        WatchedConfig<K>: DeserializeOwned,
    {
        let this = self.clone();
        let changed = move |change: Change<'_, Config>| this.source_changed(kind, change);
        manager.watch::<WatchedConfig<K>>().fill(self.stores.configs(kind), Into::into, changed);
    }

    fn follow_targets<K>(&self, manager: &Manager, kind: TargetKind)
    where
        K: Resource<DynamicType = ()> + Clone + 'static,
        WatchedWorkload<K>: DeserializeOwned,
    {
        let this = self.clone();
        let changed = move |change: Change<'_, Workload>| this.target_changed(kind, change);
        manager.watch::<WatchedWorkload<K>>().fill(self.stores.workloads(kind), Into::into, changed);
    }

    /// ReplicaGroups are of no built-in kind, of which the API server admits only what can be decoded.
    fn follow_groups(&self, manager: &Manager) {
        let (this, kind) = (self.clone(), TargetKind::ReplicaGroup);
        let changed = move |change: Change<'_, Workload>| this.target_changed(kind, change);
        let (store, undecoded) = (self.stores.workloads(kind), &self.stores.undecoded_groups);
        manager.watch().fill_decoded(store, undecoded, Into::into, changed);
    }

    fn rollout_changed(&self, old: Option<&ConfigRollout>, new: Option<&ConfigRollout>) {
        self.keep(old, new);
        let status_writer = &self.reconciler.status_writer;
        self.work.root_changed(old, new, |new| status_writer.wrote(&ObjectKey::of(new), new.status.as_ref()));
        let begins = new.filter(|new| old.is_none() && new.metadata.deletion_timestamp.is_none());
        if let Some(new) = begins {
            let in_progress = record::state(new, None).in_progress();
            self.reconciler.slots.seed(&ObjectKey::of(new), in_progress);
        }
    }

    /// Keeps the rollouts of each namespace.
    fn keep(&self, old: Option<&ConfigRollout>, new: Option<&ConfigRollout>) {
        let Some(key) = new.or(old).map(ObjectKey::of) else { return };
        let mut rollouts = self.rollouts.write();
        let namespace = rollouts.entry(Arc::clone(&key.namespace)).or_default();
        match new {
            Some(new) => drop(namespace.insert(key.name, Arc::new(new.clone()))),
            None => drop(namespace.remove(&key.name)),
        }
        if namespace.is_empty() {
            rollouts.remove(&key.namespace);
        }
    }

    /// An object of a revision matters to its rollout, a source to those that name it before or after the change.
    fn source_changed(&self, kind: SourceKind, change: Change<'_, Config>) {
        if let (Some(old), Some(new)) = (change.old, change.new)
            && old.version == new.version
        {
            return;
        }
        for config in [change.old, change.new].into_iter().flatten() {
            let namespace = &config.header.key.namespace;
            match &config.mark {
                Some(mark) => self.work.trigger(&ObjectKey {
                    namespace: Arc::clone(namespace),
                    name: Arc::clone(&mark.rollout),
                }),
                None => self.trigger(namespace, &Concern::Source(kind, config)),
            }
        }
    }

    fn target_changed(&self, kind: TargetKind, change: Change<'_, Workload>) {
        for workload in [change.old, change.new].into_iter().flatten() {
            self.trigger(&workload.header.key.namespace, &Concern::Target(kind, workload));
        }
    }

    fn trigger(&self, namespace: &str, what: &Concern<'_>) {
        let rollouts = self.rollouts.read();
        for rollout in rollouts.get(namespace).into_iter().flat_map(BTreeMap::values) {
            if concerns(rollout, what) {
                self.work.trigger(&ObjectKey::of(&**rollout));
            }
        }
    }
}

/// Something that has changed.
#[derive(Debug)]
enum Concern<'a> {
    /// A Secret or ConfigMap that is no object of a revision.
    Source(SourceKind, &'a Config),
    /// A workload.
    Target(TargetKind, &'a Workload),
}

/// Whether a change of this source or workload can matter to `rollout`.
fn concerns(rollout: &ConfigRollout, what: &Concern<'_>) -> bool {
    let selects = |selector: &LabelSelector, labels| {
        Selector::try_from(selector.clone()).is_ok_and(|selector| selector.matches(labels))
    };
    match what {
        Concern::Source(kind, config) => rollout.spec.sources.iter().any(|source| {
            let named = source.name.as_deref() == Some(&*config.header.key.name);
            source.kind == *kind
                && (named || source.selector.as_ref().is_some_and(|select| selects(select, &config.labels)))
        }),
        Concern::Target(kind, workload) => {
            rollout.spec.stages.iter().flat_map(|stage| &stage.targets).any(|target| {
                let named = target.name.as_deref() == Some(&*workload.header.key.name);
                let selected =
                    target.selector.as_ref().is_some_and(|select| selects(select, &workload.labels));
                target.kind == *kind && (named || selected)
            })
        }
    }
}
