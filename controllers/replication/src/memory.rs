//! The state of a group between reconciles. A restart may lose it.

use std::time::Duration;

use mainstay_runtime::backoff::{CATCH_UP, Growth};
use tokio::time::Instant;

use crate::{
    apply::Applied,
    losses::Losses,
    plan::{How, Plan, Victim},
    rollout::Evidence,
};

/// When an eviction that a PodDisruptionBudget refused is tried again; each further time in a row twice as late.
const BLOCKED: Growth = Growth { first: Duration::from_secs(5), cap: Duration::from_secs(60) };

/// A group is told of a watch that keeps it from writing for longer than this.
const BEHIND: Duration = Duration::from_secs(30);

/// What is remembered of one group.
#[derive(Debug, Default)]
pub struct Memory {
    /// How often in a row the stores were found behind the server.
    stale: u32,
    /// Since when the stores have not shown what they must before anything is written.
    behind: Option<Instant>,
    /// The last eviction that a PodDisruptionBudget refused.
    blocked: Option<Blocked>,
    /// What this process has seen of its change.
    pub(crate) evidence: Evidence,
    /// Which pods others have deleted.
    pub(crate) losses: Losses,
}

impl Memory {
    /// Notes whether the server carries out no writes of the group, and time does not count for that long.
    pub(crate) fn doubt(&mut self, doubted: bool) {
        self.evidence.doubt(doubted);
    }

    /// What a PodDisruptionBudget said when it refused an eviction, as long as it refuses.
    pub(crate) fn blocked(&self) -> Option<String> {
        self.blocked.as_ref().map(|blocked| blocked.text.clone())
    }

    /// Takes the evictions out of the plan for a while after a PodDisruptionBudget has refused one; what goes without
    /// asking goes on. Returns when they are tried again, and those that were taken out.
    pub(crate) fn without_blocked(&mut self, plan: &mut Plan) -> (Option<Duration>, Vec<Victim>) {
        let Some(blocked) = &mut self.blocked else { return (None, Vec::new()) };
        if plan.counts.ready > blocked.ready {
            blocked.times = 1;
        }
        blocked.ready = blocked.ready.min(plan.counts.ready);
        let left = BLOCKED.delay(blocked.times).checked_sub(blocked.since.elapsed());
        let Some(left) = left.filter(|left| !left.is_zero()) else {
            // The refusal stands until an eviction is granted, or none is wanted any more.
            self.blocked.take_if(|_| plan.delete.iter().all(|victim| victim.how != How::Evict));
            return (None, Vec::new());
        };
        let (blocked, rest) =
            std::mem::take(&mut plan.delete).into_iter().partition(|victim| victim.how == How::Evict);
        plan.delete = rest;
        (Some(left), blocked)
    }

    /// Remembers what was refused of a plan, made when this many pods were `ready`. What has been told of a budget already is
    /// taken out of what came of it. Returns when the next eviction is due.
    pub(crate) fn note(&mut self, applied: &mut Applied, ready: usize) -> Option<Duration> {
        if let Some(refused) = applied.refused.take() {
            self.evidence.refuse(refused);
        }
        self.losses.delete(applied.deleted.iter().map(|(pod, _)| pod));
        // A reconcile in which no eviction was tried says nothing of budgets.
        let before = self.blocked.take_if(|_| applied.blocked.is_some() || applied.evicted > 0);
        let text = applied.blocked.clone()?;
        applied.blocked.take_if(|text| before.as_ref().is_some_and(|before| before.text == *text));
        let times = before.filter(|_| applied.evicted == 0).map_or(0, |before| before.times);
        let blocked = Blocked { text, since: Instant::now(), times: times.saturating_add(1), ready };
        Some(BLOCKED.delay(self.blocked.insert(blocked).times))
    }

    /// Notes whether something is to be written that waits until the stores show more.
    pub(crate) fn wait_for_watch(&mut self, waits: bool) {
        self.behind = waits.then(|| self.behind.unwrap_or_else(Instant::now));
    }

