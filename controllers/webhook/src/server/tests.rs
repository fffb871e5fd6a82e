//! A server and clients that trust its certificate, over real connections.

use std::net::Ipv4Addr;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use prometheus::{Registry, TextEncoder};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    sync::Semaphore,
    task::JoinHandle,
};
use tokio_rustls::{
    TlsConnector, client,
    rustls::{ClientConfig, pki_types::ServerName},
};

use super::*;
use crate::{
    certificate,
    kept::{Kept, roots},
};

const HOST: &str = "hook.mainstay.svc";
const PATH: &str = "/pods";

/// Refuses what is named `bad`, and answers about what is named `slow` once that may end.
struct Judge {
    slow: Arc<Semaphore>,
}

impl Handler for Judge {
    async fn review(&self, request: &AdmissionRequest<DynamicObject>) -> AdmissionResponse {
        if request.name == "slow" {
            self.slow.acquire().await.expect("nobody closes it").forget();
        }
        let answer = AdmissionResponse::from(request);
        if request.name == "bad" { answer.deny("it is bad") } else { answer }
    }
}

/// A server that is served until `farewell`.
struct Served {
    port: u16,
    tls: TlsConnector,
    shutdown: CancellationToken,
    farewell: CancellationToken,
    slow: Arc<Semaphore>,
    registry: Registry,
    running: JoinHandle<()>,
}

fn server(address: SocketAddr) -> (Server, ByteString, Registry) {
    let registry = Registry::new();
    let made = certificate::make(vec![HOST.to_owned()], Timestamp::now()).unwrap();
    let [certificate, key, authority] =
        [made.certificate, made.key, made.authority].map(|pem| ByteString(pem.into_bytes()));
    let kept = Kept { pair: (certificate, key), authority: authority.clone(), renew_at: None };
    let certificates = Certificates::default();
    certificates.show(kept.certified().unwrap());
    let server = Server {
        address,
        path: PATH,
        certificates,
        metrics: Metrics::new(&registry, PATH),
        trouble: Arc::new(RwLock::new(Some("it does not listen yet".to_owned()))),
        shutdown: CancellationToken::new(),
    };
    (server, authority, registry)
}

impl Served {
    async fn start() -> Self {
        let listener = bind((Ipv4Addr::LOCALHOST, 0).into()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (server, authority, registry) = server(address);
        let (slow, farewell) = (Arc::new(Semaphore::new(0)), CancellationToken::new());
        let router = server.router(Judge { slow: Arc::clone(&slow) });
        let tls = Tls::start(listener, server.certificates.clone());
        let running = tokio::spawn(serve(tls, router, farewell.clone().cancelled_owned()));
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let config = config.with_safe_default_protocol_versions().unwrap();
        let config = config.with_root_certificates(roots(&authority).unwrap()).with_no_client_auth();
        let tls = TlsConnector::from(Arc::new(config));
        Self { port: address.port(), tls, shutdown: server.shutdown, farewell, slow, registry, running }
    }

    async fn connect(&self) -> io::Result<Connection> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).await?;
        let host = ServerName::try_from(HOST).expect("a name");
        Ok(Connection(BufReader::new(self.tls.connect(host, stream).await?)))
    }

    fn metrics(&self) -> String {
        TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap()
    }

    fn measures(&self, line: &str) {
        let text = self.metrics();
        assert!(text.lines().any(|it| it == line), "{line} is missing from\n{text}");
    }
}

struct Connection(BufReader<client::TlsStream<TcpStream>>);

impl Connection {
    async fn sends(&mut self, name: &str) {
        let kind = json!({"group": "", "version": "v1", "kind": "Pod"});
        let resource = json!({"group": "", "version": "v1", "resource": "pods"});
        let request = json!({
            "uid": "1", "kind": kind, "resource": resource, "name": name, "operation": "CREATE", "userInfo": {},
        });
        let review =
            json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request});
        let (body, kind) = (review.to_string(), "content-type: application/json");
        let length = body.len();
        let request = format!(
            "POST {PATH} HTTP/1.1\r\nhost: {HOST}\r\n{kind}\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        self.0.write_all(request.as_bytes()).await.unwrap();
    }

    /// Whether the object is admitted, and whether the connection is to end.
    async fn hears(&mut self) -> (bool, bool) {
        let (mut length, mut ends) = (0, false);
        loop {
            let mut line = String::new();
            self.0.read_line(&mut line).await.unwrap();
            let line = line.trim_end().to_lowercase();
            match line.split_once(": ") {
                Some(("content-length", value)) => length = value.parse().unwrap(),
                Some(("connection", value)) => ends = value == "close",
                _ if line.is_empty() => break,
                _ => {}
            }
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).await.unwrap();
        let review: Value = serde_json::from_slice(&body).unwrap();
        (review["response"]["allowed"].as_bool().unwrap(), ends)
    }

    async fn asks(&mut self, name: &str) -> (bool, bool) {
        self.sends(name).await;
        self.hears().await
    }

    /// Waits until the server has closed it.
    async fn closes(mut self) {
        assert_eq!(self.0.read(&mut [0]).await.unwrap_or_default(), 0);
    }
}

