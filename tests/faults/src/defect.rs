//! Defects that are built in on purpose, to show that the promises which they break are really checked.

use http::Method;

use crate::{
    process::Process,
    server::{Kind, Server, list_of, metadata_of},
    wire::{Reply, Request},
};

/// A defect of the controller, or of what it relies on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Defect {
    /// None: every promise is kept.
    None,
    /// The controller forgets its own writes before each pass and compares its pods with its own stores alone, as
    /// one without a write gate would.
    NoGate,
    /// The controller reads its group from its own stores before it deletes.
    StaleReads,
    /// No status is ever stored.
    DeafStatus,
    /// The server lets a controller take another's pod.
    SecondController,
    /// The controller takes a generation for the next one.
    FutureGeneration,
}

impl Defect {
    /// What the defect answers in the server's place.
    pub fn answer(self, request: &Request, process: &Process, server: &Server) -> Option<Reply> {
        let is_read = request.method == Method::GET;
        match (self, request.kind, request.name.as_deref()) {
            (Self::NoGate, Kind::Pod, None) if is_read => {
                Some(list_of(process.shown(server, Kind::Pod).into_values(), 0))
            }
            (Self::StaleReads, Kind::Group, Some(name)) if is_read => {
                Some(Reply::ok(200, metadata_of(process.shown(server, Kind::Group).get(name)?)))
            }
            (Self::DeafStatus, Kind::Group, Some(name)) if request.status => {
                Some(Reply::ok(200, server.get(Kind::Group, name)?.clone()))
            }
            _ => None,
        }
    }
}
