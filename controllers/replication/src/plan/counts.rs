//! The counts of pods of each revision, which decide whether a rollout makes progress, is complete or has failed.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;

use super::{
    time::is_available,
    types::{Cause, Claim, Pod, Trouble},
};

/// The pods of one revision.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RevisionCounts {
    /// Neither ended nor terminating.
    pub active: usize,
    /// Active and ready for as long as the policy asks.
    pub available: usize,
    /// The most restarts of a container of an active pod.
    pub restarts: i32,
    /// The longest-lasting trouble of an active pod, apart from scheduling gates.
    pub blocker: Option<Trouble>,
    /// Active pods that a scheduling gate holds.
    pub gated: usize,
    /// Active pods that no node takes.
    pub unschedulable: usize,
}

/// The tallies of all revisions of which there are active pods. Orphans that are to be adopted count.
pub type Tallies<'a> = BTreeMap<&'a str, RevisionCounts>;

/// Counts the pods by revision.
pub fn counts<'a>(pods: &[Pod<'a>], min_ready: Duration, now: Timestamp) -> Tallies<'a> {
    let mut by_revision = Tallies::new();
    for pod in pods.iter().filter(|pod| !pod.phase.is_terminal() && !pod.terminating) {
        if !matches!(pod.claim, Claim::Mine | Claim::OrphanMatching) {
            continue;
        }
        let counts = by_revision.entry(pod.revision).or_default();
        counts.active += 1;
        counts.available += usize::from(is_available(pod, min_ready, now));
        counts.restarts = counts.restarts.max(pod.crashes);
        let is_cause = |cause| pod.blocker.is_some_and(|blocker| blocker.cause == cause);
        counts.gated += usize::from(is_cause(Cause::Gated));
        counts.unschedulable += usize::from(is_cause(Cause::Unschedulable));
        let blocker = pod.blocker.filter(|blocker| blocker.cause != Cause::Gated);
        counts.blocker = [counts.blocker, blocker].into_iter().flatten().max_by_key(|blocker| blocker.lasts);
    }
    by_revision
}
