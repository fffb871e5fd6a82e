//! Accounts, bindings, and copies of pull secrets.

use std::{collections::BTreeSet, sync::Arc};

use k8s_openapi::api::rbac::v1 as rbac;
use kube::{Api, api::Patch};
use mainstay_runtime::{
    failure::RequestError,
    index::ObjectKey,
    request::{in_time, read},
};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{ApplyError, Done, Writer, path, words};
use crate::{
    names::{ADOPTED, GIVEN, PART, POLICY, PULL_SECRETS, SOURCE, SOURCE_UID, SOURCE_VERSION},
    plan::{Account, Action, Binding, Copy, CopyView, Fields, Origin, Part, Role, SeenAt},
};

impl Writer {
    pub(super) async fn make_account(
        &self,
        namespace: &ObjectKey,
        policy: &str,
        name: &str,
        account: &Account,
    ) -> Result<Done, ApplyError> {
        let mut body = account_body(policy, name, account, false);
        body["metadata"]["namespace"] = json!(namespace.name);
        body["imagePullSecrets"] = pull_secrets(account.pull_secrets.iter());
        self.create(Part::Account, namespace, &body).await.map(Done::made)
    }

    /// What is wanted is applied. What is wanted no more is taken away by name: it would not go by itself, since who has
    /// created an object goes on to have all fields of the create. Pull secrets are one list, which is written as a whole
    /// with those of others in it, in one patch with the mark and with which of them the policy has given: nothing else
    /// tells them from those of others. This patch is the first: what comes after it may fail, or not be done.
    pub(super) async fn update_account(
        &self,
        namespace: &ObjectKey,
        action: &Action,
    ) -> Result<Done, ApplyError> {
        let Action::UpdateAccount { policy, name, uid, version, account, pull_secrets: all, stale, adopted } =
            action
        else {
            return Ok(Done::Stale);
        };
        let mut wanted = account_body(policy, name, account, *adopted);
        wanted["metadata"]["uid"] = json!(uid);
        let mut body = without((&**uid, *version), stale, all);
        body["metadata"]["labels"][POLICY] = wanted["metadata"]["labels"][POLICY].clone();
        for key in [GIVEN, ADOPTED] {
            if let Some(value) = wanted["metadata"]["annotations"].get(key) {
                body["metadata"]["annotations"][key] = value.clone();
            }
        }
        let merged = self.patch(Part::Account, namespace, name, Patch::Merge(&body)).await?;
        if merged != Done::Written {
            return Ok(merged);
        }
        self.patch(Part::Account, namespace, name, Patch::Apply(&wanted)).await
    }

    pub(super) async fn make_binding(
        &self,
        namespace: &ObjectKey,
        policy: &str,
        name: &str,
        binding: &Binding,
    ) -> Result<Done, ApplyError> {
        let mut body = binding_body(namespace, policy, name, binding, false);
        body["metadata"]["namespace"] = json!(namespace.name);
        self.create(Part::Binding, namespace, &body).await.map(Done::made)
    }

    pub(super) async fn update_binding(
        &self,
        namespace: &ObjectKey,
        action: &Action,
    ) -> Result<Done, ApplyError> {
        let Action::UpdateBinding { policy, name, uid, binding, anew, adopted, first } = action else {
            return Ok(Done::Stale);
        };
        if *anew {
            self.is_accepted(namespace, policy, name, binding).await?;
            let deleted = self.delete(namespace, Part::Binding, (name, uid), None).await?;
            return match deleted {
                Done::Written => self.make_binding(namespace, policy, name, binding).await,
                other => Ok(other),
            };
        }
        if *first {
            let noted = self.note_subjects(namespace, policy, (name, uid)).await?;
            if noted != Done::Written {
                return Ok(noted);
            }
        }
        let mut body = binding_body(namespace, policy, name, binding, *adopted);
        body["metadata"]["uid"] = json!(uid);
        self.patch(Part::Binding, namespace, name, Patch::Apply(&body)).await
    }

