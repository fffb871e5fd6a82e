//! How many pods of the previous revision are kept during a rollout.
//!
//! Only a rollout moves pods from one revision to another: a pod that is lost meanwhile is recreated from its own
//! revision, as far as new ones have not replaced it, and a group that is scaled meanwhile is scaled in the proportion
//! that the rollout has reached. While no pod of the new revision has been available, all pods that the limits require
//! are old. This is what the replicas of a Deployment's old ReplicaSets are for.

use std::sync::Arc;

use super::{Change, Kept, Rollout};
use crate::plan::{Share, Strategy};

impl Change<'_> {
    /// How many old pods there are to be until new ones are available in their place. It never grows but with the group:
    /// new pods that stop being available bring no old ones back.
    pub(super) fn old_to_keep(&self, rollout: &mut Rollout) -> usize {
        let Strategy::Rolling { unavailable, .. } = self.settings.strategy else { return 0 };
        let replicas = self.settings.replicas;
        // A change that begins without old pods, such as that of a group which was scaled to 0, brings none back.
        if replicas == 0 || rollout.kept.is_none() && self.others() == 0 {
            return 0;
        }
        let floor = replicas.saturating_sub(unavailable);
        let new = self.available_once(rollout);
        let stands = rollout.kept.filter(|_| new > 0).map_or(floor, |kept| kept.scaled(replicas));
        let kept = stands.min(floor.saturating_sub(new));
        rollout.kept = Some(Kept { replicas: kept, of: replicas });
        kept
    }

    /// The most new pods that have been available at one time.
    pub(super) fn available_once(&self, rollout: &Rollout) -> usize {
        self.counts().available.max(rollout.available)
    }

    /// `old` pods as a share of `base`, less those that other old revisions have available.
    pub(super) fn keep(&self, base: &Arc<str>, old: usize) -> Option<Share> {
        let is_other = |revision: &str| *revision != **base && *revision != *self.target;
        let others = self.by_revision.iter().filter(|(revision, _)| is_other(revision));
        let available: usize = others.map(|(_, counts)| counts.available).sum();
        let replicas = old.saturating_sub(available);
        (replicas > 0).then(|| self.share(base, replicas))
    }
}
