//! Bindings that a policy adopts and releases.

use k8s_openapi::api::rbac::v1::{RoleBinding, Subject};
use kube::{ResourceExt, api::Patch};
use mainstay_runtime::{index::ObjectKey, request::read};
use serde_json::{Value, json};

use super::{ApplyError, Done, Writer, path, words};
use crate::{
    managed::has_labelled,
    names::{ADOPTED, PART, POLICY, SUBJECTS},
    plan::Part,
};

impl Writer {
    /// Writes down who is bound, before the policy's accounts take their place. Who was written down before stays so: he may not
    /// have got his access back since.
    ///
    /// Where the policy has bound its accounts already, the watch has not shown it yet.
    pub(super) async fn note_subjects(
        &self,
        namespace: &ObjectKey,
        policy: &str,
        binding: (&str, &str),
    ) -> Result<Done, ApplyError> {
        let Some(standing) = self.binding(namespace, binding).await? else { return Ok(Done::Stale) };
        let is_of_policy = standing.labels().get(POLICY).is_some_and(|label| label == policy);
        if is_of_policy && has_labelled(&standing.metadata, POLICY) {
            return Ok(Done::Stale);
        }
        let mut subjects = noted(&standing);
        for subject in standing.subjects.iter().flatten() {
            if !subjects.contains(subject) {
                subjects.push(subject.clone());
            }
        }
        let subjects = json!(subjects).to_string();
        let body = json!({"metadata": {
            "uid": binding.1,
            "resourceVersion": standing.metadata.resource_version,
            "annotations": {SUBJECTS: subjects},
        }});
        self.patch(Part::Binding, namespace, binding.0, Patch::Merge(&body)).await
    }

    /// Takes the policy's mark off a binding, and the accounts that the policy has bound: an account that is later created under
    /// the name of one is another.
    ///
    /// No subject is added: an annotation grants nothing, and is years old by then. Earlier subjects that are still bound stay. If
    /// one is missing, the annotation stays for the owner to read.
    pub(super) async fn restore_binding(
        &self,
        namespace: &ObjectKey,
        binding: (&str, &str),
    ) -> Result<Done, ApplyError> {
        let Some(standing) = self.binding(namespace, binding).await? else { return Ok(Done::Stale) };
        let before = noted(&standing);
        let is_of_policy = |subject: &Subject| {
            let is_own = subject.namespace.as_deref() == Some(&namespace.name);
            subject.kind == "ServiceAccount" && is_own && !before.contains(subject)
        };
        let mut kept = standing.subjects.clone().unwrap_or_default();
        kept.retain(|subject| !is_of_policy(subject));
        let mut body = json!({
            "metadata": {
                "uid": binding.1,
                "resourceVersion": standing.metadata.resource_version,
                "labels": {POLICY: null, PART: null},
                "annotations": {ADOPTED: null},
            },
            "subjects": kept,
        });
        if before.iter().all(|subject| kept.contains(subject)) {
            body["metadata"]["annotations"][SUBJECTS] = Value::Null;
        }
        self.patch(Part::Binding, namespace, binding.0, Patch::Merge(&body)).await
    }

    /// The binding of this name and UID, as it stands.
    async fn binding(
        &self,
        namespace: &ObjectKey,
        (name, uid): (&str, &str),
    ) -> Result<Option<RoleBinding>, ApplyError> {
        let object = path(Part::Binding, &ObjectKey::new(&namespace.name, name));
        let found: Option<RoleBinding> = read(&self.client, &object).await.map_err(|source| ApplyError {
            operation: "read",
            what: words(Part::Binding, name),
            source,
        })?;
        Ok(found.filter(|found| found.metadata.uid.as_deref() == Some(uid)))
    }
}

/// Whom the annotation of a binding names, where it can be read.
fn noted(binding: &RoleBinding) -> Vec<Subject> {
    let noted = binding.annotations().get(SUBJECTS);
    noted.and_then(|noted| serde_json::from_str(noted).ok()).unwrap_or_default()
}
