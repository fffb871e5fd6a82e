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

    /// Whether the pod's node is there. As upstream: where it is gone, the pod is as well, although its object says otherwise
    /// until it is collected.
    pub fn has_node(&self, pod: &Pod) -> bool {
        let node = |name| self.nodes.get(&ObjectKey::new("", name));
        pod.node.as_ref().is_none_or(|name| node(name).is_some())
    }

    /// The Service of the API server.
    pub fn api_server() -> ObjectKey {
        ObjectKey::new("default", "kubernetes")
    }
}
