//! Deletes revisions that nothing refers to any more.
//!
//! What is in use is asked of the server each time: pods, ReplicaSets and ControllerRevisions, so that
//! `kubectl rollout undo` finds what it goes back to. Whatever cannot be asked keeps everything.
//!
//! Before an object is deleted, the server says who has made it: labels and annotations are copied with an object, and
//! what a user has made is theirs.

use std::collections::HashSet;

use k8s_openapi::{
    api::{apps::v1 as apps, core::v1 as core},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{Resource, api::ListParams, core::ObjectList};
use mainstay_crds::SourceKind;
use mainstay_runtime::{
    failure::RequestError,
    index::ObjectKey,
    request::{ObjectPath, find, paged},
};
use serde::Deserialize;
use serde_json::Value;

use super::{
    error::ApplyError,
    writer::{Writer, source_path},
};
use crate::{
    names::{FIELD_MANAGER, annotation},
    plan::{Number, Observed, Snapshot, SourceKey},
    references,
    watched::Mark,
};

/// What a namespace's objects refer to.
#[derive(Debug, Default)]
struct InUse {
    names: HashSet<(SourceKind, String)>,
    revisions: HashSet<Number>,
}

/// The parts of an object that may name configuration: a pod's own, or its template's.
#[derive(Clone, Deserialize)]
struct Referring {
    #[serde(default)]
    metadata: Value,
    #[serde(default)]
    spec: Value,
    #[serde(default)]
    data: Value,
}

impl Writer {
    /// Deletes those of `candidates` that nothing in the namespace refers to. Returns how many were deleted.
    ///
    /// # Errors
    /// When the namespace cannot be searched, or an object cannot be deleted.
    pub async fn collect(
        &self,
        rollout: &ObjectKey,
        observed: &Observed,
        candidates: &[(SourceKey, Number)],
    ) -> Result<usize, ApplyError> {
        let in_use = self.in_use(rollout).await?;
        let mut deleted = 0;
        for (source, number) in candidates {
            let Some(snapshot) = observed.snapshots.get(source).and_then(|all| all.get(number)) else {
                continue;
            };
            let is_named = in_use.names.contains(&(source.kind, snapshot.name.to_string()));
            let is_meant = in_use.revisions.iter().any(|used| observed.object(source, *used) == *number);
            if !is_named && !is_meant && self.is_own(rollout, source, snapshot).await? {
                deleted += usize::from(self.delete(rollout, source, snapshot).await?);
            }
        }
        Ok(deleted)
    }

    async fn search<K>(&self, rollout: &ObjectKey, in_use: &mut InUse) -> Result<(), ApplyError>
    where
        K: Resource<DynamicType = ()>,
    {
        let all = ObjectPath::of::<K>(&ObjectKey::new(&rollout.namespace, "")).kind;
        let list = |page: ListParams| {
            let request = all.list(&page).map_err(kube::Error::BuildRequest);
            // Not `request`, which logs an answer that it cannot read: pods have values in it.
            async move {
                let answer = self.client.request_text(request?).await?;
                serde_json::from_str::<ObjectList<Referring>>(&answer).map_err(kube::Error::SerdeError)
            }
        };
        let note = |object: Referring| -> Option<()> {
            in_use.add(&rollout.name, &object);
            None
        };
        let searched = paged(ListParams::default(), list, note).await;
        let failed = |source| ApplyError::Read { what: format!("the {}", K::plural(&())), source };
        searched.map(drop).map_err(failed)
    }

    /// The highest number of a revision that anything in the namespace still refers to, of objects that are gone: of the
    /// names of these sources, and of annotations.
    ///
    /// # Errors
    /// When the namespace cannot be searched.
    pub(super) async fn highest_in_use<'s>(
        &self,
        rollout: &ObjectKey,
        sources: impl Iterator<Item = &'s SourceKey> + Clone,
    ) -> Result<Number, ApplyError> {
        let in_use = self.in_use(rollout).await?;
        let numbers = in_use.names.iter().filter_map(|(kind, name)| {
            let (source, number) = name.rsplit_once('-')?;
            let is_named = sources.clone().any(|key| key.kind == *kind && &*key.name == source);
            number.parse::<Number>().ok().filter(|_| is_named)
        });
        let numbers = numbers.chain(in_use.revisions.iter().copied());
        Ok(numbers.filter(|number| *number <= Mark::LAST_FOUND).max().unwrap_or_default())
    }

    async fn in_use(&self, rollout: &ObjectKey) -> Result<InUse, ApplyError> {
        let mut in_use = InUse::default();
        self.search::<core::Pod>(rollout, &mut in_use).await?;
        self.search::<apps::ReplicaSet>(rollout, &mut in_use).await?;
        self.search::<apps::ControllerRevision>(rollout, &mut in_use).await?;
        Ok(in_use)
    }

    /// Whether this controller has made the object that was seen. No value of it is read.
    async fn is_own(
        &self,
        rollout: &ObjectKey,
        source: &SourceKey,
        snapshot: &Snapshot,
    ) -> Result<bool, ApplyError> {
        let object = ObjectKey::new(&rollout.namespace, &snapshot.name);
        let found = find(&self.client, &source_path(source.kind, &object)).await;
        let what = || format!("{:?} {}", source.kind, snapshot.name);
        let found = found.map_err(|error| ApplyError::Read { what: what(), source: error })?;
        let Some(metadata) = found else { return Ok(false) };
        let is_own = metadata.uid.as_deref() == Some(&*snapshot.uid) && has_made(&metadata);
        if !is_own {
            let (kind, name, namespace) = (source.kind, &snapshot.name, &rollout.namespace);
            tracing::info!(?kind, %name, %namespace, "an old revision is kept: the controller did not \
                                                      create the object");
        }
        Ok(is_own)
    }

    async fn delete(
        &self,
        rollout: &ObjectKey,
        source: &SourceKey,
        snapshot: &Snapshot,
    ) -> Result<bool, ApplyError> {
        let object = ObjectKey::new(&rollout.namespace, &snapshot.name);
        let (copies, path) = (self.copies(source.kind, rollout), source_path(source.kind, &object));
        match copies.delete(&path, &snapshot.uid, None).await {
            Ok(stood) => Ok(stood),
            Err(RequestError::Conflict(_)) => Ok(false),
            Err(error) => Err(ApplyError::Collect {
                what: format!("{:?} {}", source.kind, snapshot.name),
                source: error,
            }),
        }
    }
}

