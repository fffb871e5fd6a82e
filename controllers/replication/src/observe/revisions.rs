//! The revisions of a group.

use std::{borrow::Cow, sync::Arc};

use mainstay_crds::{PodTemplate, ReplicaGroup};

use crate::{
    images::{self, Image},
    names::RESTARTED_AT,
    plan,
    revision::{self, Revision},
    rollout::State,
    stores::Stores,
};

/// What `spec.rollbackTo` names instead of a revision, to go back to the one before.
pub(crate) const PREVIOUS: &str = "previous";

/// The templates that a group has and has had.
#[derive(Debug)]
pub struct Revisions {
    /// The revision that the spec asks for.
    pub wanted: Arc<str>,
    /// The revision of the spec's template.
    pub own: Arc<str>,
    /// `spec.rollbackTo`, where it names no revision of the group.
    pub unknown: Option<String>,
    /// What `previous` in `spec.rollbackTo` was taken for.
    pub pinned: Option<Arc<str>>,
    /// Those that are kept.
    pub kept: Vec<Arc<Revision>>,
    /// Whether the spec's template is kept, or is to be within this reconcile. If not, no pod is brought to it.
    pub stored: bool,
}

impl Revisions {
    pub(super) fn of(group: &ReplicaGroup, uid: &Arc<str>, stores: &Stores) -> Self {
        let mut kept = stores.revisions.bucket(uid);
        // The name tells which revision it is; a copy of one, or one of another label, is none.
        kept.retain(|kept| revision::hash_of(group, &kept.header.key.name).as_ref() == Some(&kept.hash));
        let own = own(group, &kept);
        let named = group.spec.rollback_to.as_ref();
        let found = named.and_then(|name| revision::hash_of(group, name));
        let found = found.filter(|hash| *hash == own || has_template(&kept, hash));
        Self {
            unknown: named.filter(|_| found.is_none()).cloned(),
            wanted: found.unwrap_or_else(|| Arc::clone(&own)),
            own,
            pinned: None,
            kept,
            stored: true,
        }
    }

    /// Where `group`, whose revisions these are, goes back to the one before, finds out which that is. Once that is in its
    /// `state` it stays so: neither the end of the rollback nor a corrected template must turn it round.
    pub(crate) fn resolve(&mut self, group: &ReplicaGroup, state: &State) {
        if group.spec.rollback_to.as_deref() != Some(PREVIOUS) {
            return;
        }
        let is_there = |hash: &&Arc<str>| **hash == self.own || has_template(&self.kept, hash);
        let is_other = |hash: &&Arc<str>| **hash != self.own && is_there(hash);
        let found = state.pinned.as_ref().filter(is_there);
        let found =
            found.or(state.current.as_ref().filter(is_other)).or(state.previous.as_ref().filter(is_other));
        self.pinned = found.cloned().or_else(|| self.before_own(state));
        if let Some(pinned) = &self.pinned {
            (self.wanted, self.unknown) = (Arc::clone(pinned), None);
        }
    }

    /// The revision below that of the spec's template, in a group whose status does not say which was current before.
    fn before_own(&self, state: &State) -> Option<Arc<str>> {
        let own = self.number(&self.own).unwrap_or(i64::MAX);
        let is_before = |kept: &&Arc<Revision>| kept.has_template() && kept.number < own;
        let good = self.kept.iter().filter(is_before).filter(|kept| !state.has_failed(&kept.hash));
        good.max_by_key(|kept| kept.number).map(|kept| Arc::clone(&kept.hash))
    }

    /// The revision of the spec's template, where it is kept.
    pub(crate) fn stands(&self) -> Option<&Arc<Revision>> {
        self.kept.iter().find(|kept| kept.hash == self.own)
    }

    /// The template of a revision of `group`, whose revisions these are.
    pub fn template<'a>(&self, hash: &str, group: &'a ReplicaGroup) -> Option<Cow<'a, PodTemplate>> {
        if *hash == *self.own {
            return Some(Cow::Borrowed(&group.spec.template));
        }
        of_hash(&self.kept, hash)?.template().map(Cow::Owned)
    }

    /// The images that differ between two revisions of `group`; `None` unless they are all that does.
    pub(crate) fn changed_images(&self, old: &str, new: &str, group: &ReplicaGroup) -> Option<Vec<Image>> {
        images::changed(&*self.template(old, group)?, &*self.template(new, group)?)
    }

    /// Whether two revisions of `group` are the same but for when their pods were to be restarted.
    pub(crate) fn only_restarts(&self, old: &str, new: &str, group: &ReplicaGroup) -> bool {
        let without = |hash| {
            let mut template = self.template(hash, group)?.into_owned();
            template.metadata.as_mut()?.annotations.remove(RESTARTED_AT);
            Some(template)
        };
        old != new && without(old).is_some_and(|old| without(new) == Some(old))
    }

    /// The place in the group's history of a revision whose template is kept.
    pub(super) fn number(&self, hash: &str) -> Option<i64> {
        let kept = self.kept.iter().find(|kept| *kept.hash == *hash && kept.has_template());
        kept.map(|kept| kept.number)
    }

    /// Whether pods of that revision can be made.
    pub(crate) fn is_known(&self, hash: &str) -> bool {
        *hash == *self.own || has_template(&self.kept, hash)
    }

    /// The revisions that no pod and no rollback needs, beyond as many as `group` keeps. `labelled` are those of its pods.
    pub(super) fn superseded<'a>(
        &'a self,
        group: &ReplicaGroup,
        state: &'a State,
        labelled: impl Iterator<Item = &'a str>,
    ) -> Vec<Arc<Revision>> {
        let Self { kept, own, wanted, .. } = self;
        let limit = usize::try_from(group.spec.revision_history_limit).unwrap_or_default();
        // Nothing to look for in nearly every reconcile.
        if kept.len() <= limit {
            return Vec::new();
        }
        let failed = state.failed.as_ref().map(|failed| &failed.revision);
        let named = [Some(own), Some(wanted), state.current.as_ref(), failed].into_iter().flatten();
        // Of those that are held pods are made again when they are lost, be there none just now.
        let held = state.rollout.iter().flat_map(|rollout| &rollout.held).map(|share| &share.revision);
        let needed = named.chain(held).map(|hash| &**hash).chain(labelled).collect();
        let numbers: Vec<_> = kept.iter().map(|kept| (&*kept.hash, kept.number)).collect();
        plan::superseded(&numbers, &needed, limit).into_iter().map(|place| Arc::clone(&kept[place])).collect()
    }
}

fn of_hash<'a>(kept: &'a [Arc<Revision>], hash: &str) -> Option<&'a Arc<Revision>> {
    kept.iter().find(|revision| *revision.hash == *hash)
}

fn has_template(kept: &[Arc<Revision>], hash: &str) -> bool {
    of_hash(kept, hash).is_some_and(|revision| revision.has_template())
}

/// The revision of the spec's template: the one that is kept of an equal template, whatever its hash. A later version of
/// this program may compute another hash, and no pod must be replaced for that.
fn own(group: &ReplicaGroup, kept: &[Arc<Revision>]) -> Arc<str> {
    let hash = revision::hash(&group.spec.template);
    if has_template(kept, &hash) {
        return hash;
    }
    let is_equal = |revision: &&Arc<Revision>| revision.template().as_ref() == Some(&group.spec.template);
    let equal = kept.iter().filter(is_equal).max_by_key(|revision| revision.number);
    equal.map_or(hash, |revision| Arc::clone(&revision.hash))
}
