//! Members, and those that are refused.

use std::{net::IpAddr, sync::Arc};

use crate::{
    checker::Target,
    watched::{Endpoint, Gate, Pod, Port},
};

/// One address that may become an endpoint.
#[derive(Debug, Clone)]
pub struct Member {
    /// The set that it comes from, and its address.
    pub target: Target,
    /// Its tier.
    pub tier: u8,
    /// Its pod.
    pub pod: Option<Arc<Pod>>,
    /// Its pod's name, or the DNS name that resolves to it.
    pub name: Option<Arc<str>>,
    /// Its ports, as in a slice.
    pub ports: Arc<[Port]>,
    /// Whether clients of the Service can reach it: it has one of the Service's ports. Of a headless Service, whose clients choose
    /// the port, every member is reachable.
    pub is_reachable: bool,
    /// The port that is checked; `None` also where there is one to check and it is not found.
    pub check_port: Option<u16>,
    /// The endpoint, but for its conditions and hints.
    pub endpoint: Endpoint,
}

impl Member {
    /// Whether it can be reached, and its pod is ready, if it has one.
    pub fn is_ready(&self) -> bool {
        self.is_reachable && self.pod.as_ref().is_none_or(|pod| pod.ready)
    }

    /// Whether its pod is terminating.
    pub fn is_terminating(&self) -> bool {
        self.pod.as_ref().is_some_and(|pod| pod.header.terminating)
    }

    /// Whether its pod waits for its readiness gate.
    pub fn waits_for_gate(&self) -> bool {
        self.pod.as_ref().is_some_and(|pod| pod.gate == Some(Gate::Closed) && !pod.header.terminating)
    }

    /// Whether a check can tell anything: the server has started. A pod that waits for its gate is not ready before.
    pub fn is_checkable(&self) -> bool {
        self.is_reachable && self.pod.as_ref().is_none_or(|pod| pod.ready || pod.containers_ready)
    }
}

/// The [reason](Refused::reason) of members that cannot be checked because the port for it is not there.
pub const CHECK_PORT_NOT_FOUND: &str = "CheckPortNotFound";

/// The [reason](Refused::reason) of names that could not be looked up.
pub const LOOKUP_FAILED: &str = "LookupFailed";

/// The [reason](Refused::reason) of ports that do not exist.
pub(super) const PORT_NOT_FOUND: &str = "PortNotFound";

/// Something that a pool names and may not or cannot use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The set that names it.
    pub set: Arc<str>,
    /// Its address, where it has one.
    pub address: Option<IpAddr>,
    /// Its pod's name, or the DNS name.
    pub name: Option<Arc<str>>,
    /// Why, in one word.
    pub reason: &'static str,
    /// Why, and what to do.
    pub message: String,
    /// Whether it is left out, and no member. One that lacks a port is a member that cannot be reached.
    pub left_out: bool,
}

impl Refused {
    /// What is said of a set as a whole.
    pub(super) fn set(set: &Arc<str>, reason: &'static str, message: String) -> Self {
        let (set, address, name) = (Arc::clone(set), None, None);
        Self { set, address, name, reason, message, left_out: false }
    }
}
