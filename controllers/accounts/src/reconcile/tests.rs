//! What a reconcile over a namespace does, and when it looks again.

use http::{Method, Request, Response};
use kube::{Client, client::Body, core::Status, runtime::reflector::store, runtime::watcher::Event};
use mainstay_crds::AccountPolicy;
use mainstay_runtime::{clock::Clock, events::Events, metrics::LoopMetrics};
use prometheus::Registry;
use serde_json::{Value, json};

use super::*;
use crate::{
    metrics::Metrics,
    names::{FIELD_MANAGER, FINALIZER},
    plan::{Binding, Grantable, Origin, OutputView, Role, Source, Token, Written},
    settings::Settings,
};

/// Which requests were sent: method and path.
type Sent = Arc<Mutex<Vec<(Method, String)>>>;

fn policy(accounts: &Value) -> Arc<Settings> {
    let policy = json!({
        "apiVersion": "mainstay.dev/v1alpha1", "kind": "AccountPolicy",
        "metadata": {"name": "p", "finalizers": [FINALIZER]},
        "spec": {"namespaceSelector": {}, "serviceAccounts": accounts},
    });
    let policy: AccountPolicy = serde_json::from_value(policy).unwrap();
    Arc::new(Settings::read(&policy).unwrap())
}

/// The reconcile over the namespace `ns`, with a server on which a Secret has the name of a copy. It does not say whose it is.
fn namespaces() -> (Arc<Namespaces>, Arc<MetadataOf<v1::Namespace>>, Sent) {
    let (sent, registry) = (Sent::default(), Registry::new());
    let log = Arc::clone(&sent);
    let server = tower::service_fn(move |request: Request<Body>| {
        let log = Arc::clone(&log);
        async move {
            let (method, path) = (request.method().clone(), request.uri().path().to_owned());
            log.lock().push((method.clone(), path.clone()));
            let refuse = |code, reason| {
                (code, serde_json::to_value(Status::failure("no", reason).with_code(code)).unwrap())
            };
            let (code, answer) = match (&method, path.as_str()) {
                (&Method::GET, "/api/v1/namespaces/from/secrets/registry") => (
                    200,
                    json!({
                        "metadata": {"uid": "s", "resourceVersion": "1"}, "type": "kubernetes.io/dockerconfigjson",
                    }),
                ),
                (&Method::POST, "/api/v1/namespaces/ns/secrets") => refuse(409, "AlreadyExists"),
                (&Method::GET, _) => refuse(500, "InternalError"),
                (&Method::DELETE, path) if path.ends_with("/stale") => refuse(409, "Conflict"),
                (&Method::DELETE, _) => refuse(403, "Forbidden"),
                (&Method::POST, "/api/v1/namespaces/ns/serviceaccounts") => refuse(403, "Forbidden"),
                _ => (201, json!({"metadata": {"uid": "made", "resourceVersion": "9"}})),
            };
            let answer = Response::builder().status(code).body(Body::from(answer.to_string().into_bytes()));
            Ok::<_, std::io::Error>(answer.unwrap())
        }
    });
    let client = Client::new(server, "ns");
    let (reader, mut writer) = store();
    let namespace = json!({"metadata": {"name": "ns", "uid": "n", "resourceVersion": "1"}});
    let namespace: MetadataOf<v1::Namespace> = serde_json::from_value(namespace).unwrap();
    writer.apply_watcher_event(&Event::Apply(namespace.clone()));
    let (stores, server_clock) =
        (Stores::new(reader, Grantable::default()), ServerClock::new(Clock::start()));
    let source = Source::At("s".into(), "1".into());
    stores.sources.lock().insert(ObjectKey::new("from", "registry"), source);
    let namespaces = Namespaces {
        writer: Writer::new(client.clone(), stores.clone(), server_clock.clone(), "home".to_owned()),
        stores,
        announcer: Announcer {
            events: Events::start(client, FIELD_MANAGER, "test"),
            metrics: Metrics::new(&registry),
        },
        server_clock,
        outcomes: Arc::default(),
        max_in_flight: 1,
        policies: Work::new(LoopMetrics::new(&registry, "accountpolicy", 1)),
        repeated: Repeated::default(),
    };
    (Arc::new(namespaces), Arc::new(namespace), sent)
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_cannot_be_looked_for_keeps_nothing_else_from_being_done() {
    let (namespaces, namespace, sent) = namespaces();
    let work = Work::new(LoopMetrics::new(&Registry::new(), "namespace", 1));
    work.root_changed(None, Some(&*namespace), |_| false);
    let key = ObjectKey::new("", "ns");
    let of = json!({"name": "pull", "copyFrom": {"namespace": "from", "name": "registry"}});
    let accounts = [
        json!([{"name": "default", "imagePullSecrets": [of]}]),
        json!([{"name": "default", "imagePullSecrets": [of]}]),
        json!([{"name": "default", "imagePullSecrets": [of]}, {"name": "bot"}]),
    ];
    for accounts in &accounts {
        *namespaces.stores.policies.write() = Arc::new(vec![policy(accounts)]);
        let outcomes = Arc::clone(&namespaces).reconcile(Arc::clone(&namespace), work.turn(&key)).await;
        work.conclude(&key, Duration::ZERO, outcomes);
    }
    let count = |is_meant: &dyn Fn(&Method, &str) -> bool| {
        sent.lock().iter().filter(|(method, path)| is_meant(method, path)).count()
    };
    let looks = count(&|method, path| *method == Method::GET && path.ends_with("/ns/secrets/pull"));
    let accounts = count(&|method, path| *method == Method::POST && path.ends_with("/serviceaccounts"));
    assert_eq!((looks, accounts), (1, 2), "each account is tried: {:?}", sent.lock());
}

#[tokio::test(start_paused = true)]
async fn nothing_is_made_for_the_token_of_an_account_that_cannot_be_made() {
    let (namespaces, namespace, sent) = namespaces();
    let mut given = Arc::into_inner(policy(&json!([{"name": "bot"}]))).unwrap();
    let token = Token {
        account: "bot".into(),
        audiences: vec![],
        ttl: Duration::from_secs(86_400),
        overlap: Duration::from_secs(60),
        server: None,
    };
    given.desired.tokens.insert("bot-token".into(), token);
    *namespaces.stores.policies.write() = Arc::new(vec![Arc::new(given)]);
    let work = Work::new(LoopMetrics::new(&Registry::new(), "namespace", 1));
    work.root_changed(None, Some(&*namespace), |_| false);
    let key = ObjectKey::new("", "ns");
    for _ in 0..2 {
        let outcomes = Arc::clone(&namespaces).reconcile(Arc::clone(&namespace), work.turn(&key)).await;
        work.conclude(&key, Duration::ZERO, outcomes);
    }
    let failing = namespaces.outcomes.of("ns", "p").flatten().unwrap();
    assert!(failing.message.contains("ServiceAccount bot"), "{failing:?}");
    let sent: Vec<_> = sent.lock().iter().map(|(_, path)| path.clone()).collect();
    assert_eq!(sent, ["/api/v1/namespaces/ns/serviceaccounts"], "and it waits");
}

#[tokio::test(start_paused = true)]
async fn all_that_fails_is_told_together() {
    let (namespaces, namespace, sent) = namespaces();
    let mut given = Arc::into_inner(policy(&json!([{"name": "bot"}, {"name": "ci"}]))).unwrap();
    let role = Role { kind: "ClusterRole".into(), name: "admin".into() };
    given.desired.bindings.insert("b".into(), Binding { role, accounts: [Arc::from("bot")].into() });
    *namespaces.stores.policies.write() = Arc::new(vec![Arc::new(given)]);
    let work = Work::new(LoopMetrics::new(&Registry::new(), "namespace", 1));
    work.root_changed(None, Some(&*namespace), |_| false);
    let key = ObjectKey::new("", "ns");
    let mut told = Vec::new();
    // The second one waits before it tries again, and knows of what.
    for _ in 0..2 {
        let outcomes = Arc::clone(&namespaces).reconcile(Arc::clone(&namespace), work.turn(&key)).await;
        work.conclude(&key, Duration::ZERO, outcomes);
        told.push(namespaces.outcomes.of("ns", "p").flatten().unwrap());
    }
    assert_eq!(told[0], told[1]);
    let parts: Vec<_> = told[0].message.split("; ").collect();
    let has = |words: &str| parts.iter().filter(|part| part.contains(words)).count();
    assert_eq!(["admin", "ServiceAccount bot", "ServiceAccount ci"].map(has), [1; 3], "{told:?}");
    assert_eq!(sent.lock().len(), 2, "each account is tried once");
}

/// A handle is what keeps a token valid.
#[tokio::test(start_paused = true)]
async fn no_token_is_issued_for_a_revoked_one_that_could_not_be_ended() {
    for (handle, is_told) in [("handle", true), ("stale", false)] {
        let (namespaces, _, sent) = namespaces();
        let (key, at) = (ObjectKey::new("", "ns"), Timestamp::UNIX_EPOCH);
        let standing = OutputView {
            uid: "o".into(),
            origin: Origin::Made,
            version: "1".into(),
            policy: "p".into(),
            made_for: "bot".into(),
            account: "a".into(),
            written: Written::Unknown,
            handle: handle.into(),
            handle_uid: None,
            issued: at,
            expires: at,
            previous: None,
            revoked: true,
        };
        let [ttl, overlap] = [Duration::from_secs(600), Duration::ZERO];
        let issue = Action::Issue {
            policy: "p".into(),
            output: "bot-token".into(),
            token: Token { account: "bot".into(), audiences: Vec::new(), ttl, overlap, server: None },
            made_for: "bot".into(),
            standing: Some(Box::new(standing)),
            handle: None,
            why: Why::Revoked,
        };
        let ends = Action::Delete(Part::Handle, handle.into(), "h".into());
        let plan = Plan { actions: vec![ends, issue], ..Plan::default() };
        let (mut trouble, mut ended) = (Trouble::default(), Ended::default());
        let all = namespaces
            .carry_out(&key, (&Observed::default(), &plan), &Turn::default(), &mut trouble, &mut ended)
            .await;
        // The store is about to show what stands there: nothing is wrong.
        assert!(!all && ended.failed() == is_told);
        let reasons: Vec<_> = trouble.failed.values().map(|problem| problem.reason).collect();
        assert_eq!(reasons, is_told.then_some("NotRevoked").into_iter().collect::<Vec<_>>());
        let sent: Vec<_> = sent.lock().iter().map(|(method, path)| format!("{method} {path}")).collect();
        assert_eq!(sent, [format!("DELETE /api/v1/namespaces/ns/secrets/{handle}")]);
    }
}

#[test]
fn a_pass_that_has_the_same_to_do_again_and_again_looks_later_and_later() {
    let (repeated, namespace) = (Repeated::default(), Arc::from("ns"));
    let found = |name: &str| {
        let actions = vec![Action::Delete(Part::Copy, name.into(), "u".into())];
        (actions, BTreeMap::new())
    };
    let seconds = |found: Found| repeated.again(&namespace, found).map(|delay| delay.as_secs());
    let delays: Vec<_> = (0..8).filter_map(|_| seconds(found("one"))).collect();
    assert_eq!(delays, [1, 2, 4, 8, 16, 32, 60, 60]);
    assert_eq!(seconds(found("two")), Some(1));
    assert_eq!((seconds(Found::default()), seconds(found("one"))), (None, Some(1)));
    // Nor does a watch tell when somebody else's Secret goes.
    let foreign = || (Vec::new(), BTreeMap::from([("a".into(), Unseen::Foreign(None))]));
    assert_eq!((seconds(foreign()), seconds(foreign())), (Some(1), Some(2)));
}
