//! Names and flags that several files must agree on.

/// The namespace in which everything is measured.
pub(crate) const NAMESPACE: &str = "mainstay-bench";
/// Kubernetes' own controllers.
pub(crate) const MANAGER: &str = "kube-controller-manager";
/// Flags that lift the limit which Kubernetes' components set themselves: 20 to 50 requests a second.
pub(crate) const LIFTED: [&str; 2] = ["--kube-api-qps=2000", "--kube-api-burst=4000"];
