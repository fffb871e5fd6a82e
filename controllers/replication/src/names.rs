//! Labels, annotations, finalizers and the field manager: names that others rely on, defined nowhere else.

/// The field manager of everything that this controller writes.
pub const FIELD_MANAGER: &str = "mainstay-replication";

/// The label by which pods and ControllerRevisions name their revision.
pub const REVISION: &str = "mainstay.dev/revision";

/// The label of pods and claims that names their slot.
pub const SLOT: &str = "mainstay.dev/slot";

/// The label of claims that names their group.
pub const GROUP: &str = "mainstay.dev/group";

/// The annotation of claims that have been used: the zone of the node that they were last used on, which outlives the
/// node; empty where it has none.
pub const ZONE: &str = "mainstay.dev/zone";

/// The annotation by which a user says which pods should go first
/// (<https://kubernetes.io/docs/concepts/workloads/controllers/replicaset/#pod-deletion-cost>).
pub const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// The readiness gate of pods whose images may be changed in place: closed while their containers are replaced.
pub const READINESS_GATE: &str = "mainstay.dev/in-place-ready";

/// The annotation of a pod that took its revision while it ran, as its images were changed in place or it was adopted:
/// its containers as they were before, as JSON. What befell them before says nothing of the revision.
pub const IN_PLACE: &str = "mainstay.dev/in-place-before";

/// The annotation that tells the owner of a pod's hook that the pod is to be deleted: since when.
pub const PRE_DELETE: &str = "mainstay.dev/pre-delete";

/// The annotation that names the finalizer of a pod's hook.
pub const PRE_DELETE_FINALIZER: &str = "mainstay.dev/pre-delete-finalizer";

/// The finalizer of a group whose pods have hooks: its deletion waits for them.
pub const FINALIZER: &str = "mainstay.dev/pre-delete";

/// The finalizer by which the garbage collector orphans the pods.
pub(crate) const ORPHAN: &str = "orphan";

/// The annotation by which a user says why a template was changed. Each revision keeps its own
/// (<https://kubernetes.io/docs/reference/labels-annotations-taints/#change-cause>).
pub const CHANGE_CAUSE: &str = "kubernetes.io/change-cause";

/// The annotation by which `kubectl rollout restart` changes a template
/// (<https://kubernetes.io/docs/reference/labels-annotations-taints/#kubectl-k8s-io-restart-at>).
pub(crate) const RESTARTED_AT: &str = "kubectl.kubernetes.io/restartedAt";

/// The annotation that ends the pause of a step: `<revision>` or `<revision>/<step>`.
pub const CONTINUE: &str = "mainstay.dev/continue";

/// The annotation that aborts a rollout: its revision.
pub const ABORT: &str = "mainstay.dev/abort";
