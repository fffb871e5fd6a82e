//! Nodes as watches and live reads decode them, and where they are.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::{
    api::core::v1::{Node, Taint},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
};
use serde::Deserialize;

use crate::{slim, stands_for};

/// The label with the zone of a node.
pub const ZONE: &str = "topology.kubernetes.io/zone";
/// That with its region.
pub const REGION: &str = "topology.kubernetes.io/region";

/// A node, as far as any controller reads it.
#[derive(Debug, Clone, Deserialize)]
pub struct WatchedNode {
    /// `metadata`.
    #[serde(deserialize_with = "slim::metadata")]
    pub metadata: ObjectMeta,
    /// `spec`.
    #[serde(default)]
    pub spec: WatchedSpec,
    /// `status`.
    #[serde(default)]
    pub status: WatchedStatus,
}
stands_for!(WatchedNode, Node);

/// The `spec` of a node.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct WatchedSpec {
    /// Whether no pod is placed on it that does not ask for it.
    pub unschedulable: bool,
    /// Its taints.
    pub taints: Vec<Taint>,
    /// The networks that its pods have their addresses from.
    #[serde(rename = "podCIDRs")]
    pub pod_networks: Vec<String>,
}

/// The `status` of a node.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct WatchedStatus {
    /// Where it answers.
    pub addresses: Vec<WatchedAddress>,
    /// How it is.
    pub conditions: Vec<NodeCondition>,
    /// What runs on it.
    pub node_info: WatchedInfo,
}

/// An address of a node.
#[derive(Debug, Clone, Deserialize)]
pub struct WatchedAddress {
    /// `InternalIP`, `ExternalIP`, `Hostname` or another.
    pub r#type: String,
    /// The address, or the name.
    pub address: String,
}

/// What runs on a node.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct WatchedInfo {
    /// The boot that it reports.
    #[serde(rename = "bootID")]
    pub boot_id: String,
}

/// A condition of a node.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct NodeCondition {
    /// Its type.
    #[serde(rename = "type")]
    pub kind: Arc<str>,
    /// `True`, `False` or `Unknown`.
    pub status: Arc<str>,
    /// When it was last posted, by the clock of who did.
    #[serde(rename = "lastHeartbeatTime", default)]
    pub posted: Option<Time>,
}

/// The failure domain of a node with these labels: its zone, with the region before it where the zone's name does not tell it.
/// Empty: it has no such label.
pub fn failure_domain(labels: &BTreeMap<String, String>) -> Arc<str> {
    match (labels.get(REGION), labels.get(ZONE)) {
        (Some(region), Some(zone)) if !zone.starts_with(region.as_str()) => format!("{region}/{zone}").into(),
        (_, Some(zone)) => zone.as_str().into(),
        (Some(region), None) => region.as_str().into(),
        (None, None) => "".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_is_named_with_its_region_where_its_own_name_does_not_tell() {
        let domain = |labels: &[(&str, &str)]| {
            let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
            failure_domain(&labels.collect()).to_string()
        };
        assert_eq!(domain(&[(ZONE, "eu-1a"), (REGION, "eu-1")]), "eu-1a");
        assert_eq!(domain(&[(ZONE, "a"), (REGION, "eu-1")]), "eu-1/a");
        assert_eq!(domain(&[(ZONE, "a")]), "a");
        assert_eq!(domain(&[(REGION, "eu-1")]), "eu-1");
        assert_eq!(domain(&[]), "");
    }
}
