//! The slim objects that the stores keep: what a reconcile reads, and nothing else.

mod grant;
mod node;
mod notes;
mod pod;
mod service;
mod slice;

pub use grant::Grant;
pub use mainstay_runtime::node::WatchedNode;
pub use node::{ApiServer, Node, NodeBucket};
pub use notes::Notes;
pub use pod::{Bucket, Gate, Pod, WatchedPod};
pub use service::{Distribution, Service, ServicePort, WatchedService};
pub use slice::{Conditions, Endpoint, EndpointKey, Family, Group, Port, Slice, Target, WatchedSlice};
