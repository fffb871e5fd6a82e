//! The state of a group between reconciles. A restart may lose it.

use std::time::Duration;

use mainstay_runtime::backoff::Growth;
use tokio::time::Instant;

use crate::{
    apply::Applied,
    plan::{How, Plan, Victim},
    rollout::Evidence,
};

/// When a reconcile that found the stores behind the server looks again; each further time in a row twice as late.
const CATCH_UP: Growth = Growth { first: Duration::from_millis(200), cap: Duration::from_secs(5) };
/// When an eviction that a PodDisruptionBudget refused is tried again.
const BLOCKED: Duration = Duration::from_secs(5);

/// What is remembered of one group.
#[derive(Debug, Default)]
pub struct Memory {
    /// How often in a row the stores were found behind the server.
    stale: u32,
    /// What a PodDisruptionBudget said when it refused an eviction, and when.
    blocked: Option<(String, Instant)>,
    /// What this process has seen of its change.
    pub(crate) evidence: Evidence,
}

impl Memory {
    /// Notes whether the server carries out no writes of the group, and time does not count for that long.
    pub(crate) fn doubt(&mut self, doubted: bool) {
        self.evidence.doubt(doubted);
    }

    /// What a PodDisruptionBudget said when it refused an eviction, as long as it refuses.
    pub(crate) fn blocked(&self) -> Option<String> {
        self.blocked.as_ref().map(|(text, _)| text.clone())
    }

    /// Takes the evictions out of the plan for a while after a PodDisruptionBudget has refused one; what goes without
    /// asking goes on. Returns when they are tried again, and those that were taken out.
    pub(crate) fn without_blocked(&mut self, plan: &mut Plan) -> (Option<Duration>, Vec<Victim>) {
        let Some((_, since)) = &self.blocked else { return (None, Vec::new()) };
        let Some(left) = BLOCKED.checked_sub(since.elapsed()).filter(|left| !left.is_zero()) else {
            // The refusal stands until an eviction is granted, or none is wanted any more.
            self.blocked.take_if(|_| plan.delete.iter().all(|victim| victim.how != How::Evict));
            return (None, Vec::new());
        };
        let (blocked, rest) =
            std::mem::take(&mut plan.delete).into_iter().partition(|victim| victim.how == How::Evict);
        plan.delete = rest;
        (Some(left), blocked)
    }

    /// Remembers what budgets said to the evictions of a reconcile. One in which none was tried says nothing of them.
    pub(crate) fn note_blocked(&mut self, applied: &Applied) -> Option<Duration> {
        let refusal = applied.blocked.clone().map(|text| (text, Instant::now()));
        let due = refusal.is_some().then_some(BLOCKED);
        if refusal.is_some() || applied.evicted > 0 {
            self.blocked = refusal;
        }
        due
    }

    /// Remembers which pods the server refused, if any were to be made.
    pub(crate) fn note_refused(&mut self, applied: &mut Applied) {
        if let Some(refused) = applied.refused.take() {
            self.evidence.refuse(refused);
        }
    }

    /// When to look again after a reconcile that did or did not find the stores behind the server.
    pub(crate) fn catch_up(&mut self, stale: bool) -> Option<Duration> {
        self.stale = if stale { self.stale.saturating_add(1) } else { 0 };
        stale.then(|| CATCH_UP.delay(self.stale))
    }
}
