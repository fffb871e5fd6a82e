//! Watches: each reads the history of its kind, so that what it is shown late, cut or not at all is never lost.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{Stream, stream};
use http_body::Frame;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};
use tower::BoxError;

use super::{
    kinds::Kind,
    object::{namespace, partial},
    request::{Reply, Request},
    selector::Selector,
    server::Server,
    store::Change,
};

/// A watch ends after this time where the client names none (the server: between 30 and 60 minutes).
const LONGEST: Duration = Duration::from_secs(1800);

/// A watch that ends sooner is shown no bookmark (the server: about one a minute).
const BOOKMARKS: Duration = Duration::from_secs(60);

/// A connection on which nothing came for this time is closed by the client, as the program's connector does.
pub(super) const SILENCE: Duration = Duration::from_secs(45);

/// What a watch does instead of following the server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Lag {
    /// It follows at once.
    #[default]
    None,
    /// It shows each change so much later.
    Late(Duration),
    /// From now on it shows nothing, and ends only as the client gives it up.
    Deaf,
    /// It breaks now.
    Cut,
    /// It is told that its version is too old.
    Gone,
}

/// Says how a watch of a kind lags at present.
pub type Lags = Arc<dyn Fn(Kind) -> Lag + Send + Sync>;

struct Watch {
    server: Arc<Mutex<Server>>,
    lags: Lags,
    kind: Kind,
    namespace: String,
    selector: Selector,
    partial: bool,
    /// Which change comes next.
    next: usize,
    changes: watch::Receiver<u64>,
    ends: Instant,
    /// When the last event was sent.
    heard: Instant,
    first: Vec<Bytes>,
    bookmarks: bool,
    ended: bool,
}

/// Answers a watch.
///
/// # Errors
/// 410 where it begins at a version that is too old.
pub(super) fn begin(
    server: &Arc<Mutex<Server>>,
    lags: Lags,
    kind: Kind,
    request: &Request,
) -> Result<impl Stream<Item = Result<Frame<Bytes>, BoxError>> + Send + use<>, Reply> {
    let locked = server.lock();
    let selector = Selector::of(kind, request)?;
    let streams = request.parameter("sendInitialEvents") == Some("true");
    if streams && request.parameter("resourceVersionMatch") != Some("NotOlderThan") {
        let why = "sendInitialEvents is only allowed with resourceVersionMatch NotOlderThan";
        let details = json!({"group": "meta.k8s.io", "kind": "ListOptions"});
        return Err(Reply::detailed(422, "Invalid", why, details));
    }
    let from: u64 =
        request.parameter("resourceVersion").and_then(|version| version.parse().ok()).unwrap_or(0);
    if lags(kind) == Lag::Gone {
        return Err(Reply::expired());
    }
    let seconds = request.parameter("timeoutSeconds").and_then(|seconds| seconds.parse().ok());
    let ends = Instant::now() + seconds.map_or(LONGEST, Duration::from_secs);
    let mut watch = Watch {
        kind,
        namespace: request.namespace.clone(),
        selector,
        partial: request.partial,
        next: locked.store.history(kind).partition_point(|change| change.version <= from),
        changes: locked.store.changes(),
        ends,
        heard: Instant::now(),
        first: Vec::new(),
        bookmarks: request.parameter("allowWatchBookmarks") == Some("true")
            && ends > Instant::now() + BOOKMARKS,
        ended: false,
        server: Arc::clone(server),
        lags,
    };
    if from > 0 && from < locked.compacted {
        watch.first.push(expired());
        watch.ended = true;
    } else if from == 0 || streams {
        watch.next = locked.store.history(kind).len();
        let shown = locked.store.all(kind).filter(|object| watch.shows(object));
        watch.first = shown.map(|object| watch.line("ADDED", object)).collect();
        if streams {
            watch.first.push(watch.bookmark(&locked, &json!({"k8s.io/initial-events-end": "true"})));
        }
        watch.first.reverse();
    }
    drop(locked);
    Ok(stream::unfold(watch, Watch::event))
}

