//! Makes Secrets anew that cannot be changed any more: a user has made them immutable, or they are to be of another type.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use mainstay_runtime::{failure::RequestError, index::ObjectKey, request::read};
use serde::Deserialize;
use serde_json::Value;

use super::{ApplyError, Done, Writer, path, words};
use crate::plan::Part;

impl Writer {
    /// Deletes a Secret whose change has met this `refusal`, and creates it as `body` says. Who watches it sees it gone for a
    /// moment; left as it is it would be out of date permanently.
    ///
    /// Nothing is deleted before the API server has accepted the successor, and only what it has just shown: this UID at this
    /// version, which no change can bring to what is wanted.
    pub(super) async fn make_anew(
        &self,
        part: Part,
        namespace: &ObjectKey,
        (name, uid): (&str, &str),
        mut body: Value,
        refusal: ApplyError,
    ) -> Result<Done, ApplyError> {
        #[derive(Deserialize)]
        struct Standing {
            #[serde(deserialize_with = "mainstay_runtime::slim::metadata")]
            metadata: ObjectMeta,
            immutable: Option<bool>,
            r#type: Option<String>,
        }
        if !matches!(refusal.source, RequestError::Invalid(_)) {
            return Err(refusal);
        }
        let secret = path(part, &ObjectKey::new(&namespace.name, name));
        let standing = read::<Standing>(&self.client, &secret).await.map_err(|error| {
            let (what, source) = (words(part, name), error.without_content());
            ApplyError { operation: "read", what, source }
        })?;
        let Some(standing) = standing else { return Ok(Done::Stale) };
        let ObjectMeta { uid: found, resource_version: version, .. } = standing.metadata;
        let Some(metadata) = body["metadata"].as_object_mut() else { return Err(refusal) };
        metadata.remove("uid");
        let seen = metadata.remove("resourceVersion");
        let is_newer = seen.is_some_and(|seen| seen.as_str() != version.as_deref());
        if found.as_deref() != Some(uid) || is_newer {
            return Ok(Done::Stale);
        }
        let is_of_type = body["type"].as_str() == standing.r#type.as_deref();
        if standing.immutable != Some(true) && is_of_type {
            return Err(refusal);
        }
        let failed = |source| ApplyError { operation: "replace", what: words(part, name), source };
        self.try_create(part, namespace, name, &body).await.map_err(failed)?;
        match self.delete(namespace, part, (name, uid), version.as_deref()).await? {
            Done::Written => self.create_secret(part, namespace, name, &body).await,
            other => Ok(other),
        }
    }
}
