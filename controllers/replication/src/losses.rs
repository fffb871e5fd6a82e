//! Which pods of a group others have deleted soon after they were created, as far as this process has seen it.

use std::{collections::HashMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use tokio::time::Instant;

use crate::{
    names::REVISION,
    observe::Observed,
    plan::{Claim, Lost},
};

/// A pod that is deleted when it is older has lived: nothing turns in a circle.
const YOUNG: Duration = Duration::from_secs(30);
/// For how long this process knows which pods it has deleted itself. A watch shows it in less.
const KNOWN: Duration = Duration::from_secs(60);
/// Losses that are longer ago are forgotten, as failures are.
const MEMORY: Duration = Duration::from_secs(60 * 60);
/// Of more than this the oldest are forgotten. The longest pause comes after nine rounds.
const MOST: usize = 1000;

/// What is remembered of the pods of one group. A restart may lose it: then the next pause is shorter.
#[derive(Debug, Default)]
pub(crate) struct Losses {
    /// The pods that were young and active when they were last looked at, by UID.
    young: HashMap<Box<str>, Young>,
    /// The names of those that this process has deleted.
    deleted: HashMap<Arc<str>, Instant>,
    lost: Vec<Lost>,
}

#[derive(Debug)]
struct Young {
    name: Arc<str>,
    revision: Arc<str>,
    created: Timestamp,
}

impl Losses {
    /// Notes which pods this process has deleted.
    pub(crate) fn delete<'a>(&mut self, pods: impl Iterator<Item = &'a Arc<str>>) {
        self.deleted.retain(|_, at| at.elapsed() < KNOWN);
        self.deleted.extend(pods.map(|pod| (Arc::clone(pod), Instant::now())));
    }

    /// Looks at the pods of the group, and returns which were lost.
    pub(crate) fn look(&mut self, observed: &Observed, now: Timestamp) -> Vec<Lost> {
        let mut young = HashMap::new();
        let is_young = |created: Timestamp| elapsed(created, now) < YOUNG;
        for (pod, _) in observed.pods().filter(|(_, claim)| *claim == Claim::Mine) {
            let is_active = !pod.header.terminating && !pod.phase.is_terminal();
            if pod.phase.is_terminal() {
                // Its end is counted as such.
                self.young.remove(&pod.header.uid);
            } else if is_active && is_young(pod.created) {
                let revision = pod.labels.get(REVISION).map(String::as_str).unwrap_or_default().into();
                let name = Arc::clone(&pod.header.key.name);
                young.insert(pod.header.uid.clone(), Young { name, revision, created: pod.created });
            } else if is_active {
                self.young.remove(&pod.header.uid);
            }
        }
        let before = std::mem::take(&mut self.young);
        let gone = before.into_iter().filter(|(uid, pod)| !young.contains_key(uid) && is_young(pod.created));
        let by_others = gone.filter(|(_, pod)| !self.deleted.contains_key(&pod.name));
        self.lost.extend(by_others.map(|(_, pod)| Lost {
            revision: pod.revision,
            created: pod.created,
            gone: now,
        }));
        self.lost.retain(|lost| elapsed(lost.gone, now) <= MEMORY);
        self.lost.drain(..self.lost.len().saturating_sub(MOST));
        self.young = young;
        self.lost.clone()
    }
}

fn elapsed(start: Timestamp, end: Timestamp) -> Duration {
    Duration::try_from(end.duration_since(start)).unwrap_or_default()
}
