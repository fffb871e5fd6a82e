//! How far the pods of a workload are.

use jiff::Timestamp;

/// How far the pods of a workload are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// Whether the counters are about the template as it is.
    pub observed: bool,
    /// How many pods there should be.
    pub wanted: i32,
    /// How many there are.
    pub current: i32,
    /// How many are of the template.
    pub updated: i32,
    /// How many are available.
    pub available: i32,
    /// When and why the workload's own controller reports that it makes no progress.
    pub given_up: Option<(Timestamp, String)>,
    /// Whether a quota refuses its pods.
    pub over_quota: bool,
    /// Why its own controller does not replace its pods by itself.
    pub blocked: Option<Blocked>,
    /// By which labels the pods are found that a StatefulSet's controller does not replace while they are not ready.
    pub outdated: Option<String>,
}

/// Why a workload's own controller does not replace pods when the template changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blocked {
    /// `spec.paused`.
    Paused,
    /// Its update strategy is `OnDelete`.
    OnDelete,
    /// Its update strategy has a partition.
    Partition,
    /// It has reached a step of its own update, of a ReplicaGroup, which has a pause.
    Step,
}

impl Progress {
    /// Whether all pods are of the template, and available, but for `missing` of them.
    pub fn is_settled(&self, missing: Option<i32>) -> bool {
        let needed = self.needed(missing);
        self.observed && self.current == self.wanted && self.updated >= needed && self.available >= needed
    }

    /// How many pods have to be available where `missing` need not be. Where that would be none, all have to be: no pod
    /// shows nothing.
    pub fn needed(&self, missing: Option<i32>) -> i32 {
        let needed = self.wanted.saturating_sub(missing.unwrap_or_default());
        if needed > 0 { needed } else { self.wanted }
    }

    /// Why the pods that are of another template are not replaced.
    pub fn is_blocked(&self) -> Option<Blocked> {
        self.blocked.filter(|_| self.observed && self.updated < self.wanted)
    }

    /// By which labels the pods are found that may have to be deleted by hand: a StatefulSet's controller replaces no
    /// pod while another one is not ready, not even with the template that would repair it
    /// (kubernetes/kubernetes#67250). The counters are the same in every update that goes well, so only who knows that
    /// the template is the one that repairs it may name these pods.
    pub fn is_stuck(&self) -> Option<&str> {
        let is_stuck = self.observed && self.updated < self.wanted && self.available < self.wanted;
        self.outdated.as_deref().filter(|_| is_stuck)
    }

    /// How many pods are not available.
    pub fn unavailable(&self) -> i32 {
        self.wanted.saturating_sub(self.available).max(0)
    }
}
