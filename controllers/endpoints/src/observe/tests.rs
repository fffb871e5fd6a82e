//! Who becomes a member of a pool, and who does not.

use futures::{FutureExt, future::ready};
use kube::runtime::watcher::Event;
use mainstay_crds::EndpointGrant;
use mainstay_probe::ResolveError;
use mainstay_runtime::{clock::Clock, labels::LabelPool};
use prometheus::Registry;
use serde_json::{Value, json};

use super::*;
use crate::{
    interests::Interests,
    lookups::{GIVEN_UP, LookupMetrics, Lookups},
    names::NOTES,
    ranges::{self, Forbidden},
    watched::{Notes, Pod, WatchedNode, WatchedService, WatchedSlice},
};

mod grants;
mod names;
mod ports;

/// A namespace `ns` with a Service `web`, and what a test adds.
pub(crate) struct World {
    pub(crate) stores: Stores,
    interests: Interests,
    pub(crate) lookups: Lookups,
    forbidden: Forbidden,
}

/// A pool of the Service.
pub(crate) fn pool(members: Value, check: Value) -> EndpointPool {
    serde_json::from_value(json!({
        "apiVersion": "mainstay.dev/v1alpha1", "kind": "EndpointPool",
        "metadata": {"name": "pool", "namespace": "ns"},
        "spec": {"serviceRef": {"name": "web"}, "members": members, "check": check},
    }))
    .unwrap()
}

impl World {
    pub(crate) fn new(service: Value) -> Self {
        let world = Self::of(Stores::new(&Registry::new()));
        let object = json!({"metadata": {"name": "web", "namespace": "ns"}, "spec": service});
        let service: WatchedService = serde_json::from_value(object).unwrap();
        world.stores.services.apply(Event::Apply(service.into()), |_| {});
        world.node(json!({"name": "node"}));
        world
    }

    fn node(&self, metadata: Value) {
        let node: WatchedNode = serde_json::from_value(json!({"metadata": metadata})).unwrap();
        self.stores.nodes.apply(Event::Apply(node.into()), |_| {});
    }

    /// What another process sees of the same objects.
    pub(crate) fn of(stores: Stores) -> Self {
        Self {
            stores,
            interests: Interests::default(),
            lookups: Lookups::new(
                |_| ready(Err(ResolveError::TimedOut)).boxed(),
                LookupMetrics::new(&Registry::new()),
                Clock::start(),
                |_| {},
            ),
            forbidden: Forbidden(ranges::DEFAULT.map(|range| range.parse().unwrap()).to_vec()),
        }
    }

    fn v4() -> Self {
        Self::new(json!({"ipFamilies": ["IPv4"], "ports": [{"port": 80, "targetPort": "http"}]}))
    }

    fn pod(&self, namespace: &str, name: &str, address: &str, spec: Value) -> &Self {
        let object = json!({
            "metadata": {"name": name, "namespace": namespace, "uid": name, "labels": {"app": "web"}},
            "spec": spec,
            "status": {"phase": "Running", "podIPs": [{"ip": address}], "conditions": [{"type": "Ready", "status": "True"}]}
        });
        let pod = Pod::slim(serde_json::from_value(object).unwrap(), &mut LabelPool::default());
        self.stores.pods.apply(Event::Apply(pod), |_| {});
        self
    }

    fn grant(&self, namespace: &str, from: Value) {
        let grant: EndpointGrant = serde_json::from_value(json!({
            "apiVersion": "mainstay.dev/v1alpha1", "kind": "EndpointGrant",
            "metadata": {"name": "grant", "namespace": namespace}, "spec": {"from": [from]},
        }))
        .unwrap();
        self.stores.grants.apply(Event::Apply(grant.into()), |_| {});
    }

    fn observe(&self, members: Value) -> Observed {
        self.observe_checked(members, Value::Null)
    }

    fn observe_checked(&self, members: Value, check: Value) -> Observed {
        self.observe_pool(&pool(members, check))
    }

    pub(crate) fn observe_pool(&self, pool: &EndpointPool) -> Observed {
        Observed::gather(pool, &ObjectKey::new("ns", "pool"), &Settings::read(pool).unwrap(), &self.view())
    }

