//! Labels, annotations and taints by which this controller and others recognise what it has set.

/// The field manager of everything that this controller writes.
pub const FIELD_MANAGER: &str = "mainstay-node-health";
/// The taint of an unhealthy node.
pub const UNHEALTHY: &str = "mainstay.dev/unhealthy";
/// The taint that lets volumes detach and pods be deleted without their kubelet (KEP-2268).
pub const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";
/// The annotation of a node that holds a [`Record`](crate::record::Record) as JSON. Written in the same request as what it
/// tells of.
pub const RECORD: &str = "mainstay.dev/node-health";
/// The label by which a person says that a node is dead. No kubelet can set it on its own node, where the admission
/// plugin NodeRestriction is on.
pub const CONFIRMED_DEAD: &str = "mainstay.node-restriction.kubernetes.io/confirmed-dead";

/// Whose remediation it is, for people and for lists; its owner reference decides.
pub(crate) const POLICY: &str = "mainstay.dev/node-health-policy";
/// The boot of the node for which a remediation was made: that it succeeds says of no later one that it is dead.
pub(crate) const BOOT: &str = "mainstay.dev/boot-id";
/// The UID of the node for which a remediation was made: it is of no later node of that name.
pub(crate) const NODE_UID: &str = "mainstay.dev/node-uid";
/// Which node a remediation is about, where its name does not say so (medik8s, as the next three).
pub(crate) const NODE_NAME: &str = "remediation.medik8s.io/node-name";
/// Which template it was made from.
pub(crate) const TEMPLATE_NAME: &str = "remediation.medik8s.io/template-name";
/// On a template: its remediator reads the node from [`NODE_NAME`], so that several templates of a kind can be used.
pub(crate) const MULTIPLE: &str = "remediation.medik8s.io/multiple-templates-support";
/// On a remediation: its time is over, and its remediator has to stop.
pub(crate) const TIMED_OUT: &str = "remediation.medik8s.io/nhc-timed-out";

/// The taint of a node that its cloud reports as shut down (k8s.io/cloud-provider/api).
pub(crate) const SHUT_DOWN: &str = "node.cloudprovider.kubernetes.io/shutdown";
/// The label by which a node is kept out of all remediation (medik8s).
pub(crate) const EXCLUDED: &str = "remediation.medik8s.io/exclude-from-remediation";
/// The taints of a node that its autoscaler is about to remove (cluster-autoscaler, karpenter).
pub(crate) const LEAVING: [&str; 2] = ["ToBeDeletedByClusterAutoscaler", "karpenter.sh/disrupted"];
/// The labels of a node that runs the control plane.
pub(crate) const CONTROL_PLANE: [&str; 2] =
    ["node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master"];
/// The annotation of a mirror pod, which represents a file of its kubelet.
pub(crate) const MIRROR: &str = "kubernetes.io/config.mirror";
