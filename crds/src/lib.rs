//! The custom resources of Mainstay, one file for each kind.
//!
//! The Rust types here are the only source of the API: their doc comments are the descriptions that
//! `kubectl explain` prints, their attributes are the schema that the API server enforces, and the `crdgen`
//! binary writes both out as manifests. Everything that a schema or a CEL rule can refuse is refused at admission,
//! so that a controller never sees it.

mod account_policy;
mod config_rollout;
mod config_rollout_kinds;
mod config_rollout_stages;
mod config_rollout_status;
mod duration;
mod endpoint_check;
mod endpoint_grant;
mod endpoint_members;
mod endpoint_pool;
mod lifecycle;
mod narrow;
mod node_health_actions;
mod node_health_breakers;
mod node_health_policy;
mod node_health_status;
mod pod_template;
mod replica_group;
mod schema;
mod service_template;
mod update;
mod volume_claims;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

pub use account_policy::{
    AccountPolicy, AccountPolicySpec, AccountPolicyStatus, DeletionPolicy, FailingNamespace,
    LeavingNamespace, NamespaceCounts, PolicyAccount, PolicyBinding, PolicyKubeconfig, PolicyPullSecret,
    PolicyRole, PolicyToken, RoleKind, SecretSource, TokenExpiry,
};
pub use config_rollout::{
    ConfigMode, ConfigRollout, ConfigRolloutSpec, ConfigSource, IncompletePolicy, RollbackPolicy,
};
pub use config_rollout_kinds::{SourceKind, TargetKind};
pub use config_rollout_stages::{ConfigGate, ConfigProbe, ConfigStage, ConfigTarget};
pub use config_rollout_status::{
    ConfigFailure, ConfigRequests, ConfigRolloutProgress, ConfigRolloutStatus, ConfigTargetStatus,
    SourceProblem,
};
pub use duration::{Duration, seconds};
pub use endpoint_check::{CheckType, EndpointCheck, GrpcCheck, HttpCheck, TlsCheck};
pub use endpoint_grant::{EndpointGrant, EndpointGrantSpec, GrantedTo};
pub use endpoint_members::{MemberAddress, MemberPort, PoolMembers};
pub use endpoint_pool::{
    EndpointPool, EndpointPoolSpec, EndpointPoolStatus, FailoverPolicy, MemberCounts, MemberOut,
    ServiceReference, SlowStart, TierHealth,
};
pub use lifecycle::{Lifecycle, PreDelete};
pub use node_health_actions::{
    Actions, DrainAction, OnDeadline, OutOfServiceAction, RemediationPolicy, RemediationTemplate, StepAction,
    TaintAction, TaintEffect,
};
pub use node_health_breakers::{Breaker, Breakers, Flapping, MaxActionsPer};
pub use node_health_policy::{
    ConditionStatus, KubeletProbe, KubeletProbeType, NodeHealthPolicy, NodeHealthPolicySpec, SecondOpinion,
    UnhealthyCondition,
};
pub use node_health_status::{
    BreakerStatus, NodeCounts, NodeHealthPolicyStatus, TemplateKind, UnhealthyNode,
};
pub use pod_template::{PodTemplate, PodTemplateMeta};
pub use replica_group::{
    NodePreference, PodReplacement, PodsToDeletePolicy, ReplicaGroup, ReplicaGroupSpec, ReplicaGroupStatus,
    ScaleDown,
};
pub use service_template::ServiceTemplate;
pub use update::{
    FailureAction, FailurePolicy, FailureStatus, HeldRevision, InPlace, KeptReplicas, Pause, RolloutStatus,
    Step, Update, UpdateType,
};
pub use volume_claims::{
    ClaimRetention, ClaimReuse, Retention, VolumeClaimMeta, VolumeClaimTemplate, VolumeClaims,
};

/// The API group of every kind.
pub const GROUP: &str = "mainstay.dev";

/// The served and stored version of every kind.
pub const VERSION: &str = "v1alpha1";

/// Every custom resource definition, in the order of installation. Their schemas admit nothing that the types cannot
/// represent, which the definitions that are derived from the types do not promise.
pub fn all() -> Vec<CustomResourceDefinition> {
    let derived = [
        ReplicaGroup::crd(),
        EndpointPool::crd(),
        EndpointGrant::crd(),
        NodeHealthPolicy::crd(),
        ConfigRollout::crd(),
        AccountPolicy::crd(),
    ];
    derived.map(narrow::narrow).into()
}
