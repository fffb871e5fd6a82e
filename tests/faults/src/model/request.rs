//! Requests as the server understands them, and its answers.

use std::{collections::BTreeMap, fmt};

use http::{Method, StatusCode, header, request::Parts};
use serde_json::{Value, json};

use super::kinds::Kind;

/// What a request is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Objects of a kind.
    Kind(Kind),
    /// Anything else: its path.
    Other(String),
}

/// A request.
#[derive(Clone)]
pub struct Request {
    /// The HTTP method.
    pub method: Method,
    /// What it is about.
    pub target: Target,
    /// The namespace; empty where there is none.
    pub namespace: String,
    /// The object; empty for all of the kind.
    pub name: String,
    /// `status`, `eviction`, `token`; empty for the object itself.
    pub subresource: String,
    /// The parameters.
    pub query: BTreeMap<String, String>,
    /// The type of the body.
    pub content: String,
    /// Whether the metadata alone is to be answered.
    pub partial: bool,
    /// The body; null when there is none.
    pub body: Value,
}

impl Request {
    /// Reads a request.
    pub fn read(parts: &Parts, body: &[u8]) -> Self {
        let text = |name: header::HeaderName| {
            parts.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
        };
        let query = parts.uri.query().unwrap_or_default();
        let query = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        let mut request = Self {
            method: parts.method.clone(),
            target: Target::Other(parts.uri.path().to_owned()),
            namespace: String::new(),
            name: String::new(),
            subresource: String::new(),
            query,
            content: text(header::CONTENT_TYPE),
            partial: text(header::ACCEPT).contains("as=PartialObjectMetadata"),
            body: serde_json::from_slice(body).unwrap_or_default(),
        };
        request.locate(parts.uri.path());
        request
    }

    /// A request that a test makes itself: `path` is as in a URL.
    pub fn new(method: Method, path: &str, body: Value) -> Self {
        let mut request = Self {
            method,
            target: Target::Other(path.to_owned()),
            namespace: String::new(),
            name: String::new(),
            subresource: String::new(),
            query: BTreeMap::new(),
            content: "application/merge-patch+json".to_owned(),
            partial: false,
            body,
        };
        request.locate(path);
        request
    }

    fn locate(&mut self, path: &str) {
        let mut steps: Vec<_> = path.split('/').filter(|step| !step.is_empty()).collect();
        let group = match steps[..] {
            ["api", "v1", ..] => {
                steps.drain(..2);
                ""
            }
            ["apis", group, _, ..] => {
                steps.drain(..3);
                group
            }
            _ => return,
        };
        if let ["namespaces", namespace, _, ..] = steps[..] {
            // `namespaces/a/status` is of the namespace itself.
            if steps.len() > 3 || Kind::find(group, steps[2]).is_some() {
                self.namespace = namespace.to_owned();
                steps.drain(..2);
            }
        }
        let [plural, ref rest @ ..] = steps[..] else { return };
        let Some(kind) = Kind::find(group, plural) else { return };
        self.target = Target::Kind(kind);
        self.name = rest.first().copied().unwrap_or_default().to_owned();
        self.subresource = rest.get(1).copied().unwrap_or_default().to_owned();
    }

    /// The kind that it is about.
    pub fn kind(&self) -> Option<Kind> {
        match self.target {
            Target::Kind(kind) => Some(kind),
            Target::Other(_) => None,
        }
    }

    /// Whether it is about objects of this plural name.
    pub fn is_of(&self, plural: &str) -> bool {
        self.kind().is_some_and(|kind| kind.row().plural == plural)
    }

    /// Whether it follows objects.
    pub fn is_watch(&self) -> bool {
        self.query.get("watch").is_some_and(|watch| watch == "true" || watch == "1")
    }

    /// Whether it may change anything.
    pub fn is_write(&self) -> bool {
        self.method != Method::GET && self.kind().is_some() && !self.query.contains_key("dryRun")
    }

    /// The name of the object that it writes, also of one that it creates.
    pub fn object(&self) -> &str {
        if self.name.is_empty() {
            self.body["metadata"]["name"].as_str().unwrap_or_default()
        } else {
            &self.name
        }
    }

    /// One of its parameters.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.query.get(name).map(String::as_str)
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.method)?;
        match &self.target {
            Target::Kind(kind) => write!(f, "{kind:?}")?,
            Target::Other(path) => f.write_str(path)?,
        }
        for part in [&self.namespace[..], self.object(), &self.subresource] {
            if !part.is_empty() {
                write!(f, " {part}")?;
            }
        }
        if self.query.contains_key("dryRun") {
            f.write_str(" (dry run)")?;
        }
        Ok(())
    }
}

