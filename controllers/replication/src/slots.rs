//! The slots of a group: which sets of volume claims there are, and which of them a new pod uses.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::{claim::Claim, plan::Volumes};

/// The sets of volume claims of one group.
#[derive(Debug, Default)]
pub(crate) struct Slots {
    all: BTreeMap<Arc<str>, Slot>,
    copies: Vec<Arc<Claim>>,
}

/// One set of claims.
#[derive(Debug, Default)]
struct Slot {
    claims: Vec<Arc<Claim>>,
    /// A pod has it, be it terminating.
    held: bool,
    /// A pod that stays has it.
    active: bool,
    /// There is a claim of each template.
    complete: bool,
}

impl Slot {
    /// Another pod can take it over. Not when a claim goes, or has gone after it was used: the others would meet an empty
    /// one. Where none has been used yet, what is missing has only been refused so far.
    fn is_whole(&self) -> bool {
        let used = self.claims.iter().any(|claim| claim.zone.is_some());
        !self.claims.iter().any(|claim| claim.header.terminating) && (self.complete || !used)
    }

    fn is_free(&self) -> bool {
        !self.held && self.is_whole()
    }

    fn zone(&self) -> Option<&str> {
        self.claims.iter().find_map(|claim| claim.zone.as_deref()).filter(|zone| !zone.is_empty())
    }
}

impl Slots {
    /// Sorts a group's claims into slots; `copies` carry the labels of such claims and belong to another owner. `pods`
    /// are the slots of its pods, some of which may have lost their claims, and whether these stay; `is_held` says
    /// whether any pod at all holds a slot, `is_complete` whether claims are all that a slot needs.
    pub(crate) fn of<'a>(
        claims: Vec<Arc<Claim>>,
        copies: Vec<Arc<Claim>>,
        pods: impl Iterator<Item = (&'a Arc<str>, bool)>,
        is_held: impl Fn(&Arc<str>) -> bool,
        is_complete: impl Fn(&[Arc<Claim>]) -> bool,
    ) -> Self {
        let mut all = BTreeMap::<_, Slot>::new();
        for (slot, stays) in pods {
            all.entry(Arc::clone(slot)).or_default().active |= stays;
        }
        for claim in claims {
            all.entry(Arc::clone(&claim.slot)).or_default().claims.push(claim);
        }
        for (name, slot) in &mut all {
            (slot.held, slot.complete) = (is_held(name), is_complete(&slot.claims));
        }
        Self { all, copies }
    }

    /// The input for the planner.
    pub(crate) fn volumes(&self, reuse: bool, discard: bool) -> Volumes {
        let total = self.all.values().filter(|slot| slot.held || slot.is_whole()).count();
        let free = self.all.values().filter(|slot| slot.is_free()).count();
        Volumes { total, free, reuse, discard }
    }

    /// Copies that users have made of claims of the group.
    pub(crate) fn copies(&self) -> &[Arc<Claim>] {
        &self.copies
    }

    /// The claims of all slots.
    pub(crate) fn claims(&self) -> impl Iterator<Item = &Arc<Claim>> {
        self.all.values().flat_map(|slot| &slot.claims)
    }

    /// The claims of one slot.
    pub(crate) fn claims_of(&self, slot: &str) -> &[Arc<Claim>] {
        self.all.get(slot).map(|slot| slot.claims.as_slice()).unwrap_or_default()
    }

    /// Up to `count` free slots for new pods: each from the zone that has fewest pods, those chosen before counted in.
    pub(crate) fn choose(&self, count: usize) -> Vec<Arc<str>> {
        let mut pods = self.count_by_zone(|slot| slot.active);
        let mut free = self.free();
        let mut chosen = Vec::new();
        while chosen.len() < count {
            let first = free.iter().min_by_key(|(name, zone)| (pods.get(zone).copied().unwrap_or(0), *name));
            let Some(&(name, zone)) = first else { break };
            free.remove(&(name, zone));
            *pods.entry(zone).or_insert(0) += 1;
            chosen.push(Arc::clone(name));
        }
        chosen
    }

