//! Volume claims: made before the pod that mounts them, deleted when no pod will.

use std::{collections::BTreeSet, sync::Arc};

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::{
    Api, ResourceExt,
    api::{ListParams, PartialObjectMeta, Patch},
};
use mainstay_crds::{Retention, VolumeClaimTemplate};
use mainstay_runtime::{
    failure::RequestError,
    index::ObjectKey,
    names, owner,
    request::{ObjectPath, in_time, paged},
};
use serde_json::json;

use super::{Applied, ApplyError, Job, Writer, not_created};
use crate::{
    claim::{self, Claim},
    names::{GROUP, SLOT, ZONE},
    pod::Bucket,
    upkeep::Repair,
};

impl Writer {
    /// Sees to it that every claim of a slot exists, and returns how many were made.
    pub(super) async fn keep_claims(&self, job: &Job<'_>, slot: &str) -> Result<usize, ApplyError> {
        let mut made = 0;
        for template in &job.group.spec.volume_claim_templates {
            let name = claim::name(template, &job.observed.key.name, slot);
            let known =
                job.observed.slots.claims_of(slot).iter().any(|claim| *claim.header.key.name == *name);
            if !known {
                let key = ObjectKey::new(&job.observed.key.namespace, &name);
                self.create_claim(job, template, slot, &key).await.map_err(failed("create", &key))?;
                made += 1;
            }
        }
        Ok(made)
    }

    /// Brings the owners and zones of claims up to date.
    pub(super) async fn repair_claims(&self, job: &Job<'_>) -> Result<(), ApplyError> {
        let mut result = Ok(());
        for repair in &job.observed.upkeep.claims {
            let mended =
                self.repair_claim(job, repair).await.map_err(failed("change", &repair.claim.header.key));
            result = result.and(mended);
        }
        result
    }

    /// Deletes the claims of this many free slots, but none of those that new pods were to get.
    pub(super) async fn discard_claims(
        &self,
        job: &Job<'_>,
        count: usize,
        kept: &[Arc<str>],
        applied: &mut Applied,
    ) -> Result<(), ApplyError> {
        let mut result = Ok(());
        for claim in job.observed.slots.discard(count, kept) {
            let deleted = self.delete_claim(job, &claim).await.map_err(failed("delete", &claim.header.key));
            applied.claims_deleted += usize::from(deleted.is_ok());
            result = result.and(deleted);
        }
        result
    }

    /// A slot that is free.
    pub(super) fn free_slot(&self, job: &Job<'_>) -> Arc<str> {
        let namespace = &job.observed.key.namespace;
        loop {
            let slot: Arc<str> = names::suffix().into();
            let holders = Bucket::Holding(Arc::clone(namespace), Arc::clone(&slot));
            if self.stores.pods.count(&holders) == 0 && job.observed.slots.claims_of(&slot).is_empty() {
                return slot;
            }
        }
    }

    async fn create_claim(
        &self,
        job: &Job<'_>,
        template: &VolumeClaimTemplate,
        slot: &str,
        key: &ObjectKey,
    ) -> Result<(), RequestError> {
        let group = &job.observed.key;
        let mut labels = template.metadata.labels.clone();
        labels.insert(SLOT.to_owned(), slot.to_owned());
        labels.insert(GROUP.to_owned(), group.name.to_string());
        let owned = job.group.spec.volume_claims.retention.when_deleted == Retention::Delete;
        let owners: Vec<_> = owned.then(|| owner::reference(job.group)).into_iter().collect();
        let claim = json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "metadata": {
                "name": &*key.name, "labels": labels, "annotations": template.metadata.annotations,
                "ownerReferences": owners,
            },
            "spec": template.spec,
        });
        match self.claims(job).create(&path(key), claim.to_string()).await {
            Ok(_) => Ok(()),
            Err(RequestError::AlreadyExists(_)) => self.take_over_claim(job, slot, key).await,
            Err(error) => Err(not_created(error)),
        }
    }

    /// A claim of that name exists: the slot's, which the store does not show yet, or a stranger's.
    async fn take_over_claim(&self, job: &Job<'_>, slot: &str, key: &ObjectKey) -> Result<(), RequestError> {
        let group = &job.observed.key;
        let standing = in_time(self.claim_api(job).get_metadata(&key.name)).await?;
        let is = |label, value: &str| standing.labels().get(label).is_some_and(|labelled| labelled == value);
        if is(SLOT, slot) && is(GROUP, &group.name) && standing.metadata.deletion_timestamp.is_none() {
            let (uid, version) = (standing.uid().unwrap_or_default(), standing.resource_version());
            self.claim_gate.stored(group, key, &uid, version.as_deref());
            return Ok(());
        }
        Err(RequestError::Conflict(format!(
            "{} exists and does not belong to this pod, or is being deleted",
            key.name
        )))
    }

    async fn repair_claim(&self, job: &Job<'_>, repair: &Repair) -> Result<(), RequestError> {
        let claim = &repair.claim;
        let owner = match (repair.owned, &claim.owner) {
            (true, None) => vec![json!(owner::reference(job.group))],
            (false, Some(uid)) => vec![json!({"$patch": "delete", "uid": &**uid})],
            _ => Vec::new(),
        };
        let mut patch = json!({"metadata": {"uid": &*claim.header.uid, "ownerReferences": owner}});
        if let Some(zone) = &repair.zone {
            patch["metadata"]["annotations"] = json!({ZONE: &**zone});
        }
        match self.claims(job).patch(&path(&claim.header.key), &Patch::Strategic(patch)).await {
            Ok(_) | Err(RequestError::NotFound(_) | RequestError::Conflict(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn delete_claim(&self, job: &Job<'_>, claim: &Claim) -> Result<(), RequestError> {
        match self.claims(job).delete(&path(&claim.header.key), &claim.header.uid, None).await {
            // Another claim of the name stands there, or somebody else wrote this one: it is looked up before the next
            // write.
            Ok(_) | Err(RequestError::Conflict(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Whether the store agrees with the server on the group's claims.
    pub(super) async fn claims_are_current(&self, job: &Job<'_>) -> Result<bool, RequestError> {
        if !claim::are_wanted(job.group) {
            return Ok(true);
        }
        let seen =
            job.observed.slots.claims().map(|claim| (claim.header.uid.to_string(), claim.header.terminating));
        let seen: BTreeSet<_> = seen.collect();
        let of_group = ListParams::default().labels(&format!("{SLOT},{GROUP}={}", job.observed.key.name));
        let list = |page| {
            let claims = self.claim_api(job);
            async move { claims.list_metadata(&page).await }
        };
        let own = |listed: PartialObjectMeta<PersistentVolumeClaim>| {
            let slot = listed.labels().get(SLOT).map(String::as_str).unwrap_or_default();
            let is_own = claim::is_own(job.group, &listed.name_any(), slot);
            let found = (listed.metadata.uid?, listed.metadata.deletion_timestamp.is_some());
            is_own.then_some(found)
        };
        let live = paged(of_group, list, own).await?;
        Ok(live.into_iter().collect::<BTreeSet<_>>() == seen)
    }

    fn claim_api(&self, job: &Job<'_>) -> Api<PersistentVolumeClaim> {
        Api::namespaced(self.client.clone(), &job.observed.key.namespace)
    }
}

fn path(claim: &ObjectKey) -> ObjectPath {
    ObjectPath::of::<PersistentVolumeClaim>(claim)
}

fn failed(action: &'static str, claim: &ObjectKey) -> impl FnOnce(RequestError) -> ApplyError {
    let claim = Arc::clone(&claim.name);
    move |source| ApplyError::Claim { action, claim, source }
}
