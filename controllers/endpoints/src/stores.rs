//! The stores that reconciles read.

use mainstay_crds::EndpointGrant;
use mainstay_runtime::{
    index::{Index, ObjectKey},
    undecoded::Undecoded,
};
use prometheus::Registry;

use crate::watched::{ApiServer, Grant, Node, Pod, Service, Slice};

/// The stores that reconciles read.
#[derive(Clone)]
pub struct Stores {
    /// All pods.
    pub pods: Index<Pod>,
    /// All nodes.
    pub nodes: Index<Node>,
    /// All Services.
    pub services: Index<Service>,
    /// The slices that this controller has written.
    pub slices: Index<Slice>,
    /// All grants, each as it was known last.
    pub grants: Index<Grant>,
    /// Those of them that cannot be decoded.
    pub undecoded_grants: Undecoded<EndpointGrant>,
    /// The slices of the API server's Service.
    pub api_server: Index<ApiServer>,
}

impl Stores {
    /// Empty ones, which count in `registry` what cannot be decoded.
    pub fn new(registry: &Registry) -> Self {
        let (pods, nodes, services, slices, grants, api_server) = Default::default();
        let undecoded_grants = Undecoded::new(registry);
        Self { pods, nodes, services, slices, grants, undecoded_grants, api_server }
    }

    /// The Service of the API server.
    pub fn api_server() -> ObjectKey {
        ObjectKey::new("default", "kubernetes")
    }
}
