//! Labels and annotations by which this controller and others recognise its objects and reports.

/// The field manager of everything that this controller writes.
pub const FIELD_MANAGER: &str = "mainstay-endpoints";
/// The label that says who manages a slice.
pub const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
/// This controller, in that label.
pub const MANAGER: &str = "endpointpool.mainstay.dev";
/// The label that names the Service of a slice.
pub const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// The label that names the pool of a slice.
pub const POOL: &str = "mainstay.dev/pool";
/// The annotation of a slice that holds [`Notes`](crate::watched::Notes), as JSON.
pub const NOTES: &str = "mainstay.dev/notes";
/// The annotation of a slice since when what it says is true, for those who measure how long it takes until it is programmed
/// (`EndpointsLastChangeTriggerTime`).
pub const TRIGGER_TIME: &str = "endpoints.kubernetes.io/last-change-trigger-time";
/// The readiness gate that stays closed until an endpoint of the pod has answered its first check.
pub const READINESS_GATE: &str = "mainstay.dev/endpoint-ready";
/// The label that says that the Service of a slice has no address of its own.
pub(crate) const HEADLESS: &str = "service.kubernetes.io/headless";
