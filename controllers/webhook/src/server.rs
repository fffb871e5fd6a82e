//! The HTTPS server of a webhook.
//!
//! A replica that stops refuses no request. The API server uses HTTP/1.1 and keeps its connections, and a connection that is
//! closed while it sends an object is an error to it. So for [`DRAIN`] after SIGTERM each answer has `Connection: close`, and
//! new connections are still served, because their clients do not know yet that this replica stops. Then connections without
//! a request are closed.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Request, State},
    http::{HeaderValue, StatusCode, header::CONNECTION},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
    routing::post,
    serve::Listener,
};
use kube::{
    api::DynamicObject,
    core::admission::{AdmissionRequest, AdmissionResponse, AdmissionReview},
};
use mainstay_runtime::{manager::GRACE, serve::bind};
use parking_lot::RwLock;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc},
    time::{sleep, timeout},
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::ring,
        server::{ClientHello, ResolvesServerCert},
        sign::CertifiedKey,
    },
    server::TlsStream,
};
use tokio_util::sync::CancellationToken;

use crate::{
    kept::{Certified, Validity},
    metrics::Metrics,
    trouble::Trouble,
};

/// The API server's own limit for an object is 3 MiB; a review has two of them and words around.
const MAX_BODY: usize = 8 * 1024 * 1024;
/// How many values an admission review may have. Each takes some dozens of bytes in memory, and a client that sends millions of
/// them would end the process. etcd stores no object of more than 1.5 MiB, so that real ones have far fewer.
const MAX_VALUES: usize = 200_000;
/// How many requests are answered at the same time; others wait.
const AT_ONCE: usize = 16;
/// A request that takes longer is given up: the API server itself waits for no webhook longer than 30 s.
const LIMIT: Duration = Duration::from_secs(30);
/// The limit of a TLS handshake. The API server waits for no webhook longer than 30 s.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// When a port that cannot be opened is tried again.
const AGAIN: Duration = Duration::from_secs(5);
/// How many connections may wait to be served.
const BACKLOG: usize = 64;
/// After this time all nodes know that a replica is no longer an endpoint of its Service.
const DRAIN: Duration = Duration::from_secs(10);

/// Answers admission requests.
pub trait Handler: Send + Sync + 'static {
    /// Admits or refuses an object, and may change it.
    fn review(
        &self,
        request: &AdmissionRequest<DynamicObject>,
    ) -> impl Future<Output = AdmissionResponse> + Send;
}

/// A certificate in use, and for which time it is valid.
type InUse = (Arc<CertifiedKey>, Validity);

/// The certificate in use; a new one is used from the next connection on.
#[derive(Debug, Clone, Default)]
pub(crate) struct Certificates {
    current: Arc<RwLock<Option<InUse>>>,
}

impl Certificates {
    /// Uses this certificate from now on.
    pub(crate) fn show(&self, Certified { key, validity }: Certified) {
        *self.current.write() = Some((Arc::new(key), validity));
    }

    /// For which time the one in use is valid; `None` when there is none.
    pub(crate) fn validity(&self) -> Option<Validity> {
        self.current.read().as_ref().map(|(_, validity)| *validity)
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.current.read().as_ref().map(|(key, _)| Arc::clone(key))
    }
}

/// Where and how a webhook is served.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) path: &'static str,
    pub(crate) certificates: Certificates,
    pub(crate) metrics: Metrics,
    /// Why no request is served, as a sentence.
    pub(crate) trouble: Trouble,
    /// Is cancelled when the process is to stop.
    pub(crate) shutdown: CancellationToken,
}

impl Server {
    /// Serves until the process is to stop, and then until its clients use other replicas: for [`GRACE`] at most.
    pub(crate) async fn run<H: Handler>(self, handler: H) {
        let router = self.router(handler);
        let over = async {
            self.shutdown.cancelled().await;
            sleep(GRACE).await;
        };
        tokio::select! {
            () = self.listen(router) => {}
            () = over => tracing::warn!("admission requests are still in progress and are ended"),
        }
    }

    fn router<H: Handler>(&self, handler: H) -> Router {
        let (handler, refusals) = (Arc::new(handler), self.metrics.refusals.clone());
        let answer = move |body: Bytes| {
            let (handler, refusals) = (Arc::clone(&handler), refusals.clone());
            async move {
                let review = read(&body)?;
                drop(body);
                let answer = answer(&*handler, review).await;
                refusals.inc_by((!answer.allowed).into());
                Ok::<_, (StatusCode, String)>(Json(answer.into_review()))
            }
        };
        let router = Router::new().route(self.path, post(answer)).layer(DefaultBodyLimit::max(MAX_BODY));
        let places = Arc::new(Semaphore::new(AT_ONCE));
        let state = (self.metrics.clone(), self.shutdown.clone(), places);
        router.layer(from_fn_with_state(state, accompany))
    }

