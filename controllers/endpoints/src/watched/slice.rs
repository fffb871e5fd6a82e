//! EndpointSlices: those that this controller has written.

use std::{cmp::Ordering, collections::BTreeMap, net::IpAddr, sync::Arc};

use k8s_openapi::{
    api::discovery::v1,
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use kube::Resource;
use mainstay_crds::EndpointPool;
use mainstay_runtime::{
    index::{Indexed, ObjectKey},
    owner,
    slim::{self, Header},
    stands_for,
};
use serde::{Deserialize, Serialize};

use super::notes::Notes;
use crate::{names::POOL, pack::Item};

/// A family of addresses, as `addressType` names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Family {
    /// IPv4.
    #[serde(rename = "IPv4")]
    V4,
    /// IPv6.
    #[serde(rename = "IPv6")]
    V6,
}

impl Family {
    /// The family of an address.
    pub fn of(address: &IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    /// The family of that name.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "IPv4" => Some(Self::V4),
            "IPv6" => Some(Self::V6),
            _ => None,
        }
    }
}

/// A port of a slice.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Port {
    /// The name of the Service's port.
    #[serde(default)]
    pub name: String,
    /// The port of the endpoints.
    #[serde(default)]
    pub port: u16,
    /// `TCP`, `UDP` or `SCTP`.
    #[serde(default)]
    pub protocol: String,
    /// `appProtocol` of the Service's port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_protocol: Option<String>,
}

/// What the endpoints of a slice share: family and ports, these in order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Group {
    /// Which cannot be changed in a slice.
    pub family: Family,
    /// Which can.
    pub ports: Arc<[Port]>,
}

/// Whether an endpoint gets traffic (`EndpointConditions`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Conditions {
    /// It does.
    pub ready: bool,
    /// It could.
    pub serving: bool,
    /// It is leaving.
    pub terminating: bool,
}

/// The pod of an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Target {
    /// Its namespace.
    #[serde(default)]
    pub namespace: Arc<str>,
    /// Its name.
    #[serde(default)]
    pub name: Arc<str>,
    /// Its UID.
    #[serde(default)]
    pub uid: Arc<str>,
}

/// One endpoint, as in a slice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Its only address.
    pub address: IpAddr,
    /// Whether it gets traffic.
    pub conditions: Conditions,
    /// Its name in the DNS of a headless Service.
    pub hostname: Option<Arc<str>>,
    /// The node that it is on.
    pub node: Option<Arc<str>>,
    /// The zone that it is in.
    pub zone: Option<Arc<str>>,
    /// Its pod.
    pub target: Option<Target>,
    /// The only zone whose clients should use it.
    pub hint_zone: Option<Arc<str>>,
    /// The only node whose clients should use it.
    pub hint_node: Option<Arc<str>>,
}

/// What makes two endpoints the same, by upstream's rule: address, host name, and the pod's name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EndpointKey {
    address: IpAddr,
    hostname: Option<Arc<str>>,
    pod: Option<(Arc<str>, Arc<str>)>,
}

impl Item for Endpoint {
    type Key = EndpointKey;

    fn key(&self) -> EndpointKey {
        let pod = self.target.as_ref().map(|pod| (Arc::clone(&pod.namespace), Arc::clone(&pod.name)));
        EndpointKey { address: self.address, hostname: self.hostname.clone(), pod }
    }
}

/// A slice as the watch decodes it.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WatchedSlice {
    #[serde(deserialize_with = "slim::metadata")]
    metadata: ObjectMeta,
    address_type: String,
    #[serde(default)]
    endpoints: Option<Vec<WatchedEndpoint>>,
    #[serde(default)]
    ports: Option<Vec<Port>>,
}
stands_for!(WatchedSlice, v1::EndpointSlice);

