//! What reads and writes, and the gates that keep a rollout from being planned again before its own writes are seen.

use k8s_openapi::api::{apps::v1 as apps, core::v1 as core};
use kube::{Client, Resource};
use mainstay_crds::{ReplicaGroup, SourceKind, TargetKind};
use mainstay_runtime::{gate::Gate, index::ObjectKey, request::path};

use super::error::ApplyError;
use crate::stores::{SOURCE_KINDS, Stores, TARGET_KINDS};

/// Reads sources, and writes revisions and targets.
pub struct Writer {
    pub(super) client: Client,
    pub(super) stores: Stores,
    pub(super) sources: [Gate<ObjectKey>; SOURCE_KINDS.len()],
    pub(super) targets: [Gate<ObjectKey>; TARGET_KINDS.len()],
}

impl Writer {
    /// A writer that has written nothing yet.
    pub fn new(client: Client, stores: Stores) -> Self {
        Self { client, stores, sources: Default::default(), targets: Default::default() }
    }

    /// Whether the stores have seen all that was written for the rollout. Creates whose answer was lost are looked up.
    ///
    /// # Errors
    /// The lookup's.
    pub async fn may_write(&self, rollout: &ObjectKey) -> Result<bool, ApplyError> {
        for kind in SOURCE_KINDS {
            let gate = &self.sources[kind as usize];
            for (object, intent) in gate.unanswered(rollout) {
                let found = self.read_config(kind, &object.namespace, &object.name).await?;
                gate.settle(rollout, &object, &intent, found.as_ref().map(|found| &found.metadata));
            }
        }
        let sources = SOURCE_KINDS
            .iter()
            .all(|kind| self.sources[*kind as usize].is_open(rollout, self.stores.configs(*kind)));
        let targets = TARGET_KINDS
            .iter()
            .all(|kind| self.targets[*kind as usize].is_open(rollout, self.stores.workloads(*kind)));
        Ok(sources && targets)
    }

    /// Forgets a rollout that is gone.
    pub fn forget(&self, rollout: &ObjectKey) {
        self.sources.iter().for_each(|gate| gate.forget(rollout));
        self.targets.iter().for_each(|gate| gate.forget(rollout));
    }
}

pub(super) fn source_path(kind: SourceKind, namespace: &str, name: &str) -> String {
    match kind {
        SourceKind::ConfigMap => path::<core::ConfigMap>(namespace, name),
        SourceKind::Secret => path::<core::Secret>(namespace, name),
    }
}

pub(super) fn target_path(kind: TargetKind, namespace: &str, name: &str) -> String {
    match kind {
        TargetKind::Deployment => path::<apps::Deployment>(namespace, name),
        TargetKind::StatefulSet => path::<apps::StatefulSet>(namespace, name),
        TargetKind::DaemonSet => path::<apps::DaemonSet>(namespace, name),
        TargetKind::ReplicaGroup => path::<ReplicaGroup>(namespace, name),
    }
}

pub(super) fn target_version(kind: TargetKind) -> String {
    match kind {
        TargetKind::ReplicaGroup => ReplicaGroup::api_version(&()).into_owned(),
        _ => "apps/v1".to_owned(),
    }
}
