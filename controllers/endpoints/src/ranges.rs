//! The addresses that no pool may send traffic to.
//!
//! A user who may write a pool can make trusted clients, such as a load balancer or an ingress controller, connect to
//! any address in it, past every NetworkPolicy: CVE-2021-25740. So the operator lists forbidden addresses. They do not
//! apply to pods: pods are selected by their labels, and the addresses of other namespaces' pods need a grant.

use std::{collections::BTreeSet, net::IpAddr, str::FromStr};

use ipnet::IpNet;
use thiserror::Error;

use crate::stores::Stores;

/// One entry of the flag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Range {
    /// All addresses of a network.
    Network(IpNet),
    /// The addresses of the cluster's nodes.
    Nodes,
    /// Those of the API server, and of its Service.
    ApiServer,
}

/// What an entry cannot be read as.
#[derive(Debug, PartialEq, Eq, Error)]
#[error("{0:?} is not a range: write a network such as 10.0.0.0/8 or fd00::/8, `nodes` or `api-server`")]
pub struct RangeError(String);

impl FromStr for Range {
    type Err = RangeError;

    fn from_str(text: &str) -> Result<Self, RangeError> {
        match text {
            "nodes" => Ok(Self::Nodes),
            "api-server" => Ok(Self::ApiServer),
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
/// (Alibaba's, and AWS's over IPv6).
pub const DEFAULT: [&str; 6] =
    ["224.0.0.0/4", "ff00::/8", "100.100.100.200/32", "fd00:ec2::/32", "nodes", "api-server"];

/// The operator's ranges.
#[derive(Debug, Clone, Default)]
pub struct Forbidden(pub Vec<Range>);

impl FromIterator<Entry> for Forbidden {
    fn from_iter<I: IntoIterator<Item = Entry>>(entries: I) -> Self {
        Self(entries.into_iter().filter_map(|entry| entry.0).collect())
    }
}

impl Forbidden {
    /// Why no pool may name `address`; `None` when it may.
    pub fn reason(&self, address: IpAddr, stores: &Stores) -> Option<String> {
        if let Some(kind) = special(address) {
            return Some(format!("{kind} addresses cannot be endpoints"));
        }
        let refusal = |range: &Range| match range {
            Range::Network(network) => {
                network.contains(&address).then(|| format!("the operator forbids {network}"))
            }
            Range::Nodes => (stores.nodes.count(&address) > 0)
                .then(|| "the operator forbids addresses of nodes".to_owned()),
            Range::ApiServer => is_api_server(address, stores)
                .then(|| "the operator forbids addresses of the API server".to_owned()),
        };
        self.0.iter().find_map(refusal)
    }

    /// The ranges, as the flag has them.
    pub fn names(&self) -> BTreeSet<String> {
        let name = |range: &Range| match range {
            Range::Network(network) => network.to_string(),
            Range::Nodes => "nodes".to_owned(),
            Range::ApiServer => "api-server".to_owned(),
        };
        self.0.iter().map(name).collect()
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
        ] {
            assert!(none.reason(address.parse().unwrap(), &stores).is_some(), "{address}");
        }
        for address in ["10.0.0.1", "192.0.2.1", "2001:db8::1", "fd00::1"] {
            assert_eq!(none.reason(address.parse().unwrap(), &stores), None, "{address}");
        }
    }

    #[test]
    fn the_operators_networks_are_refused_and_named() {
        let ranges = forbidden(&["10.0.0.0/8", "fd00:ec2::/32"]);
        let reason = |address: &str| ranges.reason(address.parse().unwrap(), &Stores::new(&Registry::new()));
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
            "metadata": {"name": "n"}, "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.7"}]}
        }));
        stores.nodes.apply(kube::runtime::watcher::Event::Apply(node.unwrap().into()), |_| {});
        let service = serde_json::from_value::<crate::watched::WatchedService>(serde_json::json!({
            "metadata": {"name": "kubernetes", "namespace": "default"}, "spec": {"clusterIPs": ["10.96.0.1"]}
        }));
        stores.services.apply(kube::runtime::watcher::Event::Apply(service.unwrap().into()), |_| {});
        let reason = |address: &str| ranges.reason(address.parse().unwrap(), &stores);
        assert!(reason("192.0.2.7").is_some_and(|text| text.contains("nodes")));
        assert!(reason("10.96.0.1").is_some_and(|text| text.contains("API server")));
        assert_eq!(reason("192.0.2.8"), None);
    }
}
