//! What this process has itself seen of a group's rollout, timed by its own clock.
//!
//! A rollout fails because of problems that were seen for too long. Only time counts in which the process watched and
//! the rollout could have made progress: timestamps of other machines, and those of a predecessor in the status, say
//! nothing about the time in between. So this state is never stored. While the watch is broken, or the server carries
//! out no writes, the timers stop. A new leader gives every rollout its whole time again; a failed rollout stays
//! failed, by the status.

use std::{collections::HashMap, mem, sync::Arc, time::Duration};

use jiff::Timestamp;
use mainstay_runtime::clock::Moment;

use crate::plan::{Cause, Claim, Pod};

/// The kubelet treats a container that has run for this long as healthy: then it resets its crash backoff
/// (pkg/kubelet/kubelet.go, `MaxContainerBackOff`, twice). Restarts further apart are no crash loop.
const CRASH_LOOP: Duration = Duration::from_secs(600);

/// One look at a group.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    /// When, by the process's clock.
    pub moment: Moment,
    /// When, on the wall.
    pub wall: Timestamp,
    /// For how long in all the watch of pods has shown what happens; it may go back by what was counted too early.
    pub watched: Duration,
    /// Whether the pods were read from the server and match the watch. No rollout is declared failed without that.
    pub sure: bool,
}

/// What the server said when it last refused to make a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Of this revision.
    pub revision: Arc<str>,
    /// Whether another template may be accepted.
    pub blamed: bool,
    /// In the server's words.
    pub text: String,
}

/// What this process has seen of a group's change while it looked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Evidence {
    /// When the last look was, and the most that [`Look::watched`] had come to; `None` before the first one.
    looked: Option<(Moment, Duration)>,
    /// For how long it has looked in all. What lasts is timed by this.
    time: Duration,
    /// What goes on between looks does not count for now.
    doubted: bool,
    /// [`Look::sure`] of the last look.
    pub(super) sure: bool,
    /// The change: its revision and its beginning.
    change: Option<(Arc<str>, Timestamp)>,
    /// For how long it has been seen.
    pub(super) seen: Duration,
    /// For how long it could have got on, and did not.
    pub(super) idle: Duration,
    /// Whether it can get on, from the last look to the next one.
    pub(super) runs: bool,
    /// The pods of the group that have not ended, terminating or not.
    pub(super) living: usize,
    /// The fewest pods that were seen to be in the change's way.
    in_the_way: usize,
    /// Which pods the server refused when some were last to be made.
    refused: Vec<Refusal>,
    /// The pods of which something is to be remembered, by UID.
    pods: HashMap<Arc<str>, Seen>,
}

/// What is remembered of one pod of a revision.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    revision: Arc<str>,
    /// What has kept it from becoming ready at every look since then.
    blocker: Option<(Cause, Duration)>,
    /// Restarts that do not count any more, and since when the others count: these have happened, whether they were
    /// watched or not.
    restarts: (i32, Moment),
    /// A time of its readiness that lay in the future, by the clock of its node, and when it was seen.
    ready: Option<(Timestamp, Timestamp)>,
}

