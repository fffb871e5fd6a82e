//! The addresses that no pool may send traffic to.
//!
//! A user who may write a pool can make trusted clients, such as a load balancer or an ingress controller, connect to
//! any address in it, past every NetworkPolicy: CVE-2021-25740. So the operator lists forbidden addresses. They do not
//! apply to pods: pods are selected by their labels, and the addresses of other namespaces' pods need a grant. An IPv6
//! address that stands for an IPv4 address is judged as that one, too.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr},
    str::FromStr,
    sync::OnceLock,
};

use ipnet::IpNet;
use thiserror::Error;

use crate::{
    stores::Stores,
    watched::{Bucket, Family, NodeBucket},
};

/// One entry of the flag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Range {
    /// All addresses of a network.
    Network(IpNet),
    /// The addresses of the cluster's nodes.
    Nodes,
    /// Those of the API server, and of its Service.
    ApiServer,
    /// The ClusterIPs of Services.
    Services,
    /// Addresses in the networks of nodes for pods that no known pod has to itself: those of the nodes' own bridges, and of
    /// pods that may come.
    Pods,
}

/// What an entry cannot be read as.
#[derive(Debug, PartialEq, Eq, Error)]
#[error(
    "{0:?} is not a range: write a network such as 10.0.0.0/8 or fd00::/8, `nodes`, `api-server`, `services` or \
         `pods`"
)]
pub struct RangeError(String);

impl FromStr for Range {
    type Err = RangeError;

    fn from_str(text: &str) -> Result<Self, RangeError> {
        match text {
            "nodes" => Ok(Self::Nodes),
            "api-server" => Ok(Self::ApiServer),
            "services" => Ok(Self::Services),
            "pods" => Ok(Self::Pods),
            network => network.parse().map(Self::Network).map_err(|_| RangeError(text.to_owned())),
        }
    }
}

/// An entry of the flag's list, which may be empty: an empty list is given as one empty entry.
#[derive(Debug, Clone)]
pub struct Entry(Option<Range>);

impl FromStr for Entry {
    type Err = RangeError;

    fn from_str(text: &str) -> Result<Self, RangeError> {
        if text.is_empty() { Ok(Self(None)) } else { text.parse().map(|range| Self(Some(range))) }
    }
}

/// What is forbidden if nothing else is said: multicast, and the metadata addresses of clouds that are not link-local
/// (Alibaba's, Azure's and Oracle's, and those of AWS, Oracle and Google over IPv6).
pub const DEFAULT: [&str; 12] = [
    "224.0.0.0/4",
    "ff00::/8",
    "100.100.100.200/32",
    "168.63.129.16/32",
    "192.0.0.192/32",
    "fd00:ec2::/32",
    "fd00:c1::a9fe:a9fe/128",
    "fd20:ce::254/128",
    "nodes",
    "api-server",
    "services",
    "pods",
];

/// The operator's ranges.
#[derive(Debug, Clone, Default)]
pub struct Forbidden(pub Vec<Range>);

impl FromIterator<Entry> for Forbidden {
    fn from_iter<I: IntoIterator<Item = Entry>>(entries: I) -> Self {
        Self(entries.into_iter().filter_map(|entry| entry.0).collect())
    }
}

impl Forbidden {
    /// The ranges with what is in them now. For one reconcile: what is looked up once stays as it was.
    pub fn among<'a>(&'a self, stores: &'a Stores) -> Bounds<'a> {
        Bounds { ranges: &self.0, stores, lengths: Default::default() }
    }

    /// The ranges, as the flag has them.
    pub fn names(&self) -> BTreeSet<String> {
        let name = |range: &Range| match range {
            Range::Network(network) => network.to_string(),
            Range::Nodes => "nodes".to_owned(),
            Range::ApiServer => "api-server".to_owned(),
            Range::Services => "services".to_owned(),
            Range::Pods => "pods".to_owned(),
        };
        self.0.iter().map(name).collect()
    }
}

/// The operator's ranges, with what is in them.
pub struct Bounds<'a> {
    ranges: &'a [Range],
    stores: &'a Stores,
    /// How long the prefixes of the networks for pods are, by family: few of the lengths that there could be.
    lengths: [OnceLock<Vec<u8>>; 2],
}

