//! AccountPolicies: drafts of them, those that exist, and what they have given.

use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{
    Api, Client, Config, ResourceExt,
    api::{Patch, PatchParams},
    config::AuthInfo,
};
use mainstay_crds::{AccountPolicy, AccountPolicyStatus};
use serde_json::{Value, json};

use crate::{
    command::kubectl,
    object::{DraftOf, Made},
    scenario::Scenario,
    wait::eventually,
};

/// A policy as a user writes it.
pub type AccountsDraft = DraftOf<AccountPolicy>;

/// A policy that exists.
pub type Accounts = Made<AccountPolicy>;

/// A policy for the namespaces with the label `e2e: <namespace of the test>`: an account `bot` that may view, and a token
/// of it. It is named after the test's namespace.
pub fn account_policy(scenario: &Scenario) -> AccountsDraft {
    let bound = json!({
        "name": "bot", "roleRef": {"kind": "ClusterRole", "name": "view"}, "serviceAccounts": ["bot"],
    });
    let spec = json!({
        "namespaceSelector": {"matchLabels": {"e2e": scenario.namespace}},
        "gracePeriod": "1s",
        "serviceAccounts": [{"name": "bot", "automountServiceAccountToken": false}],
        "roleBindings": [bound],
        "tokens": [{"name": "bot-token", "serviceAccount": "bot", "ttl": "10m", "overlap": "1s"}],
    });
    AccountsDraft::new(&scenario.namespace, spec)
}

impl Accounts {
    /// Waits until so many namespaces are picked and have everything.
    pub async fn ready(&self, count: i32) -> AccountPolicyStatus {
        self.until(&format!("{count} namespaces have everything"), |status| {
            status.namespaces.total == count && status.namespaces.ready == count
        })
        .await
    }

    /// Deletes it and waits until it is gone.
    pub async fn delete(&self) {
        kubectl(&format!("delete accountpolicy {} --timeout=60s", self.name())).succeeded();
    }
}

impl Scenario {
    /// The accounts controller.
    pub fn accounts_controller(&self) -> crate::controller::Controller {
        crate::controller::Controller::new(self.client.clone(), crate::controller::Component::Accounts)
    }

    /// Gives the scenario's namespace the label by which the policy `of` picks it, or takes it away.
    pub fn pick(&self, of: &Scenario, picked: bool) {
        let label = if picked { format!("e2e={}", of.namespace) } else { "e2e-".to_owned() };
        kubectl(&format!("label namespace {} {label} --overwrite", self.namespace)).succeeded();
    }

    /// Waits until the Secret of this name has a token other than `before`; returns it.
    pub async fn token(&self, secret: &str, before: &str) -> String {
        eventually(&format!("Secret {secret} has a token, and another than before"), async || {
            let secret = self.api::<Secret>().get(secret).await.map_err(|error| error.to_string())?;
            let token = value(&secret, "token");
            (!token.is_empty() && token != before)
                .then_some(token)
                .ok_or_else(|| "it has the one before".to_owned())
        })
        .await
    }

    /// Waits until this token is refused as nobody's.
    pub async fn is_refused(&self, token: &str) {
        eventually("the token is refused", async || match who(token).await {
            Err(401) => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
    }

    /// Whether who comes with this token may do this in the namespace.
    pub async fn may(&self, token: &str, verb: &str, resource: &str) -> bool {
        let attributes = json!({"namespace": self.namespace, "verb": verb, "resource": resource});
        let review = json!({"spec": {"resourceAttributes": attributes}});
        let asked = ask(token, "authorization.k8s.io", "SelfSubjectAccessReview", review).await;
        asked.expect("it is answered")["status"]["allowed"] == true
    }
}

/// What writing the Secret as it is comes to for this user, by a patch and as a dry run: nothing, or the status code.
pub async fn rewrite_as(user: &str, secret: &Secret) -> Result<(), u16> {
    let client = acting_as(|auth| auth.impersonate = Some(user.to_owned())).await;
    let secrets: Api<Secret> = Api::namespaced(client, &secret.namespace().unwrap_or_default());
    let params = PatchParams { dry_run: true, ..PatchParams::default() };
    let patch = Patch::Merge(json!({"data": secret.data}));
    match secrets.patch(&secret.name_any(), &params, &patch).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) => Err(status.code),
        Err(error) => panic!("no answer: {error}"),
    }
}

/// What the API server says to who comes with this token: the account's name, or the status code.
pub async fn who(token: &str) -> Result<String, u16> {
    let answer = ask(token, "authentication.k8s.io", "SelfSubjectReview", json!({})).await?;
    Ok(answer["status"]["userInfo"]["username"].as_str().unwrap_or_default().to_owned())
}

async fn ask(token: &str, group: &str, kind: &str, mut review: Value) -> Result<Value, u16> {
    review["apiVersion"] = format!("{group}/v1").into();
    review["kind"] = kind.into();
    let request = http::Request::post(format!("/apis/{group}/v1/{}s", kind.to_lowercase()))
        .header("content-type", "application/json")
        .body(review.to_string().into_bytes())
        .expect("a valid request");
    let only_token = |auth: &mut AuthInfo| {
        *auth = AuthInfo { token: Some(token.to_owned().into()), ..AuthInfo::default() };
    };
    match acting_as(only_token).await.request(request).await {
        Ok(answer) => Ok(answer),
        Err(kube::Error::Api(status)) => Err(status.code),
        Err(error) => panic!("no answer: {error}"),
    }
}

/// A client of the cluster as somebody else, that asks once.
async fn acting_as(change: impl FnOnce(&mut AuthInfo)) -> Client {
    let mut config = Config::infer().await.expect("KUBECONFIG names a cluster");
    change(&mut config.auth_info);
    config.default_retry = false;
    Client::try_from(config).expect("a client")
}

/// A value of a Secret.
pub fn value(secret: &Secret, key: &str) -> String {
    let found = secret.data.as_ref().and_then(|data| data.get(key));
    found.map(|ByteString(bytes)| String::from_utf8_lossy(bytes).into_owned()).unwrap_or_default()
}