    /// Fails where a binding that is to take the place of another would not be made, or would give nothing.
    ///
    /// The role of a binding cannot be changed, so the one that stands has to be deleted first. Nothing is deleted
    /// before the API server has accepted its successor, under a name that nothing has, as a dry run: that a role may
    /// not be given, or that a quota or a policy of the cluster refuses it, is found out here. That there is such a role
    /// the API server does not ask.
    async fn is_accepted(
        &self,
        namespace: &ObjectKey,
        policy: &str,
        name: &str,
        binding: &Binding,
    ) -> Result<(), ApplyError> {
        let failed = |source| ApplyError { operation: "replace", what: words(Part::Binding, name), source };
        let Role { kind, name: role } = &binding.role;
        let there = if &**kind == "Role" {
            let roles = Api::<rbac::Role>::namespaced(self.client.clone(), &namespace.name);
            in_time(roles.get_metadata_opt(role)).await.map_err(failed)?.is_some()
        } else {
            let roles = Api::<rbac::ClusterRole>::all(self.client.clone());
            in_time(roles.get_metadata_opt(role)).await.map_err(failed)?.is_some()
        };
        if !there {
            let message = format!(
                "{kind} {role} does not exist: create it, or name another role; the existing \
                         binding stays"
            );
            return Err(failed(RequestError::NotFound(message)));
        }
        let body = binding_body(namespace, policy, name, binding, false);
        self.try_create(Part::Binding, namespace, name, &body).await.map_err(failed)
    }

    /// Copies a pull secret. Its content is in memory for no longer than this takes.
    ///
    /// Nothing else is copied: of some types the name and the content are all that it takes to act as a user, as of a
    /// bootstrap token.
    pub(super) async fn copy(
        &self,
        namespace: &ObjectKey,
        (policy, name): (&str, &str),
        of: &Copy,
        standing: Option<&CopyView>,
    ) -> Result<Done, ApplyError> {
        #[derive(Deserialize)]
        struct Source {
            #[serde(deserialize_with = "mainstay_runtime::slim::metadata")]
            metadata: k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta,
            #[serde(default)]
            data: Option<Map<String, Value>>,
            r#type: Option<String>,
        }
        let failed = |source| ApplyError {
            operation: "read",
            what: format!("Secret {}/{}", of.namespace, of.name),
            source,
        };
        let secret = path(Part::Copy, &ObjectKey::new(&of.namespace, &of.name));
        let source = read::<Source>(&self.client, &secret).await;
        let Some(source) = source.map_err(|error| failed(error.without_content()))? else {
            return Ok(Done::Stale);
        };
        if !source.r#type.as_deref().is_some_and(|of| PULL_SECRETS.contains(&of)) {
            self.stores.is_no_pull_secret(of, source.metadata.uid.as_deref().unwrap_or_default());
            return Ok(Done::NotPullSecret);
        }
        let mut body = json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "name": name,
                "labels": {POLICY: policy, PART: "copy"},
                "annotations": {
                    SOURCE: format!("{}/{}", of.namespace, of.name),
                    SOURCE_UID: source.metadata.uid,
                    SOURCE_VERSION: source.metadata.resource_version,
                },
            },
            "data": source.data,
            "type": source.r#type,
        });
        let Some(standing) = standing else {
            return self.create_secret(Part::Copy, namespace, name, &body).await;
        };
        body["metadata"]["uid"] = json!(standing.uid);
        match self.change_copy(namespace, name, standing, &body).await {
            Err(refusal) if standing.origin == Origin::Made => {
                self.make_anew(Part::Copy, namespace, (name, &standing.uid), body, refusal).await
            }
            changed => changed,
        }
    }

    async fn change_copy(
        &self,
        namespace: &ObjectKey,
        name: &str,
        standing: &CopyView,
        body: &Value,
    ) -> Result<Done, ApplyError> {
        let applied = self.patch(Part::Copy, namespace, name, Patch::Apply(body)).await?;
        // Keys that the source has no more, and those that others have added, do not go by themselves.
        let has = |key: &str| body["data"].get(key).is_some();
        let keys = standing.written.keys().into_iter();
        let stale: Map<_, _> = keys.filter(|key| !has(key)).map(|key| (key.into(), Value::Null)).collect();
        if applied != Done::Written || stale.is_empty() {
            return Ok(applied);
        }
        let body = json!({"metadata": {"uid": standing.uid}, "data": stale});
        self.patch(Part::Copy, namespace, name, Patch::Merge(&body)).await
    }

    /// Puts the policy's mark back on a Secret.
    pub(super) async fn mark(
        &self,
        namespace: &ObjectKey,
        policy: &str,
        part: Part,
        (name, uid): (&str, &str),
    ) -> Result<Done, ApplyError> {
        let body = json!({"metadata": {"uid": uid, "labels": {POLICY: policy}}});
        self.patch(part, namespace, name, Patch::Merge(&body)).await
    }

    /// Takes the policy's mark off an object.
    pub(super) async fn release(
        &self,
        namespace: &ObjectKey,
        part: Part,
        name: &str,
        uid: &str,
    ) -> Result<Done, ApplyError> {
        let body = json!({"metadata": {
            "uid": uid,
            "labels": {POLICY: null, PART: null},
            "annotations": {ADOPTED: null, GIVEN: null},
        }});
        self.patch(part, namespace, name, Patch::Merge(&body)).await
    }

    /// Takes the policy's mark off an account, and all that it has added.
    pub(super) async fn restore(&self, namespace: &ObjectKey, action: &Action) -> Result<Done, ApplyError> {
        let Action::Restore { name, uid, version, pull_secrets, stale } = action else {
            return Ok(Done::Stale);
        };
        let mut body = without((&**uid, *version), stale, pull_secrets);
        [POLICY, PART].iter().for_each(|key| body["metadata"]["labels"][*key] = Value::Null);
        [ADOPTED, GIVEN].iter().for_each(|key| body["metadata"]["annotations"][*key] = Value::Null);
        self.patch(Part::Account, namespace, name, Patch::Merge(&body)).await
    }
}

