//! The writer against a server that answers what a test says, and remembers what it was asked.

use http::{Method, Response, StatusCode};
use kube::{client::Body, core::Status, runtime::reflector};
use mainstay_runtime::clock::Clock;
use parking_lot::Mutex;

use super::*;
use crate::plan::{Binding, Grantable, Role};

/// A request: method, path with query, body.
type Asked = (Method, String, Value);

/// A server whose answers are a function of the request.
struct Server {
    asked: Arc<Mutex<Vec<Asked>>>,
    writer: Writer,
}

impl Server {
    fn new(answer: impl Fn(&Method, &str) -> (u16, Value) + Send + Sync + 'static) -> Self {
        let (asked, answer) = (Arc::<Mutex<Vec<Asked>>>::default(), Arc::new(answer));
        let log = Arc::clone(&asked);
        let service = tower::service_fn(move |request: Request<Body>| {
            let (log, answer) = (Arc::clone(&log), Arc::clone(&answer));
            async move {
                let (method, url) = (request.method().clone(), request.uri().to_string());
                let body = request.into_body().collect_bytes().await.map_err(std::io::Error::other)?;
                let (code, value) = answer(&method, &url);
                log.lock().push((method, url, serde_json::from_slice(&body).unwrap_or_default()));
                let answer = Response::builder().status(StatusCode::from_u16(code).unwrap());
                Ok::<_, std::io::Error>(answer.body(Body::from(value.to_string().into_bytes())).unwrap())
            }
        });
        let (namespaces, _) = reflector::store();
        let stores = Stores::new(namespaces, Grantable::default());
        let writer = Writer::new(Client::new(service, "default"), stores, Skew::new(Clock::start()));
        Self { asked, writer }
    }

    /// Method and path of all requests that write.
    fn written(&self) -> Vec<(Method, String)> {
        let asked = self.asked.lock();
        let writes = asked.iter().filter(|(method, url, _)| method != Method::GET && !url.contains("dryRun=All"));
        writes.map(|(method, url, _)| (method.clone(), url.split('?').next().unwrap().to_owned())).collect()
    }

    /// The bodies of all requests with this method.
    fn bodies(&self, of: &Method) -> Vec<Value> {
        self.asked.lock().iter().filter(|(method, ..)| method == of).map(|(.., body)| body.clone()).collect()
    }
}

fn refuse(code: u16, reason: &str) -> (u16, Value) {
    (code, serde_json::to_value(Status::failure("no", reason).with_code(code)).unwrap())
}

fn metadata(name: &str) -> (u16, Value) {
    (200, json!({"metadata": {"name": name, "uid": "new", "resourceVersion": "9"}}))
}

const BINDINGS: &str = "/apis/rbac.authorization.k8s.io/v1/namespaces/ns/rolebindings";

fn anew(kind: &str) -> Action {
    Action::MendBinding {
        policy: "ci".into(),
        name: "bot".into(),
        uid: "old".into(),
        binding: Binding {
            role: Role { kind: kind.into(), name: "deploy".into() },
            accounts: [Arc::from("bot")].into(),
        },
        anew: true,
        adopted: false,
    }
}

#[tokio::test]
async fn a_binding_is_deleted_only_when_its_successor_was_accepted() {
    let namespace = ObjectKey::new("", "ns");
    for kind in ["ClusterRole", "Role"] {
        let roles = if kind == "Role" { "namespaces/ns/roles/deploy" } else { "v1/clusterroles/deploy" };
        // What fails, the reason that is told, and what is written.
        for (there, dry_run, reason) in [
            (false, 201, Some("NotFound")),
            (true, 403, Some("Forbidden")),
            (true, 500, Some("ServerError")),
            (true, 201, None),
        ] {
            let server = Server::new(move |method, url| match method {
                &Method::GET if url.ends_with(roles) && there => metadata("deploy"),
                &Method::GET => refuse(404, "NotFound"),
                &Method::POST if url.contains("dryRun=All") && dry_run != 201 => refuse(dry_run, "Refused"),
                _ => metadata("bot"),
            });
            let result = server.writer.apply(&namespace, &anew(kind)).await;
            let told = result.as_ref().err().map(|error| error.source.reason());
            assert_eq!(told, reason, "{kind} {there} {dry_run}: {result:?}");
            let written = server.written();
            if reason.is_some() {
                assert_eq!(written, []);
            } else {
                let expected = [(Method::DELETE, format!("{BINDINGS}/bot")), (Method::POST, BINDINGS.to_owned())];
                assert_eq!(written, expected);
            }
        }
    }
}

#[tokio::test]
async fn the_successor_is_tried_under_a_name_that_nothing_has() {
    let server = Server::new(|_, _| metadata("bot"));
    server.writer.apply(&ObjectKey::new("", "ns"), &anew("ClusterRole")).await.unwrap();
    let posted = server.bodies(&Method::POST);
    assert_eq!((posted.len(), &posted[1]["metadata"]["name"]), (2, &json!("bot")));
    assert!(posted[0]["metadata"]["name"].as_str().unwrap().starts_with("bot-next"), "{}", posted[0]);
    assert_eq!(posted[0]["roleRef"], posted[1]["roleRef"]);
}
