//! Carries out plans; the only writer, and the only place where a token or the content of a pull secret is ever held.
//!
//! Each action names the UID of what it changes, so that none hits a later object of the same name.

mod anew;
mod error;
mod objects;
mod tokens;

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Instant,
};

use http::Request;
use k8s_openapi::{
    api::{core::v1, rbac::v1 as rbac},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{Client, Resource};
use mainstay_runtime::{
    failure::RequestError,
    gate::{Gate, Intent},
    index::ObjectKey,
    names,
    request::{METADATA_ONLY, Written, path, send},
};
use parking_lot::Mutex;
use serde_json::{Value, json};

pub use self::error::ApplyError;
use crate::{
    names::FIELD_MANAGER,
    plan::{Action, Observed, Part, Unseen},
    skew::Skew,
    stores::Stores,
    watched,
};

/// The longest name that an object may have.
const MAX_NAME: usize = 253;

/// Writes what policies give.
pub struct Writer {
    client: Client,
    stores: Stores,
    skew: Skew,
    accounts: Gate<ObjectKey>,
    bindings: Gate<ObjectKey>,
    secrets: Gate<ObjectKey>,
    /// In each namespace the names at which a Secret was not made, since there is one that the watch has not shown.
    refused: Mutex<HashMap<Arc<str>, BTreeSet<Arc<str>>>>,
    /// The authority of the API server, and when it was read.
    authority: tokio::sync::Mutex<Option<(Arc<str>, Instant)>>,
}

/// What has been done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Done {
    /// It is as it should be.
    Written,
    /// There is one already, or somebody else was quicker: the next pass sees what stands.
    Stale,
    /// What is to be copied is no pull secret.
    NotPullSecret,
}

impl Done {
    /// What a create has come to. One of that name which is there already is about to be shown by the watch, or looked for,
    /// with whose it is.
    fn made(uid: Option<String>) -> Self {
        if uid.is_some() { Self::Written } else { Self::Stale }
    }
}

impl Writer {
    /// A writer that has written nothing yet.
    pub fn new(client: Client, stores: Stores, skew: Skew) -> Self {
        let (accounts, bindings, secrets, refused, authority) = Default::default();
        Self { client, stores, skew, accounts, bindings, secrets, refused, authority }
    }

    /// Whether the stores have seen all that was written in the namespace. Creates whose answer was lost are looked up.
    ///
    /// # Errors
    /// The lookup's.
    pub async fn may_write(&self, namespace: &ObjectKey) -> Result<bool, ApplyError> {
        self.settle::<v1::ServiceAccount>(&self.accounts, namespace).await?;
        self.settle::<rbac::RoleBinding>(&self.bindings, namespace).await?;
        self.settle::<v1::Secret>(&self.secrets, namespace).await?;
        Ok(self.accounts.is_open(namespace, &self.stores.accounts)
            && self.bindings.is_open(namespace, &self.stores.bindings)
            && self.secrets.is_open(namespace, &self.stores.secrets))
    }

    /// Forgets a namespace that is gone.
    pub fn forget(&self, namespace: &ObjectKey) {
        [&self.accounts, &self.bindings, &self.secrets].iter().for_each(|gate| gate.forget(namespace));
        self.refused.lock().remove(&namespace.name);
    }

    /// Carries out one action in the namespace.
    ///
    /// # Errors
    /// When the server refuses it, or does not answer.
    pub async fn apply(&self, namespace: &ObjectKey, action: &Action) -> Result<Done, ApplyError> {
        match action {
            Action::MakeAccount(policy, name, account) => {
                self.make_account(namespace, policy, name, account).await
            }
            Action::MendAccount { .. } => self.mend_account(namespace, action).await,
            Action::MakeBinding(policy, name, binding) => {
                self.make_binding(namespace, policy, name, binding).await
            }
            Action::MendBinding { .. } => self.mend_binding(namespace, action).await,
            Action::Copy(policy, name, of, standing) => {
                self.copy(namespace, (policy, name), of, standing.as_deref()).await
            }
            Action::Issue { .. } => self.issue(namespace, action).await,
            Action::Mark(policy, part, name, uid) => self.mark(namespace, policy, *part, (name, uid)).await,
            Action::Delete(part, name, uid) => self.delete(namespace, *part, (name, uid), None).await,
            Action::Release(part, name, uid) => self.release(namespace, *part, name, uid).await,
            Action::HandBack { .. } => self.hand_back(namespace, action).await,
        }
    }