/// The patch that takes fields off an account, and leaves it these pull secrets. The list is written as a whole, so that it names
/// the version that was seen: what others have added since is not lost.
fn without((uid, version): (&str, SeenAt), stale: &Fields, kept: &BTreeSet<Arc<str>>) -> Value {
    let Fields { labels, annotations, automount } = stale;
    let nothing = |keys: &BTreeSet<String>| -> Value {
        keys.iter().map(|key| (key.clone(), Value::Null)).collect::<Map<_, _>>().into()
    };
    let mut body = json!({
        "metadata": {"uid": uid, "labels": nothing(labels), "annotations": nothing(annotations)},
        "imagePullSecrets": pull_secrets(kept.iter()),
    });
    if let SeenAt(Some(version)) = version {
        body["metadata"]["resourceVersion"] = json!(version.to_string());
    }
    if *automount {
        body["automountServiceAccountToken"] = Value::Null;
    }
    body
}

fn pull_secrets<'a>(names: impl Iterator<Item = &'a Arc<str>>) -> Value {
    names.map(|name| json!({"name": &**name})).collect()
}

fn account_body(policy: &str, name: &str, account: &Account, adopted: bool) -> Value {
    let Account { labels, annotations, automount, pull_secrets } = account;
    let mut body = json!({
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": name, "labels": labels, "annotations": annotations},
    });
    body["metadata"]["labels"][POLICY] = json!(policy);
    let given: Vec<_> = pull_secrets.iter().map(|name| &**name).collect();
    body["metadata"]["annotations"][GIVEN] = json!(given.join(","));
    if adopted {
        body["metadata"]["annotations"][ADOPTED] = json!("true");
    }
    if let Some(automount) = automount {
        body["automountServiceAccountToken"] = json!(automount);
    }
    body
}

fn binding_body(namespace: &ObjectKey, policy: &str, name: &str, binding: &Binding, adopted: bool) -> Value {
    let subjects: Vec<_> = binding
        .accounts
        .iter()
        .map(|account| json!({"kind": "ServiceAccount", "name": &**account, "namespace": namespace.name}))
        .collect();
    let mut body = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": name, "labels": {POLICY: policy}},
        "roleRef": {
            "apiGroup": "rbac.authorization.k8s.io", "kind": &*binding.role.kind, "name": &*binding.role.name,
        },
        "subjects": subjects,
    });
    if adopted {
        body["metadata"]["annotations"] = json!({ADOPTED: "true"});
    }
    body
}
