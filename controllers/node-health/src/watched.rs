//! Nodes and Leases as the watches decode them, and as the stores keep them.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::{
    api::{coordination::v1, core::v1::Taint},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
pub use mainstay_runtime::node::{NodeCondition, WatchedNode};
use mainstay_runtime::{
    index::Indexed,
    node::failure_domain,
    slim::{self, Header},
    stands_for,
};
use serde::Deserialize;

use crate::{
    names::{CONFIRMED_DEAD, CONTROL_PLANE, EXCLUDED, LEAVING, OUT_OF_SERVICE, RECORD, SHUT_DOWN, UNHEALTHY},
    record::Record,
};

/// Where kubelets renew their Leases.
pub const LEASES: &str = "kube-node-lease";

/// A node as the store keeps it.
#[derive(Debug, PartialEq)]
pub struct Node {
    header: Header,
    /// What plans read of it.
    pub facts: Facts,
    /// When its kubelet last posted its status, by the kubelet's clock: a sign of life of a node without a Lease.
    pub posted: Option<Timestamp>,
}

/// What plans read of a node: as long as it stays equal a change is no news.
#[derive(Debug, PartialEq)]
pub struct Facts {
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its [failure domain](failure_domain).
    pub zone: Arc<str>,
    /// Whether it runs the control plane.
    pub control_plane: bool,
    /// Whether it is kept out of all remediation.
    pub excluded: bool,
    /// Whether it is being removed on purpose.
    pub leaving: bool,
    /// `spec.unschedulable`.
    pub unschedulable: bool,
    /// `spec.taints`.
    pub taints: Vec<Taint>,
    /// The types and statuses of its conditions.
    pub conditions: Vec<NodeCondition>,
    /// Where its kubelet answers.
    pub address: Option<IpAddr>,
    /// The boot that it reports.
    pub boot_id: Arc<str>,
    /// What this controller has set on it.
    pub record: Record,
    /// What a person says of its death: see [`confirmation`](crate::record::confirmation).
    pub confirmed_dead: Option<Box<str>>,
}

impl Node {
    /// Its name.
    pub fn name(&self) -> &Arc<str> {
        &self.header.key.name
    }

    /// `metadata.uid`.
    pub fn uid(&self) -> &str {
        &self.header.uid
    }
}

impl Facts {
    /// Whether the node carries a taint of this key.
    pub fn has_taint(&self, key: &str) -> bool {
        self.taints.iter().any(|taint| taint.key == key)
    }

    /// Whether this controller has set nothing on it.
    pub fn is_untouched(&self) -> bool {
        self.record == Record::default() && !self.has_taint(UNHEALTHY)
    }

    /// Whether others have removed its record, which last said `before`: of that something still stands without it, or the
    /// taint that is this controller's own. No kubelet can set or remove a taint of its own node.
    pub fn has_lost(&self, before: &Record) -> bool {
        let cordons = before.taken.as_ref().is_some_and(|taken| taken.cordon);
        let stands = self.has_taint(UNHEALTHY)
            || cordons && self.unschedulable
            || before.out_of_service().is_some() && self.has_taint(OUT_OF_SERVICE);
        self.record == Record::default() && stands
    }

    /// Whether its cloud says that it is shut down.
    pub fn is_shut_down(&self) -> bool {
        self.has_taint(SHUT_DOWN)
    }

    /// Whether the condition has this status.
    pub fn has(&self, kind: &str, status: &str) -> bool {
        self.conditions.iter().any(|condition| &*condition.kind == kind && &*condition.status == status)
    }
}

impl From<WatchedNode> for Node {
    fn from(watched: WatchedNode) -> Self {
        Self { header: Header::of(&watched), posted: posted(&watched), facts: Facts::from(watched) }
    }
}

/// When the kubelet of the node last posted its status.
pub fn posted(node: &WatchedNode) -> Option<Timestamp> {
    let ready = node.status.conditions.iter().find(|condition| &*condition.kind == "Ready")?;
    ready.posted.as_ref().map(|time| time.0)
}

