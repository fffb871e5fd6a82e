//! The tokens of an AccountPolicy: issued, renewed, revoked, and never lost.

use std::{net::TcpListener, time::Duration};

use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::{
    ResourceExt,
    api::{ListParams, Patch, PatchParams},
};
use mainstay_e2e::{
    Component::{self, Accounts},
    Scenario, account_policy, eventually, is_local, is_nowhere, kubectl, pods, rewrite_as, rolled_out, run,
    secret_value, who,
};
use serde_json::{Value, json};
use tokio::task::JoinSet;

/// Whom the API server sees when the controller comes.
const CONTROLLER: &str = "system:serviceaccount:mainstay:mainstay-accounts";

async fn secret(scenario: &Scenario) -> Secret {
    scenario.api::<Secret>().get("bot-token").await.expect("the Secret is there")
}

/// Writes onto the Secret that its token has ended long ago, so that it is due for another.
async fn make_due(scenario: &Scenario) {
    let long_ago = json!({"metadata": {"annotations": {
        "mainstay.dev/issued-at": "2020-01-01T00:00:00Z", "mainstay.dev/expires-at": "2020-01-01T00:10:00Z",
    }}});
    let secrets = scenario.api::<Secret>();
    secrets
        .patch("bot-token", &PatchParams::default(), &Patch::Merge(long_ago))
        .await
        .expect("it is annotated");
}

#[tokio::test]
async fn a_namespace_gets_an_account_a_right_and_a_token_that_works_until_it_is_revoked() {
    let scenario = Scenario::start("accounts", &[Accounts]).await;
    scenario.pick(&scenario, true);
    let policy = account_policy(&scenario).create(&scenario.client).await;
    let status = policy.ready(1).await;
    assert_eq!((status.tokens, status.soonest_expiry.len()), (1, 1));
    let token = scenario.token("bot-token", "").await;
    let account = format!("system:serviceaccount:{}:bot", scenario.namespace);
    assert_eq!(who(&token).await.as_deref(), Ok(&*account));
    let written = secret(&scenario).await;
    assert!(secret_value(&written, "ca.crt").contains("BEGIN CERTIFICATE"));
    assert_eq!(secret_value(&written, "namespace"), scenario.namespace);
    for (verb, resource, may) in
        [("list", "pods", true), ("list", "secrets", false), ("delete", "pods", false)]
    {
        assert_eq!(scenario.may(&token, verb, resource).await, may, "{verb} {resource}");
    }

    scenario.kubectl("annotate secret bot-token mainstay.dev/revoke=yes").succeeded();
    let next = scenario.token("bot-token", &token).await;
    scenario.is_refused(&token).await;
    assert_eq!(who(&next).await.as_deref(), Ok(&*account));
    assert!(!secret(&scenario).await.annotations().contains_key("mainstay.dev/revoke"));
}

#[tokio::test]
async fn a_restart_issues_nothing_anew() {
    let scenario = Scenario::alone("restarted", &[Accounts]).await;
    scenario.pick(&scenario, true);
    let policy = account_policy(&scenario).create(&scenario.client).await;
    policy.ready(1).await;
    let token = scenario.token("bot-token", "").await;
    let before = secret(&scenario).await.resource_version();
    let controller = scenario.accounts_controller();
    let leader = controller.leader().await;
    controller.victim(&leader).await.kill().await;
    rolled_out(&controller.name()).succeeded();
    // A namespace that comes now shows that the new leader has seen all there is.
    let other = scenario.beside("later").await;
    other.pick(&scenario, true);
    policy.ready(2).await;
    other.token("bot-token", "").await;
    assert_eq!(secret(&scenario).await.resource_version(), before);
    assert!(who(&token).await.is_ok());
}

