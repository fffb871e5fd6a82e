//! What reads and writes, and the gates that keep a rollout from being planned again before its own writes are seen.

use k8s_openapi::api::{apps::v1 as apps, core::v1 as core};
use kube::{Client, api::ApiResource};
use mainstay_crds::{ReplicaGroup, SourceKind, TargetKind};
use mainstay_runtime::{gate::Gate, index::ObjectKey, request::ObjectPath, writes::Writes};

use super::error::ApplyError;
use crate::{
    names::FIELD_MANAGER,
    stores::{SOURCE_KINDS, Stores, TARGET_KINDS},
};

/// Reads sources, and writes revisions and targets.
pub struct Writer {
    pub(super) client: Client,
    pub(super) stores: Stores,
    writes: Writes<'static>,
    sources: [Gate<ObjectKey>; SOURCE_KINDS.len()],
    pub(super) targets: [Gate<ObjectKey>; TARGET_KINDS.len()],
}

impl Writer {
    /// A writer that has written nothing yet.
    pub fn new(client: Client, stores: Stores) -> Self {
        let writes = Writes::new(client.clone(), FIELD_MANAGER);
        Self { client, stores, writes, sources: Default::default(), targets: Default::default() }
    }

    /// Whether the stores have seen all that was written for the rollout. Creates whose answer was lost are looked up.
    ///
    /// # Errors
    /// The lookup's.
    pub async fn may_write(&self, rollout: &ObjectKey) -> Result<bool, ApplyError> {
        for kind in SOURCE_KINDS {
            let settled = self.copies(kind, rollout).settle(|object| source_path(kind, object)).await;
            let failed = |source| ApplyError::Read { what: format!("the {kind:?}s of revisions"), source };
            settled.map_err(failed)?;
        }
        let sources = SOURCE_KINDS
            .iter()
            .all(|kind| self.sources[*kind as usize].is_open(rollout, self.stores.configs(*kind)));
        let targets = TARGET_KINDS
            .iter()
            .all(|kind| self.targets[*kind as usize].is_open(rollout, self.stores.workloads(*kind)));
        Ok(sources && targets)
    }

    /// Writes objects of revisions.
    pub(super) fn copies<'a>(&'a self, kind: SourceKind, rollout: &'a ObjectKey) -> Writes<'a> {
        self.writes.noted(&self.sources[kind as usize], rollout)
    }

    /// Forgets a rollout that is gone.
    pub fn forget(&self, rollout: &ObjectKey) {
        self.sources.iter().for_each(|gate| gate.forget(rollout));
        self.targets.iter().for_each(|gate| gate.forget(rollout));
    }
}

pub(super) fn source_path(kind: SourceKind, object: &ObjectKey) -> ObjectPath {
    match kind {
        SourceKind::ConfigMap => ObjectPath::of::<core::ConfigMap>(object),
        SourceKind::Secret => ObjectPath::of::<core::Secret>(object),
    }
}

pub(super) fn resource(kind: TargetKind) -> ApiResource {
    match kind {
        TargetKind::Deployment => ApiResource::erase::<apps::Deployment>(&()),
        TargetKind::StatefulSet => ApiResource::erase::<apps::StatefulSet>(&()),
        TargetKind::DaemonSet => ApiResource::erase::<apps::DaemonSet>(&()),
        TargetKind::ReplicaGroup => ApiResource::erase::<ReplicaGroup>(&()),
    }
}