impl Watch {
    async fn event(mut self) -> Option<(Result<Frame<Bytes>, BoxError>, Self)> {
        if let Some(line) = self.first.pop() {
            return Some((Ok(Frame::data(line)), self));
        }
        loop {
            if self.ended {
                return None;
            }
            let until = match (self.lags)(self.kind) {
                Lag::Cut => {
                    self.ended = true;
                    return Some((Err("connection reset by peer".into()), self));
                }
                Lag::Gone => {
                    self.ended = true;
                    return Some((Ok(Frame::data(expired())), self));
                }
                Lag::Deaf => {
                    sleep_until(self.heard + SILENCE).await;
                    self.ended = true;
                    return Some((Err("nothing came".into()), self));
                }
                Lag::None => self.advance(Duration::ZERO),
                Lag::Late(by) => self.advance(by),
            };
            match until {
                Ok(line) => {
                    self.heard = Instant::now();
                    return Some((Ok(Frame::data(line)), self));
                }
                Err(until) => {
                    let until = until.map_or(self.ends, |until| until.min(self.ends));
                    tokio::select! {
                        biased;
                        _ = self.changes.changed() => {}
                        () = sleep_until(until) => if Instant::now() >= self.ends {
                            if !self.bookmarks {
                                return None;
                            }
                            self.ended = true;
                            let bookmark = self.bookmark(&self.server.lock(), &Value::Null);
                            return Some((Ok(Frame::data(bookmark)), self));
                        }
                    }
                }
            }
        }
    }

    /// The next change that it shows, or until when there is none.
    fn advance(&mut self, late: Duration) -> Result<Bytes, Option<Instant>> {
        let server = Arc::clone(&self.server);
        let server = server.lock();
        self.changes.borrow_and_update();
        let history = server.store.history(self.kind);
        while let Some(change) = history.get(self.next) {
            let due = change.at + late;
            if due > Instant::now() {
                return Err(Some(due));
            }
            self.next += 1;
            if let Some(line) = self.shown(change) {
                return Ok(line);
            }
        }
        Err(None)
    }

    fn shows(&self, object: &Value) -> bool {
        (self.namespace.is_empty() || namespace(object) == self.namespace) && self.selector.matches(object)
    }

    fn shown(&self, change: &Change) -> Option<Bytes> {
        let before = change.old.as_ref().is_some_and(|old| self.shows(old));
        let after = !change.gone && self.shows(&change.new);
        match (before, after) {
            (false, false) => None,
            (false, true) => Some(self.line("ADDED", &change.new)),
            (true, true) => Some(self.line("MODIFIED", &change.new)),
            (true, false) => {
                // It is shown as it was when the watch saw it last.
                let mut last = Value::clone(change.old.as_ref()?);
                last["metadata"]["resourceVersion"] = change.version.to_string().into();
                Some(self.line("DELETED", &last))
            }
        }
    }

    fn line(&self, type_: &str, object: &Value) -> Bytes {
        if self.partial { line(type_, &partial(object)) } else { line(type_, object) }
    }

    fn bookmark(&self, server: &Server, annotations: &Value) -> Bytes {
        let history = server.store.history(self.kind);
        // A watch that is late must not be told to go on from what it has not shown.
        let version = match history.get(self.next) {
            Some(next) => next.version - 1,
            None => server.store.version(),
        };
        let metadata = json!({"resourceVersion": version.to_string(), "creationTimestamp": null,
            "annotations": annotations});
        let (kind, api_version) = if self.partial {
            ("PartialObjectMetadata", "meta.k8s.io/v1".to_owned())
        } else {
            (self.kind.row().kind, self.kind.api_version())
        };
        line("BOOKMARK", &json!({"kind": kind, "apiVersion": api_version, "metadata": metadata}))
    }
}

/// What a watch shows last whose version is too old.
fn expired() -> Bytes {
    let status = serde_json::from_slice(&Reply::expired().body).unwrap_or_default();
    line("ERROR", &status)
}

fn line(type_: &str, object: &Value) -> Bytes {
    format!("{{\"type\":\"{type_}\",\"object\":{object}}}\n").into()
}
