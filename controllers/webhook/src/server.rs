//! The HTTPS server that the API server asks.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{Json, Router, extract::DefaultBodyLimit, routing::post, serve::Listener};
use kube::{
    api::DynamicObject,
    core::admission::{AdmissionRequest, AdmissionResponse, AdmissionReview},
};
use parking_lot::RwLock;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::timeout,
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

/// The API server's own limit for an object is 3 MiB; a review has two of them and words around.
const MAX_BODY: usize = 8 * 1024 * 1024;
/// A handshake that takes longer is given up: the API server itself waits for no webhook longer than 30 s.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// When a port that cannot be had is tried again.
const AGAIN: Duration = Duration::from_secs(5);
/// So many connections wait to be served.
const BACKLOG: usize = 64;

/// Answers what the API server asks.
pub trait Handler: Send + Sync + 'static {
    /// Judges a request, and may change what it is about.
    fn review(
        &self,
        request: &AdmissionRequest<DynamicObject>,
    ) -> impl Future<Output = AdmissionResponse> + Send;
}

/// The certificate that is shown; a new one is shown from the next connection on.
#[derive(Debug, Clone, Default)]
pub(crate) struct Certificates {
    current: Arc<RwLock<Option<Arc<CertifiedKey>>>>,
}

impl Certificates {
    /// Shows this certificate from now on.
    pub(crate) fn show(&self, certified: CertifiedKey) {
        *self.current.write() = Some(Arc::new(certified));
    }

    /// Whether there is one.
    pub(crate) fn are_shown(&self) -> bool {
        self.current.read().is_some()
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.current.read().clone()
    }
}

/// Serves `path` until the process ends.
pub(crate) async fn serve<H: Handler>(
    address: SocketAddr,
    path: &'static str,
    certificates: Certificates,
    handler: H,
) {
    let handler = Arc::new(handler);
    let answer = move |Json(review): Json<AdmissionReview<DynamicObject>>| {
        let handler = Arc::clone(&handler);
        async move { Json(answer(&*handler, review).await.into_review()) }
    };
    let router = Router::new().route(path, post(answer)).layer(DefaultBodyLimit::max(MAX_BODY));
    loop {
        let ended = match TcpListener::bind(address).await {
            Ok(listener) => {
                let tls = Tls::start(listener, certificates.clone());
                axum::serve(tls, router.clone()).await
            }
            Err(error) => Err(error),
        };
        tracing::error!(%address, ?ended, "the webhook cannot listen there; see --webhook-bind-address");
        tokio::time::sleep(AGAIN).await;
    }
}

async fn answer<H: Handler>(handler: &H, review: AdmissionReview<DynamicObject>) -> AdmissionResponse {
    match review.try_into() {
        Ok(request) => handler.review(&request).await,
        Err(error) => AdmissionResponse::invalid(error),
    }
}

/// Connections whose handshake is done; one that dawdles holds up no other.
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
            while !done.is_closed() {
                let (stream, peer) = Listener::accept(&mut listener).await;
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
