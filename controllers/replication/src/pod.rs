//! Pods and budgets as the stores keep them: what a plan reads, and nothing else.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use mainstay_runtime::{
    index::Indexed,
    labels::{LabelPool, Labels},
    slim::{Header, MetadataOf},
};

use self::watched::{blocker, crashes, in_place, last_change, phase, ready_since, restarted, restarts};
pub use self::{
    in_place::{Before, InPlace},
    watched::WatchedPod,
};
use crate::{
    names::{DELETION_COST, IN_PLACE, PRE_DELETE, PRE_DELETE_FINALIZER, SLOT},
    owner::Controller,
    plan::{Cause, Gate, Phase},
};

mod in_place;
mod watched;

/// A pod as the store keeps it.
#[derive(Debug, PartialEq)]
pub struct Pod {
    /// Name, UID and version.
    pub header: Header,
    /// `metadata.labels`.
    pub labels: Labels,
    /// The owner reference with `controller: true`.
    pub controller: Option<Controller>,
    /// `spec.nodeName`.
    pub node: Option<Arc<str>>,
    /// `status.phase`.
    pub phase: Phase,
    /// Since when it is ready.
    pub ready_since: Option<Timestamp>,
    /// `metadata.creationTimestamp`.
    pub created: Timestamp,
    /// When it ended, as far as its status tells.
    pub ended_at: Option<Timestamp>,
    /// Its deletion cost; 0 unless its annotation says otherwise.
    pub deletion_cost: i32,
    /// The most restarts of any container.
    pub restarts: i32,
    /// The most restarts of any sidecar.
    pub sidecar_restarts: i32,
    /// The most restarts of any container, those that run at the start included, since it took its revision.
    pub crashes: i32,
    /// How often each container has restarted in its life, of those that have.
    pub restarted: BTreeMap<String, i32>,
    /// What keeps it from becoming ready.
    pub blocker: Option<Cause>,
    /// For a pod whose images may be changed in place.
    pub in_place: Option<Box<InPlace>>,
    /// The hook that is waited for before it is deleted.
    pub hook: Option<Box<Hook>>,
    /// The set of volume claims that it holds.
    pub slot: Option<Arc<str>>,
}

/// The hook of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    /// The finalizer of the hook.
    pub finalizer: String,
    /// Whether the pod still has the finalizer.
    pub held: bool,
    /// Since when its owner knows that the pod is to go.
    pub since: Option<Timestamp>,
}

impl Hook {
    fn of(metadata: &ObjectMeta) -> Option<Self> {
        let annotation = |name| metadata.annotations.as_ref().and_then(|annotations| annotations.get(name));
        let finalizer = annotation(PRE_DELETE_FINALIZER)?.clone();
        let deleted = metadata.deletion_timestamp.as_ref().map(|time| time.0);
        // A time that somebody has made unreadable must not hold the pod for ever.
        let notified = annotation(PRE_DELETE).map(|since| since.parse().unwrap_or(Timestamp::UNIX_EPOCH));
        let held = metadata.finalizers.iter().flatten().any(|name| *name == finalizer);
        Some(Self { finalizer, held, since: notified.or(deleted) })
    }
}

impl Pod {
    /// Its containers as they are before it takes a revision, which brings others in the place of `replaced`.
    pub fn before(&self, replaced: BTreeMap<String, Before>) -> BTreeMap<String, Before> {
        let kept = self.restarted.iter().map(|(name, restarts)| (name.clone(), Before::kept(*restarts)));
        kept.chain(replaced).collect()
    }
}

/// The sets in which reconciles ask for pods.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Bucket {
    /// The pods that the object of this UID controls.
    ControlledBy(Arc<str>),
    /// The pods of this namespace that have no controller.
    Orphans(Arc<str>),
    /// The pods of this namespace (the first value) that hold this set of volume claims, whoever controls them. A pod
    /// that has ended does not hold them: its node has released its volumes, and it may be kept for a long time for
    /// inspection.
    Holding(Arc<str>, Arc<str>),
    /// The pods that stay on this node: those that have ended or are terminating do not keep a node from becoming
    /// empty.
    On(Arc<str>),
}