impl Bounds<'_> {
    /// Why no pool may name `address`; `None` when it may.
    pub fn reason(&self, address: IpAddr) -> Option<String> {
        self.of_itself(address).or_else(|| {
            translated(address).map(IpAddr::V4).find_map(|v4| {
                let is_pod = self.stores.pods.count(&Bucket::Address(v4)) > 0;
                let pod = || is_pod.then(|| "a pod has that address: select it".to_owned());
                self.of_itself(v4).or_else(pod).map(|why| format!("it stands for {v4}, and {why}"))
            })
        })
    }

    fn of_itself(&self, address: IpAddr) -> Option<String> {
        let stores = self.stores;
        if let Some(kind) = special(address) {
            return Some(format!("{kind} addresses cannot be endpoints"));
        }
        let refusal = |range: &Range| match range {
            Range::Network(network) => {
                network.contains(&address).then(|| format!("the operator forbids {network}"))
            }
            Range::Nodes => (stores.nodes.count(&NodeBucket::Address(address)) > 0)
                .then(|| "the operator forbids addresses of nodes".to_owned()),
            Range::ApiServer => is_api_server(address, stores)
                .then(|| "the operator forbids addresses of the API server".to_owned()),
            Range::Services => (stores.services.count(&address) > 0)
                .then(|| "the operator forbids ClusterIPs of Services".to_owned()),
            Range::Pods => self.has_no_pod(address).then(|| {
                "the operator forbids addresses in the networks of pods that no pod has to itself".to_owned()
            }),
        };
        self.ranges.iter().find_map(refusal)
    }

    /// Whether an address is in a network for pods, and no pod that could be asked for its permission has it.
    fn has_no_pod(&self, address: IpAddr) -> bool {
        let nodes = &self.stores.nodes;
        let is_in_network = |length: &u8| {
            let network = IpNet::new(address, *length).map(|network| network.trunc());
            network.is_ok_and(|network| nodes.count(&NodeBucket::PodNetwork(network)) > 0)
        };
        self.lengths(Family::of(&address)).iter().any(is_in_network)
            && self.stores.pods.count(&Bucket::Address(address)) == 0
    }

    /// How long the prefixes of the networks for pods of that family are.
    fn lengths(&self, family: Family) -> &[u8] {
        let (place, longest) = if family == Family::V4 { (0, 32) } else { (1, 128) };
        let is_used = |length: &u8| self.stores.nodes.count(&NodeBucket::PodPrefix(family, *length)) > 0;
        self.lengths[place].get_or_init(|| (8..=longest).filter(is_used).collect())
    }
}

/// What the API server refuses in any slice (`ValidateNonSpecialIP`); the metadata address 169.254.169.254 is among
/// the link-local ones. An IPv4 address written as an IPv6 one is judged as what it is.
fn special(address: IpAddr) -> Option<&'static str> {
    let link_local = match address.to_canonical() {
        IpAddr::V4(address) => address.is_link_local() || address.octets()[..3] == [224, 0, 0],
        IpAddr::V6(address) => address.is_unicast_link_local() || address.segments()[0] & 0xff0f == 0xff02,
    };
    let canonical = address.to_canonical();
    match canonical {
        _ if canonical != address => Some("IPv4-mapped"),
        _ if canonical.is_unspecified() => Some("unspecified"),
        _ if canonical.is_loopback() => Some("loopback"),
        _ if link_local => Some("link-local"),
        _ => None,
    }
}

/// The IPv4 addresses that a gateway may reach for this IPv6 address, or that are otherwise written in it: NAT64 (RFC 6052
/// with the prefix 64:ff9b::/96, and with those of any length in 64:ff9b:1::/48), 6to4, Teredo, IPv4-compatible.
pub(crate) fn translated(address: IpAddr) -> impl Iterator<Item = Ipv4Addr> {
    let IpAddr::V6(address) = address else { return Vec::new().into_iter() };
    let octets = address.octets();
    let of = |places: [usize; 4]| Ipv4Addr::from(places.map(|place| octets[place]));
    let all = match address.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, ..] | [0, 0, 0, 0, 0, 0, ..] => vec![of(LAST)],
        [0x64, 0xff9b, 1, ..] => {
            // The length of the prefix is the gateway's affair. Read with another length than its own an address mostly
            // begins with zeros, and no server has such a one.
            let read = [LAST, [6, 7, 9, 10], [7, 9, 10, 11], [9, 10, 11, 12]].map(of);
            let may_be = |v4: &Ipv4Addr| v4.octets()[0] != 0;
            if read.iter().any(may_be) { read.into_iter().filter(may_be).collect() } else { vec![of(LAST)] }
        }
        [0x2002, ..] => vec![of([2, 3, 4, 5])],
        [0x2001, 0, ..] => vec![Ipv4Addr::from_bits(!of(LAST).to_bits())],
        _ => Vec::new(),
    };
    all.into_iter()
}

/// Where an IPv4 address is that takes the last octets of an IPv6 one.
const LAST: [usize; 4] = [12, 13, 14, 15];

fn is_api_server(address: IpAddr, stores: &Stores) -> bool {
    let service = stores.services.get(&Stores::api_server());
    stores.api_server.count(&address) > 0
        || service.is_some_and(|service| service.addresses.contains(&address))
}

#[cfg(test)]
mod tests {
    use prometheus::Registry;

    use super::*;

    fn forbidden(entries: &[&str]) -> Forbidden {
        Forbidden(entries.iter().map(|entry| entry.parse().unwrap()).collect())
    }

