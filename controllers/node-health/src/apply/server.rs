//! An API server for the tests that has only a few objects.

use std::{collections::BTreeMap, convert::Infallible, sync::Arc};

use http::{Method, Request, Response};
use kube::{Client, client::Body};
use parking_lot::Mutex;
use serde_json::{Value, json};

/// Answers to a path with what stands there, or with the code of a refusal, and remembers what is written.
#[derive(Clone, Default)]
pub(crate) struct Server {
    objects: Arc<Mutex<BTreeMap<String, Result<Value, u16>>>>,
    writes: Arc<Mutex<Vec<(Method, String, Value)>>>,
    /// What stands somewhere from the first write on.
    then: Arc<Mutex<BTreeMap<String, Result<Value, u16>>>>,
}

impl Server {
    /// What stands at `path` from now on.
    pub(crate) fn set(&self, path: &str, answer: Result<Value, u16>) {
        self.objects.lock().insert(path.to_owned(), answer);
    }

    /// What stands at `path` from the next write on.
    pub(crate) fn set_once_written(&self, path: &str, answer: Result<Value, u16>) {
        self.then.lock().insert(path.to_owned(), answer);
    }

    /// What was written: where, and the body.
    pub(crate) fn writes(&self) -> Vec<(Method, String, Value)> {
        self.writes.lock().clone()
    }

    pub(crate) fn client(&self) -> Client {
        let server = self.clone();
        let answer = move |request: Request<Body>| {
            let server = server.clone();
            async move { Ok::<_, Infallible>(server.answer(request).await) }
        };
        Client::new(tower::service_fn(answer), "default")
    }

    async fn answer(&self, request: Request<Body>) -> Response<Body> {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let answer = if method == Method::GET {
            self.objects.lock().get(&path).cloned().unwrap_or(Err(404))
        } else {
            let body = request.into_body().collect_bytes().await.unwrap();
            self.objects.lock().extend(std::mem::take(&mut *self.then.lock()));
            self.writes.lock().push((method, path, serde_json::from_slice(&body).unwrap()));
            Ok(json!({"metadata": {"name": "written", "uid": "u"}}))
        };
        let (code, body) = match answer {
            Ok(object) => (200, object),
            Err(code) => {
                let reason = if code == 404 { "NotFound" } else { "Other" };
                (code, json!({"status": "Failure", "code": code, "reason": reason, "message": "no"}))
            }
        };
        Response::builder().status(code).body(Body::from(body.to_string().into_bytes())).unwrap()
    }
}
