//! ControllerRevisions: made before the first pod of theirs, removed when they are not needed.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::ControllerRevision;
use kube::{Api, ResourceExt, api::Patch};
use mainstay_crds::ReplicaGroup;
use mainstay_runtime::{
    failure::RequestError,
    index::ObjectKey,
    owner,
    request::{ObjectPath, in_time},
};
use serde_json::json;

use super::{ApplyError, Writer, not_created};
use crate::{
    names::{CHANGE_CAUSE, REVISION},
    observe::Observed,
    owner::Controller,
    revision::{self, Revision, data, template_of},
};

/// Why the template was changed, where the group says so.
fn change_cause(group: &ReplicaGroup) -> Option<&String> {
    group.annotations().get(CHANGE_CAUSE)
}

impl Writer {
    /// Sees to it that the template of the spec is kept as a revision. Returns whether it is kept; if not, a group of the
    /// same name has left one behind, which the garbage collector is about to delete.
    ///
    /// # Errors
    /// [`ApplyError::Revision`].
    pub async fn keep_revision(&self, group: &ReplicaGroup, observed: &Observed) -> Result<bool, ApplyError> {
        let hash = &observed.revisions.own;
        if observed.revisions.stands().is_some() {
            // From now on its absence means that somebody has deleted it.
            if let Some(made) = self.revisions.lock().get_mut(&observed.key) {
                made.hashes.remove(hash);
            }
            return Ok(true);
        }
        let made = || self.revisions.lock().get(&observed.key).is_some_and(|made| made.hashes.contains(hash));
        // A group on its way out gets nothing new; the garbage collector would have to wait for it.
        if made() || group.metadata.deletion_timestamp.is_some() {
            return Ok(true);
        }
        let number = self.make_revision(group, observed, self.next_number(observed)).await;
        let Some(number) = number.map_err(ApplyError::Revision)? else { return Ok(false) };
        let mut revisions = self.revisions.lock();
        let made = revisions.entry(observed.key.clone()).or_default();
        made.hashes.insert(Arc::clone(hash));
        made.newest = number;
        Ok(true)
    }

    /// Gives the revision of the spec's template, where it is kept, the next number if it is not the newest, as a Deployment
    /// does: the highest is always the one that the spec asks for, and the one below it the one to go back to.
    ///
    /// # Errors
    /// [`ApplyError::Number`].
    pub async fn renew_revision(&self, group: &ReplicaGroup, observed: &Observed) -> Result<(), ApplyError> {
        let Some(revision) = observed.revisions.stands() else { return Ok(()) };
        let numbers = || observed.revisions.kept.iter().map(|kept| kept.number);
        // An earlier version has given a number twice.
        let is_newest = numbers().filter(|number| *number >= revision.number).count() == 1;
        let given = self.revisions.lock().get(&observed.key).map(|made| made.newest);
        // After this process has given a number, the store may be yet to show it.
        if is_newest || given > numbers().max() || group.metadata.deletion_timestamp.is_some() {
            return Ok(());
        }
        let number = self.next_number(observed);
        let metadata =
            json!({"uid": &*revision.header.uid, "annotations": {CHANGE_CAUSE: change_cause(group)}});
        let patch = json!({"metadata": metadata, "revision": number});
        match self.writes.patch(&path(&revision.header.key), &Patch::Strategic(patch)).await {
            Ok(_) => {
                self.revisions.lock().entry(observed.key.clone()).or_default().newest = number;
                Ok(())
            }
            // It is gone; the next reconcile makes another one.
            Err(RequestError::NotFound(_) | RequestError::Conflict(_)) => Ok(()),
            Err(error) => Err(ApplyError::Number(error)),
        }
    }

    fn next_number(&self, observed: &Observed) -> i64 {
        let shown = observed.revisions.kept.iter().map(|kept| kept.number).max().unwrap_or_default();
        let given = self.revisions.lock().get(&observed.key).map_or(0, |made| made.newest);
        shown.max(given).saturating_add(1)
    }

    /// Returns the revision's number, or `None` while another group's revision of that name stands.
    async fn make_revision(
        &self,
        group: &ReplicaGroup,
        observed: &Observed,
        number: i64,
    ) -> Result<Option<i64>, RequestError> {
        let hash = &observed.revisions.own;
        let object = ObjectKey::new(&observed.key.namespace, &revision::name(&observed.key.name, hash));
        // The template's labels, so that who looks for the pods finds these too.
        let mut labels = group.spec.template.metadata.clone().unwrap_or_default().labels;
        labels.insert(REVISION.to_owned(), hash.to_string());
        let body = json!({
            "apiVersion": "apps/v1", "kind": "ControllerRevision",
            "metadata": {
                "name": &*object.name,
                "labels": labels,
                "annotations": change_cause(group).map(|cause| json!({CHANGE_CAUSE: cause})),
                "ownerReferences": [owner::reference(group)],
            },
            "data": data(&group.spec.template),
            "revision": number,
        });
        match self.writes.create(&path(&object), body.to_string()).await {
            Ok(_) => Ok(Some(number)),
            Err(RequestError::AlreadyExists(_)) => self.take_over(group, observed, &object, number).await,
            Err(error) => Err(not_created(error)),
        }
    }

    /// A revision of that name exists. It is the group's, or was left behind by a group of the same name.
    async fn take_over(
        &self,
        group: &ReplicaGroup,
        observed: &Observed,
        object: &ObjectKey,
        number: i64,
    ) -> Result<Option<i64>, RequestError> {
        let revisions: Api<ControllerRevision> = Api::namespaced(self.client.clone(), &object.namespace);
        let name = &object.name;
        let standing = in_time(revisions.get(name)).await?;
        let template = standing.data.as_ref().and_then(|data| template_of(&data.0));
        match Controller::of(&standing.metadata) {
            Some(owner) if *owner.uid == *observed.uid => Ok(Some(standing.revision)),
            // Of two groups of one name one is gone.
            Some(owner) if owner.group.as_ref() == Some(&observed.key.name) => Ok(None),
            Some(_) => {
                Err(RequestError::Conflict(format!("ControllerRevision {name} belongs to another object")))
            }
            None if template.as_ref() == Some(&group.spec.template) => {
                let owners = [owner::reference(group)];
                let patch = json!({"metadata": {"uid": standing.uid(), "ownerReferences": owners}, "revision": number});
                self.writes.patch(&path(object), &Patch::Strategic(patch)).await.map(|_| Some(number))
            }
            None => Err(RequestError::Conflict(format!(
                "ControllerRevision {name} contains another \
                                                        template"
            ))),
        }
    }

    /// Deletes these revisions.
    ///
    /// # Errors
    /// [`ApplyError::Prune`].
    pub async fn prune_revisions(&self, old: &[Arc<Revision>]) -> Result<(), ApplyError> {
        for revision in old {
            match self.writes.delete(&path(&revision.header.key), &revision.header.uid, None).await {
                Ok(_) | Err(RequestError::Conflict(_)) => {}
                Err(error) => return Err(ApplyError::Prune(error)),
            }
        }
        Ok(())
    }
}

fn path(revision: &ObjectKey) -> ObjectPath {
    ObjectPath::of::<ControllerRevision>(revision)
}