/// What the server says.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The HTTP status.
    pub code: StatusCode,
    /// The seconds of `Retry-After`.
    pub retry_after: Option<u64>,
    /// The body.
    pub body: Vec<u8>,
}

impl Reply {
    /// A success.
    pub fn ok(code: u16, body: &Value) -> Self {
        Self { code: status(code), retry_after: None, body: body.to_string().into_bytes() }
    }

    /// A `Status` that says that an object is gone.
    pub fn gone(kind: Kind, name: &str, uid: &str) -> Self {
        let mut details = about(kind, name);
        details["uid"] = uid.into();
        Self::ok(
            200,
            &json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}),
        )
    }

    /// A `Status` of failure.
    pub fn failure(code: u16, reason: &str, message: &str) -> Self {
        Self::detailed(code, reason, message, json!({}))
    }

    /// A `Status` of failure with details.
    pub fn detailed(code: u16, reason: &str, message: &str, details: Value) -> Self {
        let retry_after = details["retryAfterSeconds"].as_u64();
        let mut body = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": message, "reason": reason, "details": details, "code": code,
        });
        if reason.is_empty() {
            body.as_object_mut().map(|body| body.remove("reason"));
        }
        Self { code: status(code), retry_after, body: body.to_string().into_bytes() }
    }

    /// There is no such object.
    pub fn not_found(kind: Kind, name: &str) -> Self {
        let plural = kind.row().plural;
        Self::detailed(404, "NotFound", &format!("{plural} \"{name}\" not found"), about(kind, name))
    }

    /// There is an object of this name.
    pub fn exists(kind: Kind, name: &str) -> Self {
        let plural = kind.row().plural;
        Self::detailed(
            409,
            "AlreadyExists",
            &format!("{plural} \"{name}\" already exists"),
            about(kind, name),
        )
    }

    /// The object is not as the request says.
    pub fn conflict(kind: Kind, name: &str, why: &str) -> Self {
        let plural = kind.row().plural;
        let message = format!("Operation cannot be fulfilled on {plural} \"{name}\": {why}");
        Self::detailed(409, "Conflict", &message, about(kind, name))
    }

    /// The object is not the one that a deletion names.
    pub fn precondition(kind: Kind, name: &str, why: &str) -> Self {
        let of = kind.row().kind;
        let mut details = about(kind, name);
        details["kind"] = of.into();
        let message = format!("Operation cannot be fulfilled on {of} \"{name}\": {why}");
        Self::detailed(409, "Conflict", &message, details)
    }

    /// The object breaks a rule of its kind.
    pub fn invalid(kind: Kind, name: &str, why: &str) -> Self {
        let of = kind.row().kind;
        let mut details = about(kind, name);
        details["kind"] = of.into();
        Self::detailed(422, "Invalid", &format!("{of} \"{name}\" is invalid: {why}"), details)
    }

    /// A patch names the UID of another object.
    pub fn stranger(kind: Kind, name: &str) -> Self {
        let (of, why) = (kind.row().kind, "metadata.uid: Invalid value: field is immutable");
        let mut details = about(kind, name);
        details["kind"] = of.into();
        details["causes"] = json!([{"reason": "FieldValueInvalid", "message": why, "field": "metadata.uid"}]);
        Self::detailed(422, "Invalid", &format!("{of} \"{name}\" is invalid: {why}"), details)
    }

    /// An object is to be replaced that names no version.
    pub fn unseen(kind: Kind, name: &str) -> Self {
        let why = "metadata.resourceVersion: Invalid value: must be specified for an update";
        let plural = kind.row().plural;
        Self::detailed(422, "Invalid", &format!("{plural} \"{name}\" is invalid: {why}"), about(kind, name))
    }

    /// A patch cannot be carried out.
    pub fn unpatchable(why: &str) -> Self {
        Self::failure(422, "Invalid", why)
    }

    /// The request itself is wrong.
    pub fn bad(why: &str) -> Self {
        Self::failure(400, "BadRequest", why)
    }

    /// A version is older than what the server has kept.
    pub fn expired() -> Self {
        Self::failure(410, "Expired", "The provided continue parameter or resource version is too old")
    }

    /// Whether it is a success.
    pub fn is_success(&self) -> bool {
        self.code.is_success()
    }
}

/// What a `Status` says that is about an object: the server names the plural there.
fn about(kind: Kind, name: &str) -> Value {
    let row = kind.row();
    let mut details = json!({"kind": row.plural});
    for (field, value) in [("name", name), ("group", row.group)] {
        if !value.is_empty() {
            details[field] = value.into();
        }
    }
    details
}

fn status(code: u16) -> StatusCode {
    StatusCode::from_u16(code).expect("a code of HTTP")
}