    fn view(&self) -> View<'_> {
        let Self { stores, interests, lookups, forbidden } = self;
        View { stores, interests, lookups, forbidden: forbidden.among(stores) }
    }

    /// Members as address and ports, and what was refused as its reason.
    fn seen(&self, members: Value) -> (Vec<(String, Vec<u16>)>, Vec<&'static str>) {
        let observed = self.observe(members);
        let numbers = |member: &Member| member.ports.iter().map(|port| port.port).collect();
        let members =
            observed.members.iter().map(|member| (member.target.address.to_string(), numbers(member)));
        (members.collect(), observed.refused.iter().map(|refused| refused.reason).collect())
    }
}

fn http(port: u16) -> Value {
    json!({"nodeName": "node", "containers": [{"name": "c", "ports": [{"name": "http", "containerPort": port}]}]})
}

fn selecting(namespace: Option<&str>) -> Value {
    let mut set = json!({"name": "pods", "podSelector": {"matchLabels": {"app": "web"}}});
    if let Some(namespace) = namespace {
        set["namespace"] = json!(namespace);
    }
    json!([set])
}

fn addresses(addresses: &[&str]) -> Value {
    let addresses: Vec<_> = addresses.iter().map(|ip| json!({"ip": ip})).collect();
    json!([{"name": "outside", "addresses": addresses, "ports": [{"port": 8080}]}])
}

fn member(address: &str, port: u16) -> (String, Vec<u16>) {
    (address.to_owned(), vec![port])
}

#[test]
fn named_ports_are_looked_up_in_each_pod_and_a_missing_one_is_told() {
    let world = World::v4();
    world.pod("ns", "a", "10.0.0.1", http(8080)).pod("ns", "b", "10.0.0.2", http(9090));
    world.pod("ns", "c", "10.0.0.3", json!({}));
    let expected = vec![member("10.0.0.1", 8080), member("10.0.0.2", 9090), ("10.0.0.3".to_owned(), vec![])];
    assert_eq!(world.seen(selecting(None)), (expected, vec!["PortNotFound"]));
}

#[test]
fn endpoints_of_pods_name_the_pod_its_node_and_its_zone() {
    let world = World::v4();
    world.node(json!({"name": "node", "labels": {"topology.kubernetes.io/zone": "zone-a"}}));
    let mut spec = http(8080);
    spec["hostname"] = json!("first");
    spec["subdomain"] = json!("web");
    world.pod("ns", "a", "10.0.0.1", spec);
    let observed = world.observe(selecting(None));
    let endpoint = &observed.members[0].endpoint;
    assert_eq!((endpoint.node.as_deref(), endpoint.zone.as_deref()), (Some("node"), Some("zone-a")));
    assert_eq!(endpoint.hostname.as_deref(), Some("first"));
    assert_eq!(endpoint.target.as_ref().map(|target| &*target.name), Some("a"));
}

#[test]
fn pods_of_another_namespace_need_its_grant_by_label_and_by_address() {
    let world = World::v4();
    world.pod("other", "a", "10.0.0.1", http(8080));
    let refused = (vec![], vec!["NotGranted"]);
    assert_eq!(world.seen(selecting(Some("other"))), refused);
    assert_eq!(world.seen(addresses(&["10.0.0.1"])), refused);
    for (from, granted) in [
        (json!({"namespace": "elsewhere"}), false),
        (json!({"namespace": "ns", "pool": "another"}), false),
        (json!({"namespace": "ns", "pool": "pool"}), true),
        (json!({"namespace": "ns"}), true),
    ] {
        world.grant("other", from);
        let (by_label, by_address) =
            (world.seen(selecting(Some("other"))), world.seen(addresses(&["10.0.0.1"])));
        assert_eq!(by_label.0.len() + by_address.0.len(), if granted { 2 } else { 0 });
    }
}