impl WatchedSlice {
    /// Every address in it.
    pub(super) fn addresses(&self) -> Vec<IpAddr> {
        let endpoints = self.endpoints.iter().flatten();
        endpoints.flat_map(|endpoint| &endpoint.addresses).filter_map(|ip| ip.parse().ok()).collect()
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WatchedEndpoint {
    addresses: Vec<String>,
    #[serde(default)]
    conditions: WatchedConditions,
    hostname: Option<Arc<str>>,
    node_name: Option<Arc<str>>,
    zone: Option<Arc<str>>,
    target_ref: Option<Target>,
    hints: Option<WatchedHints>,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
struct WatchedConditions {
    ready: Option<bool>,
    serving: Option<bool>,
    terminating: Option<bool>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct WatchedHints {
    for_zones: Vec<Hint>,
    for_nodes: Vec<Hint>,
}

#[derive(Debug, Clone, Deserialize)]
struct Hint {
    name: Arc<str>,
}

/// A slice as the store keeps it.
#[derive(Debug, PartialEq)]
pub struct Slice {
    /// Name, UID and version.
    pub header: Header,
    /// `metadata.labels`.
    pub labels: BTreeMap<String, String>,
    /// `metadata.annotations`.
    pub annotations: BTreeMap<String, String>,
    /// What it notes of its endpoints; `None` where it notes nothing that can be read.
    pub notes: Option<Notes>,
    /// Name and UID of the pool that owns it.
    pub owner: Option<(Arc<str>, Arc<str>)>,
    /// Its other owners.
    pub co_owners: Box<[OwnerReference]>,
    /// `metadata.finalizers`.
    pub finalizers: Box<[String]>,
    /// What its endpoints share.
    pub group: Group,
    /// Its endpoints, in order.
    pub endpoints: Vec<Endpoint>,
    /// Whether it says something that this controller never writes.
    pub tampered: bool,
}

impl From<WatchedSlice> for Slice {
    fn from(watched: WatchedSlice) -> Self {
        let header = Header::of(&watched);
        let WatchedSlice { metadata, address_type, endpoints, ports } = watched;
        let family = Family::named(&address_type);
        let mut tampered = family.is_none();
        // The API server returns null for an empty list: in what it stores, the two are the same.
        let mut ports = ports.unwrap_or_default();
        ports.sort();
        let endpoints = endpoints.into_iter().flatten().filter_map(|endpoint| {
            let (endpoint, regular) = endpoint_of(endpoint)?;
            tampered |= !regular;
            Some(endpoint)
        });
        let endpoints = endpoints.collect();
        let owner = owner(&metadata);
        let co_owners = metadata.owner_references.unwrap_or_default().into_iter();
        let co_owners = co_owners.filter(|other| !other.controller.unwrap_or_default()).collect();
        let annotations = metadata.annotations.unwrap_or_default();
        Self {
            header,
            labels: metadata.labels.unwrap_or_default(),
            notes: Notes::read(&annotations),
            annotations,
            owner,
            co_owners,
            finalizers: metadata.finalizers.unwrap_or_default().into(),
            group: Group { family: family.unwrap_or(Family::V4), ports: ports.into() },
            endpoints,
            tampered,
        }
    }
}

fn owner(metadata: &ObjectMeta) -> Option<(Arc<str>, Arc<str>)> {
    let owner = owner::controller(metadata).filter(|owner| owner.kind == EndpointPool::kind(&()))?;
    Some((owner.name.as_str().into(), owner.uid.as_str().into()))
}

/// The endpoint, and whether it says nothing else than this controller would.
fn endpoint_of(watched: WatchedEndpoint) -> Option<(Endpoint, bool)> {
    let address = watched.addresses.first()?.parse().ok()?;
    let WatchedConditions { ready, serving, terminating } = watched.conditions;
    let WatchedHints { for_zones, for_nodes } = watched.hints.unwrap_or_default();
    let regular = watched.addresses.len() == 1
        && for_zones.len() <= 1
        && for_nodes.len() <= 1
        && [ready, serving, terminating].iter().all(Option::is_some);
    let conditions = Conditions {
        ready: ready.unwrap_or(true),
        serving: serving.or(ready).unwrap_or(true),
        terminating: terminating.unwrap_or(false),
    };
    let endpoint = Endpoint {
        address,
        conditions,
        hostname: watched.hostname,
        node: watched.node_name,
        zone: watched.zone,
        target: watched.target_ref,
        hint_zone: for_zones.into_iter().next().map(|hint| hint.name),
        hint_node: for_nodes.into_iter().next().map(|hint| hint.name),
    };
    Some((endpoint, regular))
}

impl Indexed for Slice {
    /// Namespace and name of the pool.
    type Bucket = ObjectKey;

    fn header(&self) -> &Header {
        &self.header
    }
    fn buckets(&self) -> Vec<ObjectKey> {
        self.pool().into_iter().collect()
    }
    fn is_same(&self, other: &Self) -> bool {
        self == other
    }
}

impl Slice {
    /// The pool that it belongs to: its owner. A label, which anybody can remove or copy, decides only if it has no
    /// owner.
    pub fn pool(&self) -> Option<ObjectKey> {
        let owner = self.owner.as_ref().map(|(name, _)| &**name);
        let name = owner.or_else(|| self.labels.get(POOL).map(String::as_str))?;
        Some(ObjectKey::new(&self.header.key.namespace, name))
    }

    /// Compares by name, which is the order in which slices are looked at: their age tells nothing.
    pub fn by_name(one: &Arc<Self>, other: &Arc<Self>) -> Ordering {
        one.header.key.name.cmp(&other.header.key.name)
    }
}