impl Indexed for Pod {
    type Bucket = Bucket;

    fn header(&self) -> &Header {
        &self.header
    }
    fn buckets(&self) -> Vec<Bucket> {
        let by_owner = match &self.controller {
            Some(controller) if controller.is_foreign() => None,
            Some(controller) => Some(Bucket::ControlledBy(Arc::clone(&controller.uid))),
            None => Some(Bucket::Orphans(Arc::clone(&self.header.key.namespace))),
        };
        let on = self.node.as_ref().filter(|_| !self.phase.is_terminal() && !self.header.terminating);
        let on = on.map(|node| Bucket::On(Arc::clone(node)));
        let slot = self.slot.as_ref().filter(|_| !self.phase.is_terminal());
        let slot = slot.map(|slot| Bucket::Holding(Arc::clone(&self.header.key.namespace), Arc::clone(slot)));
        [by_owner, on, slot].into_iter().flatten().collect()
    }
    fn is_same(&self, other: &Self) -> bool {
        self == other
    }
}

impl Pod {
    /// What the store keeps of a watched pod.
    pub fn slim(mut watched: WatchedPod, pool: &mut LabelPool) -> Self {
        let header = Header::of(&watched);
        let controller = Controller::of(&watched.metadata);
        if controller.as_ref().is_some_and(Controller::is_foreign) {
            watched = watched.of_another();
        }
        let WatchedPod { mut metadata, spec, status } = watched;
        let phase = phase(status.phase.as_deref());
        let created = metadata.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0);
        let cost = metadata.annotations.as_ref().and_then(|annotations| annotations.get(DELETION_COST));
        let (restarts, sidecar_restarts) = restarts(&spec.init_containers, &status);
        let before = metadata.annotations.as_ref().and_then(|annotations| annotations.get(IN_PLACE));
        let before: BTreeMap<String, Before> =
            before.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
        let in_place = in_place(&spec, &status, &before);
        let hook = Hook::of(&metadata);
        let mut labels = metadata.labels.take().unwrap_or_default();
        // Apart from this one pods of a template share their labels.
        let slot = labels.remove(SLOT);
        let closed = in_place.as_ref().is_some_and(|in_place| in_place.gate == Gate::Closed);
        Self {
            header,
            controller,
            node: spec.node_name.filter(|node| !node.is_empty()).map(Into::into),
            phase,
            ready_since: ready_since(&status.conditions, created).filter(|_| !closed),
            ended_at: phase.is_terminal().then(|| last_change(&status)).flatten(),
            created,
            deletion_cost: cost.and_then(|cost| cost.parse().ok()).unwrap_or_default(),
            restarts,
            sidecar_restarts,
            crashes: crashes(&status, &before),
            restarted: restarted(&status),
            in_place: in_place.map(Box::new),
            blocker: blocker(&status),
            labels: pool.share(labels),
            hook: hook.map(Box::new),
            slot: slot.map(Into::into),
        }
    }
}

/// An object of which it matters only that there is one in its namespace.
#[derive(Debug)]
pub struct Present {
    /// Name, UID and version.
    pub header: Header,
}

impl<K: Resource<DynamicType = ()>> From<MetadataOf<K>> for Present {
    fn from(watched: MetadataOf<K>) -> Self {
        Self { header: Header::of(&watched) }
    }
}

impl Indexed for Present {
    /// The namespace.
    type Bucket = Arc<str>;

    fn header(&self) -> &Header {
        &self.header
    }
    fn buckets(&self) -> Vec<Arc<str>> {
        vec![Arc::clone(&self.header.key.namespace)]
    }
    fn is_same(&self, _: &Self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests;
