//! The stores that reconciles read, which the watches fill.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use mainstay_crds::{ReplicaGroup, SourceKind, TargetKind};
use mainstay_runtime::{index::Index, undecoded::Undecoded};
use prometheus::Registry;

use crate::watched::{Config, WatchedWorkload, Workload};

/// What reconciles read.
#[derive(Clone)]
pub struct Stores {
    /// ConfigMaps.
    pub config_maps: Index<Config>,
    /// Secrets.
    pub secrets: Index<Config>,
    /// Deployments.
    pub deployments: Index<Workload>,
    /// StatefulSets.
    pub stateful_sets: Index<Workload>,
    /// DaemonSets.
    pub daemon_sets: Index<Workload>,
    /// ReplicaGroups.
    pub replica_groups: Index<Workload>,
    /// The ReplicaGroups that cannot be decoded. What their store keeps of them may no longer be so.
    pub undecoded_groups: Undecoded<WatchedWorkload<ReplicaGroup>>,
}

/// Every kind of source.
pub const SOURCE_KINDS: [SourceKind; 2] = [SourceKind::ConfigMap, SourceKind::Secret];
/// Every kind of target.
pub const TARGET_KINDS: [TargetKind; 4] =
    [TargetKind::Deployment, TargetKind::StatefulSet, TargetKind::DaemonSet, TargetKind::ReplicaGroup];

impl Stores {
    /// Empty stores. Registers the series that counts what cannot be decoded.
    ///
    /// # Panics
    /// When the registry has that series already.
    pub fn new(registry: &Registry) -> Self {
        Self {
            config_maps: Index::default(),
            secrets: Index::default(),
            deployments: Index::default(),
            stateful_sets: Index::default(),
            daemon_sets: Index::default(),
            replica_groups: Index::default(),
            undecoded_groups: Undecoded::new(registry),
        }
    }

    /// The targets of a kind that are there and cannot be decoded. The API server admits none of the built-in kinds.
    pub(crate) fn undecoded(&self, kind: TargetKind, namespace: &str) -> Vec<ObjectMeta> {
        match kind {
            TargetKind::ReplicaGroup => self.undecoded_groups.in_namespace(namespace),
            TargetKind::Deployment | TargetKind::StatefulSet | TargetKind::DaemonSet => Vec::new(),
        }
    }

    /// The store of a kind of source.
    pub fn configs(&self, kind: SourceKind) -> &Index<Config> {
        match kind {
            SourceKind::ConfigMap => &self.config_maps,
            SourceKind::Secret => &self.secrets,
        }
    }

    /// The store of a kind of target.
    pub fn workloads(&self, kind: TargetKind) -> &Index<Workload> {
        match kind {
            TargetKind::Deployment => &self.deployments,
            TargetKind::StatefulSet => &self.stateful_sets,
            TargetKind::DaemonSet => &self.daemon_sets,
            TargetKind::ReplicaGroup => &self.replica_groups,
        }
    }
}