    #[test]
    fn special_addresses_are_refused_whatever_the_operator_says() {
        let (none, stores) = (Forbidden::default(), Stores::new(&Registry::new()));
        for address in [
            "127.0.0.1",
            "::1",
            "0.0.0.0",
            "::",
            "169.254.169.254",
            "fe80::1",
            "224.0.0.5",
            "ff02::1",
            "::ffff:10.0.0.1",
            "64:ff9b::169.254.169.254",
            "2001:0:4136:e378:8000:63bf:80ff:fffe",
        ] {
            assert!(none.among(&stores).reason(address.parse().unwrap()).is_some(), "{address}");
        }
        for address in ["10.0.0.1", "192.0.2.1", "2001:db8::1", "fd00::1"] {
            assert_eq!(none.among(&stores).reason(address.parse().unwrap()), None, "{address}");
        }
    }

    #[test]
    fn the_operators_networks_are_refused_and_named() {
        let ranges = forbidden(&["10.0.0.0/8", "fd00:ec2::/32"]);
        let stores = Stores::new(&Registry::new());
        let reason = |address: &str| ranges.among(&stores).reason(address.parse().unwrap());
        assert!(reason("10.1.2.3").is_some_and(|text| text.contains("10.0.0.0/8")));
        assert!(reason("fd00:ec2::254").is_some());
        assert_eq!(reason("11.1.2.3"), None);
        assert!("10.0.0.1".parse::<Range>().is_err_and(|error| error.to_string().contains("10.0.0.1")));
    }

    #[test]
    fn nodes_and_the_api_server_are_refused_by_name() {
        let stores = Stores::new(&Registry::new());
        let ranges = forbidden(&DEFAULT);
        let node = serde_json::from_value::<crate::watched::WatchedNode>(serde_json::json!({
            "metadata": {"name": "n"}, "spec": {"podCIDRs": ["10.244.3.0/24", "fd00:3::/64"]},
            "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.7"}]}
        }));
        stores.nodes.apply(kube::runtime::watcher::Event::Apply(node.unwrap().into()), |_| {});
        let service = serde_json::from_value::<crate::watched::WatchedService>(serde_json::json!({
            "metadata": {"name": "kubernetes", "namespace": "default"}, "spec": {"clusterIPs": ["10.96.0.1"]}
        }));
        stores.services.apply(kube::runtime::watcher::Event::Apply(service.unwrap().into()), |_| {});
        let reason = |address: &str| ranges.among(&stores).reason(address.parse().unwrap());
        assert!(reason("192.0.2.7").is_some_and(|text| text.contains("nodes")));
        assert!(reason("10.96.0.1").is_some_and(|text| text.contains("API server")));
        assert_eq!(reason("192.0.2.8"), None);
        let other = serde_json::from_value::<crate::watched::WatchedService>(serde_json::json!({
            "metadata": {"name": "db", "namespace": "other"}, "spec": {"clusterIPs": ["10.96.0.7"]}
        }));
        stores.services.apply(kube::runtime::watcher::Event::Apply(other.unwrap().into()), |_| {});
        assert!(reason("10.96.0.7").is_some_and(|text| text.contains("Services")));
        for address in ["10.244.3.1", "fd00:3::1"] {
            assert!(reason(address).is_some_and(|text| text.contains("networks of pods")), "{address}");
        }
        assert_eq!((reason("10.244.4.1"), reason("fd00:4::1")), (None, None));
        let pod = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "p", "namespace": "ns"}, "status": {"podIPs": [{"ip": "10.244.3.9"}]}
        }));
        let pod = crate::watched::Pod::slim(pod.unwrap(), &mut Default::default());
        stores.pods.apply(kube::runtime::watcher::Event::Apply(pod), |_| {});
        assert_eq!(reason("10.244.3.9"), None, "what a pod has is not for the operator alone to say");
        for address in ["64:ff9b::10.96.0.1", "64:ff9b:1::10.244.3.9", "2002:c000:207::1", "::10.96.0.7"] {
            assert!(reason(address).is_some_and(|text| text.contains("stands for")), "{address}");
        }
        assert_eq!(reason("64:ff9b::8.8.8.8"), None);
    }

    #[test]
    fn nat64_prefixes_of_each_length_are_unwrapped() {
        let ranges = forbidden(&["10.0.0.0/8"]);
        let stores = Stores::new(&Registry::new());
        let reason = |address: &str| ranges.among(&stores).reason(address.parse().unwrap());
        // The examples of RFC 6052, 2.4, for lengths of 48, 56, 64 and 96 bits, with and without a suffix.
        for address in [
            "64:ff9b:1:0a01:2:300::",
            "64:ff9b:1:0a01:2:300:0:9",
            "64:ff9b:1:ff0a:1:203::",
            "64:ff9b:1:ffff:a:102:300::",
            "64:ff9b:1::10.1.2.3",
        ] {
            assert!(reason(address).is_some_and(|why| why.contains("10.1.2.3")), "{address}");
        }
        for address in ["64:ff9b:1::192.0.2.1", "64:ff9b:1:c000:2:100::", "64:ff9b:2:0a01:2:300::"] {
            assert_eq!(reason(address), None, "{address}");
        }
    }
}
