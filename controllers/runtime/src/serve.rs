//! `/metrics`, `/healthz` and `/readyz`.

use std::{net::SocketAddr, sync::Arc};

use axum::{
    Router,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use prometheus::{Registry, TextEncoder};
use thiserror::Error;
use tokio::net::TcpListener;

/// A server that could not start.
#[derive(Debug, Error)]
#[error(
    "cannot listen on {address}: {source}; choose another address with {flag}, or 0 to turn this server off"
)]
pub struct ServeError {
    address: SocketAddr,
    flag: &'static str,
    source: std::io::Error,
}

/// Answers a probe: `Ok` or a sentence that says why not.
pub type Probe = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

/// Serves the registry's series on `/metrics`, after `refresh` has brought computed ones up to date.
///
/// # Errors
/// [`ServeError`], when the address cannot be had.
pub async fn metrics(
    address: SocketAddr,
    registry: Registry,
    refresh: Arc<dyn Fn() + Send + Sync>,
) -> Result<(), ServeError> {
    let scrape = move || {
        refresh();
        let text = TextEncoder::new().encode_to_string(&registry.gather());
        async move {
            match text {
                Ok(text) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
                Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
            }
        }
    };
    listen(address, "--metrics-bind-address", Router::new().route("/metrics", get(scrape))).await
}

/// Serves the probes: liveness on `/healthz`, readiness on `/readyz`.
///
/// # Errors
/// [`ServeError`], when the address cannot be had.
pub async fn probes(address: SocketAddr, live: Probe, ready: Probe) -> Result<(), ServeError> {
    let answer = |probe: Probe| {
        get(move || {
            let verdict = probe();
            async move {
                match verdict {
                    Ok(()) => (StatusCode::OK, "ok".to_owned()),
                    Err(why) => (StatusCode::SERVICE_UNAVAILABLE, why),
                }
            }
        })
    };
    let router = Router::new().route("/healthz", answer(live)).route("/readyz", answer(ready));
    listen(address, "--health-probe-bind-address", router).await
}

async fn listen(address: SocketAddr, flag: &'static str, router: Router) -> Result<(), ServeError> {
    let listener = TcpListener::bind(address).await.map_err(|source| ServeError { address, flag, source })?;
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(%error, %address, "a server has stopped");
        }
    });
    Ok(())
}
