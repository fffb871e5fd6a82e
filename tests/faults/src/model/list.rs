//! Lists, in pages if the client wants that.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::{
    kinds::Kind,
    object::{namespace, partial},
    request::{Reply, Request},
    selector::Selector,
    store::{Store, key},
};

/// By how much a list may be, and is, behind the newest version.
#[derive(Debug, Clone, Copy)]
pub(super) struct Age {
    /// Where the client takes any version, so many before the newest.
    pub(super) behind: u64,
    /// Versions below this one are no longer known.
    pub(super) compacted: u64,
}

/// Answers a list.
///
/// # Errors
/// 400 for a selector that cannot be, 410 for a version that is too old.
pub(super) fn list(store: &Store, of: Age, kind: Kind, request: &Request) -> Result<Reply, Reply> {
    let selector = Selector::of(kind, request)?;
    let version = |name: &str| request.parameter(name).and_then(|version| version.parse::<u64>().ok());
    let exact =
        version("resourceVersion").filter(|_| request.parameter("resourceVersionMatch") == Some("Exact"));
    let is_old = request.parameter("resourceVersion") == Some("0") && of.behind > 0;
    let (from, at) = match request.parameter("continue") {
        Some(token) => {
            let mut parts = token.splitn(3, '|');
            let version = parts.next().and_then(|version| version.parse().ok()).unwrap_or_default();
            let mut part = || parts.next().unwrap_or_default().to_owned();
            (Some((part(), part())), version)
        }
        None if is_old => (None, store.version().saturating_sub(of.behind)),
        None => (None, exact.unwrap_or(store.version())),
    };
    if at < of.compacted {
        return Err(Reply::expired());
    }
    // A further page shows what the first one would have shown.
    let old = (is_old || from.is_some() || exact.is_some()).then(|| store.at(kind, at));
    let limit = request.parameter("limit").and_then(|limit| limit.parse().ok()).unwrap_or(usize::MAX);
    let objects: Box<dyn Iterator<Item = &Arc<Value>>> = match &old {
        Some(old) => Box::new(old.values()),
        None => Box::new(store.all(kind)),
    };
    let mut objects = objects
        .filter(|object| request.namespace.is_empty() || namespace(object) == request.namespace)
        .filter(|object| from.as_ref().is_none_or(|from| key(object) > *from))
        .filter(|object| selector.matches(object));
    let page: Vec<_> = objects.by_ref().take(limit).collect();
    let left = objects.count();
    let mut metadata = json!({"resourceVersion": at.to_string()});
    if let Some(last) = page.last().filter(|_| left > 0) {
        let (namespace, name) = key(last);
        metadata["continue"] = format!("{at}|{namespace}|{name}").into();
        if selector.is_empty() {
            metadata["remainingItemCount"] = left.into();
        }
    }
    let texts = page.iter().map(|object| item(kind, object, request));
    let (api_version, list) = if request.partial {
        ("meta.k8s.io/v1".to_owned(), "PartialObjectMetadata")
    } else {
        (kind.api_version(), kind.row().kind)
    };
    let body = format!(
        r#"{{"kind":"{list}List","apiVersion":"{api_version}","metadata":{metadata},"items":[{}]}}"#,
        texts.collect::<Vec<_>>().join(",")
    );
    Ok(Reply { body: body.into_bytes(), ..Reply::ok(200, &Value::Null) })
}

/// An item of a list, which says its kind only where a CustomResourceDefinition makes it.
fn item(kind: Kind, object: &Value, request: &Request) -> String {
    if request.partial {
        return partial(object).to_string();
    }
    if kind.is_custom() {
        return object.to_string();
    }
    let fields = object.as_object().into_iter().flatten();
    let fields = fields.filter(|(field, _)| *field != "kind" && *field != "apiVersion");
    Value::Object(fields.map(|(field, value)| (field.clone(), value.clone())).collect::<Map<_, _>>())
        .to_string()
}
