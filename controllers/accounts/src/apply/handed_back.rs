//! Bindings that a policy adopts and releases.

use k8s_openapi::api::rbac::v1::{RoleBinding, Subject};
use kube::{ResourceExt, api::Patch};
use mainstay_runtime::{index::ObjectKey, request::read};
use serde_json::{Value, json};

use super::{ApplyError, Done, Writer, path, words};
use crate::{
    names::{ADOPTED, PART, POLICY, SUBJECTS},
    plan::Part,
};

impl Writer {
    /// Writes down who is bound, before the policy's accounts take their place.
    pub(super) async fn note_subjects(
        &self,
        namespace: &ObjectKey,
        binding: (&str, &str),
    ) -> Result<Done, ApplyError> {
        let Some(standing) = self.binding(namespace, binding).await? else { return Ok(Done::Stale) };
        let subjects = json!(standing.subjects.as_deref().unwrap_or_default()).to_string();
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
    /// No subject is added. The earlier ones are in an annotation, which each user may write who may change the binding; this
    /// process may bind roles that this user may not, so that the annotation would be a way to any of them. Earlier subjects that
    /// are still bound stay. If one is missing, the annotation stays for the owner to read.
    pub(super) async fn restore_binding(
        &self,
        namespace: &ObjectKey,
        binding: (&str, &str),
    ) -> Result<Done, ApplyError> {
        let Some(standing) = self.binding(namespace, binding).await? else { return Ok(Done::Stale) };
        let noted = standing.annotations().get(SUBJECTS);
        let before: Vec<Subject> =
            noted.and_then(|noted| serde_json::from_str(noted).ok()).unwrap_or_default();
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
