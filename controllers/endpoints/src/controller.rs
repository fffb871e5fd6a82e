//! The wiring: which watches fill which stores, and which changes enqueue which pools.

use std::{collections::HashSet, net::IpAddr, sync::Arc};

use clap::Args;
use futures::FutureExt;
use kube::runtime::{reflector, reflector::Store};
use mainstay_crds::EndpointPool;
use mainstay_runtime::{
    clock::Clock,
    events::Events,
    index::{Change, Indexed, ObjectKey},
    labels::LabelPool,
    manager::{Controller, Manager},
    metrics::LoopMetrics,
    reconcile::{Lane, Work},
    report::StatusWriter,
};

use crate::{
    announce::Announcer,
    apply::Writer,
    checker::{CheckMetrics, Checker},
    interests::Interests,
    lookups::{LookupMetrics, Lookups},
    metrics::Metrics,
    names::{FIELD_MANAGER, MANAGED_BY, MANAGER, SERVICE_NAME},
    network::Network,
    ranges,
    reconcile::{Endpoints, STATUS_PACE},
    stores::Stores,
    watched::{
        ApiServer, Bucket, Grant, Node, Pod, Service, Slice, WatchedNode, WatchedPod, WatchedService,
        WatchedSlice,
    },
};

/// The value of the label `controller` of the loop's series.
const LOOP: &str = "endpointpool";

/// The flags of this controller only.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// Addresses that no pool may name: networks, `nodes` and `api-server`; loopback and link-local ones never may
    #[arg(long, env = "MAINSTAY_FORBIDDEN_RANGES", value_delimiter = ',', default_values = ranges::DEFAULT)]
    pub forbidden_ranges: Vec<ranges::Entry>,
    /// How many checks of all pools together run at the same time
    #[arg(long, env = "MAINSTAY_MAX_CONCURRENT_CHECKS", default_value_t = 256,
          value_parser = clap::value_parser!(u16).range(1..))]
    pub max_concurrent_checks: u16,
}

/// Starts the watches and returns the loop.
pub async fn build(manager: &Manager, options: Options) -> Controller {
    build_on(manager, options, Network::of_host()).await
}

/// As [`build`], with checks and lookups on another network than the host's.
pub async fn build_on(manager: &Manager, options: Options, network: Network) -> Controller {
    let flags = &manager.flags;
    let loop_metrics = LoopMetrics::new(&manager.registry, LOOP, flags.max_concurrent_reconciles);
    let work = Work::new(loop_metrics.clone());
    let (pools, pool_writer) = reflector::store();
    let endpoints = Arc::new(endpoints(manager, options, network, loop_metrics, &work));
    let watches =
        Watches { work: Arc::clone(&work), pools: pools.clone(), endpoints: Arc::clone(&endpoints) };
    watches.start(manager, pool_writer);
    manager.while_leading(Arc::clone(&endpoints.status_writer).run(Arc::clone(&work)).boxed());

    let (counted, metrics) = (pools.clone(), Arc::clone(&endpoints.metrics));
    let (checker, lookups) = (Arc::clone(&endpoints.checker), Arc::clone(&endpoints.lookups));
    let shutdown = manager.shutdown.clone();
    let passes = manager.reconcile(endpoints, pools.clone(), &work);
    let (checks, names) = (manager.beat("checks"), manager.beat("lookups"));
    // Only who leads asks endpoints and names: standbys would ask them once more each.
    let run = async move {
        let checking = checker.run(&checks, shutdown.clone());
        tokio::join!(passes, checking, lookups.run(&names, shutdown.clone()));
    };
    manager.controller(&work, run, move || metrics.refresh(counted.len()))
}

