//! The kind that owns the pods.

use crate::side::Side;
use k8s_openapi::api::apps::v1::ReplicaSet;
use kube::api::ApiResource;
use mainstay_crds::ReplicaGroup;

/// The kind that owns the pods of a side. The bare client's belong to a ReplicaGroup of 0 replicas, so that they are the
/// same pods; nobody keeps it meanwhile.
pub(super) fn owner_kind(side: Side) -> ApiResource {
    match side {
        Side::Mainstay | Side::Bare => ApiResource::erase::<ReplicaGroup>(&()),
        Side::AloneLifted | Side::Alone | Side::Shipped => ApiResource::erase::<ReplicaSet>(&()),
    }
}
