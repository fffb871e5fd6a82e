//! Volume claims as the store keeps them.
//!
//! The claims of one pod are identified by a slot, a few letters at the end of their names, which they and the pod
//! also carry as a label. A pod that reuses claims gets their slot. Claims are found by label, but whether a claim
//! belongs to the group is decided by its name, since a copy of a claim carries the labels too.

use std::sync::Arc;

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::ResourceExt;
use mainstay_crds::{ReplicaGroup, VolumeClaimTemplate};
use mainstay_runtime::{
    index::{Indexed, ObjectKey},
    slim::{Header, MetadataOf},
};

use crate::{
    names::{GROUP, SLOT, ZONE},
    owner::Controller,
};

/// The name of a group's claim of one template.
pub fn name(template: &VolumeClaimTemplate, group: &str, slot: &str) -> String {
    format!("{}-{group}-{slot}", template.metadata.name)
}

/// Whether `claim` is of that template of a group.
fn is_of(claim: &Claim, template: &VolumeClaimTemplate, group: &str) -> bool {
    *claim.header.key.name == *name(template, group, &claim.slot)
}

/// Whether a claim of that name that is labelled with `group` and `slot` is one of the group's, and no copy of one.
pub(crate) fn is_own(group: &ReplicaGroup, claim: &str, slot: &str) -> bool {
    let templates = &group.spec.volume_claim_templates;
    templates.iter().any(|template| *claim == *name(template, &group.name_any(), slot))
}

/// Whether one slot's claims are there for each template of `group`.
pub(crate) fn are_complete(claims: &[Arc<Claim>], group: &ReplicaGroup) -> bool {
    let (templates, name) = (&group.spec.volume_claim_templates, group.name_any());
    templates.iter().all(|template| claims.iter().any(|claim| is_of(claim, template, &name)))
}

/// Whether the pods of `group` have claims.
pub fn are_wanted(group: &ReplicaGroup) -> bool {
    !group.spec.volume_claim_templates.is_empty()
}

/// A claim as the store keeps it.
#[derive(Debug, PartialEq)]
pub struct Claim {
    /// Name, UID and version.
    pub header: Header,
    /// The name of its group.
    pub group: Arc<str>,
    /// Its slot.
    pub slot: Arc<str>,
    /// The UID of the object that controls it.
    pub owner: Option<Arc<str>>,
    /// The zone that it was last used in; `None` before its first use.
    pub zone: Option<Arc<str>>,
}

impl From<MetadataOf<PersistentVolumeClaim>> for Claim {
    fn from(watched: MetadataOf<PersistentVolumeClaim>) -> Self {
        let header = Header::of(&watched);
        let metadata = watched.metadata;
        let label = |name| metadata.labels.as_ref().and_then(|labels| labels.get(name));
        let zone = metadata.annotations.as_ref().and_then(|annotations| annotations.get(ZONE));
        Self {
            group: label(GROUP).map(String::as_str).unwrap_or_default().into(),
            slot: label(SLOT).map(String::as_str).unwrap_or_default().into(),
            zone: zone.map(|zone| zone.as_str().into()),
            owner: Controller::of(&metadata).map(|controller| controller.uid),
            header,
        }
    }
}

impl Indexed for Claim {
    /// Namespace and name of the group.
    type Bucket = ObjectKey;

    fn header(&self) -> &Header {
        &self.header
    }
    fn buckets(&self) -> Vec<ObjectKey> {
        vec![ObjectKey { namespace: Arc::clone(&self.header.key.namespace), name: Arc::clone(&self.group) }]
    }
    fn is_same(&self, other: &Self) -> bool {
        self == other
    }
}
