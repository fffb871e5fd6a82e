//! Upkeep of a group and its volume claims, besides the pods themselves.

use std::{collections::BTreeMap, sync::Arc};

use kube::ResourceExt;
use mainstay_crds::{ReplicaGroup, Retention};

use crate::{
    claim::Claim,
    names::{FINALIZER, ORPHAN},
    plan::Ending,
    pod::Pod,
    slots::Slots,
};

/// Small writes that are due.
#[derive(Debug, Default)]
pub struct Upkeep {
    /// The group's finalizer is to be set, or removed.
    pub finalizer: Option<bool>,
    /// Claims that are not as they should be.
    pub claims: Vec<Repair>,
}

/// What is to be changed of a claim.
#[derive(Debug)]
pub struct Repair {
    /// The claim.
    pub claim: Arc<Claim>,
    /// Whether the group is to own it, so that it is deleted with the group.
    pub owned: bool,
    /// The zone that it is used in.
    pub zone: Option<Arc<str>>,
}

impl Upkeep {
    /// What is due for `group`, given its own pods and the zones in which pods with a slot run. `held`: whether there
    /// are pods whose hooks only this group would end.
    pub(crate) fn of<'a>(
        group: &ReplicaGroup,
        uid: &str,
        pods: impl Iterator<Item = &'a Arc<Pod>>,
        held: bool,
        zone_of: impl Fn(&Pod) -> Option<Arc<str>>,
        slots: &Slots,
    ) -> Self {
        let live = pods.filter(|pod| !pod.phase.is_terminal());
        let zones = live.filter_map(|pod| Some((pod.slot.as_ref()?, zone_of(pod)?))).collect();
        let has = has_finalizer(group, FINALIZER);
        let going = group.metadata.deletion_timestamp.is_some();
        let wants = held || !going && group.spec.lifecycle.pre_delete.is_some();
        let finalizer = (has != wants && (has || !going)).then_some(wants);
        // The garbage collector has begun to follow the owners that there are.
        let claims = if going { Vec::new() } else { repairs(group, uid, &zones, slots) };
        Self { finalizer, claims }
    }

    /// Nothing is due.
    pub fn is_empty(&self) -> bool {
        self.finalizer.is_none() && self.claims.is_empty()
    }
}

/// What happens to the pods of a group that is being deleted.
pub(crate) fn ending(group: &ReplicaGroup) -> Option<Ending> {
    group.metadata.deletion_timestamp.as_ref()?;
    Some(match (has_finalizer(group, FINALIZER), has_finalizer(group, ORPHAN)) {
        (true, true) => Ending::OrphanPods,
        (true, false) => Ending::DrainFirst,
        (false, _) => Ending::GarbageCollected,
    })
}

fn has_finalizer(group: &ReplicaGroup, name: &str) -> bool {
    group.finalizers().iter().any(|finalizer| finalizer == name)
}

fn repairs(
    group: &ReplicaGroup,
    uid: &str,
    zones: &BTreeMap<&Arc<str>, Arc<str>>,
    slots: &Slots,
) -> Vec<Repair> {
    let owned = group.spec.volume_claims.retention.when_deleted == Retention::Delete;
    let repair = |claim: &Arc<Claim>| {
        let zone = zones.get(&claim.slot).filter(|zone| claim.zone.as_ref() != Some(*zone));
        // One that another object controls is left to it.
        let is_mine = claim.owner.as_deref() == Some(uid);
        let is_wrong = if owned { claim.owner.is_none() } else { is_mine };
        let due = !claim.header.terminating && (is_wrong || zone.is_some());
        let owned = if is_wrong { owned } else { is_mine };
        due.then(|| Repair { claim: Arc::clone(claim), owned, zone: zone.cloned() })
    };
    // Whoever copies a claim copies the owner too, and with it the copy would be deleted.
    let is_owned = |copy: &&Arc<Claim>| copy.owner.as_deref() == Some(uid) && !copy.header.terminating;
    let disown = |copy: &Arc<Claim>| Repair { claim: Arc::clone(copy), owned: false, zone: None };
    let copies = slots.copies().iter().filter(is_owned).map(disown);
    slots.claims().filter_map(repair).chain(copies).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn group(metadata: Value, hook: bool) -> ReplicaGroup {
        let lifecycle = if hook { json!({"preDelete": {"finalizer": "example.com/x"}}) } else { json!({}) };
        let mut object = json!({
            "apiVersion": "mainstay.dev/v1alpha1", "kind": "ReplicaGroup", "metadata": metadata,
            "spec": {"selector": {}, "template": {}, "lifecycle": lifecycle}
        });
        object["metadata"]["name"] = json!("web");
        serde_json::from_value(object).unwrap()
    }

    fn finalizer(group: &ReplicaGroup, held: bool) -> Option<bool> {
        Upkeep::of(group, "u", [].into_iter(), held, |_| None, &Slots::default()).finalizer
    }

    const GOING: &str = "2026-01-01T00:00:00Z";

    #[test]
    fn the_group_waits_for_hooks_from_before_its_first_pod_to_its_last() {
        assert_eq!(finalizer(&group(json!({}), false), false), None);
        assert_eq!(finalizer(&group(json!({}), true), false), Some(true));
        let ours = json!({"finalizers": [FINALIZER]});
        assert_eq!(finalizer(&group(ours.clone(), true), false), None);
        // The hook is taken out of the spec: pods that still have it are waited for.
        assert_eq!(finalizer(&group(ours.clone(), false), true), None);
        assert_eq!(finalizer(&group(ours, false), false), Some(false));
    }

    #[test]
    fn a_group_on_its_way_out_is_held_by_hooks_alone() {
        let going = |finalizers: Value| json!({"finalizers": finalizers, "deletionTimestamp": GOING});
        let held = group(going(json!([FINALIZER])), true);
        assert_eq!((finalizer(&held, true), ending(&held)), (None, Some(Ending::DrainFirst)));
        assert_eq!(finalizer(&held, false), Some(false));
        let orphaning = group(going(json!([FINALIZER, ORPHAN])), true);
        assert_eq!((finalizer(&orphaning, true), ending(&orphaning)), (None, Some(Ending::OrphanPods)));
        assert_eq!(finalizer(&orphaning, false), Some(false));
        // A finalizer cannot be set any more.
        assert_eq!(finalizer(&group(going(json!([ORPHAN])), true), true), None);
    }
}