const STAYS: (bool, bool) = (true, false);
const ENDS: (bool, bool) = (true, true);

#[tokio::test]
async fn a_replica_that_ends_serves_old_and_new_connections_and_has_them_go_elsewhere() {
    let served = Served::start().await;
    let (mut busy, mut idle) = (served.connect().await.unwrap(), served.connect().await.unwrap());
    assert_eq!((busy.asks("a").await, idle.asks("a").await), (STAYS, STAYS));
    served.shutdown.cancel();
    assert_eq!(busy.asks("a").await, ENDS);
    busy.closes().await;
    let mut late = served.connect().await.unwrap();
    assert_eq!(late.asks("a").await, ENDS);
    late.closes().await;

    served.farewell.cancel();
    idle.closes().await;
    served.running.await.unwrap();
    assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, served.port)).await.is_err(), "nobody listens any more");
}

#[tokio::test]
async fn what_is_under_way_at_the_end_is_answered() {
    let served = Served::start().await;
    let mut connection = served.connect().await.unwrap();
    connection.sends("slow").await;
    while !served.metrics().contains("requests_in_flight{webhook=\"/pods\"} 1") {
        tokio::task::yield_now().await;
    }
    served.shutdown.cancel();
    served.farewell.cancel();
    served.slow.add_permits(1);
    assert_eq!(connection.hears().await, ENDS);
    served.running.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_process_waits_for_the_farewell_and_not_for_ever() {
    let (server, ..) = server((Ipv4Addr::LOCALHOST, 0).into());
    let (shutdown, trouble) = (server.shutdown.clone(), Arc::clone(&server.trouble));
    let running = tokio::spawn(server.run(Judge { slow: Arc::new(Semaphore::new(0)) }));
    while trouble.read().is_some() {
        tokio::task::yield_now().await;
    }
    let began = tokio::time::Instant::now();
    shutdown.cancel();
    running.await.unwrap();
    let took = began.elapsed();
    assert!(took >= DRAIN && took < GRACE, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_port_that_somebody_else_has_is_told_and_tried_again() {
    let other = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let (server, ..) = server(other.local_addr().unwrap());
    let trouble = Arc::clone(&server.trouble);
    tokio::spawn(server.run(Judge { slow: Arc::new(Semaphore::new(0)) }));
    let says = async |is_it: fn(Option<&str>) -> bool| {
        while !is_it(trouble.read().as_deref()) {
            sleep(Duration::from_millis(100)).await;
        }
    };
    let minute = Duration::from_secs(60);
    timeout(minute, says(|why| why.is_some_and(|why| why.contains("cannot listen on 127.0.0.1:"))))
        .await
        .unwrap();
    drop(other);
    timeout(minute, says(|why| why.is_none())).await.unwrap();
}

#[tokio::test]
async fn requests_are_counted_by_how_they_ended() {
    let served = Served::start().await;
    let mut connection = served.connect().await.unwrap();
    let counted = |code: u16, count: u8| {
        served.measures(&format!(
            "controller_runtime_webhook_requests_total{{code=\"{code}\",webhook=\"/pods\"}} {count}"
        ));
    };
    counted(200, 0);
    connection.asks("good").await;
    assert_eq!(connection.asks("bad").await, (false, false));
    counted(200, 2);
    served.measures("mainstay_webhook_refusals_total{webhook=\"/pods\"} 1");
    served.measures("controller_runtime_webhook_latency_seconds_count{webhook=\"/pods\"} 2");
    connection.sends("slow").await;
    while !served.metrics().contains("requests_in_flight{webhook=\"/pods\"} 1") {
        tokio::task::yield_now().await;
    }
    drop(connection);
    while !served.metrics().contains("requests_in_flight{webhook=\"/pods\"} 0") {
        tokio::task::yield_now().await;
    }
    counted(499, 1);
}

#[test]
fn a_review_of_too_many_values_is_refused_before_it_is_decoded() {
    let body = format!("[{}0]", "0,".repeat(MAX_VALUES));
    assert_eq!(read(body.as_bytes()).unwrap_err().0, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(read(b"[0, 0]").unwrap_err().0, StatusCode::BAD_REQUEST);
    // What stands in a string is no value, and ends with its quote alone.
    let text = format!(r#"["\\\"{}"]"#, ",".repeat(2 * MAX_VALUES));
    assert_eq!(read(text.as_bytes()).unwrap_err().0, StatusCode::BAD_REQUEST);
    let body = format!(r#"["\\"{}]"#, ",0".repeat(MAX_VALUES));
    assert_eq!(read(body.as_bytes()).unwrap_err().0, StatusCode::PAYLOAD_TOO_LARGE);
}