impl From<WatchedNode> for Facts {
    fn from(watched: WatchedNode) -> Self {
        let WatchedNode { metadata, spec, mut status } = watched;
        // When it was posted is no fact: it always differs.
        status.conditions.iter_mut().for_each(|condition| condition.posted = None);
        let (labels, annotations) =
            (metadata.labels.unwrap_or_default(), metadata.annotations.unwrap_or_default());
        let internal = status.addresses.iter().find(|address| address.r#type == "InternalIP");
        Self {
            zone: failure_domain(&labels),
            control_plane: CONTROL_PLANE.iter().any(|role| labels.contains_key(*role)),
            excluded: labels.get(EXCLUDED).is_some_and(|value| value == "true"),
            leaving: metadata.deletion_timestamp.is_some()
                || spec.taints.iter().any(|taint| LEAVING.contains(&taint.key.as_str())),
            unschedulable: spec.unschedulable,
            taints: spec.taints,
            conditions: status.conditions,
            address: internal.and_then(|address| address.address.parse().ok()),
            boot_id: status.node_info.boot_id.into(),
            record: annotations.get(RECORD).map_or_else(Record::default, |text| Record::read(text)),
            confirmed_dead: labels.get(CONFIRMED_DEAD).map(|value| value.as_str().into()),
            labels,
        }
    }
}

impl Indexed for Node {
    /// All of them.
    type Bucket = ();

    fn header(&self) -> &Header {
        &self.header
    }
    fn buckets(&self) -> Vec<()> {
        vec![()]
    }
    fn is_same(&self, other: &Self) -> bool {
        self == other
    }
}

/// A node's Lease as the watch and live reads decode it.
#[derive(Debug, Clone, Deserialize)]
pub struct WatchedLease {
    #[serde(deserialize_with = "slim::metadata")]
    metadata: ObjectMeta,
    #[serde(default)]
    spec: WatchedLeaseSpec,
}
stands_for!(WatchedLease, v1::Lease);

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct WatchedLeaseSpec {
    renew_time: Option<MicroTime>,
    lease_duration_seconds: Option<u32>,
}

/// A node's Lease as the store keeps it.
#[derive(Debug, PartialEq)]
pub struct Lease {
    header: Header,
    /// `spec.renewTime`, by the clock of the node.
    pub renewed: Option<Timestamp>,
    /// `spec.leaseDurationSeconds`.
    pub duration: Option<Duration>,
}

impl Lease {
    /// The name of its node.
    pub fn node(&self) -> &Arc<str> {
        &self.header.key.name
    }
}

impl From<WatchedLease> for Lease {
    fn from(watched: WatchedLease) -> Self {
        let spec = &watched.spec;
        Self {
            header: Header::of(&watched),
            renewed: spec.renew_time.as_ref().map(|time| time.0),
            duration: spec.lease_duration_seconds.map(|seconds| Duration::from_secs(seconds.into())),
        }
    }
}

impl Indexed for Lease {
    /// None: a Lease is asked for by its name.
    type Bucket = ();

    fn header(&self) -> &Header {
        &self.header
    }
    fn buckets(&self) -> Vec<()> {
        Vec::new()
    }
    fn is_same(&self, other: &Self) -> bool {
        self == other
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_node_leaves_that_is_deleted_or_marked_by_its_autoscaler() {
        let leaves = |metadata: serde_json::Value, taints: &[&str]| {
            let taints: Vec<_> =
                taints.iter().map(|key| json!({"key": key, "effect": "NoSchedule"})).collect();
            let node = json!({"metadata": metadata, "spec": {"taints": taints}});
            Facts::from(serde_json::from_value::<WatchedNode>(node).unwrap()).leaving
        };
        assert!(!leaves(json!({"name": "n"}), &[UNHEALTHY]));
        assert!(leaves(json!({"name": "n", "deletionTimestamp": "2026-01-01T00:00:00Z"}), &[]));
        for key in LEAVING {
            assert!(leaves(json!({"name": "n"}), &["other", key]), "{key}");
        }
    }
}