#[tokio::test]
async fn a_token_is_renewed_with_an_overlap() {
    let scenario = Scenario::start("renewed", &[Accounts]).await;
    scenario.pick(&scenario, true);
    let tokens = json!([{"name": "bot-token", "serviceAccount": "bot", "ttl": "10m", "overlap": "20s"}]);
    let policy = account_policy(&scenario).with("spec.tokens", tokens).create(&scenario.client).await;
    policy.ready(1).await;
    let first = scenario.token("bot-token", "").await;
    make_due(&scenario).await;
    let second = scenario.token("bot-token", &first).await;
    assert!(who(&first).await.is_ok(), "the token before works for the overlap");
    assert!(who(&second).await.is_ok());
    scenario.is_refused(&first).await;
    assert!(who(&second).await.is_ok());
    // What is written on it now is true, so nothing is due.
    assert_eq!(scenario.token("bot-token", "").await, second);
}

#[tokio::test]
async fn a_token_that_somebody_has_made_worthless_is_made_anew() {
    let scenario = Scenario::start("worthless", &[Accounts]).await;
    scenario.pick(&scenario, true);
    let policy = account_policy(&scenario).create(&scenario.client).await;
    policy.ready(1).await;
    let first = scenario.token("bot-token", "").await;
    scenario.kubectl("delete secret --selector=mainstay.dev/account-part=handle").succeeded();
    let second = scenario.token("bot-token", &first).await;
    assert!(who(&second).await.is_ok());
    scenario.is_refused(&first).await;
    // The next account of that name is another.
    scenario.kubectl("delete serviceaccount bot").succeeded();
    let third = scenario.token("bot-token", &second).await;
    assert!(who(&third).await.is_ok());
    scenario.is_refused(&second).await;
    // "broken" in base64.
    scenario
        .kubectl(r#"patch secret bot-token --type=merge --patch={"data":{"token":"YnJva2Vu"}}"#)
        .succeeded();
    eventually("the Secret has a token that works", async || {
        let token = scenario.token("bot-token", "").await;
        who(&token).await.map(drop).map_err(|code| format!("{code}"))
    })
    .await;
    scenario
        .kubectl(r#"patch secret bot-token --type=json --patch=[{"op":"remove","path":"/data/ca.crt"}]"#)
        .succeeded();
    eventually("the Secret has all keys", async || {
        let secret = secret(&scenario).await;
        (!secret_value(&secret, "ca.crt").is_empty())
            .then_some(())
            .ok_or_else(|| "it has no ca.crt".to_owned())
    })
    .await;
}

#[tokio::test]
async fn a_pod_works_with_the_kubeconfig() {
    let scenario = Scenario::start("kubeconfig", &[Accounts]).await;
    scenario.pick(&scenario, true);
    let tokens = json!([{
        "name": "bot-token", "serviceAccount": "bot", "ttl": "10m",
        "kubeconfig": {"server": "https://kubernetes.default.svc"},
    }]);
    let policy = account_policy(&scenario).with("spec.tokens", tokens).create(&scenario.client).await;
    policy.ready(1).await;
    // No namespace is named: that of the kubeconfig is its own.
    scenario.orphan("lists", "lists", pods::kubectl("bot-token", &["get", "pods", "--output=name"])).await;
    scenario.orphan("deletes", "deletes", pods::kubectl("bot-token", &["delete", "pod", "lists"])).await;
    let ended = async |name: &str| {
        eventually(&format!("pod {name} has ended"), async || {
            let pod: Pod = scenario.pods().get(name).await.map_err(|error| error.to_string())?;
            let phase = pod.status.and_then(|status| status.phase).unwrap_or_default();
            (phase == "Succeeded" || phase == "Failed").then(|| phase.clone()).ok_or(phase)
        })
        .await
    };
    for (name, phase, says) in [("lists", "Succeeded", "pod/lists"), ("deletes", "Failed", "cannot delete")] {
        let (ended, said) = (ended(name).await, scenario.kubectl(&format!("logs {name}")).stdout);
        assert!(ended == phase && said.contains(says), "{name}: {ended}: {said}");
    }
}

#[tokio::test]
async fn eternal_tokens_are_counted_and_no_secret_is_anywhere_but_in_secrets() {
    let scenario = Scenario::start("eternal", &Component::ALL).await;
    let source = scenario.beside("source").await;
    let planted = "planted-pull-5d02e7";
    let config = json!({"auths": {"registry.example.com": {"username": "u", "password": planted}}});
    source.apply(&json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "login"},
        "type": "kubernetes.io/dockerconfigjson", "stringData": {".dockerconfigjson": config.to_string()},
    }));
    scenario.pick(&scenario, true);
    let pull = json!([{"name": "pull", "copyFrom": {"namespace": source.namespace, "name": "login"}}]);
    let draft = account_policy(&scenario)
        .with("spec.serviceAccounts", json!([{"name": "bot", "imagePullSecrets": pull}]))
        .with("spec.tokens.0.kubeconfig", json!({"server": "https://kubernetes.default.svc"}));
    let policy = draft.create(&scenario.client).await;
    policy.ready(1).await;
    scenario.apply(&json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/service-account-token",
        "metadata": {"name": "eternal", "annotations": {"kubernetes.io/service-account.name": "bot"}},
    }));
    policy.until("counts it", |status| status.eternal_tokens == 1).await;
    let eternal = scenario.token("eternal", "").await;
    let token = scenario.token("bot-token", "").await;
    scenario.kubectl("annotate secret bot-token mainstay.dev/revoke=yes").succeeded();
    let next = scenario.token("bot-token", &token).await;

    let more = kubectl("get accountpolicies --output=yaml --show-managed-fields").succeeded();
    // The signature is the part that nobody else can make.
    let signatures =
        [&eternal, &token, &next].map(|token| token.rsplit('.').next().unwrap_or_default().to_owned());
    assert!(signatures.iter().all(|signature| signature.len() > 40));
    let values = [&eternal, &token, &next].into_iter().chain(&signatures).map(String::as_str);
    let kinds = "serviceaccounts,rolebindings,events,events.events.k8s.io";
    let said = ["mainstay_accounts_tokens_issued_total", "TokenRevoked", "soonestExpiry"];
    is_nowhere(&scenario, kinds, &more, &said, &values.chain([planted]).collect::<Vec<_>>()).await;
}

