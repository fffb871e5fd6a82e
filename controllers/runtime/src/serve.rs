//! `/metrics`, `/healthz` and `/readyz`.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

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
    source: io::Error,
}

/// Listens there. `[::]` stands for all addresses of both families, as Linux has it unless `net.ipv6.bindv6only` is set, and
/// on a host without IPv6 for all of IPv4.
///
/// # Errors
/// Why the address cannot be had.
pub async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    bind_by(address, TcpListener::bind).await
}

async fn bind_by<T, F: Future<Output = io::Result<T>>>(
    address: SocketAddr,
    open: impl Fn(SocketAddr) -> F,
) -> io::Result<T> {
    // What IPv6 alone can be the reason of: whoever has the port may have it for IPv6 only.
    let other = |error: &io::Error| {
        !matches!(error.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied)
    };
    match open(address).await {
        Err(error) if address.ip() == Ipv6Addr::UNSPECIFIED && other(&error) => {
            tracing::info!(%address, %error, "this host has no IPv6: listening on its IPv4 addresses alone");
            open((Ipv4Addr::UNSPECIFIED, address.port()).into()).await
        }
        opened => opened,
    }
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
    let listener = bind(address).await.map_err(|source| ServeError { address, flag, source })?;
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(%error, %address, "a server has stopped");
        }
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpStream;

    use super::*;

    #[tokio::test]
    async fn all_addresses_are_those_of_both_families() {
        let listener = bind("[::]:0".parse().unwrap()).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
        if listener.local_addr().unwrap().is_ipv6() && TcpListener::bind("[::1]:0").await.is_ok() {
            TcpStream::connect((Ipv6Addr::LOCALHOST, port)).await.unwrap();
        }
    }

    /// Where a host without IPv6 listens that is asked for `wanted`; opening an IPv6 socket fails with `kind`.
    async fn opened(wanted: &str, kind: io::ErrorKind) -> Option<String> {
        let open = |address: SocketAddr| async move {
            if address.is_ipv6() { Err(io::Error::from(kind)) } else { Ok(address.to_string()) }
        };
        bind_by(wanted.parse().unwrap(), open).await.ok()
    }

    #[tokio::test]
    async fn a_host_without_ipv6_listens_on_all_of_ipv4_where_all_were_asked_for() {
        let unsupported = io::ErrorKind::Unsupported;
        assert_eq!(opened("[::]:9443", unsupported).await.as_deref(), Some("0.0.0.0:9443"));
        assert_eq!(opened("[::1]:9443", unsupported).await, None, "this address was asked for, and no other");
        assert_eq!(opened("[::]:9443", io::ErrorKind::AddrInUse).await, None, "the port is somebody else's");
    }
}
