//! Writes: each names its field manager, has a timeout, and is answered with the metadata of the object alone, so that no
//! more is decoded than is used, and no content of a Secret comes back.

use std::sync::Arc;

use http::{HeaderValue, Request, header};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Client,
    api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions},
};
use serde::{
    Deserialize, Serialize,
    de::{DeserializeOwned, IgnoredAny},
};
use serde_json::json;

use crate::{
    failure::RequestError,
    gate::{Gate, Intent},
    key::ObjectKey,
    request::{ObjectPath, find, send},
};

/// The value of the header `Accept` with which the server answers with the metadata alone.
const METADATA_ONLY: HeaderValue =
    HeaderValue::from_static("application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1");

/// What the answer to a write tells of the object, or why there is none.
type Answer = Result<Written, RequestError>;

/// What the answer to a write tells of the object.
#[derive(Debug, Deserialize)]
pub struct Written {
    metadata: WrittenMetadata,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WrittenMetadata {
    uid: String,
    resource_version: Option<String>,
}

impl Written {
    /// `metadata.uid`.
    pub fn uid(&self) -> &str {
        &self.metadata.uid
    }

    /// `metadata.resourceVersion`, where it is a number.
    pub fn version(&self) -> Option<u64> {
        self.metadata.resource_version.as_ref()?.parse().ok()
    }
}

/// Writes objects under one field manager.
///
/// # Errors
/// Of all methods: those of [`send`].
#[derive(Clone)]
pub struct Writes<'a> {
    client: Client,
    manager: Arc<str>,
    gate: Option<(&'a Gate<ObjectKey>, &'a ObjectKey)>,
}

impl Writes<'static> {
    /// Writes with this client under this field manager.
    pub fn new(client: Client, manager: &str) -> Self {
        Self { client, manager: manager.into(), gate: None }
    }
}

