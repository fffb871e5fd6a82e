//! Services.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1,
    apimachinery::pkg::{apis::meta::v1::ObjectMeta, util::intstr::IntOrString},
};
use mainstay_runtime::{
    index::{Indexed, ObjectKey},
    owner::controller,
    slim::{self, Header},
    stands_for,
};
use serde::Deserialize;

use super::slice::Family;

/// A Service as the watch decodes it.
#[derive(Debug, Clone, Deserialize)]
pub struct WatchedService {
    #[serde(deserialize_with = "slim::metadata")]
    metadata: ObjectMeta,
    #[serde(default)]
    spec: WatchedSpec,
}
stands_for!(WatchedService, v1::Service);

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct WatchedSpec {
    r#type: Option<String>,
    selector: BTreeMap<String, String>,
    #[serde(rename = "clusterIP")]
    cluster_ip: Option<String>,
    #[serde(rename = "clusterIPs")]
    cluster_ips: Vec<String>,
    ip_families: Vec<String>,
    ports: Vec<WatchedPort>,
    publish_not_ready_addresses: bool,
    traffic_distribution: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WatchedPort {
    #[serde(default)]
    name: String,
    protocol: Option<String>,
    port: u16,
    target_port: Option<IntOrString>,
    app_protocol: Option<String>,
}

/// A port of a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicePort {
    /// Its name; empty for an only one.
    pub name: String,
    /// Its number.
    pub port: u16,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
    /// Where its endpoints are reached.
    pub target: IntOrString,
    /// `appProtocol`.
    pub app_protocol: Option<String>,
}

/// Which clients an endpoint is meant for (`trafficDistribution`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Distribution {
    /// All.
    #[default]
    Anywhere,
    /// Those of its zone.
    SameZone,
    /// Those of its node, or else of its zone.
    SameNode,
}

/// A Service as the store keeps it.
#[derive(Debug, PartialEq)]
pub struct Service {
    /// Name, UID and version.
    pub header: Header,
    /// When it was created.
    pub created: Option<Timestamp>,
    /// `metadata.labels`.
    pub labels: BTreeMap<String, String>,
    /// The UID of the object that controls it.
    pub owner: Option<Arc<str>>,
    /// Whether it chooses pods itself.
    pub has_selector: bool,
    /// Whether it is a mere name in the DNS.
    pub is_external_name: bool,
    /// Whether it has no address of its own.
    pub is_headless: bool,
    /// The families of its endpoints.
    pub families: Vec<Family>,
    /// Its ports.
    pub ports: Vec<ServicePort>,
    /// Whether pods get traffic before they are ready.
    pub publish_not_ready: bool,
    /// Which clients an endpoint is meant for.
    pub distribution: Distribution,
    /// Its own addresses.
    pub addresses: Vec<IpAddr>,
}

impl Service {
    /// One of which nothing is known, because it is not there.
    pub fn absent(key: ObjectKey) -> Self {
        Self {
            header: Header { key, uid: Box::default(), version: None, terminating: false },
            created: None,
            labels: BTreeMap::new(),
            owner: None,
            has_selector: false,
            is_external_name: false,
            is_headless: true,
            families: families_of(&[]),
            ports: Vec::new(),
            publish_not_ready: false,
            distribution: Distribution::default(),
            addresses: Vec::new(),
        }
    }
}

impl From<WatchedService> for Service {
    fn from(watched: WatchedService) -> Self {
        let header = Header::of(&watched);
        let WatchedService { metadata, spec } = watched;
        let owner = controller(&metadata).map(|owner| owner.uid.as_str().into());
        let addresses: Vec<IpAddr> = spec.cluster_ips.iter().filter_map(|ip| ip.parse().ok()).collect();
        let families: Vec<_> = spec.ip_families.iter().filter_map(|name| Family::named(name)).collect();
        Self {
            header,
            created: metadata.creation_timestamp.map(|time| time.0),
            labels: metadata.labels.unwrap_or_default(),
            owner,
            has_selector: !spec.selector.is_empty(),
            is_external_name: spec.r#type.as_deref() == Some("ExternalName"),
            is_headless: matches!(spec.cluster_ip.as_deref(), None | Some("" | "None")),
            families: if families.is_empty() { families_of(&addresses) } else { families },
            ports: spec.ports.into_iter().map(port).collect(),
            publish_not_ready: spec.publish_not_ready_addresses,
            distribution: distribution(spec.traffic_distribution.as_deref()),
            addresses,
        }
    }
}

/// The families of a Service that names none: those of its addresses, or both (upstream's
/// `getAddressTypesForService`).
fn families_of(addresses: &[IpAddr]) -> Vec<Family> {
    match addresses {
        [] => vec![Family::V4, Family::V6],
        some => some.iter().map(Family::of).collect(),
    }
}

fn distribution(name: Option<&str>) -> Distribution {
    match name {
        Some("PreferClose" | "PreferSameZone") => Distribution::SameZone,
        Some("PreferSameNode") => Distribution::SameNode,
        _ => Distribution::Anywhere,
    }
}

fn port(port: WatchedPort) -> ServicePort {
    ServicePort {
        name: port.name,
        port: port.port,
        protocol: port.protocol.unwrap_or_else(|| "TCP".to_owned()),
        target: match port.target_port {
            // The API server fills it in; an object from elsewhere may lack it.
            None | Some(IntOrString::Int(0)) => IntOrString::Int(port.port.into()),
            Some(target) => target,
        },
        app_protocol: port.app_protocol,
    }
}

impl Indexed for Service {
    /// Its own addresses.
    type Bucket = IpAddr;

    fn header(&self) -> &Header {
        &self.header
    }
    fn buckets(&self) -> Vec<IpAddr> {
        self.addresses.clone()
    }
    /// A pool that makes its Service keeps all of it, also what is not in the store.
    fn is_same(&self, other: &Self) -> bool {
        self == other && self.header.version == other.header.version
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_change_of_a_service_is_one() {
        let of = |version: &str, class: &str| {
            let service: WatchedService = serde_json::from_value(json!({
                "metadata": {"name": "web", "namespace": "ns", "uid": "s", "resourceVersion": version},
                "spec": {"loadBalancerClass": class, "ports": [{"port": 80}]},
            }))
            .unwrap();
            Service::from(service)
        };
        // What a pool that makes its Service keeps is not all of it in the store.
        assert!(!of("1", "a").is_same(&of("2", "b")));
        assert!(of("1", "a").is_same(&of("1", "a")));
    }
}
