//! When a policy that is deleted may go.

use http::{Method, Request, Response};
use kube::{client::Body, core::Status, runtime::reflector::store};
use mainstay_runtime::events::Events;
use parking_lot::Mutex;
use prometheus::Registry;
use serde_json::Value;

use super::*;
use crate::{metrics::Metrics, plan::Grantable};

/// What the API server has, and what was written to it.
#[derive(Clone, Default)]
struct Server {
    has_binding: Arc<Mutex<bool>>,
    refuses: Arc<Mutex<bool>>,
    patches: Arc<Mutex<Vec<Value>>>,
    requests: Arc<Mutex<usize>>,
}

impl Server {
    async fn answer(self, request: Request<Body>) -> Result<Response<Body>, std::io::Error> {
        let is_list_of_bindings = request.uri().path().ends_with("/rolebindings");
        let method = request.method().clone();
        *self.requests.lock() += 1;
        let body = request.into_body().collect_bytes().await.map_err(std::io::Error::other)?;
        let (code, answer) = if method == Method::GET {
            let has_any = is_list_of_bindings && *self.has_binding.lock();
            let left = json!({"metadata": {"name": "bot", "namespace": "ns", "uid": "b"}});
            (200, json!({"metadata": {}, "items": if has_any { vec![left] } else { vec![] }}))
        } else if *self.refuses.lock() {
            (403, serde_json::to_value(Status::failure("no", "Forbidden").with_code(403)).unwrap_or_default())
        } else {
            self.patches.lock().push(serde_json::from_slice(&body).unwrap_or_default());
            (200, json!({"metadata": {"name": "p", "uid": "p", "resourceVersion": "2"}}))
        };
        let answer = Response::builder().status(code).body(Body::from(answer.to_string().into_bytes()));
        answer.map_err(std::io::Error::other)
    }
}

fn policies(server: &Server) -> Arc<Policies> {
    let server = server.clone();
    let client = Client::new(tower::service_fn(move |request| server.clone().answer(request)), "default");
    Arc::new(Policies {
        stores: Stores::new(store().0, Grantable::default()),
        outcomes: Arc::default(),
        status_writer: Arc::new(StatusWriter::new(client.clone(), FIELD_MANAGER, STATUS_PACE)),
        announcer: Announcer {
            events: Events::start(client.clone(), FIELD_MANAGER, "test"),
            metrics: Metrics::new(&Registry::new()),
        },
        behind: Behind::default(),
        leaves: Backoff::new(CATCH_UP),
        client,
    })
}

fn policy(going: bool, finalizers: &[&str], selector: &Value) -> Arc<AccountPolicy> {
    let mut policy = json!({
        "apiVersion": "mainstay.dev/v1alpha1", "kind": "AccountPolicy",
        "metadata": {"name": "p", "uid": "p", "resourceVersion": "1", "finalizers": finalizers},
        "spec": {"namespaceSelector": selector, "serviceAccounts": [{"name": "bot"}]},
    });
    if going {
        policy["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    }
    Arc::new(serde_json::from_value(policy).unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_policy_keeps_its_finalizer_until_nothing_is_left_and_nothing_more_can_come() {
    let (server, all) = (Server::default(), json!({}));
    let policies = policies(&server);
    let put = |policy: &AccountPolicy| {
        let settings = Settings::read(policy).map(Arc::new).unwrap();
        *policies.stores.policies.write() = Arc::new(vec![settings]);
    };
    let stays = policy(false, &[FINALIZER], &all);
    put(&stays);
    // A reconcile over a namespace begins, and the policy is deleted.
    let giving = policies.stores.giving();
    let going = policy(true, &[FINALIZER], &all);
    let reconcile = async || {
        Arc::clone(&policies).reconcile(Arc::clone(&going), Turn::default()).await;
        server.patches.lock().len()
    };
    assert_eq!(reconcile().await, 0, "another may begin, too: its deletion was not read");
    put(&going);
    assert_eq!(reconcile().await, 0, "the reconcile may give something");
    drop(giving);
    *server.has_binding.lock() = true;
    assert_eq!(reconcile().await, 0, "the watch has not shown what it gave");
    *server.has_binding.lock() = false;
    tokio::time::advance(CATCH_UP.first).await;
    assert_eq!(reconcile().await, 1);
    assert_eq!(server.patches.lock()[0]["metadata"]["finalizers"], json!([]));
}

/// The watch of policies is late, or nothing that is left is shown.
#[tokio::test(start_paused = true)]
async fn where_the_store_is_behind_the_server_is_asked_less_and_less_often() {
    let (server, all) = (Server::default(), json!({}));
    let policies = policies(&server);
    let requests = async |policy: Arc<AccountPolicy>| {
        *server.requests.lock() = 0;
        for _ in 0..200 {
            Arc::clone(&policies).reconcile(Arc::clone(&policy), Turn::default()).await;
            tokio::time::advance(Duration::from_millis(100)).await;
        }
        *server.requests.lock()
    };
    let stays = requests(policy(false, &[], &all)).await;
    assert!((2..12).contains(&stays), "{stays} requests in 20 s");
    *server.has_binding.lock() = true;
    let goes = requests(policy(true, &[FINALIZER], &all)).await;
    assert!((6..40).contains(&goes), "{goes} requests in 20 s, three each time");
}

#[tokio::test]
async fn a_policy_that_goes_is_not_kept_by_what_it_says_and_a_refusal_is_told() {
    let selector = json!({"matchExpressions": [{"key": "a", "operator": "Gt", "values": ["1"]}]});
    let server = Server::default();
    *server.refuses.lock() = true;
    let policies = policies(&server);
    let going = policy(true, &[FINALIZER], &selector);
    let outcomes = Arc::clone(&policies).reconcile(Arc::clone(&going), Turn::default()).await;
    assert!(outcomes.has_failed(FINALIZERS));
    let told = policies.status_writer.ahead_of(&*going).unwrap();
    let failed = told.conditions.iter().find(|condition| condition.type_ == "FinalizerFailed").unwrap();
    assert!(failed.message.contains("the finalizer of AccountPolicy p"), "{failed:?}");
    *server.refuses.lock() = false;
    Arc::clone(&policies).reconcile(going, Turn::default()).await;
    assert_eq!(server.patches.lock().len(), 1);
}
