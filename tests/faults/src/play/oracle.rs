//! Oracles: what must hold at each write, and in the end.

use std::sync::Arc;

use serde_json::Value;

use crate::model::{request::Request, store::Store};

/// A write that the server has accepted.
#[derive(Debug)]
pub struct Written<'a> {
    /// Which process of the run wrote: 0 is the first.
    pub process: usize,
    /// The request.
    pub request: &'a Request,
    /// The object that it names, as it was before; `None` where it was not there.
    pub before: Option<&'a Arc<Value>>,
    /// Whether the Lease of leadership was taken away and the process that had it may not have noticed yet.
    pub contested: bool,
    /// Which kind of write is refused for good, if one is: method, kind and subresource.
    pub refused: Option<&'a str>,
    /// All objects, after the write.
    pub store: &'a Store,
}

/// A promise of a controller. It is created for each run.
pub trait Oracle: Send {
    /// Sees a write. Returns in words what is broken.
    fn wrote(&mut self, written: &Written<'_>) -> Option<String>;

    /// Sees the end of the run.
    fn ended(&mut self, _store: &Store) -> Option<String> {
        None
    }
}

impl<F: FnMut(&Written<'_>) -> Option<String> + Send> Oracle for F {
    fn wrote(&mut self, written: &Written<'_>) -> Option<String> {
        self(written)
    }
}
