//! Carries out plans; the only writer, and the only place where a token or the content of a pull secret is ever held.
//!
//! Each action names the UID of what it changes, so that none hits a later object of the same name.

mod anew;
mod error;
mod handed_back;
mod objects;
mod tokens;

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Instant,
};

use k8s_openapi::api::{core::v1, rbac::v1 as rbac};
use kube::{Client, api::Patch};
use mainstay_runtime::{
    failure::RequestError,
    gate::Gate,
    index::ObjectKey,
    names,
    request::{ObjectPath, find},
    writes::Writes,
};
use parking_lot::Mutex;
use serde_json::{Value, json};

pub use self::error::ApplyError;
use crate::{
    names::FIELD_MANAGER,
    plan::{Action, Observed, Part, Unseen},
    server_clock::ServerClock,
    stores::Stores,
    watched,
};

/// The longest name that an object may have.
const MAX_NAME: usize = 253;

/// Writes what policies give.
pub struct Writer {
    client: Client,
    /// The namespace that the process runs in.
    home: String,
    writes: Writes<'static>,
    stores: Stores,
    server_clock: ServerClock,
    accounts: Gate<ObjectKey>,
    bindings: Gate<ObjectKey>,
    secrets: Gate<ObjectKey>,
    /// In each namespace the names at which a Secret was not made, since there is one that the watch has not shown.
    refused: Mutex<HashMap<Arc<str>, BTreeSet<Arc<str>>>>,
    /// In each namespace the UIDs of handles that this process has made and to which it has bound no token yet.
    unbound: Mutex<HashMap<Arc<str>, BTreeSet<Box<str>>>>,
    /// The authority of the API server, and when it was read.
    authority: tokio::sync::Mutex<Option<(Arc<str>, Instant)>>,
}

