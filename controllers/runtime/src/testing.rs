//! Fake servers for tests.

use std::{io, sync::Arc};

use http::{Request, Response, StatusCode, request::Parts};
use kube::{Client, client::Body, core::Status};
use serde::Serialize;

/// A client of a server that is a function: what it answers to a request with this head and this body. An error is a
/// connection that breaks.
pub(crate) fn client(
    answer: impl Fn(&Parts, &[u8]) -> io::Result<Response<Body>> + Send + Sync + 'static,
) -> Client {
    let answer = Arc::new(answer);
    let service = tower::service_fn(move |request: Request<Body>| {
        let answer = Arc::clone(&answer);
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect_bytes().await.map_err(io::Error::other)?;
            answer(&head, &body)
        }
    });
    Client::new(service, "ns")
}

/// An answer that is a success.
pub(crate) fn reply(body: &impl Serialize) -> Response<Body> {
    Response::new(Body::from(serde_json::to_vec(body).unwrap()))
}

/// An answer that is a failure.
pub(crate) fn refuse(code: u16, reason: &str) -> Response<Body> {
    let mut answer = reply(&Status::failure("refused", reason).with_code(code));
    *answer.status_mut() = StatusCode::from_u16(code).unwrap();
    answer
}