    async fn listen(&self, router: Router) {
        loop {
            match bind(self.address).await {
                Ok(listener) => {
                    *self.trouble.write() = None;
                    let shutdown = self.shutdown.clone();
                    let drained = async move {
                        shutdown.cancelled().await;
                        sleep(DRAIN).await;
                    };
                    return serve(Tls::start(listener, self.certificates.clone()), router, drained).await;
                }
                Err(error) => {
                    let address = self.address;
                    tracing::error!(%address, %error, "the webhook cannot listen there; see --webhook-bind-address");
                    *self.trouble.write() = Some(format!("it cannot listen on {address}: {error}"));
                }
            }
            tokio::select! {
                () = sleep(AGAIN) => {}
                () = self.shutdown.cancelled() => return,
            }
        }
    }
}

/// Serves until `drained`, and then the requests that are in progress.
async fn serve(tls: Tls, router: Router, drained: impl Future<Output = ()> + Send + 'static) {
    if let Err(error) = axum::serve(tls, router).with_graceful_shutdown(drained).await {
        tracing::error!(%error, "the webhook's server ended");
    }
}

async fn answer<H: Handler>(handler: &H, review: AdmissionReview<DynamicObject>) -> AdmissionResponse {
    match review.try_into() {
        Ok(request) => handler.review(&request).await,
        Err(error) => AdmissionResponse::invalid(error),
    }
}

/// How many values a JSON text has at most, by what separates and opens them. What stands in a string is none.
fn values(text: &[u8]) -> usize {
    let (mut values, mut in_string, mut escaped) = (0, false, false);
    for byte in text {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = in_string,
            b'"' => in_string = !in_string,
            b',' | b'[' | b'{' if !in_string => values += 1,
            _ => {}
        }
    }
    values
}

/// The review that a body holds.
fn read(body: &[u8]) -> Result<AdmissionReview<DynamicObject>, (StatusCode, String)> {
    if values(body) > MAX_VALUES {
        let why = format!("the admission review has more than {MAX_VALUES} values");
        return Err((StatusCode::PAYLOAD_TOO_LARGE, why));
    }
    serde_json::from_slice(body).map_err(|error| (StatusCode::BAD_REQUEST, error.to_string()))
}

/// Counts a request, bounds its time and how many there are, and closes its connection with the answer once the process is to
/// stop.
async fn accompany(
    State((metrics, shutdown, places)): State<(Metrics, CancellationToken, Arc<Semaphore>)>,
    request: Request,
    next: Next,
) -> Response {
    let mut under_way = metrics.begin();
    let answer = async {
        let _place = places.acquire().await.expect("it is never closed");
        next.run(request).await
    };
    let answer = timeout(LIMIT, answer).await;
    let mut response = answer.unwrap_or_else(|_| StatusCode::SERVICE_UNAVAILABLE.into_response());
    under_way.code = Some(response.status().as_u16());
    if shutdown.is_cancelled() {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Connections whose handshake is done; a slow one delays no other.
struct Tls {
    address: SocketAddr,
    connections: mpsc::Receiver<(TlsStream<TcpStream>, SocketAddr)>,
}

impl Tls {
    fn start(mut listener: TcpListener, certificates: Certificates) -> Self {
        let (done, connections) = mpsc::channel(BACKLOG);
        let address = listener.local_addr().unwrap_or_else(|_| SocketAddr::from(([0, 0, 0, 0], 0)));
        let acceptor = TlsAcceptor::from(Arc::new(config(certificates)));
        tokio::spawn(async move {
            loop {
                let (stream, peer) = tokio::select! {
                    accepted = Listener::accept(&mut listener) => accepted,
                    () = done.closed() => return,
                };
                let (acceptor, done) = (acceptor.clone(), done.clone());
                tokio::spawn(async move {
                    match timeout(HANDSHAKE, acceptor.accept(stream)).await {
                        Ok(Ok(stream)) => drop(done.send((stream, peer)).await),
                        Ok(Err(error)) => tracing::debug!(%peer, %error, "a TLS handshake failed"),
                        Err(_) => tracing::debug!(%peer, "a TLS handshake took too long"),
                    }
                });
            }
        });
        Self { address, connections }
    }
}

impl Listener for Tls {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        match self.connections.recv().await {
            Some(connection) => connection,
            // The accepting task lives as long as this.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

fn config(certificates: Certificates) -> ServerConfig {
    let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().expect("ring serves TLS 1.2 and 1.3");
    let mut config = builder.with_no_client_auth().with_cert_resolver(Arc::new(certificates));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config
}

#[cfg(test)]
mod tests;