/// What has been done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Done {
    /// It is as it should be.
    Written,
    /// There is one already, or another client was quicker: the next reconcile sees what stands.
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
    /// A writer that has written nothing yet, of a process in this namespace.
    pub fn new(client: Client, stores: Stores, server_clock: ServerClock, home: String) -> Self {
        let (accounts, bindings, secrets, refused, unbound, authority) = Default::default();
        let writes = Writes::new(client.clone(), FIELD_MANAGER);
        Self {
            client,
            home,
            writes,
            stores,
            server_clock,
            accounts,
            bindings,
            secrets,
            refused,
            unbound,
            authority,
        }
    }

    /// Whether the stores have seen all that was written in the namespace. Creates whose answer was lost are looked up.
    ///
    /// # Errors
    /// The lookup's.
    pub async fn may_write(&self, namespace: &ObjectKey) -> Result<bool, ApplyError> {
        for part in [Part::Account, Part::Binding, Part::Token] {
            let settled = self.noted(part, namespace).settle(|object| path(part, object)).await;
            let what = || format!("what became of the last write of a {}", kind(part));
            settled.map_err(|source| ApplyError { operation: "read", what: what(), source })?;
        }
        Ok(self.accounts.is_open(namespace, &self.stores.accounts)
            && self.bindings.is_open(namespace, &self.stores.bindings)
            && self.secrets.is_open(namespace, &self.stores.secrets))
    }

    /// Forgets a namespace that is gone.
    pub fn forget(&self, namespace: &ObjectKey) {
        [&self.accounts, &self.bindings, &self.secrets].iter().for_each(|gate| gate.forget(namespace));
        self.refused.lock().remove(&namespace.name);
        self.unbound.lock().remove(&namespace.name);
    }

    /// Says of which handles it is known that no token is bound to them.
    pub fn note_unbound(&self, namespace: &ObjectKey, observed: &mut Observed) {
        let mut all = self.unbound.lock();
        let Some(unbound) = all.get_mut(&namespace.name) else { return };
        unbound.retain(|uid| observed.handles.values().any(|handle| handle.uid == *uid));
        observed.unbound.clone_from(unbound);
        if unbound.is_empty() {
            all.remove(&namespace.name);
        }
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
            Action::UpdateAccount { .. } => self.update_account(namespace, action).await,
            Action::MakeBinding(policy, name, binding) => {
                self.make_binding(namespace, policy, name, binding).await
            }
            Action::UpdateBinding { .. } => self.update_binding(namespace, action).await,
            Action::Copy(policy, name, of, standing) => {
                self.copy(namespace, (policy, name), of, standing.as_deref()).await
            }
            Action::Issue { .. } => self.issue(namespace, action).await,
            Action::Mark(policy, part, name, uid) => self.mark(namespace, policy, *part, (name, uid)).await,
            Action::Delete(part, name, uid) => self.delete(namespace, *part, (name, uid), None).await,
            Action::Release(part, name, uid) => self.release(namespace, *part, name, uid).await,
            Action::RestoreBinding(name, uid) => self.restore_binding(namespace, (name, uid)).await,
            Action::Restore { .. } => self.restore(namespace, action).await,
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
            let secret = path(Part::Token, &ObjectKey::new(&namespace.name, name));
            let unseen = match find(&self.client, &secret).await {
                Ok(Some(found)) => watched::unseen(&found),
                Ok(None) => {
                    refused.remove(name);
                    continue;
                }
                Err(source) => {
                    let what = words(Part::Token, name);
                    first = first.or(Some(ApplyError { operation: "read", what, source }));
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

    /// Creates a Secret, or notes that there is one already, which the next reconcile looks at.
    async fn create_secret(
        &self,
        part: Part,
        namespace: &ObjectKey,
        name: &str,
        body: &Value,
    ) -> Result<Done, ApplyError> {
        let made = self.create(part, namespace, body).await?;
        if made.is_none() {
            self.is_taken(namespace, name);
        }
        Ok(Done::made(made))
    }

    /// Notes that there is a Secret of this name, which the next reconcile looks at.
    fn is_taken(&self, namespace: &ObjectKey, name: &str) {
        let mut refused = self.refused.lock();
        refused.entry(Arc::clone(&namespace.name)).or_default().insert(name.into());
    }

    /// Writes objects of the namespace that are such parts of a policy.
    fn noted<'a>(&'a self, part: Part, namespace: &'a ObjectKey) -> Writes<'a> {
        let gate = match part {
            Part::Account => &self.accounts,
            Part::Binding => &self.bindings,
            Part::Copy | Part::Handle | Part::Token => &self.secrets,
        };
        self.writes.noted(gate, namespace)
    }

    /// Creates an object. A create whose answer is lost is looked up before the next reconcile.
    /// Returns its UID, or that the name is taken.
    async fn create(
        &self,
        part: Part,
        namespace: &ObjectKey,
        body: &Value,
    ) -> Result<Option<String>, ApplyError> {
        let name = body["metadata"]["name"].as_str().unwrap_or_default();
        let object = path(part, &ObjectKey::new(&namespace.name, name));
        match self.noted(part, namespace).create(&object, body.to_string()).await {
            Ok(written) => Ok(Some(written.uid().to_owned())),
            Err(RequestError::AlreadyExists(_)) => Ok(None),
            Err(source) => Err(ApplyError { operation: "create", what: words(part, name), source }),
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
        let object = path(part, &ObjectKey::new(&namespace.name, name));
        self.writes.try_create(&object, body.to_string()).await
    }

    /// Changes an object by a patch, which names its UID. What is applied is the policy's, whoever has it.
    async fn patch(
        &self,
        part: Part,
        namespace: &ObjectKey,
        name: &str,
        patch: Patch<&Value>,
    ) -> Result<Done, ApplyError> {
        let (noted, object) =
            (self.noted(part, namespace), path(part, &ObjectKey::new(&namespace.name, name)));
        let patched = match patch {
            Patch::Apply(body) => noted.apply(&object, body).await,
            patch => noted.patch(&object, &patch).await,
        };
        match patched {
            Ok(_) => Ok(Done::Written),
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
        let object = path(part, &ObjectKey::new(&namespace.name, name));
        match self.noted(part, namespace).delete(&object, uid, version).await {
            Ok(_) => Ok(Done::Written),
            Err(RequestError::Conflict(_)) => Ok(Done::Stale),
            Err(source) => Err(ApplyError { operation: "delete", what: words(part, name), source }),
        }
    }
}

fn path(part: Part, object: &ObjectKey) -> ObjectPath {
    match part {
        Part::Account => ObjectPath::of::<v1::ServiceAccount>(object),
        Part::Binding => ObjectPath::of::<rbac::RoleBinding>(object),
        Part::Copy | Part::Handle | Part::Token => ObjectPath::of::<v1::Secret>(object),
    }
}

fn kind(part: Part) -> &'static str {
    match part {
        Part::Account => "ServiceAccount",
        Part::Binding => "RoleBinding",
        Part::Copy | Part::Handle | Part::Token => "Secret",
    }
}

fn words(part: Part, name: &str) -> String {
    format!("{} {name}", kind(part))
}

#[cfg(test)]
mod tests;
