//! The server as a kube client sees it: a tower service, without a socket. A [`Gate`] sees each request before and after the
//! server does, and says what becomes of it.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Response, header};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use jiff::Timestamp;
use kube::client::{Body, ClientBuilder};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::time::sleep;
use tower::{BoxError, util::BoxService};

use super::{
    request::{Reply, Request},
    server::Server,
    watch::{self, Lags},
};

/// The body of an answer.
pub type Answer = UnsyncBoxBody<Bytes, BoxError>;

/// How long a request and its answer each take on the way.
pub const WAY: Duration = Duration::from_millis(1);

/// What becomes of a request.
#[derive(Debug, Clone)]
pub enum Fate {
    /// The server carries it out and answers.
    Served,
    /// The server answers this, and carries it out before if the flag says so.
    Answered(bool, Reply),
    /// The connection breaks, after the server has carried it out if the flag says so.
    Lost(bool),
    /// There is no answer, after the server has carried it out if the flag says so. The client's connection gives up then.
    Hung(bool),
}

/// A request that was carried out.
#[derive(Debug)]
pub struct Served<'a> {
    /// The request.
    pub request: &'a Request,
    /// The object that it names, as it was before.
    pub before: Option<Arc<Value>>,
    /// What the server answered.
    pub reply: &'a Reply,
}

/// Sees the requests of one process.
pub trait Gate: Send + Sync {
    /// What becomes of a request that has come to the server, and what the server takes it for.
    fn fate(&self, server: &mut Server, request: &mut Request) -> Fate;
    /// A request was served so, before its answer is sent.
    fn served(&self, server: &Server, served: &Served<'_>);
    /// Whether the process is still there to send requests and to read answers.
    fn is_alive(&self) -> bool;
}

/// A connection to the server.
pub fn connect(
    server: &Arc<Mutex<Server>>,
    gate: &Arc<dyn Gate>,
    lags: &Lags,
) -> ClientBuilder<BoxService<http::Request<Body>, Response<Answer>, BoxError>> {
    let (server, gate, lags) = (Arc::clone(server), Arc::clone(gate), Arc::clone(lags));
    let service = tower::service_fn(move |request| {
        serve(Arc::clone(&server), Arc::clone(&gate), Arc::clone(&lags), request)
    });
    ClientBuilder::new(BoxService::new(service), "ns")
}

async fn serve(
    server: Arc<Mutex<Server>>,
    gate: Arc<dyn Gate>,
    lags: Lags,
    request: http::Request<Body>,
) -> Result<Response<Answer>, BoxError> {
    let (parts, body) = request.into_parts();
    let body = body.collect_bytes().await?;
    let mut request = Request::read(&parts, &body);
    sleep(WAY).await;
    if !gate.is_alive() {
        return Err("the process has ended".into());
    }
    if request.is_watch()
        && let Some(kind) = request.kind()
    {
        return match watch::begin(&server, lags, kind, &request) {
            Ok(events) => {
                let body = StreamBody::new(events).boxed_unsync();
                Ok(Response::builder().header(header::CONTENT_TYPE, "application/json").body(body)?)
            }
            Err(reply) => encode(reply),
        };
    }
    let fate = gate.fate(&mut server.lock(), &mut request);
    let carried_out = || {
        let mut server = server.lock();
        let before = request
            .kind()
            .and_then(|kind| server.store.find(kind, &request.namespace, request.object()).cloned());
        let reply = server.handle(&request);
        gate.served(&server, &Served { request: &request, before, reply: &reply });
        reply
    };
    let (reply, hangs) = match fate {
        Fate::Served => (Some(carried_out()), false),
        Fate::Answered(applied, reply) => {
            if applied {
                carried_out();
            }
            (Some(reply), false)
        }
        Fate::Lost(applied) | Fate::Hung(applied) => {
            if applied {
                carried_out();
            }
            (None, matches!(fate, Fate::Hung(_)))
        }
    };
    if !gate.is_alive() {
        std::future::pending::<()>().await;
    }
    sleep(if hangs { watch::SILENCE } else { WAY }).await;
    match reply {
        Some(reply) => encode(reply),
        None => Err("connection reset by peer".into()),
    }
}

fn encode(reply: Reply) -> Result<Response<Answer>, BoxError> {
    let date = Timestamp::now().strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
    let mut response = Response::builder().status(reply.code).header(header::DATE, date);
    if let Some(seconds) = reply.retry_after {
        response = response.header(header::RETRY_AFTER, seconds);
    }
    Ok(response
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(reply.body.into()).map_err(|never| match never {}).boxed_unsync())?)
}