#[test]
fn pods_on_the_network_of_their_node_do_not_make_its_address_theirs() {
    let mut world = World::v4();
    world.forbidden = Forbidden::default();
    let mut spec = http(8080);
    spec["hostNetwork"] = json!(true);
    world.pod("other", "a", "192.0.2.1", spec);
    assert_eq!(world.seen(addresses(&["192.0.2.1"])), (vec![member("192.0.2.1", 8080)], vec![]));
}

#[test]
fn addresses_out_of_bounds_and_of_a_family_that_is_not_served_are_refused() {
    let seen = World::v4().seen(addresses(&["10.9.9.9", "169.254.169.254", "2001:db8::1"]));
    assert_eq!(seen, (vec![member("10.9.9.9", 8080)], vec!["RangeForbidden", "FamilyNotServed"]));
}

#[test]
fn what_two_sets_name_belongs_to_the_lower_tier() {
    let world = World::v4();
    world.pod("ns", "a", "10.0.0.1", http(8080));
    let selector = json!({"matchLabels": {"app": "web"}});
    let observed = world.observe(json!([
        {"name": "standby", "tier": 1, "podSelector": selector},
        {"name": "main", "podSelector": selector},
    ]));
    let members: Vec<_> = observed.members.iter().map(|member| (&*member.target.set, member.tier)).collect();
    assert_eq!(members, [("main", 0)]);
}

#[test]
fn a_service_that_is_not_the_pools_is_told_apart() {
    let reason = |service: Value| {
        let observed = World::new(service).observe(addresses(&["10.9.9.9"]));
        observed.service.err().map(|error| error.reason())
    };
    assert_eq!(reason(json!({"ipFamilies": ["IPv4"]})), None);
    assert_eq!(reason(json!({"selector": {"app": "web"}})), Some("ServiceHasSelector"));
    assert_eq!(reason(json!({"type": "ExternalName"})), Some("ServiceIsExternalName"));
    let world = World::v4();
    let older: EndpointPool = serde_json::from_value(json!({
        "apiVersion": "mainstay.dev/v1alpha1", "kind": "EndpointPool",
        "metadata": {"name": "older", "namespace": "ns", "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"serviceRef": {"name": "web"}, "members": []},
    }))
    .unwrap();
    world.interests.set(&older);
    let taken = world.observe(addresses(&["10.9.9.9"]));
    assert_eq!(taken.service.err().map(|error| error.reason()), Some("ServiceTaken"));
    assert!(taken.members.is_empty());
}

impl World {
    pub(crate) fn looks_up(&self, names: &[&str]) -> &Self {
        self.lookups.want(&ObjectKey::new("ns", "pool"), names.iter().copied());
        self
    }

    pub(crate) fn answers(&self, name: &str, addresses: &[&str]) {
        let addresses: Vec<_> = addresses.iter().map(|address| address.parse().unwrap()).collect();
        self.lookups.answer(name, &addresses);
    }
}

#[test]
fn a_port_to_check_that_is_not_there_is_told_once_a_set() {
    let world = World::new(
        json!({"ipFamilies": ["IPv4"], "ports": [{"name": "web", "port": 80, "targetPort": 8080}]}),
    );
    world.pod("ns", "a", "10.0.0.1", http(8080)).pod("ns", "b", "10.0.0.2", http(8080));
    for (port, refused) in [(json!("http"), 1), (json!("web"), 0), (json!(9), 0), (Value::Null, 0)] {
        let check = json!({"type": "TCP", "port": port});
        let observed = world.observe_checked(selecting(None), check);
        assert_eq!((observed.members.len(), observed.refused.len()), (2, refused));
        assert!(observed.members.iter().all(|member| member.check_port.is_none() == (refused > 0)));
        for told in observed.refused {
            assert_eq!((told.reason, told.left_out), (CHECK_PORT_NOT_FOUND, false));
            assert!(told.message.contains("the Service has no port named \"http\""), "{}", told.message);
        }
    }
    let udp = World::new(json!({"ipFamilies": ["IPv4"], "ports": [{"port": 53, "protocol": "UDP"}]}));
    let observed = udp.observe_checked(addresses(&["10.9.9.9"]), json!({"type": "TCP"}));
    assert!(observed.refused[0].message.contains("no TCP port"), "{:?}", observed.refused);
}
