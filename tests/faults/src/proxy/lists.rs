//! The HTTP server that sends requests on, and answers lists from the past while it is told to.
//!
//! The past is the API server's own: a list is asked for at exactly the old resourceVersion. A watch that is begun while
//! lists are stale delivers nothing, as one of a server that has heard of nothing since; it ends when the lists are honest
//! again, or when its time is over, and the client goes on from where it was. Streaming lists are not stale: no controller of
//! Mainstay asks for one.

use std::{collections::BTreeMap, io, net::SocketAddr, time::Duration};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{Request, State as Shared},
    http::{
        HeaderMap, Method, StatusCode, Uri,
        header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, TRANSFER_ENCODING},
    },
    response::{IntoResponse, Response},
};
use futures::{StreamExt, future::ready, stream};
use kube::Client;
use tokio::{net::TcpListener, sync::watch, task::JoinHandle, time::timeout};

use super::mood::State;

/// The API server takes no object as large as this.
const MAX_BODY: usize = 8 << 20;
/// The API server ends a watch after some minutes, if the client names no time.
const LONGEST_WATCH: Duration = Duration::from_secs(300);

/// Serves until the task is ended; returns where.
pub(super) async fn serve(
    client: Client,
    state: watch::Receiver<State>,
) -> io::Result<(SocketAddr, JoinHandle<()>)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let router = Router::new().fallback(answer).with_state((client, state));
    let server = tokio::spawn(async move { drop(axum::serve(listener, router).await) });
    Ok((address, server))
}

async fn answer(
    Shared((client, state)): Shared<(Client, watch::Receiver<State>)>,
    request: Request,
) -> Response {
    let stale = state.borrow().stale_at().map(str::to_owned);
    let (mut head, body) = request.into_parts();
    if let Some(version) = stale.filter(|_| head.method == Method::GET && is_collection(head.uri.path())) {
        let mut parameters = parameters(&head.uri);
        if parameters.contains_key("watch") {
            return nothing_happens(&parameters, state);
        }
        // What continues a list says itself which one it is.
        if !parameters.contains_key("continue") {
            parameters.insert("resourceVersion".into(), version);
            parameters.insert("resourceVersionMatch".into(), "Exact".into());
        }
        let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(parameters).finish();
        head.uri = format!("{}?{query}", head.uri.path()).parse().unwrap_or(head.uri);
    }
    let Ok(body) = to_bytes(body, MAX_BODY).await else { return StatusCode::BAD_REQUEST.into_response() };
    own(&mut head.headers);
    let request = Request::from_parts(head, kube::client::Body::from(body.to_vec()));
    match client.send(request).await {
        Ok(answer) => {
            let (mut head, body) = answer.into_parts();
            own(&mut head.headers);
            Response::from_parts(head, Body::new(body))
        }
        Err(error) => (StatusCode::BAD_GATEWAY, error.to_string()).into_response(),
    }
}

/// Removes headers that are about one connection only.
fn own(headers: &mut HeaderMap) {
    for name in [CONNECTION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING] {
        headers.remove(name);
    }
}

fn parameters(uri: &Uri) -> BTreeMap<String, String> {
    form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()).into_owned().collect()
}

/// Whether a path is that of all objects of a kind, in the cluster or in a namespace.
fn is_collection(path: &str) -> bool {
    let parts: Vec<_> = path.trim_matches('/').split('/').collect();
    let rest = match parts[..] {
        ["api", _, ref rest @ ..] | ["apis", _, _, ref rest @ ..] => rest,
        _ => return false,
    };
    matches!(rest, [_] | ["namespaces", _, _])
}

