//! The wiring: which watches fill which stores, and which changes enqueue which namespaces and policies.

use std::{collections::HashSet, sync::Arc};

use clap::Args;
use futures::FutureExt;
use k8s_openapi::api::core::v1;
use kube::{
    Resource,
    core::PartialObjectMeta,
    runtime::{reflector, reflector::Store},
};
use mainstay_crds::AccountPolicy;
use mainstay_runtime::{
    backoff::{Backoff, CATCH_UP},
    behind::Behind,
    clock::Clock,
    events::Events,
    index::{Change, Index, Indexed, ObjectKey},
    manager::{Controller, Manager},
    metrics::LoopMetrics,
    reconcile::{Lane, Work},
    report::StatusWriter,
    slim::MetadataOf,
    watch::Watch,
};
use mainstay_webhook::WebhookFlags;
use serde::de::DeserializeOwned;

use crate::{
    admission::{Admission, WEBHOOK},
    announce::Announcer,
    apply::Writer,
    departures,
    failing::Outcomes,
    metrics::Metrics,
    names::{FIELD_MANAGER, POLICY},
    plan::Grantable,
    policies::{Policies, STATUS_PACE},
    reconcile::{Namespaces, Repeated},
    server_clock::ServerClock,
    settings::{Settings, is_held},
    sources::Sources,
    stores::Stores,
    watched::{Stored, WatchedAccount, WatchedBinding},
};

/// The type of Secrets whose tokens never end.
const NON_EXPIRING: &str = "type=kubernetes.io/service-account-token";

/// The flags of this controller only.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// Where policies are admitted.
    #[command(flatten)]
    pub webhook: WebhookFlags,
    /// The ClusterRoles that policies may bind, separated by commas.
    #[arg(long, value_delimiter = ',', default_values = ["view", "edit"])]
    pub grantable_cluster_roles: Vec<String>,
    /// The Roles that policies may bind, by their names in any namespace, separated by commas.
    #[arg(long, value_delimiter = ',')]
    pub grantable_roles: Vec<String>,
}

impl Options {
    fn grantable(&self) -> Grantable {
        let names = |names: &[String]| names.iter().map(|name| name.as_str().into()).collect();
        Grantable { cluster_roles: names(&self.grantable_cluster_roles), roles: names(&self.grantable_roles) }
    }
}

/// Starts the watches and returns both loops.
pub async fn build(manager: &Manager, options: Options) -> Controller {
    let concurrency = manager.flags.max_concurrent_reconciles;
    let work = Work::new(LoopMetrics::new(&manager.registry, "namespace", concurrency));
    let policy_work = Work::new(LoopMetrics::new(&manager.registry, "accountpolicy", concurrency));
    let (namespaces, namespace_writer) = reflector::store();
    let (stores, server_clock) =
        (Stores::new(namespaces.clone(), options.grantable()), ServerClock::new(Clock::start()));
    server_clock.ask(&manager.client).await;
    let (policies, policy_writer) = reflector::store();
    let own_metrics = Metrics::new(&manager.registry);
    let announcer = Announcer {
        events: Events::start(manager.client.clone(), FIELD_MANAGER, &manager.identity),
        metrics: own_metrics.clone(),
    };
    let outcomes = Arc::new(Outcomes::default());
    let namespace_reconciler = Arc::new(Namespaces {
        stores: stores.clone(),
        writer: Writer::new(
            manager.client.clone(),
            stores.clone(),
            server_clock.clone(),
            manager.namespace(),
        ),
        announcer: announcer.clone(),
        server_clock: server_clock.clone(),
        outcomes: Arc::clone(&outcomes),
        max_in_flight: manager.flags.max_in_flight_writes.into(),
        policies: Arc::clone(&policy_work),
        repeated: Repeated::default(),
    });
    let policy_reconciler = Arc::new(Policies {
        client: manager.client.clone(),
        stores: stores.clone(),
        outcomes,
        status_writer: Arc::new(StatusWriter::new(manager.client.clone(), FIELD_MANAGER, STATUS_PACE)),
        announcer,
        behind: Behind::default(),
        leaves: Backoff::new(CATCH_UP),
    });
    let (all, woken) = (namespaces.clone(), Arc::clone(&work));
    let sources = Sources::new(manager.client.clone(), stores.clone(), move || trigger_all(&woken, &all));
    let watches = Watches {
        work: Arc::clone(&work),
        policy_work: Arc::clone(&policy_work),
        stores: stores.clone(),
        policies: policies.clone(),
        policy_reconciler: Arc::clone(&policy_reconciler),
        sources: Arc::new(sources),
    };
    watches.start(manager, namespace_writer, policy_writer);
    manager.while_leading(Arc::clone(&policy_reconciler.status_writer).run(Arc::clone(&policy_work)).boxed());

    let counted = policies.clone();
    let handler = Admission::new(manager.client.clone());
    let (asked, jumped, all) = (server_clock.clone(), Arc::clone(&work), namespaces.clone());
    let asking = manager.client.clone();
    manager.while_leading(async move { asked.follow(&asking, || trigger_all(&jumped, &all)).await }.boxed());
    let admits = mainstay_webhook::start(manager, &options.webhook, WEBHOOK, handler);
    let gives = manager.reconcile(namespace_reconciler, namespaces, &work);
    let tells = manager.reconcile(policy_reconciler, policies, &policy_work);
    let (client, shutdown, leaving) =
        (manager.client.clone(), manager.shutdown.clone(), Arc::clone(&stores.leaving));
    let run = async move {
        if departures::recall(&client, &leaving, &shutdown).await {
            futures::future::join(gives, tells).await;
        }
    };
    let refresh = move || {
        policy_work.refresh_metrics();
        own_metrics.refresh(server_clock.now());
        own_metrics.policies.set(i64::try_from(counted.len()).unwrap_or(i64::MAX));
    };
    manager.controller(&work, run, refresh).ready_when(admits)
}