    /// Whether that has lasted for long.
    pub(crate) fn is_behind(&self) -> bool {
        self.behind.is_some_and(|since| since.elapsed() >= BEHIND)
    }

    /// When to look again after a reconcile that did or did not find the stores behind the server.
    pub(crate) fn catch_up(&mut self, stale: bool) -> Option<Duration> {
        self.wait_for_watch(stale);
        self.stale = if stale { self.stale.saturating_add(1) } else { 0 };
        stale.then(|| CATCH_UP.delay(self.stale))
    }
}

/// An eviction that a PodDisruptionBudget refused.
#[derive(Debug)]
struct Blocked {
    /// In the server's words.
    text: String,
    since: Instant,
    /// How often in a row.
    times: u32,
    /// The fewest pods of the group that have been ready since then. Once more are, the budget may have room.
    ready: usize,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Counts, Step, Why};

    const TEXT: &str = "it would violate the budget";

    /// A plan of so many ready pods, of which one is to be evicted.
    fn plan(ready: usize) -> Plan {
        let counts = Counts { ready, ..Counts::default() };
        Plan {
            delete: vec![Victim { pod: 0, why: Why::Outdated, how: How::Evict, step: Step::Go }],
            counts,
            ..Plan::default()
        }
    }

    fn refused(evicted: usize) -> Applied {
        Applied { blocked: Some(TEXT.to_owned()), evicted, ..Applied::default() }
    }

    /// For how many seconds the eviction waits.
    fn left(memory: &mut Memory, ready: usize) -> Option<u64> {
        memory.without_blocked(&mut plan(ready)).0.map(|left| left.as_secs())
    }

    #[tokio::test(start_paused = true)]
    async fn a_budget_that_never_allows_is_asked_less_and_less_often_and_told_once() {
        let (mut memory, mut told) = (Memory::default(), 0);
        for seconds in [5, 10, 20, 40, 60, 60] {
            let mut applied = refused(0);
            assert_eq!(memory.note(&mut applied, 3), Some(Duration::from_secs(seconds)));
            told += usize::from(applied.blocked.is_some());
            assert_eq!((left(&mut memory, 3), memory.blocked().as_deref()), (Some(seconds), Some(TEXT)));
            tokio::time::advance(Duration::from_secs(seconds)).await;
            assert_eq!(left(&mut memory, 3), None);
        }
        assert_eq!(told, 1);
        assert_eq!(memory.note(&mut refused(1), 3), Some(Duration::from_secs(5)), "it has granted one");
    }

    #[tokio::test(start_paused = true)]
    async fn pods_that_are_changed_in_place_do_not_wait_for_a_budget() {
        let mut memory = Memory::default();
        assert!(memory.note(&mut refused(0), 3).is_some());
        let mut plan = plan(3);
        plan.delete.push(Victim { pod: 1, why: Why::Outdated, how: How::InPlace, step: Step::Go });
        assert_eq!(memory.without_blocked(&mut plan).1.len(), 1);
        assert_eq!(plan.delete.iter().map(|victim| victim.pod).collect::<Vec<_>>(), [1]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_pod_that_becomes_ready_may_make_room_in_a_budget() {
        let mut memory = Memory::default();
        (0..6).for_each(|_| assert!(memory.note(&mut refused(0), 3).is_some()));
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!(left(&mut memory, 3), Some(50));
        assert_eq!(left(&mut memory, 2), Some(50));
        assert_eq!(left(&mut memory, 3), None, "one has come back");
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_that_lags_for_long_is_told_of_until_it_shows_more() {
        let mut memory = Memory::default();
        for seconds in [0, 29] {
            memory.wait_for_watch(true);
            assert!(!memory.is_behind(), "{seconds}");
            tokio::time::advance(Duration::from_secs(29)).await;
        }
        assert!(memory.is_behind());
        memory.catch_up(false);
        assert!(!memory.is_behind());
    }
}
