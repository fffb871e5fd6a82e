//! The counts of pods of each revision, which decide whether a rollout makes progress, is complete or has failed.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;

use super::{
    time::is_available,
    types::{Claim, Pod, Trouble},
};

/// The pods of one revision.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Neither ended nor terminating.
    pub active: usize,
    /// Active and ready for as long as the policy asks.
    pub available: usize,
    /// The most restarts of a container of an active pod.
    pub restarts: i32,
    /// The longest-lasting trouble of an active pod.
    pub trouble: Option<Trouble>,
}

/// The tallies of all revisions of which there are active pods. Orphans that are to be adopted count.
pub type Tallies<'a> = BTreeMap<&'a str, Tally>;

/// Counts the pods by revision.
pub fn tally<'a>(pods: &[Pod<'a>], min_ready: Duration, now: Timestamp) -> Tallies<'a> {
    let mut tallies = Tallies::new();
    for pod in pods.iter().filter(|pod| !pod.phase.is_terminal() && !pod.terminating) {
        if !matches!(pod.claim, Claim::Mine | Claim::OrphanMatching) {
            continue;
        }
        let tally = tallies.entry(pod.revision).or_default();
        tally.active += 1;
        tally.available += usize::from(is_available(pod, min_ready, now));
        tally.restarts = tally.restarts.max(pod.crashes);
        tally.trouble =
            [tally.trouble, pod.trouble].into_iter().flatten().max_by_key(|trouble| trouble.lasts);
    }
    tallies
}