/// Objects without a namespace, deleted when this is dropped.
struct ForNow(Vec<String>);

impl ForNow {
    fn apply(objects: &[Value]) -> Self {
        let names = objects.iter().map(|object| {
            run("kubectl", &["apply", "--filename=-"], &object.to_string()).succeeded();
            let word = |value: &Value| value.as_str().unwrap_or_default().to_lowercase();
            format!("{}/{}", word(&object["kind"]), word(&object["metadata"]["name"]))
        });
        Self(names.collect())
    }
}

impl Drop for ForNow {
    fn drop(&mut self) {
        // What refers to another first.
        for object in self.0.iter().rev() {
            kubectl(&format!("delete {object} --ignore-not-found"));
        }
    }
}

/// What has the API server refuse the controller's updates of Secrets in the namespace, until it is dropped.
struct Refusing {
    _taken: JoinSet<()>,
    _objects: ForNow,
}

/// With 500: a webhook that nobody serves.
fn with_500(scenario: &Scenario) -> Refusing {
    let nobody = json!({"service": {"name": "nobody", "namespace": scenario.namespace}});
    let objects = ForNow::apply(&[webhook(scenario, "500", "true", &nobody)]);
    Refusing { _taken: JoinSet::new(), _objects: objects }
}

/// With 429: a priority level without seats lets one request in at a time, and there is one that waits for a webhook that
/// never answers.
fn with_429(scenario: &Scenario) -> Refusing {
    let name = format!("{}-429", scenario.namespace);
    let level = json!({
        "apiVersion": "flowcontrol.apiserver.k8s.io/v1",
        "kind": "PriorityLevelConfiguration",
        "metadata": {"name": name},
        "spec": {"type": "Limited", "limited": {
            "nominalConcurrencyShares": 0, "lendablePercent": 0, "borrowingLimitPercent": 0,
            "limitResponse": {"type": "Reject"},
        }},
    });
    let schema = json!({
        "apiVersion": "flowcontrol.apiserver.k8s.io/v1",
        "kind": "FlowSchema",
        "metadata": {"name": name},
        "spec": {
            // 1 is the level "exempt".
            "matchingPrecedence": 2,
            "priorityLevelConfiguration": {"name": name},
            "rules": [{
                "subjects": [{"kind": "User", "user": {"name": CONTROLLER}}],
                "resourceRules": [{
                    "verbs": ["patch", "update"], "apiGroups": [""], "resources": ["secrets"],
                    "namespaces": [scenario.namespace],
                }],
            }],
        },
    });
    // The API server and this test share a network.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let place = json!({"url": format!("https://{}/", silent.local_addr().expect("it has an address"))});
    scenario.kubectl("create secret generic slow").succeeded();
    let slow = webhook(scenario, "429", "object.metadata.name == 'slow'", &place);
    let objects = ForNow::apply(&[level, schema, slow]);
    let (mut taken, secrets) = (JoinSet::new(), scenario.api::<Secret>());
    taken.spawn(async move {
        let _silent = silent;
        let slow = secrets.get("slow").await.expect("the Secret is there");
        loop {
            // It ends with the webhook's time, or at once where the seat is still another's.
            let _ = rewrite_as(CONTROLLER, &slow).await;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    Refusing { _taken: taken, _objects: objects }
}

/// A webhook for the controller's updates of Secrets of the namespace for which `when` holds.
fn webhook(scenario: &Scenario, name: &str, when: &str, place: &Value) -> Value {
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": format!("{}-{name}", scenario.namespace)},
        "webhooks": [{
            "name": "nobody.e2e.mainstay.dev",
            "admissionReviewVersions": ["v1"],
            "sideEffects": "None",
            "failurePolicy": "Fail",
            "timeoutSeconds": 30,
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": scenario.namespace}},
            "matchConditions": [
                {"name": "controller", "expression": format!("request.userInfo.username == '{CONTROLLER}'")},
                {"name": "when", "expression": when},
            ],
            "rules": [{
                "apiGroups": [""], "apiVersions": ["v1"], "operations": ["UPDATE"], "resources": ["secrets"],
            }],
            "clientConfig": place,
        }],
    })
}

#[tokio::test]
async fn while_the_server_fails_no_token_is_lost() {
    let scenario = Scenario::start("r500", &[Accounts]).await;
    no_token_is_lost(&scenario, 500, with_500).await;
}

#[tokio::test]
async fn while_the_server_is_too_busy_no_token_is_lost() {
    let scenario = Scenario::start("r429", &[Accounts]).await;
    if !is_local() {
        eprintln!("skipped: an API server elsewhere does not reach this test");
        return;
    }
    no_token_is_lost(&scenario, 429, with_429).await;
}

async fn no_token_is_lost(scenario: &Scenario, code: u16, refuse: fn(&Scenario) -> Refusing) {
    scenario.pick(scenario, true);
    let policy = account_policy(scenario).create(&scenario.client).await;
    policy.ready(1).await;
    let token = scenario.token("bot-token", "").await;
    let refusing = refuse(scenario);
    let written = secret(scenario).await;
    eventually(&format!("the controller is refused with {code}"), async || {
        let answer = rewrite_as(CONTROLLER, &written).await;
        (answer == Err(code)).then_some(()).ok_or(format!("{answer:?}"))
    })
    .await;
    make_due(scenario).await;
    let status = policy.until("says that it cannot", |status| !status.failing.is_empty()).await;
    assert_eq!(status.failing[0].name, scenario.namespace);
    assert!(status.failing[0].message.contains("bot-token"), "{}", status.failing[0].message);
    assert!(who(&token).await.is_ok(), "the token in the Secret works");
    assert_eq!(scenario.token("bot-token", "").await, token);
    drop(refusing);
    let next = scenario.token("bot-token", &token).await;
    assert!(who(&next).await.is_ok());
    policy.ready(1).await;
    // Nothing is left of the attempts.
    eventually("one handle is left", async || {
        let ours = ListParams::default().labels("mainstay.dev/account-part=handle");
        let listed = scenario.api::<Secret>().list(&ours).await.map_err(|error| error.to_string())?;
        (listed.items.len() == 1).then_some(()).ok_or(format!("{} handles", listed.items.len()))
    })
    .await;
}