/// Whether this controller has made the object immutable, which cannot be undone: it has made the object, and the object
/// is as it was made.
fn has_made(metadata: &ObjectMeta) -> bool {
    metadata.managed_fields.iter().flatten().any(|entry| {
        entry.manager.as_deref() == Some(FIELD_MANAGER)
            && entry.fields_v1.as_ref().is_some_and(|fields| fields.0.get("f:immutable").is_some())
    })
}

impl InUse {
    fn add(&mut self, rollout: &str, object: &Referring) {
        let templates = [&object.spec["template"], &object.data["spec"]["template"]];
        let specs = templates.map(|template| &template["spec"]).into_iter().chain([&object.spec]);
        for reference in specs.flat_map(references::find) {
            self.names.insert((reference.kind, reference.name));
        }
        let metadata = templates.map(|template| &template["metadata"]).into_iter().chain([&object.metadata]);
        for metadata in metadata {
            for mode in [mainstay_crds::ConfigMode::Admission, mainstay_crds::ConfigMode::RestartOnly] {
                let named = annotation(mode, rollout).and_then(|key| metadata["annotations"][key].as_str());
                self.revisions.extend(named.and_then(|number| number.parse::<Number>().ok()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn managed(entries: Value) -> ObjectMeta {
        serde_json::from_value(json!({"name": "web-6", "managedFields": entries})).unwrap()
    }

    #[test]
    fn what_somebody_else_has_made_is_not_deleted_whatever_its_labels_say() {
        let entry = |manager: &str, fields: Value| json!({"manager": manager, "operation": "Update", "fieldsV1": fields});
        let made = || json!({"f:data": {"f:mode": {}}, "f:immutable": {}, "f:metadata": {"f:labels": {}}});
        assert!(has_made(&managed(json!([entry(FIELD_MANAGER, made())]))));
        let labelled = json!({"f:metadata": {"f:labels": {"f:team": {}}}});
        let and_labelled = json!([entry("kubectl-label", labelled.clone()), entry(FIELD_MANAGER, made())]);
        assert!(has_made(&managed(and_labelled)));

        assert!(!has_made(&ObjectMeta::default()), "nobody says who has made it");
        assert!(!has_made(&managed(json!([entry("kubectl-client-side-apply", made())]))));
        assert!(!has_made(&managed(json!([entry("velero-server", made()), entry(FIELD_MANAGER, labelled)]))));
        let changeable = json!({"f:data": {"f:mode": {}}});
        assert!(!has_made(&managed(json!([entry(FIELD_MANAGER, changeable)]))));
    }

    #[test]
    fn pods_replica_sets_and_controller_revisions_keep_what_they_name() {
        let pod = json!({"spec": {"volumes": [{"configMap": {"name": "a-1"}}]}});
        let template = json!({
            "metadata": {"annotations": {"revision.mainstay.dev/web": "7"}},
            "spec": {"imagePullSecrets": [{"name": "b-2"}]},
        });
        let replica_set = json!({"spec": {"template": template}});
        let revision = json!({"data": {"spec": {"template": {"spec": {
            "containers": [{"name": "c", "envFrom": [{"configMapRef": {"name": "c-3"}}]}],
        }}}}});
        let mut in_use = InUse::default();
        for object in [pod, replica_set, revision] {
            in_use.add("web", &serde_json::from_value(object).unwrap());
        }
        let named = |kind, name: &str| in_use.names.contains(&(kind, name.to_owned()));
        assert!(named(SourceKind::ConfigMap, "a-1"));
        assert!(named(SourceKind::Secret, "b-2"));
        assert!(named(SourceKind::ConfigMap, "c-3"));
        assert_eq!(in_use.revisions, HashSet::from([7]));
    }
}