fn endpoints(
    manager: &Manager,
    options: Options,
    network: Network,
    loop_metrics: LoopMetrics,
    work: &Arc<Work>,
) -> Endpoints {
    let (client, registry) = (&manager.client, &manager.registry);
    let (clock, stores) = (Clock::start(), Stores::new(registry));
    let metrics = Arc::new(Metrics::new(registry));
    let trigger = |work: &Arc<Work>| {
        let work = Arc::clone(work);
        move |pool: &ObjectKey| work.trigger(pool)
    };
    let Network { check, look_up } = network;
    let limit = options.max_concurrent_checks.into();
    let checker = Checker::new(check, limit, CheckMetrics::new(registry), clock, trigger(work));
    let lookups = Lookups::new(look_up, LookupMetrics::new(registry), clock, trigger(work));
    let in_flight = manager.flags.max_in_flight_writes;
    Endpoints {
        client: client.clone(),
        interests: Interests::default(),
        forbidden: options.forbidden_ranges.into_iter().collect(),
        checker: Arc::new(checker),
        lookups: Arc::new(lookups),
        writer: Writer::new(client.clone(), stores.clone(), Arc::clone(&metrics), in_flight),
        status_writer: Arc::new(StatusWriter::new(client.clone(), FIELD_MANAGER, STATUS_PACE)),
        announcer: Announcer::new(Events::start(client.clone(), FIELD_MANAGER, &manager.identity)),
        stores,
        metrics,
        loop_metrics,
        clock,
        memory: parking_lot::Mutex::default(),
    }
}

/// The watches' side of the controller.
#[derive(Clone)]
struct Watches {
    work: Arc<Work>,
    pools: Store<EndpointPool>,
    endpoints: Arc<Endpoints>,
}

impl Watches {
    fn start(self, manager: &Manager, pools: reflector::store::Writer<EndpointPool>) {
        let this = self.clone();
        let changed = move |old: Option<&_>, new: Option<&_>| this.pool_changed(old, new);
        // Without the pool no reconcile is about it, and its slices are left alone. It keeps its Service.
        let status_writer = Arc::clone(&self.endpoints.status_writer);
        let lost = move |pool: &EndpointPool| status_writer.withdraw(&ObjectKey::of(pool));
        manager.watch().root(pools, FIELD_MANAGER, changed, lost);

        let stores = self.endpoints.stores.clone();
        let mut labels = LabelPool::default();
        let slim = move |watched| Pod::slim(watched, &mut labels);
        let this = self.clone();
        manager.watch::<WatchedPod>().fill(&stores.pods, slim, move |change| this.pod_changed(change));

        let this = self.clone();
        manager
            .watch::<WatchedNode>()
            .fill(&stores.nodes, Node::from, move |change| this.node_changed(change));

        let this = self.clone();
        let changed = move |change: Change<'_, _>| this.service_changed(change);
        manager.watch::<WatchedService>().fill(&stores.services, Service::from, changed);

        let ours = manager.watch::<WatchedSlice>().labels(&format!("{MANAGED_BY}={MANAGER}"));
        let this = self.clone();
        ours.fill(&stores.slices, Slice::from, move |change| this.slice_changed(change));

        let this = self.clone();
        let changed = move |change: Change<'_, Grant>| this.grant_changed(change);
        manager.watch().fill_decoded(&stores.grants, &stores.undecoded_grants, Grant::from, changed);

        let server = Stores::api_server();
        let of_server = format!("{SERVICE_NAME}={}", server.name);
        let of_server = manager.watch_in::<WatchedSlice>(&server.namespace).labels(&of_server);
        of_server.fill(&stores.api_server, ApiServer::from, move |change| {
            self.addresses_changed(
                [change.old, change.new].map(|slice| slice.map(|slice| &*slice.addresses)),
            );
        });
    }

    fn pool_changed(&self, old: Option<&EndpointPool>, new: Option<&EndpointPool>) {
        let Some(pool) = new.or(old) else { return };
        let key = ObjectKey::of(pool);
        let interests = &self.endpoints.interests;
        match new {
            Some(new) => {
                let same = |old: &EndpointPool| {
                    old.metadata.generation == new.metadata.generation && old.metadata.uid == new.metadata.uid
                };
                if !old.is_some_and(same) {
                    interests.set(new);
                }
            }
            None => interests.remove(&key),
        }
        self.work.root_changed(old, new, |new| self.endpoints.status_writer.wrote(&key, new.status.as_ref()));
        if new.is_none() {
            // The next one that names the Service may have it now.
            let service = ObjectKey::new(&key.namespace, &pool.spec.service_ref.name);
            self.trigger(interests.of_service(&service));
        }
    }

