//! The counts of pods of each revision, which decide whether a rollout makes progress, is complete or has failed.

use std::{cmp::Reverse, collections::BTreeMap, time::Duration};

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
    /// The longest-lasting trouble of an active pod, apart from those that are counted.
    pub blocker: Option<Trouble>,
    /// Active pods that a scheduling gate holds.
    pub gated: usize,
    /// Active pods that their nodes have not prepared, which takes a moment for each.
    pub unprepared: usize,
    /// The longest that one of these has waited.
    pub unprepared_for: Duration,
    /// Active pods that no node takes.
    pub unschedulable: usize,
    /// For how long more of them than are excused have waited.
    pub unschedulable_for: Duration,
}

impl RevisionCounts {
    /// What pods wait for that their nodes have not prepared.
    pub(crate) fn setup(&self) -> String {
        let pods = match self.unprepared {
            1 => "1 pod waits".to_owned(),
            pods => format!("{pods} pods wait"),
        };
        format!(
            "{pods} for volumes or a network, for example because a ConfigMap or Secret does not exist: see the \
             events of such a pod"
        )
    }
}

/// The tallies of all revisions of which there are active pods. Orphans that are to be adopted count.
pub type Tallies<'a> = BTreeMap<&'a str, RevisionCounts>;

/// Counts the pods by revision. Of each, this many pods that no node takes are `excused`: those that have waited the longest.
pub fn counts<'a>(pods: &[Pod<'a>], min_ready: Duration, now: Timestamp, excused: usize) -> Tallies<'a> {
    let (mut by_revision, mut unscheduled) = (Tallies::new(), BTreeMap::<_, Vec<_>>::new());
    for pod in pods.iter().filter(|pod| !pod.phase.is_terminal() && !pod.terminating) {
        if !matches!(pod.claim, Claim::Mine | Claim::OrphanMatching) {
            continue;
        }
        let counts = by_revision.entry(pod.revision).or_default();
        counts.active += 1;
        counts.available += usize::from(is_available(pod, min_ready, now));
        counts.restarts = counts.restarts.max(pod.crashes);
        match pod.blocker {
            Some(Trouble { cause: Cause::Gated, .. }) => counts.gated += 1,
            Some(Trouble { cause: Cause::Unschedulable, lasts }) => {
                unscheduled.entry(pod.revision).or_default().push(lasts);
            }
            Some(Trouble { cause: Cause::Setup, lasts }) => {
                counts.unprepared += 1;
                counts.unprepared_for = counts.unprepared_for.max(lasts);
            }
            blocker => counts.blocker = counts.blocker.into_iter().chain(blocker).max_by_key(|one| one.lasts),
        }
    }
    for (revision, mut waits) in unscheduled {
        waits.sort_unstable_by_key(|wait| Reverse(*wait));
        let counts = by_revision.entry(revision).or_default();
        counts.unschedulable = waits.len();
        counts.unschedulable_for = waits.get(excused).copied().unwrap_or_default();
    }
    by_revision
}
