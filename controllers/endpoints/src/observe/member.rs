//! Members, and those that are refused.

use std::{net::IpAddr, sync::Arc};

use crate::{
    checker::Target,
    watched::{Endpoint, Pod, Port},
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
    /// The port that is checked; `None` also where there is one to check and it is not found.
    pub check_port: Option<u16>,
    /// The endpoint, but for its conditions and hints.
    pub endpoint: Endpoint,
}

impl Member {
    /// Whether its pod is ready. True of addresses and names.
    pub fn is_ready(&self) -> bool {
        self.pod.as_ref().is_none_or(|pod| pod.ready)
    }

    /// Whether its pod is terminating.
    pub fn is_terminating(&self) -> bool {
        self.pod.as_ref().is_some_and(|pod| pod.header.terminating)
    }

    /// Whether a check can tell anything: the server has started. A pod that waits for its gate is not ready before.
    pub fn is_checkable(&self) -> bool {
        self.pod.as_ref().is_none_or(|pod| pod.ready || pod.containers_ready)
    }
}

/// The [reason](Refused::reason) of members that cannot be checked because the port for it is not there.
pub const CHECK_PORT_NOT_FOUND: &str = "CheckPortNotFound";

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
    /// Whether it is left out: one that lacks a port is not.
    pub left_out: bool,
}