    /// A pod matters to the pools that select it or have its address, before or after the change.
    fn pod_changed(&self, change: Change<'_, Pod>) {
        let [old, new] = [change.old, change.new].map(|pod| pod.map(|pod| &**pod));
        self.trigger(self.endpoints.interests.of_pod_change(old, new));
    }

    /// A node's zone is that of its pods, and its addresses may be out of bounds.
    fn node_changed(&self, change: Change<'_, Node>) {
        if let Some(node) = change.new.or(change.old) {
            let pods = self.endpoints.stores.pods.bucket(&Bucket::Node(Arc::clone(&node.key().name)));
            let pools = pods.iter().flat_map(|pod| self.endpoints.interests.of_pod(pod));
            self.trigger_in(Lane::Change, pools.collect::<HashSet<_>>());
        }
        self.addresses_changed([change.old, change.new].map(|node| node.map(|node| &*node.addresses)));
        let networks = [change.old, change.new].map(|node| node.map(|node| &*node.pod_networks));
        if networks[0] != networks[1] {
            let networks: Vec<_> = networks.into_iter().flatten().flatten().copied().collect();
            self.trigger_in(Lane::Sweep, self.endpoints.interests.of_networks(&networks));
        }
    }

    /// A grant matters to the pools that name its namespace, and to those that name or reach an address of one of the pods
    /// there.
    fn grant_changed(&self, change: Change<'_, Grant>) {
        let Some(grant) = change.new.or(change.old) else { return self.trigger_all() };
        let namespace = &grant.key().namespace;
        let interests = &self.endpoints.interests;
        let pods = self.endpoints.stores.pods.bucket(&Bucket::Namespace(Arc::clone(namespace)));
        let by_address = pods.iter().flat_map(|pod| interests.of_addresses(&pod.addresses));
        let pools: HashSet<_> = by_address.chain(interests.of_namespace(namespace)).collect();
        self.trigger_in(Lane::Sweep, pools);
    }

    /// What was or is at these addresses may be out of bounds.
    fn addresses_changed(&self, [old, new]: [Option<&[IpAddr]>; 2]) {
        if old != new {
            for addresses in [old, new].into_iter().flatten() {
                self.trigger(self.endpoints.interests.of_addresses(addresses));
            }
        }
    }

    fn service_changed(&self, change: Change<'_, Service>) {
        let Some(service) = change.new.or(change.old) else { return };
        self.trigger(self.endpoints.interests.of_service(&service.header.key));
        self.addresses_changed(
            [change.old, change.new].map(|service| service.map(|service| &*service.addresses)),
        );
    }

    /// A slice that others delete or change is corrected. Changes by this process need no reaction.
    fn slice_changed(&self, change: Change<'_, Slice>) {
        let is_there = |pool: &ObjectKey| self.pools.get(&pool.reference()).is_some();
        if let (Some(old), None) = (change.old, change.new) {
            self.endpoints.writer.gone(old.pool().filter(is_there).as_ref(), old);
        }
        for slice in [change.old, change.new].into_iter().flatten() {
            let Some(pool) = slice.pool() else { continue };
            let expected = change.new.is_some_and(|new| self.endpoints.writer.expected(&pool, new));
            if !expected && is_there(&pool) {
                self.work.trigger(&pool);
            }
        }
    }

    fn trigger_all(&self) {
        self.trigger_in(Lane::Sweep, self.endpoints.interests.all());
    }

    fn trigger(&self, pools: Vec<ObjectKey>) {
        self.trigger_in(Lane::Change, pools);
    }

    fn trigger_in(&self, lane: Lane, pools: impl IntoIterator<Item = ObjectKey>) {
        pools.into_iter().for_each(|pool| self.work.trigger_in(lane, &pool));
    }
}
