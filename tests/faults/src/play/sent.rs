//! The requests of a run, as far as they are held against those of others.

use crate::model::request::Request;

/// A request of a run.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sent {
    /// What it asks for.
    pub words: String,
    /// Of a write, what a rule that refuses it for good goes by: method, kind and subresource.
    pub sort: Option<String>,
}

/// What a rule goes by that refuses a write for good.
pub(super) fn sort(request: &Request) -> Option<String> {
    let words = || format!("{} {:?} {}", request.method, request.kind(), request.subresource);
    request.is_write().then(words)
}