/// A watch without events, that ends when lists are honest again.
fn nothing_happens(parameters: &BTreeMap<String, String>, mut state: watch::Receiver<State>) -> Response {
    let seconds = parameters.get("timeoutSeconds").and_then(|seconds| seconds.parse().ok());
    let limit = seconds.map_or(LONGEST_WATCH, Duration::from_secs);
    let over = async move { drop(timeout(limit, state.wait_for(|state| state.stale_at().is_none())).await) };
    let events = stream::once(over).filter_map(|()| ready(None::<io::Result<Vec<u8>>>));
    ([(CONTENT_TYPE, "application/json")], Body::from_stream(events)).into_response()
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, sync::Arc};

    use http_body_util::BodyExt;
    use parking_lot::Mutex;
    use tokio::time::{sleep, timeout};
    use tower::service_fn;

    use super::*;
    use crate::proxy::{Mood, Proxy};

    /// A proxy to a server that answers with what it was asked, and a client of the proxy.
    async fn start() -> (Proxy, Client) {
        let behind = service_fn(|request: http::Request<kube::client::Body>| async move {
            let asked = format!("{} {}", request.method(), request.uri());
            let sent = request.into_body().collect().await.expect("it was sent").to_bytes();
            let text = format!("{asked} {}", String::from_utf8_lossy(&sent));
            Ok::<_, Infallible>(http::Response::new(kube::client::Body::from(
                text.trim().as_bytes().to_vec(),
            )))
        });
        let proxy = Proxy::requests(Client::new(behind, "default")).await.expect("a free port");
        let config = kube::Config::new(format!("http://{}", proxy.address()).parse().expect("an address"));
        (proxy, Client::try_from(config).expect("a client"))
    }

    async fn ask(client: &Client, method: &str, path: &str, body: &str) -> String {
        let request = http::Request::builder().method(method).uri(path).body(body.as_bytes().to_vec());
        client.request_text(request.expect("a valid request")).await.expect("it answers")
    }

    #[tokio::test]
    async fn an_honest_proxy_changes_nothing() {
        let (_proxy, client) = start().await;
        assert_eq!(ask(&client, "GET", "/api/v1/pods?limit=5", "").await, "GET /api/v1/pods?limit=5");
        assert_eq!(
            ask(&client, "POST", "/api/v1/namespaces/a/pods", "{}").await,
            "POST /api/v1/namespaces/a/pods {}"
        );
    }

    #[tokio::test]
    async fn a_stale_one_asks_for_lists_of_the_past_and_for_nothing_else() {
        let (proxy, client) = start().await;
        proxy.set(Mood::Stale("7".into()));
        let past = "resourceVersion=7&resourceVersionMatch=Exact";
        for path in ["/api/v1/pods", "/apis/apps/v1/namespaces/a/deployments"] {
            let asked = ask(&client, "GET", &format!("{path}?resourceVersion=0"), "").await;
            assert_eq!(asked, format!("GET {path}?{past}"));
        }
        let next = "/api/v1/pods?continue=abc&limit=5";
        assert_eq!(ask(&client, "GET", next, "").await, format!("GET {next}"));
        for path in ["/api/v1/namespaces/a/pods/b", "/apis/apps/v1", "/version"] {
            assert_eq!(ask(&client, "GET", path, "").await, format!("GET {path}"));
        }
        let created = ask(&client, "POST", "/api/v1/namespaces/a/pods", "{}").await;
        assert_eq!(created, "POST /api/v1/namespaces/a/pods {}");
        proxy.set(Mood::Honest);
        assert_eq!(ask(&client, "GET", "/api/v1/pods", "").await, "GET /api/v1/pods");
    }

    #[tokio::test]
    async fn a_watch_of_a_stale_one_delivers_nothing_until_it_is_honest_again() {
        let (proxy, client) = start().await;
        proxy.set(Mood::Stale("7".into()));
        let done = Arc::new(Mutex::new(None));
        let noted = Arc::clone(&done);
        let watch = tokio::spawn(async move {
            let text = ask(&client, "GET", "/api/v1/pods?watch=1&resourceVersion=7", "").await;
            *noted.lock() = Some(text);
        });
        sleep(Duration::from_millis(300)).await;
        assert_eq!(*done.lock(), None);
        proxy.set(Mood::Honest);
        timeout(Duration::from_secs(10), watch).await.expect("it ends").expect("it does not panic");
        assert_eq!(done.lock().as_deref(), Some(""));
    }

    #[test]
    fn collections_are_told_apart_from_objects() {
        for path in ["/api/v1/pods", "/api/v1/namespaces", "/api/v1/namespaces/a/pods", "/apis/g/v1/things/"]
        {
            assert!(is_collection(path), "{path}");
        }
        for path in [
            "/api",
            "/api/v1",
            "/apis/g/v1",
            "/api/v1/namespaces/a",
            "/api/v1/namespaces/a/pods/b",
            "/healthz",
        ] {
            assert!(!is_collection(path), "{path}");
        }
    }
}
