//! Pods.

use std::{net::IpAddr, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::{api::core::v1, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use mainstay_runtime::{
    index::Indexed,
    labels::{LabelPool, Labels},
    slim::{self, Conditions, Header},
    stands_for,
};
use serde::Deserialize;

use crate::names::READINESS_GATE;

/// A pod as the watch decodes it.
#[derive(Debug, Clone, Deserialize)]
pub struct WatchedPod {
    #[serde(deserialize_with = "slim::metadata")]
    metadata: ObjectMeta,
    #[serde(default)]
    spec: WatchedSpec,
    #[serde(default)]
    status: WatchedStatus,
}
stands_for!(WatchedPod, v1::Pod);

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct WatchedSpec {
    node_name: Option<String>,
    host_network: bool,
    hostname: Option<String>,
    subdomain: Option<String>,
    containers: Vec<WatchedContainer>,
    init_containers: Vec<WatchedContainer>,
    readiness_gates: Vec<WatchedGate>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct WatchedContainer {
    restart_policy: Option<String>,
    ports: Vec<WatchedPort>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WatchedPort {
    name: Option<Box<str>>,
    container_port: u16,
    protocol: Option<Box<str>>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WatchedGate {
    condition_type: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct WatchedStatus {
    phase: Option<String>,
    #[serde(rename = "podIP")]
    pod_ip: Option<String>,
    #[serde(rename = "podIPs")]
    pod_ips: Vec<WatchedAddress>,
    conditions: Conditions,
}

#[derive(Debug, Clone, Deserialize)]
struct WatchedAddress {
    ip: String,
}

/// A pod as the store keeps it.
#[derive(Debug, PartialEq)]
pub struct Pod {
    /// Name, UID and version.
    pub header: Header,
    /// `metadata.labels`.
    pub labels: Labels,
    /// `status.podIPs`.
    pub addresses: Box<[IpAddr]>,
    /// `spec.nodeName`.
    pub node: Option<Arc<str>>,
    /// `spec.hostname`.
    pub hostname: Option<Arc<str>>,
    /// `spec.subdomain`.
    pub subdomain: Option<Box<str>>,
    /// Whether it is ready.
    pub ready: bool,
    /// When that last changed.
    pub ready_changed: Option<Timestamp>,
    /// Whether its containers are ready, so that all it may lack are its readiness gates.
    pub containers_ready: bool,
    /// Whether all its containers have ended for good.
    pub ended: bool,
    /// The state of its readiness gate for endpoints; `None` if it has none.
    pub gate: Option<Gate>,
    host_network: bool,
    ports: Box<[NamedPort]>,
}

/// A readiness gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// It keeps the pod from being ready.
    Closed,
    /// It does not.
    Open,
}

#[derive(Debug, PartialEq)]
struct NamedPort {
    name: Box<str>,
    protocol: Option<Box<str>>,
    number: u16,
}

impl Pod {
    /// What the store keeps of a watched pod.
    pub fn slim(watched: WatchedPod, pool: &mut LabelPool) -> Self {
        let header = Header::of(&watched);
        let WatchedPod { metadata, spec, status } = watched;
        let is_true = |kind: &str| status.conditions.is_true(kind);
        let gated = spec.readiness_gates.iter().any(|gate| gate.condition_type == READINESS_GATE);
        let gate = if is_true(READINESS_GATE) { Gate::Open } else { Gate::Closed };
        Self {
            header,
            addresses: addresses(&status),
            ready: is_true("Ready"),
            ready_changed: status.conditions.changed("Ready"),
            containers_ready: is_true("ContainersReady"),
            ended: matches!(status.phase.as_deref(), Some("Failed" | "Succeeded")),
            gate: gated.then_some(gate),
            host_network: spec.host_network,
            ports: named_ports(spec.containers, spec.init_containers),
            labels: pool.share(metadata.labels.unwrap_or_default()),
            node: filled(spec.node_name).map(Into::into),
            hostname: filled(spec.hostname).map(Into::into),
            subdomain: filled(spec.subdomain).map(Into::into),
        }
    }

    /// The number of the container port of that name, as upstream's `FindPort` looks for it: the first of that name
    /// and protocol, in containers before sidecars.
    pub fn port(&self, name: &str, protocol: &str) -> Option<u16> {
        let fits =
            |port: &&NamedPort| *port.name == *name && port.protocol.as_deref().unwrap_or("TCP") == protocol;
        self.ports.iter().find(fits).map(|port| port.number)
    }

    /// Whether it can have endpoints at all.
    pub fn is_placed(&self) -> bool {
        !self.ended && !self.addresses.is_empty()
    }
}

fn filled(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

fn addresses(status: &WatchedStatus) -> Box<[IpAddr]> {
    let all = status.pod_ips.iter().map(|address| &address.ip);
    let only = status.pod_ip.iter().filter(|_| status.pod_ips.is_empty());
    all.chain(only).filter_map(|ip| ip.parse().ok()).collect()
}

fn named_ports(containers: Vec<WatchedContainer>, init: Vec<WatchedContainer>) -> Box<[NamedPort]> {
    let sidecars = init.into_iter().filter(|container| container.restart_policy.as_deref() == Some("Always"));
    let ports = containers.into_iter().chain(sidecars).flat_map(|container| container.ports);
    let named = ports.filter_map(|port| {
        Some(NamedPort { name: port.name?, protocol: port.protocol, number: port.container_port })
    });
    named.collect()
}

/// The sets in which reconciles ask for pods.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Bucket {
    /// The pods of this namespace.
    Namespace(Arc<str>),
    /// The pods that have this address to themselves.
    Address(IpAddr),
    /// The pods on this node.
    Node(Arc<str>),
}

impl Indexed for Pod {
    type Bucket = Bucket;

    fn header(&self) -> &Header {
        &self.header
    }
    fn buckets(&self) -> Vec<Bucket> {
        let addresses =
            self.addresses.iter().filter(|_| !self.ended && !self.host_network).copied().map(Bucket::Address);
        let node = self.node.iter().map(|node| Bucket::Node(Arc::clone(node)));
        addresses.chain(node).chain([Bucket::Namespace(Arc::clone(&self.header.key.namespace))]).collect()
    }
    fn is_same(&self, other: &Self) -> bool {
        self == other
    }
}
