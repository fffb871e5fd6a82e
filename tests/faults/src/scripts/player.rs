//! Plays scripts on a connection.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use http::header;
use http_body_util::BodyExt;
use kube::{Client, client::Body};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::{
    normal::{Seen, normal},
    step::Step,
};
use crate::model::{
    request::Request,
    server::Server,
    service::{Fate, Gate, Served, connect},
    watch::Lag,
};

/// No answer, and no event of a watch, takes longer.
const LONGEST: Duration = Duration::from_secs(10);

/// An answer without what no two servers share.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The HTTP status.
    pub code: u16,
    /// The body; of a watch, its events.
    pub body: Value,
}

/// Plays the steps of a script on one server.
#[derive(Clone)]
pub struct Player {
    client: Client,
    kept: BTreeMap<String, String>,
    seen: Seen,
}

impl Player {
    /// A player of the server behind `client`. The namespace must be there.
    pub fn new(client: Client, namespace: &str) -> Self {
        let kept = BTreeMap::from([("ns".to_owned(), namespace.to_owned())]);
        Self { client, kept, seen: Seen::default() }
    }

    /// Sends the request of a step and reads the answer.
    ///
    /// # Errors
    /// When there is none.
    pub async fn ask(&mut self, step: &Step) -> Result<Answer, kube::Error> {
        let mut request = http::Request::builder()
            .method(step.method.clone())
            .uri(self.filled(&step.path, |value| form_urlencoded::byte_serialize(value.as_bytes()).collect()))
            .header(header::ACCEPT, step.accept);
        let body = if step.body.is_null() {
            Body::empty()
        } else {
            request = request.header(header::CONTENT_TYPE, step.content);
            Body::from(self.filled(&step.body.to_string(), str::to_owned).into_bytes())
        };
        let request = request.body(body).map_err(kube::Error::HttpError)?;
        let response = self.client.send(request).await?;
        let code = response.status().as_u16();
        let retry_after = response.headers().get(header::RETRY_AFTER).cloned();
        let mut body = match step.events {
            Some(events) if code == 200 => read_events(response.into_body(), events).await,
            _ => {
                let collected = timeout(LONGEST, response.into_body().collect()).await;
                let bytes = collected.expect("an answer ends")?.to_bytes();
                serde_json::from_slice(&bytes)
                    .unwrap_or_else(|_| String::from_utf8_lossy(&bytes).into_owned().into())
            }
        };
        for (name, pointer) in &step.keeps {
            let value = body.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
            self.kept.insert((*name).to_owned(), value.to_owned());
        }
        if !step.shows.is_empty() {
            let shown = step
                .shows
                .iter()
                .map(|pointer| ((*pointer).to_owned(), body.pointer(pointer).cloned().unwrap_or_default()));
            body = Value::Object(shown.collect());
        }
        if let (Some(after), Some(body)) = (retry_after, body.as_object_mut()) {
            body.insert("Retry-After".to_owned(), after.to_str().unwrap_or_default().into());
        }
        normal(&mut body, &mut self.seen);
        Ok(Answer { code, body })
    }

    fn filled(&self, text: &str, written: impl Fn(&str) -> String) -> String {
        let fill = |text: String, (name, value): (&String, &String)| {
            text.replace(&format!("{{{name}}}"), &written(value))
        };
        self.kept.iter().fold(text.to_owned(), fill)
    }
}

/// The first events of a watch; fewer where it ends before, or shows no more.
async fn read_events(mut body: Body, most: usize) -> Value {
    let mut text = Vec::new();
    let count = |text: &[u8]| text.iter().filter(|byte| **byte == b'\n').count();
    while count(&text) < most {
        match timeout(LONGEST, body.frame()).await {
            Ok(Some(Ok(frame))) => text.extend_from_slice(frame.data_ref().map_or(&[][..], |data| &data[..])),
            _ => break,
        }
    }
    let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).take(most);
    lines.filter_map(|line| serde_json::from_slice::<Value>(line).ok()).collect()
}

/// Lets every request through.
struct Open;

impl Gate for Open {
    fn fate(&self, _: &mut Server, _: &mut Request) -> Fate {
        Fate::Served
    }
    fn served(&self, _: &Server, _: &Served<'_>) {}
    fn is_alive(&self) -> bool {
        true
    }
}

/// A connection to a model of its own that has this namespace.
pub fn model(namespace: &str) -> Client {
    let mut server = Server::new();
    if namespace != "ns" {
        server.given(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace},
            "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}}));
    }
    let gate: Arc<dyn Gate> = Arc::new(Open);
    connect(&Arc::new(Mutex::new(server)), &gate, &(Arc::new(|_| Lag::None) as _)).build()
}
