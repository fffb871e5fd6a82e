//! What an AccountPolicy gives to namespaces, keeps right, and takes back.

use k8s_openapi::api::{
    core::v1::{Secret, ServiceAccount},
    rbac::v1::RoleBinding,
};
use kube::{
    ResourceExt,
    api::{Patch, PatchParams},
};
use mainstay_e2e::{
    Component::Accounts, Scenario, account_policy, eventually, kubectl, run, secret_value, who,
};
use serde_json::json;

#[tokio::test]
async fn drift_is_repaired_and_what_others_add_stays() {
    let scenario = Scenario::start("drift", &[Accounts]).await;
    scenario.pick(&scenario, true);
    let draft = account_policy(&scenario).with(
        "spec.serviceAccounts",
        json!([{
            "name": "bot", "labels": {"team": "blue"}, "automountServiceAccountToken": false,
            "imagePullSecrets": [{"name": "ours"}],
        }]),
    );
    let policy = draft.create(&scenario.client).await;
    policy.ready(1).await;
    let accounts = scenario.api::<ServiceAccount>();
    let theirs = json!({
        "metadata": {"labels": {"team": "red", "other": "x"}},
        "automountServiceAccountToken": true,
        "imagePullSecrets": [{"name": "theirs"}],
    });
    accounts.patch("bot", &PatchParams::default(), &Patch::Merge(theirs)).await.expect("it is patched");
    scenario.kubectl("delete rolebinding bot").succeeded();
    eventually("the account and the binding are as they should be", async || {
        let account = accounts.get("bot").await.map_err(|error| error.to_string())?;
        let labels = account.labels();
        let mut secrets: Vec<_> =
            account.image_pull_secrets.iter().flatten().map(|it| it.name.clone()).collect();
        secrets.sort();
        let is_right = labels.get("team").is_some_and(|team| team == "blue")
            && labels.contains_key("other")
            && account.automount_service_account_token == Some(false)
            && secrets == ["ours", "theirs"];
        let binding = scenario.kubectl("get rolebinding bot").ok;
        (is_right && binding).then_some(()).ok_or_else(|| format!("{account:?}, binding {binding}"))
    })
    .await;
}

#[tokio::test]
async fn what_a_policy_names_no_more_goes_at_once() {
    let scenario = Scenario::start("unnamed", &[Accounts]).await;
    scenario.pick(&scenario, true);
    let role = "eks.amazonaws.com/role-arn";
    let draft = account_policy(&scenario).with(
        "spec.serviceAccounts",
        json!([{
            "name": "bot", "labels": {"kept": "1", "gone": "1"}, "annotations": {role: "arn:aws:iam::1:role/x"},
            "automountServiceAccountToken": false,
        }]),
    );
    let policy = draft.create(&scenario.client).await;
    policy.ready(1).await;
    let accounts = scenario.api::<ServiceAccount>();
    let account = accounts.get("bot").await.expect("it is there");
    assert!(account.annotations().contains_key(role) && account.labels().contains_key("gone"), "{account:?}");
    scenario.kubectl("label serviceaccount bot theirs=1").succeeded();
    policy.patch(json!({"spec": {"serviceAccounts": [{"name": "bot", "labels": {"kept": "1"}}]}})).await;
    eventually("the account has what the policy says, and what others have added", async || {
        let account = accounts.get("bot").await.map_err(|error| error.to_string())?;
        let mut labels: Vec<_> = account.labels().keys().map(String::as_str).collect();
        labels.retain(|label| !label.contains('/'));
        let is_right = labels == ["kept", "theirs"]
            && !account.annotations().contains_key(role)
            && account.automount_service_account_token.is_none();
        is_right.then_some(()).ok_or(format!("{account:?}"))
    })
    .await;
}

#[tokio::test]
async fn a_namespace_that_is_picked_no_more_loses_what_it_was_given_and_a_policy_takes_it_along() {
    let scenario = Scenario::start("leaves", &[Accounts]).await;
    let other = scenario.beside("stays").await;
    scenario.pick(&scenario, true);
    other.pick(&scenario, true);
    let policy = account_policy(&scenario).create(&scenario.client).await;
    policy.ready(2).await;
    let token = scenario.token("bot-token", "").await;
    scenario.pick(&scenario, false);
    let gone = async |scenario: &Scenario| {
        let what = format!("{} has lost everything", scenario.namespace);
        eventually(&what, async || {
            let left =
                "get serviceaccounts,rolebindings,secrets --output=name -l mainstay.dev/account-policy";
            let left = scenario.kubectl(left).succeeded();
            left.trim().is_empty().then_some(()).ok_or(left)
        })
        .await;
    };
    gone(&scenario).await;
    scenario.is_refused(&token).await;
    other.kubectl("get serviceaccount bot").succeeded();
    policy.delete().await;
    gone(&other).await;
}

