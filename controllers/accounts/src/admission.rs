//! Whether the author of a policy has the permissions that the policy gives.
//!
//! The controller does more than most users may, on behalf of the author of the policy. So at admission it asks the
//! API server whether the author may do the same in every namespace: write the accounts, bindings and Secrets, bind
//! the roles, issue the tokens, read the sources of copies. A role may be bound by a user who may `bind` it, or who
//! has all permissions that it has (Kubernetes, pkg/registry/rbac/rolebinding/policybased).

mod ask;

use std::collections::BTreeSet;

use k8s_openapi::api::{
    authentication::v1::UserInfo,
    authorization::v1::{NonResourceAttributes, ResourceAttributes},
    rbac::v1::{ClusterRole, PolicyRule},
};
use kube::{Api, Client, api::DynamicObject};
use mainstay_crds::{AccountPolicy, AccountPolicySpec, RoleKind};
use mainstay_runtime::{failure::RequestError, request::in_time};
use mainstay_webhook::{AdmissionRequest, AdmissionResponse, ConfigurationKind, Handler, Webhook};

use self::ask::{Authorizer, Person, Question};
use crate::settings::Settings;

/// The webhook.
pub const WEBHOOK: Webhook = Webhook {
    kind: ConfigurationKind::Validating,
    name: "policies.accounts.mainstay.dev",
    path: "/validate-account-policies",
};

/// A role of more rights than this is asked about as a whole alone.
const MOST_RIGHTS: usize = 2000;

/// Answers about policies.
pub struct Admission {
    client: Client,
    authorizer: Authorizer,
}

impl Handler for Admission {
    async fn review(&self, request: &AdmissionRequest<DynamicObject>) -> AdmissionResponse {
        let answer = AdmissionResponse::from(request);
        let Some(new) = read(request.object.as_ref()) else {
            return AdmissionResponse::invalid("the request has no AccountPolicy");
        };
        if let Err(error) = Settings::read(&new) {
            return answer.deny(error);
        }
        match self.refused(&request.user_info, &new.spec).await {
            Ok(None) => answer,
            Ok(Some(why)) => answer.deny(why),
            Err(error) => answer.deny(format!("could not check your permissions: {error}")),
        }
    }
}

fn read(object: Option<&DynamicObject>) -> Option<AccountPolicy> {
    serde_json::from_value(serde_json::to_value(object?).ok()?).ok()
}

impl Admission {
    /// Answers by what the API server says through this client.
    pub fn new(client: Client) -> Self {
        Self { authorizer: Authorizer::new(client.clone()), client }
    }

    /// Why this person may not write a policy with this spec.
    async fn refused(
        &self,
        user: &UserInfo,
        spec: &AccountPolicySpec,
    ) -> Result<Option<String>, RequestError> {
        let author = self.authorizer.of(user);
        for (what, attributes) in questions(spec) {
            if !author.may(Question::Resource(attributes.into())).await? {
                return Ok(Some(format!("forbidden: writing this policy requires permission to {what}")));
            }
        }
        for binding in &spec.role_bindings {
            let (kind, name) = (binding.role_ref.kind, &binding.role_ref.name);
            let resource = if kind == RoleKind::ClusterRole { "clusterroles" } else { "roles" };
            let bind = ResourceAttributes {
                verb: Some("bind".into()),
                group: Some("rbac.authorization.k8s.io".into()),
                resource: Some(resource.into()),
                name: Some(name.clone()),
                ..ResourceAttributes::default()
            };
            if author.may(Question::Resource(bind.into())).await? {
                continue;
            }
            if kind == RoleKind::Role || !self.has_all(&author, name).await? {
                return Ok(Some(format!(
                    "forbidden: writing this policy requires permission to bind {kind:?} {name}, or all of \
                     its permissions, in all namespaces"
                )));
            }
        }
        Ok(None)
    }

    /// Whether this person has all rights of a ClusterRole, in every namespace.
    async fn has_all(&self, author: &Person<'_>, role: &str) -> Result<bool, RequestError> {
        let roles = Api::<ClusterRole>::all(self.client.clone());
        let Some(role) = in_time(roles.get_opt(role)).await? else { return Ok(false) };
        let rights: Vec<_> = role.rules.iter().flatten().flat_map(rights).collect();
        if rights.len() > MOST_RIGHTS {
            return Ok(false);
        }
        author.may_all(rights).await
    }
}

/// What is asked about a policy besides its roles, in words and attributes.
fn questions(spec: &AccountPolicySpec) -> Vec<(String, ResourceAttributes)> {
    let ask = |verb: &str, group: &str, resource: &str| {
        let mut parts = resource.split('/').map(Into::into);
        ResourceAttributes {
            verb: Some(verb.into()),
            group: Some(group.into()),
            resource: parts.next(),
            subresource: parts.next(),
            ..ResourceAttributes::default()
        }
    };
    let secrets = spec.service_accounts.iter().flat_map(|account| &account.image_pull_secrets);
    let sources: BTreeSet<_> = secrets.filter_map(|secret| secret.copy_from.as_ref()).collect();
    let (copies, tokens) = (!sources.is_empty(), !spec.tokens.is_empty());
    let rbac = "rbac.authorization.k8s.io";
    // What is written on behalf of the author, by the verbs that it is written with.
    let written: [(bool, &str, &str, &[&str]); 4] = [
        (!spec.service_accounts.is_empty(), "", "serviceaccounts", &["create", "patch"]),
        (!spec.role_bindings.is_empty(), rbac, "rolebindings", &["create", "patch"]),
        (tokens, "", "serviceaccounts/token", &["create"]),
        (tokens || copies, "", "secrets", &["create", "patch"]),
    ];
    let mut questions: Vec<(String, ResourceAttributes)> = Vec::new();
    for (_, group, resource, verbs) in written.into_iter().filter(|(is_written, ..)| *is_written) {
        for verb in verbs {
            let what = format!("{verb} {resource} in all namespaces");
            questions.push((what, ask(verb, group, resource)));
        }
    }
    for source in sources {
        let read = ResourceAttributes {
            namespace: Some(source.namespace.clone()),
            name: Some(source.name.clone()),
            ..ask("get", "", "secrets")
        };
        questions.push((format!("get secret {}/{}, which it copies", source.namespace, source.name), read));
    }
    questions
}

/// The rights that a rule has, one by one.
fn rights(rule: &PolicyRule) -> Vec<Question> {
    let mut rights = Vec::new();
    let list = |list: &Option<Vec<String>>| list.clone().unwrap_or_default();
    for verb in &rule.verbs {
        for path in list(&rule.non_resource_urls) {
            rights.push(Question::Url(NonResourceAttributes { path: Some(path), verb: Some(verb.clone()) }));
        }
        for group in list(&rule.api_groups) {
            for resource in list(&rule.resources) {
                let (resource, subresource) = match resource.split_once('/') {
                    Some((resource, sub)) => (resource.to_owned(), Some(sub.to_owned())),
                    None => (resource, None),
                };
                let right = ResourceAttributes {
                    verb: Some(verb.clone()),
                    group: Some(group.clone()),
                    resource: Some(resource),
                    subresource,
                    ..ResourceAttributes::default()
                };
                match list(&rule.resource_names) {
                    names if names.is_empty() => rights.push(Question::Resource(right.into())),
                    names => rights.extend(names.into_iter().map(|name| {
                        Question::Resource(ResourceAttributes { name: Some(name), ..right.clone() }.into())
                    })),
                }
            }
        }
    }
    rights
}

#[cfg(test)]
mod tests;
