//! Who controls an object.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

/// The object that controls another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Controller {
    /// The controller's UID.
    pub uid: Arc<str>,
    /// Its name, when it is a ReplicaGroup.
    pub group: Option<Arc<str>>,
}

impl Controller {
    /// The controller among the owners of an object.
    pub(crate) fn of(owners: Option<Vec<OwnerReference>>) -> Option<Self> {
        let owner = owners.into_iter().flatten().find(|owner| owner.controller == Some(true))?;
        let group = is_replica_group(&owner.api_version, &owner.kind).then(|| owner.name.into());
        Some(Self { uid: owner.uid.into(), group })
    }
}

fn is_replica_group(api_version: &str, kind: &str) -> bool {
    kind == "ReplicaGroup" && api_version.split('/').next() == Some(mainstay_crds::GROUP)
}
