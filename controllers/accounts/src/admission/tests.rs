//! What is asked about policies, and how often.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use http::{Request, Response};
use kube::client::Body;
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::*;

fn asked(spec: Value) -> Vec<String> {
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
            vec!["create serviceaccounts/token", "create secrets", "patch secrets"],
        ),
        (
            json!({"serviceAccounts": copies, "tokens": tokens}),
            vec!["create serviceaccounts/token", "create secrets", "patch secrets", read],
        ),
    ] {
        let mut whole = spec.clone();
        whole["namespaceSelector"] = json!({});
        let asked = asked(whole);
        let asked: Vec<_> = asked.iter().map(|what| what.trim_end_matches(" in all namespaces")).collect();
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

/// An API server that allows everything but to bind roles, and has these ClusterRoles.
#[derive(Clone)]
struct Server {
    roles: Arc<Value>,
    asked: Arc<Mutex<Vec<String>>>,
    at_once: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

impl Server {
    fn with(roles: Value) -> Self {
        let (at_once, most) = Default::default();
        Self { roles: Arc::new(roles), asked: Arc::default(), at_once, most }
    }

    fn client(&self) -> Client {
        let server = self.clone();
        let serve = move |request: Request<Body>| {
            let server = server.clone();
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect_bytes().await?;
                let answer = match parts.uri.path().rsplit_once("/clusterroles/") {
                    Some((_, role)) => json!({"metadata": {"name": role}, "rules": server.roles[role]}),
                    None => server.judge(serde_json::from_slice(&body)?).await,
                };
                Ok::<_, tower::BoxError>(Response::new(Body::from(answer.to_string().into_bytes())))
            }
        };
        Client::new(tower::service_fn(serve), "mainstay")
    }

    async fn judge(&self, mut review: Value) -> Value {
        let now = self.at_once.fetch_add(1, Ordering::Relaxed) + 1;
        self.most.fetch_max(now, Ordering::Relaxed);
        self.asked.lock().push(review["spec"].to_string());
        // The others come meanwhile, as many as may.
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        self.at_once.fetch_sub(1, Ordering::Relaxed);
        review["status"] = json!({"allowed": review["spec"]["resourceAttributes"]["verb"] != "bind"});
        review
    }
}

/// A policy that gives the ClusterRoles `one` and `two`, by two bindings each.
fn generous() -> AccountPolicySpec {
    let bindings = ["one", "two", "one", "two"].into_iter().enumerate().map(|(index, role)| {
        let role = json!({"kind": "ClusterRole", "name": role});
        json!({"name": format!("b{index}"), "roleRef": role, "serviceAccounts": ["bot"]})
    });
    let bindings: Vec<_> = bindings.collect();
    let spec = json!({
        "namespaceSelector": {}, "serviceAccounts": [{"name": "bot"}], "roleBindings": bindings,
    });
    serde_json::from_value(spec).unwrap()
}

/// A rule of so many rights.
fn rule(rights: usize) -> Value {
    let resources: Vec<_> = (0..rights).map(|number| format!("kind{number}")).collect();
    json!({"verbs": ["get"], "apiGroups": [""], "resources": resources})
}

#[tokio::test(start_paused = true)]
async fn equal_questions_about_a_policy_are_asked_once() {
    // Both roles have the rights of both rules.
    let server = Server::with(json!({"one": [rule(3), rule(5)], "two": [rule(5), rule(3)]}));
    let admission = Admission::new(server.client());
    assert_eq!(admission.refused(&UserInfo::default(), &generous()).await.unwrap(), None);
    let asked = server.asked.lock().clone();
    let distinct: BTreeSet<_> = asked.iter().collect();
    assert_eq!(asked.len(), distinct.len());
    // Accounts and bindings, two verbs each; two roles to bind; five rights.
    assert_eq!(asked.len(), 4 + 2 + 5, "{asked:?}");
}

#[tokio::test(start_paused = true)]
async fn of_all_policies_together_only_so_many_questions_are_under_way() {
    let server = Server::with(json!({"one": [rule(200)], "two": [rule(100)]}));
    let admission = Admission::new(server.client());
    let authors: Vec<_> = (0..10)
        .map(|number| UserInfo { username: Some(format!("author{number}")), ..UserInfo::default() })
        .collect();
    let spec = generous();
    let answers = futures::future::join_all(authors.iter().map(|author| admission.refused(author, &spec)));
    assert!(answers.await.into_iter().all(|answer| answer.unwrap().is_none()));
    assert_eq!(server.most.load(Ordering::Relaxed), ask::OF_ALL);
    assert_eq!(server.asked.lock().len(), 10 * (4 + 2 + 200), "what one author may says nothing of another");
}
