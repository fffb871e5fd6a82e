//! A policy's spec, converted to the types of the plan.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::{
    ResourceExt,
    core::{ParseExpressionError, Selector, SelectorExt},
};
use mainstay_crds::{AccountPolicy, DeletionPolicy, PolicyAccount, PolicyToken, RoleKind, SecretSource};
use thiserror::Error;

use crate::names::FINALIZER;
use crate::plan::{Account, Binding, Copy, Desired, Role, Source, Token};

/// A policy that can be carried out.
#[derive(Debug)]
pub struct Settings {
    /// The policy's name.
    pub name: Arc<str>,
    /// Its UID.
    pub uid: Arc<str>,
    /// Which namespaces it picks.
    pub selector: Selector,
    /// What it gives, but for what is known of the sources of copies.
    pub desired: Desired,
    /// For how long a namespace keeps what it was given that is picked no more.
    pub grace: Duration,
    /// What happens to the objects when the policy is deleted.
    pub deletion: DeletionPolicy,
    /// Whether the policy is going.
    pub going: bool,
    /// Whether it has the finalizer of this controller.
    pub held: bool,
}

/// Why a policy cannot be carried out.
#[derive(Debug, Error)]
pub enum SettingsError {
    /// The selector is none.
    #[error("spec.namespaceSelector is not a selector: {0}; correct it")]
    Selector(#[from] ParseExpressionError),
    /// One pull secret is to be a copy of two.
    #[error("spec.serviceAccounts has the pull secret {0} with two sources: name only one of them")]
    TwoSources(String),
}

impl SettingsError {
    /// As a condition names it.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Selector(_) => "InvalidSelector",
            Self::TwoSources(_) => "TwoSources",
        }
    }
}

impl Settings {
    /// Reads a policy.
    ///
    /// # Errors
    /// What the schema cannot refuse.
    pub fn read(policy: &AccountPolicy) -> Result<Self, SettingsError> {
        let spec = &policy.spec;
        let going = policy.metadata.deletion_timestamp.is_some();
        // One that goes gives nothing, and must not stay because of what it says.
        let selector = if going { LabelSelector::default() } else { spec.namespace_selector.clone() };
        let selector = Selector::try_from(selector)?;
        let name: Arc<str> = policy.name_any().into();
        let mut copies = BTreeMap::new();
        for secret in spec.service_accounts.iter().flat_map(|account| &account.image_pull_secrets) {
            let Some(SecretSource { namespace, name: of }) = &secret.copy_from else { continue };
            let copy = Copy {
                namespace: namespace.as_str().into(),
                name: of.as_str().into(),
                source: Source::Unknown,
            };
            let before = copies.insert(Arc::from(secret.name.as_str()), copy.clone());
            if !going && before.is_some_and(|before| before != copy) {
                return Err(SettingsError::TwoSources(secret.name.clone()));
            }
        }
        let desired = Desired {
            policy: Arc::clone(&name),
            accounts: spec.service_accounts.iter().map(account).collect(),
            bindings: spec.role_bindings.iter().map(binding).collect(),
            copies,
            tokens: spec.tokens.iter().map(token).collect(),
        };
        Ok(Self {
            name,
            uid: policy.metadata.uid.as_deref().unwrap_or_default().into(),
            selector,
            desired,
            grace: spec.grace_period.into(),
            deletion: spec.deletion_policy,
            going,
            held: is_held(policy),
        })
    }

    /// Whether it picks a namespace with these labels.
    pub fn picks(&self, labels: &BTreeMap<String, String>) -> bool {
        !self.going && self.selector.matches(labels)
    }
}

/// Whether the policy has the finalizer of this controller.
pub(crate) fn is_held(policy: &AccountPolicy) -> bool {
    policy.finalizers().iter().any(|finalizer| finalizer == FINALIZER)
}

fn account(account: &PolicyAccount) -> (Arc<str>, Account) {
    let PolicyAccount { name, labels, annotations, automount_service_account_token, image_pull_secrets } =
        account;
    let account = Account {
        labels: labels.clone(),
        annotations: annotations.clone(),
        automount: *automount_service_account_token,
        pull_secrets: image_pull_secrets.iter().map(|secret| secret.name.as_str().into()).collect(),
    };
    (name.as_str().into(), account)
}

fn binding(binding: &mainstay_crds::PolicyBinding) -> (Arc<str>, Binding) {
    let kind = match binding.role_ref.kind {
        RoleKind::ClusterRole => "ClusterRole",
        RoleKind::Role => "Role",
    };
    let role = Role { kind: kind.into(), name: binding.role_ref.name.as_str().into() };
    let accounts = binding.service_accounts.iter().map(|name| name.as_str().into()).collect();
    (binding.name.as_str().into(), Binding { role, accounts })
}

fn token(token: &PolicyToken) -> (Arc<str>, Token) {
    let PolicyToken { name, service_account, audiences, ttl, overlap, kubeconfig } = token;
    let token = Token {
        account: service_account.as_str().into(),
        audiences: audiences.clone(),
        ttl: (*ttl).into(),
        overlap: (*overlap).into(),
        server: kubeconfig.as_ref().map(|kubeconfig| kubeconfig.server.clone()),
    };
    (name.as_str().into(), token)
}
