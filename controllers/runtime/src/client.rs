//! The API client: credentials found as kubectl finds them, requests counted, no hidden retries.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use http::{Request, Response};
use kube::{
    Client, Config,
    client::{Body, ClientBuilder},
};
use prometheus::{IntCounterVec, Registry};
use thiserror::Error;
use tower::{BoxError, Layer, Service};

use crate::metrics::counters;

/// Why there is no client.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// Neither a kubeconfig nor a ServiceAccount was found.
    #[error("found no cluster to talk to: set KUBECONFIG, or run in a pod with a ServiceAccount ({0})")]
    NoConfig(#[source] Box<kube::config::InferConfigError>),
    /// The configuration cannot be used.
    #[error("cannot use the cluster's configuration: {0}")]
    Unusable(#[source] Box<kube::Error>),
}

/// Connects with the kubeconfig that KUBECONFIG names, `~/.kube/config`, or the pod's ServiceAccount.
///
/// kube retries up to 15 times by itself, for up to 1000 s, also creates; a pass would hold its place meanwhile.
/// So that is off, and the loop's backoff decides.
///
/// # Errors
/// [`ConnectError`], when there is no usable configuration. Whether the server answers is not tried.
pub async fn connect(registry: &Registry) -> Result<Client, ConnectError> {
    let mut config = Config::infer().await.map_err(|error| ConnectError::NoConfig(Box::new(error)))?;
    config.default_retry = false;
    config.connect_timeout = Some(Duration::from_secs(10));
    let count = CountRequests::layer(registry);
    let builder = ClientBuilder::try_from(config).map_err(|error| ConnectError::Unusable(Box::new(error)))?;
    Ok(builder.with_layer(&count).build())
}

/// Counts requests as client-go does, in `rest_client_requests_total{code,method}`.
#[derive(Clone)]
struct CountRequests {
    requests: IntCounterVec,
}

impl CountRequests {
    fn layer(registry: &Registry) -> Self {
        let help = "Requests to the API server by HTTP method and status code; <error> when no answer came.";
        Self { requests: counters(registry, "rest_client_requests_total", help, &["code", "method"]) }
    }
}

impl<S> Layer<S> for CountRequests {
    type Service = Counted<S>;

    fn layer(&self, inner: S) -> Counted<S> {
        Counted { inner, requests: self.requests.clone() }
    }
}

struct Counted<S> {
    inner: S,
    requests: IntCounterVec,
}

impl<S, B> Service<Request<Body>> for Counted<S>
where
    S: Service<Request<Body>, Response = Response<B>, Error = BoxError>,
    S::Future: Send + 'static,
{
    type Response = Response<B>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<B>, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (method, requests) = (request.method().clone(), self.requests.clone());
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await;
            let code = answer.as_ref().map_or("<error>".into(), |answer| answer.status().as_str().to_owned());
            requests.with_label_values(&[code.as_str(), method.as_str()]).inc();
            answer
        })
    }
}

/// How to watch on this server: streaming lists where it has them on (1.34 and later), which spare both sides
/// the memory of a whole list (KEP-3157), else pages of 500.
pub async fn watch_config(client: &Client) -> kube::runtime::watcher::Config {
    let config = kube::runtime::watcher::Config::default();
    let minor = match client.apiserver_version().await {
        Ok(version) => version.minor.trim_end_matches('+').parse().unwrap_or(0),
        Err(error) => {
            tracing::warn!(%error, "could not read the server's version; lists come in pages");
            0
        }
    };
    if minor >= 34 { config.streaming_lists() } else { config }
}