#[tokio::test]
async fn the_account_of_pods_that_name_none_is_adopted_without_consent_and_stays() {
    let scenario = Scenario::start("default", &[Accounts]).await;
    scenario.pick(&scenario, true);
    let accounts = scenario.api::<ServiceAccount>();
    let before = eventually("the cluster has made the account", async || {
        accounts.get("default").await.map_err(|error| error.to_string())
    })
    .await;
    let wanted = json!([{"name": "bot"}, {"name": "default", "imagePullSecrets": [{"name": "ours"}]}]);
    let policy =
        account_policy(&scenario).with("spec.serviceAccounts", wanted).create(&scenario.client).await;
    policy.ready(1).await;
    let stands = async || {
        let account = accounts.get("default").await.expect("each namespace has it");
        let secrets = account.image_pull_secrets.iter().flatten().map(|secret| secret.name.clone());
        (account.uid(), secrets.collect::<Vec<_>>())
    };
    assert_eq!(stands().await, (before.uid(), vec!["ours".to_owned()]));
    policy.delete().await;
    assert_eq!(stands().await, (before.uid(), Vec::new()));
}

#[tokio::test]
async fn what_others_made_is_taken_over_with_their_consent_alone_and_handed_back() {
    let scenario = Scenario::start("consent", &[Accounts]).await;
    scenario.kubectl("create serviceaccount bot").succeeded();
    scenario.kubectl("create rolebinding bot --clusterrole=view --user=jane").succeeded();
    scenario.pick(&scenario, true);
    let policy = account_policy(&scenario).create(&scenario.client).await;
    let status = policy.until("says whose it is", |status| !status.failing.is_empty()).await;
    let said = &status.failing[0].message;
    assert!(said.contains(&format!("mainstay.dev/adopt={}", scenario.namespace)), "{said}");
    let event = policy.event("NamespaceFailing").await;
    assert!(event.contains("ServiceAccount bot"), "{event}, and the status {said}");
    scenario
        .kubectl(&format!(
            "annotate serviceaccount,rolebinding bot mainstay.dev/adopt={}",
            scenario.namespace
        ))
        .succeeded();
    policy.ready(1).await;
    let bindings = scenario.api::<RoleBinding>();
    let subjects = async || {
        let binding = bindings.get("bot").await.expect("it was there before");
        let names = binding.subjects.clone().unwrap_or_default().into_iter().map(|subject| subject.name);
        (names.collect::<Vec<_>>(), binding)
    };
    assert_eq!(subjects().await.0, ["bot"]);
    policy.delete().await;
    let account = scenario.api::<ServiceAccount>().get("bot").await.expect("it was there before");
    assert!(!account.labels().contains_key("mainstay.dev/account-policy"));
    // The account is no longer bound, and the annotation tells the owner who was.
    let (names, binding) = subjects().await;
    assert_eq!(names, [""; 0]);
    assert!(!binding.labels().contains_key("mainstay.dev/account-policy"));
    assert!(binding.annotations()["mainstay.dev/subjects"].contains("jane"));
}

#[tokio::test]
async fn pull_secrets_are_copied_and_follow_their_source() {
    let scenario = Scenario::start("pull", &[Accounts]).await;
    let registry = scenario.beside("registry").await;
    let login = |password: &str| {
        let config = json!({"auths": {"registry.example.com": {"username": "u", "password": password}}});
        json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "login"},
            "type": "kubernetes.io/dockerconfigjson", "stringData": {".dockerconfigjson": config.to_string()},
        })
    };
    registry.apply(&login("one"));
    scenario.pick(&scenario, true);
    let draft = account_policy(&scenario).with("spec.serviceAccounts", json!([{
        "name": "bot",
        "imagePullSecrets": [{"name": "pull", "copyFrom": {"namespace": registry.namespace, "name": "login"}}],
    }]));
    let policy = draft.create(&scenario.client).await;
    policy.ready(1).await;
    let has = async |password: &str| {
        eventually(&format!("the copy has {password}"), async || {
            let secret = scenario.api::<Secret>().get("pull").await.map_err(|error| error.to_string())?;
            let config = secret_value(&secret, ".dockerconfigjson");
            config
                .contains(&format!("\"{password}\""))
                .then_some(())
                .ok_or_else(|| "it has another".to_owned())
        })
        .await;
    };
    has("one").await;
    registry.apply(&login("two"));
    has("two").await;

    // Of other Secrets a copy may be a right, as of a bootstrap token.
    registry.kubectl("create secret generic other --from-literal=a=b").succeeded();
    let other = json!([{"name": "bot", "imagePullSecrets": [
        {"name": "other", "copyFrom": {"namespace": registry.namespace, "name": "other"}},
    ]}]);
    policy.patch(json!({"spec": {"serviceAccounts": other}})).await;
    let status = policy.until("says that it is no pull secret", |status| !status.failing.is_empty()).await;
    assert_eq!(status.failing[0].reason, "SourceType");
    assert!(status.failing[0].message.contains("copyFrom"), "{}", status.failing[0].message);
    assert!(!scenario.kubectl("get secret other").ok, "it was copied");
}

/// A user of the test's name who has these ClusterRoles in every namespace, until it is dropped.
struct Author(String, Vec<String>);

