//! The status as it is written: not more often than it helps, and never over what a predecessor has remembered.

use std::{collections::HashMap, time::Duration};

use kube::{
    Api, Resource, ResourceExt,
    api::{Patch, PatchParams},
};
use mainstay_crds::{ReplicaGroup, ReplicaGroupStatus};
use mainstay_runtime::{failure::RequestError, index::ObjectKey};
use serde_json::json;
use tokio::time::Instant;

use super::{CATCH_UP, Memory, PassFailure, Replication};
use crate::{
    apply::{FIELD_MANAGER, in_time},
    status,
};

/// How often a group's status follows its counters while its conditions stand.
const STATUS_PACE: Duration = Duration::from_millis(500);

impl Replication {
    /// Writes the status if it differs from the one that stands. While only counters move it follows at
    /// [`STATUS_PACE`]; the return value says when the rest is due.
    pub(super) async fn report(
        &self,
        group: &ReplicaGroup,
        status: ReplicaGroupStatus,
    ) -> Result<Option<Duration>, PassFailure> {
        let key = ObjectKey::of(group);
        let standing = group.status.as_ref();
        if standing == Some(&status) {
            return Ok(None);
        }
        let first = self.memory.lock().get(&key).is_none_or(|memory| memory.written.is_none());
        if let Some((last, at)) = &self.memory.lock().entry(key.clone()).or_default().written {
            let wait = STATUS_PACE.checked_sub(at.elapsed()).filter(|wait| !wait.is_zero());
            if *last == status && wait.is_some() {
                // The store has yet to show what was written.
                return Ok(wait);
            }
            if !status::is_urgent(group, last, &status) && wait.is_some() {
                return Ok(wait);
            }
        }
        match self.write_status(group, &status, first).await {
            // The store is behind, and with it what was decided.
            Err(RequestError::Conflict(_)) => return Ok(Some(CATCH_UP.first)),
            written => written.map_err(PassFailure::Status)?,
        }
        self.memory.lock().entry(key).or_default().written = Some((status, Instant::now()));
        Ok(None)
    }

    async fn write_status(
        &self,
        group: &ReplicaGroup,
        status: &ReplicaGroupStatus,
        first: bool,
    ) -> Result<(), RequestError> {
        let groups: Api<ReplicaGroup> =
            Api::namespaced(self.client.clone(), &group.namespace().unwrap_or_default());
        // The UID keeps the status from being written to a later group of the same name.
        let mut patch = json!({
            "apiVersion": ReplicaGroup::api_version(&()),
            "kind": ReplicaGroup::kind(&()),
            "metadata": {"name": group.name_any(), "uid": group.metadata.uid},
            "status": status,
        });
        if first {
            // What a predecessor has remembered must have been seen before it is written over.
            patch["metadata"]["resourceVersion"] = json!(group.metadata.resource_version);
        }
        let params = PatchParams::apply(FIELD_MANAGER).force();
        let (name, patch) = (group.name_any(), Patch::Apply(patch));
        match in_time(groups.patch_status(&name, &params, &patch)).await {
            Err(RequestError::Conflict(_)) if !first => Ok(()),
            Ok(_) | Err(RequestError::NotFound(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// The group's status as this process wrote it last, or else as the store shows it.
pub(super) fn last_status<'a>(
    memory: &'a HashMap<ObjectKey, Memory>,
    group: &'a ReplicaGroup,
) -> Option<&'a ReplicaGroupStatus> {
    let written = memory.get(&ObjectKey::of(group)).and_then(|memory| Some(&memory.written.as_ref()?.0));
    written.or(group.status.as_ref())
}
