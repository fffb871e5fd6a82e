//! Whether the author of a policy has the permissions that the policy gives.
//!
//! The controller does more than most users may, on behalf of the author of the policy. So at admission it asks the
//! API server whether the author may do the same in every namespace: write the accounts, bindings and Secrets, bind
//! the roles, issue the tokens, read the sources of copies. A role may be bound by a user who may `bind` it, or who
//! has all permissions that it has (Kubernetes, pkg/registry/rbac/rolebinding/policybased).

use std::collections::BTreeSet;

use futures::{StreamExt, stream};
use k8s_openapi::api::{
    authentication::v1::UserInfo,
    authorization::v1::{
        NonResourceAttributes, ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
    },
    rbac::v1::{ClusterRole, PolicyRule},
};
use kube::{
    Api, Client,
    api::{DynamicObject, PostParams},
};
use mainstay_crds::{AccountPolicy, AccountPolicySpec, RoleKind};
use mainstay_runtime::{failure::RequestError, request::in_time};
use mainstay_webhook::{AdmissionRequest, AdmissionResponse, ConfigurationKind, Handler, Webhook};

use crate::settings::Settings;

/// The webhook.
pub const WEBHOOK: Webhook = Webhook {
    kind: ConfigurationKind::Validating,
    name: "policies.accounts.mainstay.dev",
    path: "/validate-account-policies",
};

/// Concurrent questions to the API server.
const IN_FLIGHT: usize = 16;
/// A role of more rights than this is asked about as a whole alone.
const MOST_RIGHTS: usize = 2000;

/// Answers about policies.
pub struct Admission {
    /// For the questions to the API server.
    pub client: Client,
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
    /// Why this person may not write a policy with this spec.
    async fn refused(
        &self,
        user: &UserInfo,
        spec: &AccountPolicySpec,
    ) -> Result<Option<String>, RequestError> {
        for (what, attributes) in questions(spec) {
            if !self.may(user, Question::Resource(attributes.into())).await? {
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
            if self.may(user, Question::Resource(bind.into())).await? {
                continue;
            }
            if kind == RoleKind::Role || !self.has_all(user, name).await? {
                return Ok(Some(format!(
                    "forbidden: writing this policy requires permission to bind {kind:?} {name}, or all of \
                     its permissions, in all namespaces"
                )));
            }
        }
        Ok(None)
    }

    /// Whether this person has all rights of a ClusterRole, in every namespace.
    async fn has_all(&self, user: &UserInfo, role: &str) -> Result<bool, RequestError> {
        let roles = Api::<ClusterRole>::all(self.client.clone());
        let Some(role) = in_time(roles.get_opt(role)).await? else { return Ok(false) };
        let rights: Vec<_> = role.rules.iter().flatten().flat_map(rights).collect();
        if rights.len() > MOST_RIGHTS {
            return Ok(false);
        }
        let answers: Vec<_> = rights.into_iter().map(|right| self.may(user, right)).collect();
        let mut answers = stream::iter(answers).buffer_unordered(IN_FLIGHT);
        while let Some(answer) = answers.next().await {
            if !answer? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn may(&self, user: &UserInfo, question: Question) -> Result<bool, RequestError> {
        let (resource_attributes, non_resource_attributes) = match question {
            Question::Resource(attributes) => (Some(*attributes), None),
            Question::Url(attributes) => (None, Some(attributes)),
        };
        let spec = SubjectAccessReviewSpec {
            user: user.username.clone(),
            uid: user.uid.clone(),
            groups: user.groups.clone(),
            extra: user.extra.clone(),
            resource_attributes,
            non_resource_attributes,
        };
        let review = SubjectAccessReview { spec, ..SubjectAccessReview::default() };
        let reviews = Api::<SubjectAccessReview>::all(self.client.clone());
        let answer = in_time(reviews.create(&PostParams::default(), &review)).await?;
        Ok(answer.status.is_some_and(|status| status.allowed))
    }
}

/// A question to the authorizer.
enum Question {
    Resource(Box<ResourceAttributes>),
    Url(NonResourceAttributes),
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
    let written: [(bool, &str, &str, &[&str]); 5] = [
        (!spec.service_accounts.is_empty(), "", "serviceaccounts", &["create", "patch"]),
        (!spec.role_bindings.is_empty(), rbac, "rolebindings", &["create", "patch"]),
        (tokens, "", "serviceaccounts/token", &["create"]),
        (tokens, "", "secrets", &["create", "update"]),
        (copies, "", "secrets", &["create", "patch"]),
    ];
    let mut questions: Vec<(String, ResourceAttributes)> = Vec::new();
    for (_, group, resource, verbs) in written.into_iter().filter(|(is_written, ..)| *is_written) {
        for verb in verbs {
            let what = format!("{verb} {resource} in all namespaces");
            if questions.iter().all(|(asked, _)| *asked != what) {
                questions.push((what, ask(verb, group, resource)));
            }
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
mod tests {
    use serde_json::json;

    use super::*;

    fn asked(spec: serde_json::Value) -> Vec<String> {
        let spec: AccountPolicySpec = serde_json::from_value(spec).unwrap();
        questions(&spec).into_iter().map(|(what, _)| what).collect()
    }

    #[test]
    fn a_policy_is_asked_about_as_if_its_author_did_it() {
        let account = json!([{"name": "bot"}]);
        let copies = json!([{"name": "bot", "imagePullSecrets": [
            {"name": "pull", "copyFrom": {"namespace": "registry", "name": "pull"}}, {"name": "of others"},
        ]}]);
        let binding = json!([{
            "name": "b", "roleRef": {"kind": "Role", "name": "r"}, "serviceAccounts": ["bot"],
        }]);
        let tokens = json!([{"name": "t", "serviceAccount": "bot"}]);
        let accounts = ["create serviceaccounts", "patch serviceaccounts"];
        let read = "get secret registry/pull, which it copies";
        for (spec, expected) in [
            (json!({"serviceAccounts": account}), vec![]),
            (
                json!({"serviceAccounts": account, "roleBindings": binding}),
                vec!["create rolebindings", "patch rolebindings"],
            ),
            (json!({"serviceAccounts": copies}), vec!["create secrets", "patch secrets", read]),
            (
                json!({"serviceAccounts": account, "tokens": tokens}),
                vec!["create serviceaccounts/token", "create secrets", "update secrets"],
            ),
            (
                json!({"serviceAccounts": copies, "tokens": tokens}),
                vec![
                    "create serviceaccounts/token",
                    "create secrets",
                    "update secrets",
                    "patch secrets",
                    read,
                ],
            ),
        ] {
            let mut whole = spec.clone();
            whole["namespaceSelector"] = json!({});
            let asked = asked(whole);
            let asked: Vec<_> =
                asked.iter().map(|what| what.trim_end_matches(" in all namespaces")).collect();
            assert_eq!(asked, [&accounts[..], &expected].concat(), "{spec}");
        }
        assert_eq!(asked(json!({"namespaceSelector": {}})), Vec::<String>::new());
    }

    #[test]
    fn a_rule_is_taken_apart() {
        let rule: PolicyRule = serde_json::from_value(json!({
            "verbs": ["get", "list"], "apiGroups": ["", "apps"], "resources": ["pods", "pods/log"],
            "nonResourceURLs": ["/healthz"],
        }))
        .unwrap();
        assert_eq!(rights(&rule).len(), 2 * (1 + 2 * 2));
    }
}