impl Evidence {
    /// Takes a look at the pods of a group, and puts into them what of theirs counts.
    pub fn look(&mut self, look: &Look, max_restarts: i32, pods: &mut [Pod<'_>]) {
        let unseen = self.go_on(look);
        (self.sure, self.living) = (look.sure, 0);
        let mut known = mem::take(&mut self.pods);
        let window = CRASH_LOOP.saturating_mul(u32::try_from(max_restarts).unwrap_or_default() + 1);
        for pod in pods.iter_mut().filter(|pod| !pod.phase.is_terminal()) {
            let counts = match pod.claim {
                Claim::Mine => true,
                Claim::OrphanMatching => !pod.terminating,
                Claim::MineUnmatched | Claim::OrphanRefused | Claim::OrphanHooked | Claim::Foreign => false,
            };
            self.living += usize::from(counts);
            let notable = is_notable(pod, look.wall);
            if counts && !pod.terminating && (notable || known.contains_key(pod.uid)) {
                // Who was not remembered by a process that has looked before had nothing to remember.
                let old = unseen >= window && is_older(pod, window, look.wall);
                let before = if old { pod.crashes } else { 0 };
                let entry = known.remove_entry(pod.uid).filter(|(_, seen)| *seen.revision == *pod.revision);
                let (uid, mut seen) = entry.unwrap_or_else(|| (pod.uid.into(), Seen::of(pod, before, look)));
                seen.again(pod, window, look, self.time);
                // Each pod waits a moment for its node, and is forgotten when that is over.
                if notable || seen.restarts.0 > 0 || seen.ready.is_some() {
                    self.pods.insert(uid, seen);
                }
            }
        }
    }

    /// Counts the time since the last look as far as it was looked at, and returns for how long it was not.
    fn go_on(&mut self, look: &Look) -> Duration {
        // What was counted too early is made up for before anything more counts.
        let most = self.looked.map_or(look.watched, |(_, watched)| look.watched.max(watched));
        let Some((moment, watched)) = self.looked.replace((look.moment, most)) else { return Duration::MAX };
        let passed = look.moment.saturating_sub(moment);
        let seen = if self.doubted { Duration::ZERO } else { look.watched.saturating_sub(watched) };
        self.time += seen;
        self.seen += seen;
        self.idle += if self.runs { seen } else { Duration::ZERO };
        passed.saturating_sub(seen)
    }

    /// From the last look on, time does not count, or it does again: while the server carries out no write of the group,
    /// no change can get on, neither by this process nor by kubelets.
    pub fn doubt(&mut self, doubted: bool) {
        self.doubted = doubted;
    }

    /// What the server refused of all that was to be made.
    pub fn refuse(&mut self, refused: Vec<Refusal>) {
        self.refused = refused;
    }

    /// Why the server makes no pod of that revision.
    pub(super) fn refusal(&self, revision: &str) -> Option<&Refusal> {
        self.refused.iter().find(|refusal| *refusal.revision == *revision)
    }

    /// The rollout in progress, with the number of pods that block it. Returns whether it has made progress because
    /// their number fell.
    pub(super) fn follow(&mut self, revision: &Arc<str>, started: Timestamp, in_the_way: usize) -> bool {
        let change = Some((Arc::clone(revision), started));
        if self.change != change {
            (self.change, self.in_the_way, self.runs) = (change, in_the_way, false);
            (self.seen, self.idle) = (Duration::ZERO, Duration::ZERO);
        }
        let fewer = in_the_way < self.in_the_way;
        self.in_the_way = self.in_the_way.min(in_the_way);
        fewer
    }
}

impl Seen {
    fn of(pod: &Pod<'_>, restarts: i32, look: &Look) -> Self {
        Self { revision: pod.revision.into(), blocker: None, restarts: (restarts, look.moment), ready: None }
    }

    /// Remembers how the pod is now, and puts into it what of that counts.
    fn again(&mut self, pod: &mut Pod<'_>, window: Duration, look: &Look, time: Duration) {
        let cause = pod.blocker.map(|blocker| blocker.cause);
        if cause != self.blocker.map(|(cause, _)| cause) {
            self.blocker = cause.map(|cause| (cause, time));
        }
        if let (Some(blocker), Some((_, since))) = (&mut pod.blocker, self.blocker) {
            blocker.lasts = time.saturating_sub(since);
        }
        if look.moment.saturating_sub(self.restarts.1) >= window {
            self.restarts = (pod.crashes, look.moment);
        }
        pod.crashes = pod.crashes.saturating_sub(self.restarts.0).max(0);
        if self.ready.map(|(stamp, _)| stamp) != pod.ready_since {
            self.ready = pod.ready_since.filter(|stamp| *stamp > look.wall).map(|stamp| (stamp, look.wall));
        }
        if let Some((_, seen)) = self.ready {
            pod.ready_since = Some(seen);
        }
    }
}

/// Whether something of the pod must be remembered.
fn is_notable(pod: &Pod<'_>, wall: Timestamp) -> bool {
    pod.crashes > 0 || pod.blocker.is_some() || pod.ready_since.is_some_and(|stamp| stamp > wall)
}

fn is_older(pod: &Pod<'_>, window: Duration, wall: Timestamp) -> bool {
    Duration::try_from(wall.duration_since(pod.created)).is_ok_and(|age| age >= window)
}

#[cfg(test)]
mod tests;