/// The watches' side of the controller.
#[derive(Clone)]
struct Watches {
    work: Arc<Work>,
    policy_work: Arc<Work>,
    stores: Stores,
    policies: Store<AccountPolicy>,
    policy_reconciler: Arc<Policies>,
    sources: Arc<Sources>,
}

impl Watches {
    fn start(
        self,
        manager: &Manager,
        namespaces: reflector::store::Writer<MetadataOf<v1::Namespace>>,
        policies: reflector::store::Writer<AccountPolicy>,
    ) {
        let (this, that) = (self.clone(), self.clone());
        let changed = move |old: Option<&_>, new: Option<&_>| this.policy_changed(old, new);
        // What a policy gave that is not known is left alone.
        let lost = move |policy: &AccountPolicy| {
            that.policy_reconciler.status_writer.withdraw(&ObjectKey::of(policy));
            that.read_policies();
        };
        manager.watch().root(policies, FIELD_MANAGER, changed, lost);

        let this = self.clone();
        manager.watch().follow(namespaces, move |old, new| this.namespace_changed(old, new));

        self.follow(manager.watch::<WatchedAccount>(), &self.stores.accounts);
        self.follow(manager.watch::<WatchedBinding>(), &self.stores.bindings);
        // With managedFields, which say whether somebody has changed what is in them.
        let ours = manager.watch::<PartialObjectMeta<v1::Secret>>().labels(POLICY);
        self.follow(ours, &self.stores.secrets);

        let non_expiring = manager.watch::<MetadataOf<v1::Secret>>().fields(NON_EXPIRING);
        let store = self.stores.non_expiring.clone();
        non_expiring.fill(&store, Into::into, move |_| self.all_policies());
    }

    fn follow<W, V>(&self, watch: Watch<'_, W>, store: &Index<Stored<V>>)
    where
        W: Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned + Send + 'static,
        Stored<V>: From<W> + Indexed<Bucket = crate::watched::Bucket>,
        V: Send + Sync + 'static,
    {
        let this = self.clone();
        watch.fill(store, Into::into, move |change: Change<'_, Stored<V>>| this.object_changed(&change));
    }

    fn policy_changed(&self, old: Option<&AccountPolicy>, new: Option<&AccountPolicy>) {
        let Some(policy) = new.or(old) else { return };
        let key = ObjectKey::of(policy);
        let status_writer = &self.policy_reconciler.status_writer;
        self.policy_work.root_changed(old, new, |new| status_writer.wrote(&key, new.status.as_ref()));
        let same = |old: &AccountPolicy, new: &AccountPolicy| {
            old.metadata.uid == new.metadata.uid
                && old.metadata.generation == new.metadata.generation
                && old.metadata.deletion_timestamp == new.metadata.deletion_timestamp
                && is_held(old) == is_held(new)
        };
        if matches!((old, new), (Some(old), Some(new)) if same(old, new)) {
            return;
        }
        let uid = |policy: &AccountPolicy| policy.metadata.uid.clone();
        if let Some(gone) = old.and_then(uid).filter(|old| new.and_then(uid).as_ref() != Some(old)) {
            self.stores.forget_policy(&gone);
        }
        self.read_policies();
        // What the old spec could not be given says nothing of the new one.
        let namespaces = self.stores.namespaces.state();
        namespaces.iter().for_each(|namespace| self.work.outdate(&ObjectKey::of(&**namespace)));
        trigger_all(&self.work, &self.stores.namespaces);
    }

    /// Processes the policies of the store.
    fn read_policies(&self) {
        let policies = self.policies.state();
        let mut settings: Vec<_> =
            policies.iter().filter_map(|policy| Settings::read(policy).ok().map(Arc::new)).collect();
        settings.sort_by(|one, other| one.name.cmp(&other.name));
        let copies = settings.iter().flat_map(|policy| policy.desired.copies.values());
        let wanted: HashSet<_> = copies.map(|copy| ObjectKey::new(&copy.namespace, &copy.name)).collect();
        self.sources.watch(&wanted);
        *self.stores.policies.write() = Arc::new(settings);
    }

    fn namespace_changed(
        &self,
        old: Option<&MetadataOf<v1::Namespace>>,
        new: Option<&MetadataOf<v1::Namespace>>,
    ) {
        self.work.root_changed(old, new, |_| false);
        self.all_policies();
    }

    /// What is of a policy, or has the name of what it gives, matters to its namespace.
    fn object_changed<V>(&self, change: &Change<'_, Stored<V>>)
    where
        Stored<V>: Indexed,
    {
        let policies = Arc::clone(&self.stores.policies.read());
        for object in [change.old, change.new].into_iter().flatten() {
            let key = object.key();
            let name = &key.name;
            let is_named = policies.iter().any(|policy| {
                policy.desired.accounts.contains_key(name) || policy.desired.bindings.contains_key(name)
            });
            if object.policy.is_some() || is_named {
                self.work.trigger(&ObjectKey::new("", &key.namespace));
            }
            if let Some(policy) = &object.policy {
                self.policy_work.trigger(&ObjectKey::new("", policy));
            }
        }
    }

    fn all_policies(&self) {
        for policy in self.stores.policies.read().iter() {
            self.policy_work.trigger_in(Lane::Sweep, &ObjectKey::new("", &policy.name));
        }
    }
}

fn trigger_all(work: &Work, namespaces: &Store<MetadataOf<v1::Namespace>>) {
    for namespace in namespaces.state() {
        work.trigger_in(Lane::Sweep, &ObjectKey::of(&*namespace));
    }
}
