//! Which pods can be brought to another revision in place.

use std::collections::BTreeMap;

use mainstay_crds::{InPlace, ReplicaGroup};

use super::Observed;
use crate::{
    names::REVISION,
    plan::{self, Strategy, Tallies},
};

impl Observed {
    /// How pods are replaced by those of `target`. Pods that can be updated in place need no other pod beside them.
    pub(super) fn strategy(&self, group: &ReplicaGroup, target: &str, by_revision: &Tallies<'_>) -> Strategy {
        match self.settings.strategy {
            Strategy::Rolling { unavailable, .. }
                if unavailable > 0 && self.change_in_place(group, target, by_revision) =>
            {
                Strategy::Rolling { surge: 0, unavailable }
            }
            strategy => strategy,
        }
    }

    /// Whether the spec asks for all pods of other revisions than `target` to be changed in place, and they can be.
    pub(super) fn change_in_place(
        &self,
        group: &ReplicaGroup,
        target: &str,
        by_revision: &Tallies<'_>,
    ) -> bool {
        let follows = |hash: &&str| self.revisions.changed_images(hash, target, group).is_some();
        group.spec.update.in_place == InPlace::IfPossible
            && by_revision.keys().filter(|hash| **hash != target).all(follows)
    }

    /// Puts into `pods`, which are the group's in its order, which of them can be brought to `target` in place.
    pub(super) fn find_changeable(&self, group: &ReplicaGroup, target: &str, pods: &mut [plan::Pod<'_>]) {
        if group.spec.update.in_place != InPlace::IfPossible {
            return;
        }
        let mut known = BTreeMap::new();
        for (pod, member) in pods.iter_mut().zip(&self.pods) {
            let (Some(state), Some(old)) = (&member.pod.in_place, member.pod.labels.get(REVISION)) else {
                continue;
            };
            let follows = || self.revisions.changed_images(old, target, group).is_some();
            if *known.entry(old).or_insert_with(follows) {
                pod.in_place = Some(plan::InPlace { still_ready: state.still_ready });
            }
        }
    }
}