    /// The claims of up to `count` free slots that are to go, and are not among `kept`: from the zone that has most.
    pub(crate) fn discard(&self, count: usize, kept: &[Arc<str>]) -> Vec<Arc<Claim>> {
        let mut slots = self.count_by_zone(|slot| slot.held || slot.is_whole());
        let mut free = self.free();
        free.retain(|(name, _)| !kept.contains(name));
        let mut gone = Vec::new();
        for _ in 0..count {
            let first = free
                .iter()
                .min_by_key(|(name, zone)| (Reverse(slots.get(zone).copied().unwrap_or(0)), *name));
            let Some(&(name, zone)) = first else { break };
            free.remove(&(name, zone));
            slots.entry(zone).and_modify(|count| *count -= 1);
            gone.extend(self.claims_of(name).iter().cloned());
        }
        gone
    }

    fn free(&self) -> BTreeSet<(&Arc<str>, Option<&str>)> {
        let free = self.all.iter().filter(|(_, slot)| slot.is_free());
        free.map(|(name, slot)| (name, slot.zone())).collect()
    }

    fn count_by_zone(&self, counts: impl Fn(&Slot) -> bool) -> BTreeMap<Option<&str>, usize> {
        let mut zones = BTreeMap::new();
        for slot in self.all.values().filter(|slot| counts(slot)) {
            *zones.entry(slot.zone()).or_insert(0) += 1;
        }
        zones
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::PersistentVolumeClaim;
    use mainstay_runtime::slim::MetadataOf;
    use serde_json::json;

    use super::*;
    use crate::names::{SLOT, ZONE};

    fn claim(slot: &str, zone: Option<&str>, terminating: bool) -> Arc<Claim> {
        let mut metadata =
            json!({"name": format!("data-g-{slot}"), "namespace": "ns", "labels": {SLOT: slot}});
        if let Some(zone) = zone {
            metadata["annotations"] = json!({ZONE: zone});
        }
        if terminating {
            metadata["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        }
        let object = json!({"metadata": metadata});
        Arc::new(serde_json::from_value::<MetadataOf<PersistentVolumeClaim>>(object).unwrap().into())
    }

    fn slots(claims: &[(&str, Option<&str>)], held: &[&str]) -> Slots {
        let held: Vec<Arc<str>> = held.iter().map(|&slot| slot.into()).collect();
        let claims = claims.iter().map(|(slot, zone)| claim(slot, *zone, false)).collect();
        Slots::of(
            claims,
            Vec::new(),
            held.iter().map(|slot| (slot, true)),
            |slot| held.contains(slot),
            |_| true,
        )
    }

    #[test]
    fn the_zone_with_fewest_pods_gets_the_next_one() {
        let (a, b) = (Some("a"), Some("b"));
        let slots = slots(&[("s1", a), ("s2", a), ("s3", b), ("s4", b), ("s5", b)], &["s1", "s2"]);
        assert_eq!(slots.choose(2).iter().map(|slot| &**slot).collect::<Vec<_>>(), ["s3", "s4"]);
        assert_eq!(slots.choose(9).len(), 3, "only what is free");
    }

    #[test]
    fn the_zone_with_most_claims_loses_the_next_one() {
        let (a, b) = (Some("a"), Some("b"));
        let slots = slots(&[("s1", a), ("s2", b), ("s3", b), ("s4", b)], &["s4"]);
        let kept: Vec<Arc<str>> = vec!["s2".into()];
        let gone: Vec<_> = slots.discard(1, &kept).iter().map(|claim| claim.slot.to_string()).collect();
        assert_eq!(gone, ["s3"]);
        assert_eq!(slots.discard(9, &[]).len(), 3);
    }

    #[test]
    fn a_claim_that_goes_is_not_taken_over_and_counts_only_while_a_pod_has_it() {
        let going = |held| {
            Slots::of(vec![claim("s1", None, true)], Vec::new(), [].into_iter(), |_| held, |_| true)
                .volumes(true, true)
        };
        assert_eq!((going(false).total, going(false).free), (0, 0));
        assert_eq!((going(true).total, going(true).free), (1, 0));
    }

    #[test]
    fn what_was_used_and_has_lost_a_claim_is_left_alone() {
        let free = |zone| {
            let claims = vec![claim("s1", zone, false)];
            Slots::of(claims, Vec::new(), [].into_iter(), |_| false, |_| false).volumes(true, true).free
        };
        assert_eq!((free(Some("")), free(Some("a")), free(None)), (0, 0, 1));
    }

    #[test]
    fn a_pod_whose_claims_are_gone_still_has_its_slot() {
        let slots = slots(&[], &["s1"]);
        let volumes = slots.volumes(true, true);
        assert_eq!((volumes.total, volumes.free, slots.claims_of("s1").len()), (1, 0, 0));
    }
}