impl Author {
    fn with(scenario: &Scenario, roles: &[&str]) -> Self {
        let name = scenario.namespace.clone();
        let bind = |role: &&str| {
            let binding = format!("{name}-{role}");
            kubectl(&format!("create clusterrolebinding {binding} --clusterrole={role} --user={name}"))
                .succeeded();
            binding
        };
        Self(name.clone(), roles.iter().map(bind).collect())
    }

    fn writes(&self, policy: &serde_json::Value) -> mainstay_e2e::Finished {
        let words = ["apply", "--filename=-", "--dry-run=server", &format!("--as={}", self.0)];
        run("kubectl", &words, &policy.to_string())
    }
}

impl Drop for Author {
    fn drop(&mut self) {
        kubectl(&format!("delete clusterrolebinding {} --ignore-not-found", self.1.join(" ")));
        kubectl(&format!("delete clusterrole {}-role --ignore-not-found", self.0));
    }
}

#[tokio::test]
async fn nobody_gives_more_than_they_have() {
    let scenario = Scenario::start("escalate", &[Accounts]).await;
    // May write policies, accounts and bindings, and view; may neither edit, nor issue tokens. Of Secrets they may read
    // those of this namespace, and make none.
    let role = format!("{}-role", scenario.namespace);
    let kinds = "accountpolicies.mainstay.dev,serviceaccounts,rolebindings.rbac.authorization.k8s.io";
    kubectl(&format!("create clusterrole {role} --verb=get,create,update,patch --resource={kinds}"))
        .succeeded();
    let author = Author::with(&scenario, &[&role, "view"]);
    let draft = account_policy(&scenario).with("spec.tokens", json!([]));
    author.writes(draft.object()).succeeded();
    let bound = |role: &str, kind: &str| {
        json!([{
            "name": "bot", "roleRef": {"kind": kind, "name": role}, "serviceAccounts": ["bot"],
        }])
    };
    scenario.kubectl("create role reads --verb=get --resource=secrets").succeeded();
    scenario.kubectl(&format!("create rolebinding reads --role=reads --user={}", author.0)).succeeded();
    let copied = json!([{"name": "bot", "imagePullSecrets": [
        {"name": "pull", "copyFrom": {"namespace": scenario.namespace, "name": "login"}},
    ]}]);
    for (draft, words) in [
        (
            draft.clone().with("spec.roleBindings", bound("edit", "ClusterRole")),
            "permission to bind ClusterRole edit",
        ),
        (draft.clone().with("spec.roleBindings", bound("deploy", "Role")), "permission to bind Role deploy"),
        (draft.clone().with("spec.serviceAccounts", copied), "permission to create secrets"),
        (account_policy(&scenario), "permission to create serviceaccounts/token in all namespaces"),
    ] {
        let said = author.writes(draft.object()).refused();
        assert!(said.contains(words), "{said}");
    }

    // What somebody else may give they may annotate, and not change.
    let policy = account_policy(&scenario).create(&scenario.client).await;
    policy.ready(0).await;
    let name = &scenario.namespace;
    kubectl(&format!("annotate accountpolicy {name} note=seen --as={name}")).succeeded();
    let longer = json!({"spec": {"gracePeriod": "1h"}});
    let said =
        kubectl(&format!("patch accountpolicy {name} --type=merge --patch={longer} --as={name}")).refused();
    assert!(said.contains("permission to create serviceaccounts/token in all namespaces"), "{said}");
}

#[tokio::test]
async fn a_role_that_may_not_be_given_is_told_and_takes_nothing_away() {
    let scenario = Scenario::start("unlisted", &[Accounts]).await;
    scenario.pick(&scenario, true);
    let policy = account_policy(&scenario).create(&scenario.client).await;
    policy.ready(1).await;
    let bindings = scenario.api::<RoleBinding>();
    let standing = bindings.get("bot").await.expect("it is there");
    let bound = |role: &str| {
        json!({"spec": {"roleBindings": [{
            "name": "bot", "roleRef": {"kind": "ClusterRole", "name": role}, "serviceAccounts": ["bot"],
        }]}})
    };
    policy.patch(bound("cluster-admin")).await;
    let status = policy.until("says that it may not", |status| !status.failing.is_empty()).await;
    assert_eq!(status.failing[0].reason, "RoleNotListed");
    assert!(status.failing[0].message.contains("RoleBinding bot"), "{}", status.failing[0].message);
    let kept = bindings.get("bot").await.expect("what works stays");
    assert_eq!((kept.uid(), kept.role_ref.name), (standing.uid(), "view".to_owned()));
    // The rest is given all the same, and a role that may be given takes the place of the one before.
    let token = scenario.token("bot-token", "").await;
    assert!(who(&token).await.is_ok());
    policy.patch(bound("edit")).await;
    policy.ready(1).await;
    eventually("the account may edit", async || {
        let role = bindings.get("bot").await.map_err(|error| error.to_string())?.role_ref.name;
        (role == "edit").then_some(()).ok_or(role)
    })
    .await;
}
