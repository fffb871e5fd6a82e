//! Nodes and the API server: zones, and addresses that no pool may send traffic to.

use std::{net::IpAddr, sync::Arc};

use ipnet::IpNet;
use mainstay_runtime::{
    index::Indexed,
    node::{WatchedNode, ZONE},
    slim::Header,
};

use super::slice::{Family, WatchedSlice};

/// A node as the store keeps it.
#[derive(Debug, PartialEq)]
pub struct Node {
    header: Header,
    /// The zone that it is in.
    pub zone: Option<Arc<str>>,
    /// Its addresses.
    pub addresses: Box<[IpAddr]>,
    /// The networks that its pods have their addresses from.
    pub pod_networks: Box<[IpNet]>,
}

/// The sets in which reconciles ask for nodes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum NodeBucket {
    /// Those that have this address.
    Address(IpAddr),
    /// Those whose pods have their addresses from this network.
    PodNetwork(IpNet),
    /// Those whose pods have them from a network of this family with a prefix of this length.
    PodPrefix(Family, u8),
}

impl From<WatchedNode> for Node {
    fn from(watched: WatchedNode) -> Self {
        let header = Header::of(&watched);
        let zone = watched.metadata.labels.and_then(|mut labels| labels.remove(ZONE));
        let addresses = watched.status.addresses.iter();
        let networks = watched.spec.pod_networks.iter().filter_map(|network| network.parse::<IpNet>().ok());
        Self {
            header,
            zone: zone.map(Into::into),
            addresses: addresses.filter_map(|address| address.address.parse().ok()).collect(),
            pod_networks: networks.map(|network| network.trunc()).collect(),
        }
    }
}

impl Indexed for Node {
    type Bucket = NodeBucket;

    fn header(&self) -> &Header {
        &self.header
    }
    fn buckets(&self) -> Vec<NodeBucket> {
        let addresses = self.addresses.iter().copied().map(NodeBucket::Address);
        let networks = self.pod_networks.iter().flat_map(|network| {
            let prefix = NodeBucket::PodPrefix(Family::of(&network.addr()), network.prefix_len());
            [NodeBucket::PodNetwork(*network), prefix]
        });
        addresses.chain(networks).collect()
    }
    fn is_same(&self, other: &Self) -> bool {
        self == other
    }
}

/// An EndpointSlice of the API server's own Service.
#[derive(Debug, PartialEq)]
pub struct ApiServer {
    header: Header,
    /// The addresses in it.
    pub addresses: Box<[IpAddr]>,
}

impl From<WatchedSlice> for ApiServer {
    fn from(watched: WatchedSlice) -> Self {
        Self { header: Header::of(&watched), addresses: watched.addresses().into() }
    }
}

impl Indexed for ApiServer {
    /// Its addresses.
    type Bucket = IpAddr;

    fn header(&self) -> &Header {
        &self.header
    }
    fn buckets(&self) -> Vec<IpAddr> {
        self.addresses.to_vec()
    }
    fn is_same(&self, other: &Self) -> bool {
        self == other
    }
}
