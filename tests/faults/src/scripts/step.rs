//! One request of a script.

use http::Method;
use serde_json::Value;

/// A request, and what is expected of the answer.
#[derive(Debug, Clone)]
pub struct Step {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) content: &'static str,
    pub(super) accept: &'static str,
    pub(super) body: Value,
    /// A watch is read until it has shown this many events.
    pub(super) events: Option<usize>,
    /// The HTTP status of the answer.
    pub code: u16,
    pub(super) keeps: Vec<(&'static str, &'static str)>,
    pub(super) shows: &'static [&'static str],
    /// Whether the answer depends on other components of the cluster, which take their time: a real server is asked again
    /// until it answers as the model does.
    pub settles: bool,
}

impl Step {
    fn new(method: Method, path: &str, content: &'static str, body: Value) -> Self {
        let is_write = method != Method::GET && method != Method::DELETE;
        let separator = if path.contains('?') { '&' } else { '?' };
        let path = if is_write && !path.contains("fieldManager=") {
            format!("{path}{separator}fieldManager=script")
        } else {
            path.to_owned()
        };
        let code = if method == Method::POST { 201 } else { 200 };
        Self {
            method,
            path,
            content,
            accept: "application/json",
            body,
            events: None,
            code,
            keeps: Vec::new(),
            shows: &[],
            settles: false,
        }
    }

    /// The HTTP status that is expected instead of 200, or 201 of a POST.
    pub(super) fn gives(mut self, code: u16) -> Self {
        self.code = code;
        self
    }

    /// Keeps what is at this JSON pointer of the answer under a name for later steps.
    pub(super) fn keeps(mut self, name: &'static str, pointer: &'static str) -> Self {
        self.keeps.push((name, pointer));
        self
    }

    /// Asks for metadata alone, of an object or in the events of a watch.
    pub(super) fn partial(mut self) -> Self {
        self.accept = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
        self
    }

    /// Asks for a list of metadata alone.
    pub(super) fn partials(mut self) -> Self {
        self.accept = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
        self
    }

    /// Compares these JSON pointers of the answer alone.
    pub(super) fn shows(mut self, pointers: &'static [&'static str]) -> Self {
        self.shows = pointers;
        self
    }

    /// See [`Step::settles`].
    pub(super) fn settles(mut self) -> Self {
        self.settles = true;
        self
    }

    /// The request in a line.
    pub fn line(&self) -> String {
        let content = self.content.trim_start_matches("application/");
        let body = if self.body.is_null() { String::new() } else { format!(" {content} {}", self.body) };
        format!("{} {}{body}", self.method, self.path)
    }
}

pub(super) fn get(path: &str) -> Step {
    Step::new(Method::GET, path, "", Value::Null)
}

/// A watch, of which the first `events` are read.
pub(super) fn watch(path: &str, events: usize) -> Step {
    let separator = if path.contains('?') { '&' } else { '?' };
    Step { events: Some(events), ..get(&format!("{path}{separator}watch=true")) }
}

pub(super) fn post(path: &str, body: Value) -> Step {
    Step::new(Method::POST, path, "application/json", body)
}

pub(super) fn put(path: &str, body: Value) -> Step {
    Step::new(Method::PUT, path, "application/json", body)
}

pub(super) fn delete(path: &str, options: Value) -> Step {
    Step::new(Method::DELETE, path, "application/json", options)
}

pub(super) fn merge(path: &str, body: Value) -> Step {
    Step::new(Method::PATCH, path, "application/merge-patch+json", body)
}

pub(super) fn strategic(path: &str, body: Value) -> Step {
    Step::new(Method::PATCH, path, "application/strategic-merge-patch+json", body)
}

pub(super) fn json_patch(path: &str, body: Value) -> Step {
    Step::new(Method::PATCH, path, "application/json-patch+json", body)
}

pub(super) fn apply(path: &str, body: Value) -> Step {
    Step::new(Method::PATCH, path, "application/apply-patch+yaml", body)
}