    async fn settle<K>(&self, gate: &Gate<ObjectKey>, namespace: &ObjectKey) -> Result<(), ApplyError>
    where
        K: Resource<DynamicType = ()>,
    {
        for (object, intent) in gate.unanswered(namespace) {
            let found = self.find::<K>(&object).await?;
            gate.settle(namespace, &object, &intent, found.as_ref());
        }
        Ok(())
    }

    /// The metadata of an object with `managedFields`, if there is one.
    async fn find<K>(&self, object: &ObjectKey) -> Result<Option<ObjectMeta>, ApplyError>
    where
        K: Resource<DynamicType = ()>,
    {
        let request = Request::get(path::<K>(&object.namespace, &object.name))
            .header(http::header::ACCEPT, METADATA_ONLY)
            .body(Vec::new());
        match send::<Metadata>(&self.client, request).await {
            Ok(found) => Ok(Some(found.metadata)),
            Err(RequestError::NotFound(_)) => Ok(None),
            Err(source) => Err(ApplyError {
                operation: "read",
                what: format!("{} {}", K::kind(&()), object.name),
                source,
            }),
        }
    }

    /// Looks for the Secrets of a namespace that may be there although no watch shows them. Asked before anything is
    /// planned: else each attempt would read what is copied, or issue a token, for nothing.
    ///
    /// # Errors
    /// The first of the server's. What it has not said is noted as unknown.
    pub async fn look(&self, namespace: &ObjectKey, observed: &mut Observed) -> Result<(), ApplyError> {
        let mut refused = self.refused.lock().get(&namespace.name).cloned().unwrap_or_default();
        let doubtful = observed.doubtful(&refused);
        let mut first = None;
        for name in &doubtful {
            let unseen = match self.find::<v1::Secret>(&ObjectKey::new(&namespace.name, name)).await {
                Ok(Some(found)) => watched::unseen(&found),
                Ok(None) => {
                    refused.remove(name);
                    continue;
                }
                Err(error) => {
                    first = first.or(Some(error));
                    Unseen::Unknown
                }
            };
            observed.unseen.insert(Arc::clone(name), unseen);
        }
        refused.retain(|name| doubtful.contains(name));
        let mut all = self.refused.lock();
        if refused.is_empty() {
            all.remove(&namespace.name);
        } else {
            all.insert(Arc::clone(&namespace.name), refused);
        }
        first.map_or(Ok(()), Err)
    }

    /// The same, without asking: what may be there is noted as unknown.
    pub fn leave_unknown(&self, namespace: &ObjectKey, observed: &mut Observed) {
        let refused = self.refused.lock().get(&namespace.name).cloned().unwrap_or_default();
        observed.unseen.extend(observed.doubtful(&refused).into_iter().map(|name| (name, Unseen::Unknown)));
    }

    /// Creates a Secret, or notes that there is one already, which the next pass looks at.
    async fn create_secret(
        &self,
        part: Part,
        namespace: &ObjectKey,
        name: &str,
        body: &Value,
    ) -> Result<Done, ApplyError> {
        let made = self.create(part, namespace, body).await?;
        if made.is_none() {
            let mut refused = self.refused.lock();
            refused.entry(Arc::clone(&namespace.name)).or_default().insert(name.into());
        }
        Ok(Done::made(made))
    }

    fn gate(&self, part: Part) -> &Gate<ObjectKey> {
        match part {
            Part::Account => &self.accounts,
            Part::Binding => &self.bindings,
            Part::Copy | Part::Handle | Part::Token => &self.secrets,
        }
    }

    /// Creates an object. A create whose answer is lost is looked up before the next pass.
    /// Returns its UID, or that the name is taken.
    async fn create(
        &self,
        part: Part,
        namespace: &ObjectKey,
        body: &Value,
    ) -> Result<Option<String>, ApplyError> {
        let name = body["metadata"]["name"].as_str().unwrap_or_default();
        let object = ObjectKey::new(&namespace.name, name);
        let url = format!("{}?fieldManager={FIELD_MANAGER}", part_path(part, &namespace.name, ""));
        let request = Request::post(url)
            .header(http::header::ACCEPT, METADATA_ONLY)
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(serde_json::to_vec(body).unwrap_or_default());
        let gate = self.gate(part);
        gate.intend(namespace, &object, Intent::Create);
        match send::<Written>(&self.client, request).await {
            Ok(Written { metadata }) => {
                gate.stored(namespace, &object, &metadata.uid, metadata.resource_version.as_deref());
                Ok(Some(metadata.uid))
            }
            Err(RequestError::AlreadyExists(_)) => {
                gate.refused(namespace, &object);
                Ok(None)
            }
            Err(source) => {
                if !source.is_ambiguous() {
                    gate.refused(namespace, &object);
                }
                Err(ApplyError { operation: "create", what: words(part, name), source })
            }
        }
    }

