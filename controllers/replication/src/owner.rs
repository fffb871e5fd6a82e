//! Who controls an object.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use mainstay_runtime::owner;

/// The object that controls another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Controller {
    /// The controller's UID.
    pub uid: Arc<str>,
    /// Its name, when it is a ReplicaGroup.
    pub group: Option<Arc<str>>,
}

impl Controller {
    /// Whether it is of another kind: what it controls is no group's.
    pub(crate) fn is_foreign(&self) -> bool {
        self.group.is_none()
    }

    /// The controller of an object.
    pub(crate) fn of(metadata: &ObjectMeta) -> Option<Self> {
        let owner = owner::controller(metadata)?;
        let group = is_replica_group(&owner.api_version, &owner.kind).then(|| owner.name.as_str().into());
        Some(Self { uid: owner.uid.as_str().into(), group })
    }
}

fn is_replica_group(api_version: &str, kind: &str) -> bool {
    kind == "ReplicaGroup" && api_version.split('/').next() == Some(mainstay_crds::GROUP)
}
