//! Between the controller's client and the test: each request waits until the test decides what becomes of it.

use std::collections::BTreeMap;

use http::{Method, Response, StatusCode};
use kube::{Client, client::Body};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};
use tower::BoxError;

use crate::kind::Kind;

/// A request of the controller.
#[derive(Debug, Clone)]
pub struct Request {
    /// The HTTP method.
    pub method: Method,
    /// What it is about.
    pub kind: Kind,
    /// The object that it names.
    pub name: Option<String>,
    /// Whether it is about the status alone.
    pub status: bool,
    /// Whether a deletion is an eviction.
    pub evicts: bool,
    /// The parameters.
    pub query: BTreeMap<String, String>,
    /// The body; null when there is none.
    pub body: Value,
}

impl Request {
    /// Whether it may change anything.
    pub fn is_write(&self) -> bool {
        self.method != Method::GET
    }
}

/// What the server says.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The HTTP status.
    pub code: u16,
    body: Value,
}

impl Reply {
    /// A success.
    pub fn ok(code: u16, body: Value) -> Self {
        Self { code, body }
    }

    /// A `Status` of failure.
    pub fn failure(code: u16, reason: &str, message: &str) -> Self {
        let mut body = json!({
            "kind": "Status", "apiVersion": "v1", "status": "Failure",
            "code": code, "reason": reason, "message": message, "details": {},
        });
        if code == 429 {
            body["details"] = json!({"retryAfterSeconds": 7});
        }
        Self { code, body }
    }

    /// What a PodDisruptionBudget says that lets no pod go.
    pub fn disruption_budget() -> Self {
        let mut reply = Self::failure(429, "TooManyRequests", "it would violate the pod's disruption budget");
        reply.body["details"] = json!({"causes": [{"reason": "DisruptionBudget"}]});
        reply
    }
}

/// A request that waits. Dropping it is a connection that breaks.
#[derive(Debug)]
pub struct Call {
    /// The request.
    pub request: Request,
    answer: oneshot::Sender<Reply>,
}

impl Call {
    /// Answers it, if anybody still listens.
    pub fn answer(self, reply: Reply) {
        let _ = self.answer.send(reply);
    }
}

/// A client whose requests come out of the receiver. Events are taken and forgotten.
pub fn client() -> (Client, mpsc::UnboundedReceiver<Call>) {
    let (calls, receiver) = mpsc::unbounded_channel();
    let service = tower::service_fn(move |request: http::Request<Body>| {
        let calls = calls.clone();
        async move {
            let (parts, body) = request.into_parts();
            let body = body.collect_bytes().await?;
            let path = parts.uri.path().to_owned();
            if path.starts_with("/apis/events.k8s.io/") {
                return encode(Reply::ok(201, serde_json::from_slice(&body)?));
            }
            let request = decode(&parts.method, &path, parts.uri.query().unwrap_or_default(), &body);
            let (answer, reply) = oneshot::channel();
            calls.send(Call { request, answer }).map_err(|_| "the test is over")?;
            encode(reply.await.map_err(|_| "connection reset by peer")?)
        }
    });
    (Client::new(service, "ns"), receiver)
}

fn encode(reply: Reply) -> Result<Response<Body>, BoxError> {
    let body = serde_json::to_vec(&reply.body)?;
    Ok(Response::builder().status(StatusCode::from_u16(reply.code)?).body(Body::from(body))?)
}

fn decode(method: &Method, path: &str, query: &str, body: &[u8]) -> Request {
    let pods = path.strip_prefix("/api/v1/namespaces/ns/pods").map(|rest| (Kind::Pod, rest));
    let groups = || path.strip_prefix("/apis/mainstay.dev/v1alpha1/namespaces/ns/replicagroups");
    let revisions = || path.strip_prefix("/apis/apps/v1/namespaces/ns/controllerrevisions");
    let claims = || path.strip_prefix("/api/v1/namespaces/ns/persistentvolumeclaims");
    let found = pods
        .or_else(|| Some((Kind::Group, groups()?)))
        .or_else(|| Some((Kind::Revision, revisions()?)))
        .or_else(|| Some((Kind::Claim, claims()?)));
    let Some((kind, rest)) = found else { panic!("the model server does not serve {method} {path}") };
    let rest = rest.trim_start_matches('/');
    let (name, status) = rest.strip_suffix("/status").map_or((rest, false), |name| (name, true));
    let mut body: Value = serde_json::from_slice(body).unwrap_or_default();
    let (name, method, evicts) = match name.strip_suffix("/eviction") {
        Some(name) => {
            body = body["deleteOptions"].take();
            (name, Method::DELETE, true)
        }
        None => (name, method.clone(), false),
    };
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let query = pairs
        .map(|(key, value)| {
            (key.to_owned(), value.replace("%3D", "=").replace("%2C", ",").replace("%2F", "/"))
        })
        .collect();
    let name = (!name.is_empty()).then(|| name.to_owned());
    Request { method, kind, name, status, evicts, query, body }
}
