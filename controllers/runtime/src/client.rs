//! The API client: finds credentials like kubectl, counts requests and limits their time, and never retries by itself.

use std::{
    collections::HashMap,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use http::{Request, Response, Uri};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use kube::{
    Client, Config,
    client::{Body, ClientBuilder, DynBody},
};
use prometheus::{IntCounterVec, Registry};
use thiserror::Error;
use tokio::time::timeout;
use tower::{BoxError, Layer, Service, util::BoxService};

use crate::{heard::Heard, metrics::counters};

/// The server accepts a connection in this time.
const CONNECT: Duration = Duration::from_secs(10);
/// A watch has begun in this time: it may wait in the server's queue before (priority and fairness).
const BEGIN: Duration = Duration::from_secs(15);
/// A connection that delivers nothing for this time, in answer to a request or when idle, is closed: it may be a
/// broken one, and the next request on it would be lost (client-go detects such a connection in 45 s). A watch
/// delivers something every 40 s ([`crate::watch`]).
const SILENCE: Duration = Duration::from_secs(45);
/// Any other request is answered in this time, to the last byte: the server's own limit (`--request-timeout`). A reconcile
/// waits for less ([`crate::request::LIMIT`]).
const ANSWER: Duration = Duration::from_secs(60);

/// Why there is no client.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// Neither a kubeconfig nor a ServiceAccount was found.
    #[error("no cluster is configured: set KUBECONFIG, or run in a pod with a ServiceAccount ({0})")]
    NoConfig(#[source] Box<kube::config::InferConfigError>),
    /// The configuration cannot be used.
    #[error("cannot use the cluster's configuration: {0}")]
    Unusable(#[source] Box<kube::Error>),
}

/// What kube makes of a configuration.
type Connection = BoxService<Request<Body>, Response<Box<DynBody>>, BoxError>;

/// Connects with the kubeconfig that KUBECONFIG names, `~/.kube/config`, or the pod's ServiceAccount.
///
/// kube retries up to 15 times by itself, for up to 1000 s, also creates; a reconcile would hold its place meanwhile.
/// So that is off, and the loop's backoff decides.
///
/// # Errors
/// [`ConnectError`], when there is no usable configuration. Whether the server answers is not tried.
pub(crate) async fn connect() -> Result<ClientBuilder<Connection>, ConnectError> {
    let mut config = Config::infer().await.map_err(|error| ConnectError::NoConfig(Box::new(error)))?;
    config.default_retry = false;
    config.connect_timeout = Some(CONNECT);
    config.read_timeout = Some(SILENCE);
    // Else a request on a connection that has rested for 44 s would have one second.
    config.reset_reader_on_write = true;
    ClientBuilder::try_from(config).map_err(|error| ConnectError::Unusable(Box::new(error)))
}

/// The client of a process: its requests are bounded in time, counted in this registry, and noted where they are watches.
pub(crate) fn bounded<S, B>(connection: ClientBuilder<S>, registry: &Registry, heard: Heard) -> Client
where
    S: Service<Request<Body>, Response = Response<B>, Error = BoxError> + Send + 'static,
    S::Future: Send + 'static,
    B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    connection.with_layer(&Bounded { requests: requests(registry), heard }).build()
}

fn requests(registry: &Registry) -> IntCounterVec {
    let help = "Requests to the API server by HTTP method and status code; <error> if there was no answer.";
    counters(registry, "rest_client_requests_total", help, &["code", "method"])
}

/// Why a request timed out: a broken connection may never report an error.
#[derive(Debug, Error)]
#[error("no answer within {} s", .0.as_secs())]
struct NoAnswer(Duration);

/// Bounds every request in time, counts it as client-go does, in `rest_client_requests_total{code,method}`, and notes what
/// watches bring.
#[derive(Clone)]
struct Bounded {
    requests: IntCounterVec,
    heard: Heard,
}

impl<S> Layer<S> for Bounded {
    type Service = BoundedService<S>;

    fn layer(&self, inner: S) -> BoundedService<S> {
        BoundedService { inner, layer: self.clone() }
    }
}

struct BoundedService<S> {
    inner: S,
    layer: Bounded,
}

type Answer = Response<UnsyncBoxBody<bytes::Bytes, BoxError>>;

impl<S, B> Service<Request<Body>> for BoundedService<S>
where
    S: Service<Request<Body>, Response = Response<B>, Error = BoxError>,
    S::Future: Send + 'static,
    B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Answer;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Answer, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let Bounded { requests, heard } = self.layer.clone();
        let (method, watched) = (request.method().clone(), watched(request.uri()));
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = match watched {
                Some(watch) => begun(answer, heard, watch).await,
                None => timeout(ANSWER, whole(answer)).await.unwrap_or_else(|_| Err(NoAnswer(ANSWER).into())),
            };
            let code = answer.as_ref().map_or("<error>".into(), |answer| answer.status().as_str().to_owned());
            requests.with_label_values(&[code.as_str(), method.as_str()]).inc();
            answer
        })
    }
}

/// The resource that a request watches, such as `pods`, and by which selector.
fn watched(uri: &Uri) -> Option<(String, String)> {
    let parameters: HashMap<_, _> =
        form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()).into_owned().collect();
    parameters.get("watch").filter(|watch| ["true", "1"].contains(&watch.as_str()))?;
    let selector = parameters.get("labelSelector").or(parameters.get("fieldSelector"));
    let resource = uri.path().rsplit('/').next().unwrap_or_default();
    Some((resource.to_owned(), selector.cloned().unwrap_or_default()))
}

/// A watch that has begun; its events are recorded. Its reader limits how long it may be silent.
async fn begun<B>(
    answer: impl Future<Output = Result<Response<B>, BoxError>>,
    heard: Heard,
    (resource, selector): (String, String),
) -> Result<Answer, BoxError>
where
    B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let answer = timeout(BEGIN, answer).await.map_err(|_| NoAnswer(BEGIN))??;
    if answer.status().is_success() {
        heard.note(&resource, &selector);
    }
    let noted = move |body: B| {
        let body = body.map_frame(move |frame| {
            heard.note(&resource, &selector);
            frame
        });
        body.map_err(Into::into).boxed_unsync()
    };
    Ok(answer.map(noted))
}

/// An answer with all of its body.
async fn whole<B>(answer: impl Future<Output = Result<Response<B>, BoxError>>) -> Result<Answer, BoxError>
where
    B: http_body::Body<Data = bytes::Bytes>,
    B::Error: Into<BoxError>,
{
    let (parts, body) = answer.await?.into_parts();
    let body = body.collect().await.map_err(Into::into)?.to_bytes();
    Ok(Response::from_parts(parts, Full::new(body).map_err(|never| match never {}).boxed_unsync()))
}

#[cfg(test)]
mod tests;