impl Writes<'_> {
    /// The same writes for `key`, whose gate notes creates and deletes before they are sent, so that no lost answer makes
    /// them forgotten, and of each write the version that the store has yet to show.
    pub fn noted<'a>(&self, gate: &'a Gate<ObjectKey>, key: &'a ObjectKey) -> Writes<'a> {
        Writes { client: self.client.clone(), manager: Arc::clone(&self.manager), gate: Some((gate, key)) }
    }

    /// Creates an object of which this is the JSON.
    pub async fn create(&self, object: &ObjectPath, body: impl Into<Vec<u8>>) -> Answer {
        self.intend(object, Intent::Create);
        let answer = self.send(object.kind.create(&self.options(false), body.into())).await;
        if answer.as_ref().is_err_and(|error: &RequestError| !error.is_ambiguous()) {
            self.refused(object);
        }
        self.stored(object, answer)
    }

    /// Finds out whether an object of which this is the JSON would be created; nothing is stored.
    pub async fn try_create(
        &self,
        object: &ObjectPath,
        body: impl Into<Vec<u8>>,
    ) -> Result<(), RequestError> {
        self.send::<IgnoredAny>(object.kind.create(&self.options(true), body.into())).await.map(drop)
    }

    /// Puts this JSON in the place of an object, of the version that it names.
    pub async fn replace(&self, object: &ObjectPath, body: impl Into<Vec<u8>>) -> Answer {
        let request = object.kind.replace(&object.key.name, &self.options(false), body.into());
        self.stored(object, self.send(request).await)
    }

    /// Patches an object; a server-side apply takes nothing that another manager has.
    pub async fn patch(&self, object: &ObjectPath, patch: &Patch<impl Serialize>) -> Answer {
        let params = PatchParams::apply(&self.manager);
        self.stored(object, self.send(object.kind.patch(&object.key.name, &params, patch)).await)
    }

    /// Server-side apply, which takes over what other managers have.
    pub async fn apply(&self, object: &ObjectPath, body: impl Serialize) -> Answer {
        let (params, patch) = (PatchParams::apply(&self.manager).force(), Patch::Apply(body));
        self.stored(object, self.send(object.kind.patch(&object.key.name, &params, &patch)).await)
    }

    /// Server-side apply of the status of an object, which takes over what other managers have.
    pub async fn apply_status(&self, object: &ObjectPath, body: impl Serialize) -> Answer {
        let (params, patch) = (PatchParams::apply(&self.manager).force(), Patch::Apply(body));
        let request = object.kind.patch_subresource("status", &object.key.name, &params, &patch);
        self.stored(object, self.send(request).await)
    }

    /// Patches the status of an object.
    pub async fn patch_status(&self, object: &ObjectPath, patch: &Patch<impl Serialize>) -> Answer {
        let params = PatchParams::apply(&self.manager);
        let request = object.kind.patch_subresource("status", &object.key.name, &params, patch);
        self.stored(object, self.send(request).await)
    }

    /// Deletes the object of this UID, and of this version where one is named. Returns whether it stood.
    pub async fn delete(
        &self,
        object: &ObjectPath,
        uid: &str,
        version: Option<&str>,
    ) -> Result<bool, RequestError> {
        let resource_version = version.map(str::to_owned);
        let preconditions = Preconditions { uid: Some(uid.to_owned()), resource_version };
        let params = DeleteParams::default().preconditions(preconditions);
        self.end(object, uid, object.kind.delete(&object.key.name, &params)).await
    }

    /// Evicts the pod of this UID. Returns whether it stood.
    ///
    /// kube's own `evict` names the field `delete_options`, which the server does not know: without the UID it would evict
    /// whatever pod has the name.
    pub async fn evict(&self, pod: &ObjectKey, uid: &str) -> Result<bool, RequestError> {
        let eviction = json!({
            "apiVersion": "policy/v1", "kind": "Eviction",
            "metadata": {"namespace": &*pod.namespace, "name": &*pod.name},
            "deleteOptions": {"preconditions": {"uid": uid}},
        });
        let (object, body) = (ObjectPath::of::<Pod>(pod), eviction.to_string().into_bytes());
        let request = object.kind.create_subresource("eviction", &pod.name, &self.options(false), body);
        self.end(&object, uid, request).await
    }

    /// Asks the server what became of the key's writes whose answer was lost. `path` says where an object of the gate is.
    pub async fn settle(&self, path: impl Fn(&ObjectKey) -> ObjectPath) -> Result<(), RequestError> {
        let Some((gate, key)) = self.gate else { return Ok(()) };
        for (object, intent) in gate.unanswered(key) {
            let found = find(&self.client, &path(&object)).await?;
            gate.settle(key, &object, &intent, found.as_ref());
        }
        Ok(())
    }

    fn options(&self, dry_run: bool) -> PostParams {
        PostParams { dry_run, field_manager: Some(self.manager.to_string()) }
    }

    async fn send<T: DeserializeOwned>(
        &self,
        mut request: Result<Request<Vec<u8>>, kube::core::request::Error>,
    ) -> Result<T, RequestError> {
        if let Ok(request) = &mut request {
            request.headers_mut().insert(header::ACCEPT, METADATA_ONLY);
        }
        send(&self.client, request).await
    }

    async fn end(
        &self,
        object: &ObjectPath,
        uid: &str,
        request: Result<Request<Vec<u8>>, kube::core::request::Error>,
    ) -> Result<bool, RequestError> {
        self.intend(object, Intent::Delete(uid.to_owned()));
        let stood = match self.send::<IgnoredAny>(request).await {
            Ok(_) => true,
            Err(RequestError::NotFound(_)) => false,
            Err(error) => {
                // Where another object of the name stands, or somebody else wrote this one at the same moment, the server
                // is asked which, as where it has not answered.
                if !error.is_ambiguous() && !matches!(error, RequestError::Conflict(_)) {
                    self.refused(object);
                }
                return Err(error);
            }
        };
        if let Some((gate, key)) = self.gate {
            gate.ended(key, &object.key, uid);
        }
        Ok(stood)
    }

    fn intend(&self, object: &ObjectPath, intent: Intent) {
        if let Some((gate, key)) = self.gate {
            gate.intend(key, &object.key, intent);
        }
    }

    fn refused(&self, object: &ObjectPath) {
        if let Some((gate, key)) = self.gate {
            gate.refused(key, &object.key);
        }
    }

    fn stored(&self, object: &ObjectPath, answer: Answer) -> Answer {
        if let (Some((gate, key)), Ok(Written { metadata })) = (self.gate, &answer) {
            gate.stored(key, &object.key, &metadata.uid, metadata.resource_version.as_deref());
        }
        answer
    }
}

#[cfg(test)]
mod tests;