    /// Fails where an object that is to take the place of the one of this name would not be made: that a quota, a policy of
    /// the cluster or the API server itself refuses it. It is created as a dry run, under a name that nothing has.
    async fn try_create(
        &self,
        part: Part,
        namespace: &ObjectKey,
        name: &str,
        body: &Value,
    ) -> Result<(), RequestError> {
        let mut body = body.clone();
        body["metadata"]["name"] = json!(names::generated(&format!("{name}-next"), MAX_NAME));
        let url = part_path(part, &namespace.name, "");
        let request = Request::post(format!("{url}?fieldManager={FIELD_MANAGER}&dryRun=All"))
            .header(http::header::ACCEPT, METADATA_ONLY)
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(serde_json::to_vec(&body).unwrap_or_default());
        send::<Written>(&self.client, request).await.map(drop)
    }

    /// Changes an object by a patch of this type, which names its UID.
    async fn patch(
        &self,
        part: Part,
        namespace: &ObjectKey,
        name: &str,
        (kind, query): (&str, &str),
        body: &Value,
    ) -> Result<Done, ApplyError> {
        let url = format!("{}?fieldManager={FIELD_MANAGER}{query}", part_path(part, &namespace.name, name));
        let request = Request::patch(url)
            .header(http::header::ACCEPT, METADATA_ONLY)
            .header(http::header::CONTENT_TYPE, kind)
            .body(serde_json::to_vec(body).unwrap_or_default());
        match send::<Written>(&self.client, request).await {
            Ok(Written { metadata }) => {
                let object = ObjectKey::new(&namespace.name, name);
                let version = metadata.resource_version.as_deref();
                self.gate(part).stored(namespace, &object, &metadata.uid, version);
                Ok(Done::Written)
            }
            Err(RequestError::NotFound(_) | RequestError::Conflict(_)) => Ok(Done::Stale),
            Err(source) => Err(ApplyError { operation: "change", what: words(part, name), source }),
        }
    }

    /// Deletes the object of this UID, and of this version where one is named.
    async fn delete(
        &self,
        namespace: &ObjectKey,
        part: Part,
        (name, uid): (&str, &str),
        version: Option<&str>,
    ) -> Result<Done, ApplyError> {
        let mut body = json!({"preconditions": {"uid": uid}});
        if let Some(version) = version {
            body["preconditions"]["resourceVersion"] = json!(version);
        }
        let request = Request::delete(part_path(part, &namespace.name, name))
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(serde_json::to_vec(&body).unwrap_or_default());
        let object = ObjectKey::new(&namespace.name, name);
        match send::<Value>(&self.client, request).await {
            Ok(_) | Err(RequestError::NotFound(_)) => {
                self.gate(part).ended(namespace, &object, uid);
                Ok(Done::Written)
            }
            Err(RequestError::Conflict(_)) => Ok(Done::Stale),
            Err(source) => Err(ApplyError { operation: "delete", what: words(part, name), source }),
        }
    }
}

#[derive(serde::Deserialize)]
struct Metadata {
    metadata: ObjectMeta,
}

fn part_path(part: Part, namespace: &str, name: &str) -> String {
    match part {
        Part::Account => path::<v1::ServiceAccount>(namespace, name),
        Part::Binding => path::<rbac::RoleBinding>(namespace, name),
        Part::Copy | Part::Handle | Part::Token => path::<v1::Secret>(namespace, name),
    }
}

fn words(part: Part, name: &str) -> String {
    let kind = match part {
        Part::Account => "ServiceAccount",
        Part::Binding => "RoleBinding",
        Part::Copy | Part::Handle | Part::Token => "Secret",
    };
    format!("{kind} {name}")
}

#[cfg(test)]
mod tests;
