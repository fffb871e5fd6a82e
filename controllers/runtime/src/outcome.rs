//! What a reconcile is granted, and what it brought about, concern by concern.

use std::{
    collections::{BTreeMap, BTreeSet},
    pin::pin,
    time::Duration,
};

use futures::{Stream, StreamExt};

pub use crate::concern::{Concern, Explain, Failure, Failures, Part, STATUS, WHOLE};
use crate::failure::RequestError;

/// A part that failed when it was last tried.
#[derive(Debug, Clone)]
pub(crate) struct Standing {
    pub(crate) failure: Failure,
    /// How long it must still wait.
    pub(crate) left: Option<Duration>,
}

/// What the loop grants one reconcile.
/// The default is one in which nothing waits.
#[derive(Debug, Clone, Default)]
pub struct Turn {
    failed: BTreeMap<Part, Standing>,
}

impl Turn {
    /// A turn after one of which these failed.
    pub(crate) fn new(failed: BTreeMap<Part, Standing>) -> Self {
        Self { failed }
    }

    /// How long the writes of `concern` must still wait. It may be observed and reported all the same.
    pub fn held(&self, concern: Concern) -> Option<Duration> {
        [concern, WHOLE].into_iter().filter_map(|concern| self.left(&(concern, None))).max()
    }

    /// How long those of the object of that name must still wait, be it alone or with all.
    pub fn held_for(&self, concern: Concern, name: &str) -> Option<Duration> {
        if self.failed.is_empty() {
            return None;
        }
        self.left(&(concern, Some(name.into()))).max(self.held(concern))
    }

    /// Whether what `concern` asked for the object of that name was refused when it was last tried, until a person or another
    /// object changes something.
    pub fn refused(&self, concern: Concern, name: &str) -> bool {
        let find = || self.failed.get(&(concern, Some(name.into())));
        !self.failed.is_empty() && find().is_some_and(|standing| standing.failure.stalled)
    }

    /// Whether all may be tried.
    pub fn holds_nothing(&self) -> bool {
        self.failed.values().all(|standing| standing.left.is_none())
    }

    fn left(&self, part: &Part) -> Option<Duration> {
        self.failed.get(part)?.left
    }
}

/// Why a part failed, for the loop.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) failure: Failure,
    /// Why the request did, as a label.
    pub(crate) reason: &'static str,
    pub(crate) retry_after: Option<Duration>,
    pub(crate) needs_change: bool,
    pub(crate) ambiguous: bool,
}

impl Failed {
    fn of(error: &impl Explain) -> Self {
        let request = error.request();
        Self {
            failure: error.explain(),
            reason: request.reason(),
            retry_after: request.retry_after(),
            needs_change: request.needs_change(),
            ambiguous: request.is_ambiguous(),
        }
    }
}

/// What a reconcile ended with. A concern that it does not name is as it was. Of one that it names everything is well but what
/// [fails](Self::fail) and what [waits](Self::waits).
#[derive(Debug, Default)]
pub struct Outcomes {
    /// When time alone makes another reconcile worthwhile.
    pub due: Option<Duration>,
    named: BTreeSet<Concern>,
    waits: BTreeSet<Part>,
    pub(crate) failed: BTreeMap<Part, Failed>,
}

impl Outcomes {
    /// Time alone makes another reconcile worthwhile after `due`; of several the first counts.
    pub fn again(&mut self, due: Option<Duration>) {
        self.due = [self.due, due].into_iter().flatten().min();
    }

    /// Takes up how `concern` ended. Returns what it brought.
    pub fn note<T, E: Explain>(&mut self, concern: Concern, result: Result<T, E>) -> Option<T> {
        self.well(concern);
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                self.fail((concern, None), &error);
                None
            }
        }
    }

    /// Takes up that nothing of `concern` is left to be done but what [fails](Self::fail) or [waits](Self::waits).
    pub fn well(&mut self, concern: Concern) {
        self.named.insert(concern);
    }

    /// Takes up that this is still to be done and was not tried, because it is [held](Turn::held_for) or the time is over.
    pub fn waits(&mut self, part: Part) {
        self.waits.insert(part);
    }

    /// Takes up that this could not be done. In a namespace that is being deleted nothing can be made, and all goes with it: that
    /// is no failure.
    pub fn fail<E: Explain>(&mut self, part: Part, error: &E) {
        if matches!(error.request(), RequestError::NamespaceTerminating(_)) {
            return self.well(part.0);
        }
        self.failed.insert(part, Failed::of(error));
    }

    /// The same of a concern whose value is when it is due again.
    pub fn end<E: Explain>(&mut self, concern: Concern, result: Result<Option<Duration>, E>) {
        let due = self.note(concern, result).flatten();
        self.again(due);
    }

    /// One that did not come to its end, for this reason.
    pub fn whole_failed(reason: &'static str) -> Self {
        let failure = Failure { reason, stalled: false, message: "did not come to its end".to_owned() };
        let failed = Failed { failure, reason, retry_after: None, needs_change: false, ambiguous: false };
        Self { failed: [((WHOLE, None), failed)].into(), ..Self::default() }
    }

    /// The same, as one that did.
    pub(crate) fn with_whole(mut self) -> Self {
        self.well(WHOLE);
        self
    }

    /// Whether a write may have been carried out although it failed.
    pub fn is_ambiguous(&self) -> bool {
        self.failed.values().any(|failed| failed.ambiguous)
    }

    /// Whether what was known of this part is so still.
    pub(crate) fn leaves(&self, part: &Part) -> bool {
        !self.named.contains(&part.0) || self.waits.contains(part)
    }

    /// Whether `concern`, or an object of it, has failed now.
    pub fn has_failed(&self, concern: Concern) -> bool {
        self.failed.keys().any(|(failed, _)| *failed == concern)
    }

    /// Whether this very part has failed now.
    pub fn fails(&self, part: &Part) -> bool {
        self.failed.contains_key(part)
    }

    /// Whether what `concern` asked for the object of that name was refused now, until a person or another object changes
    /// something.
    pub fn refused(&self, concern: Concern, name: &str) -> bool {
        let find = || self.failed.get(&(concern, Some(name.into())));
        !self.failed.is_empty() && find().is_some_and(|failed| failed.failure.stalled)
    }

    /// Whether anything failed.
    pub fn failed(&self) -> bool {
        !self.failed.is_empty()
    }

    /// What keeps the object's concerns from succeeding after this, for which `turn` was granted: what has failed now, and what
    /// failed before and was not tried again.
    pub fn failures(&self, turn: &Turn) -> Failures {
        let before = turn.failed.iter().filter(|(part, _)| self.leaves(part));
        let mut all: BTreeMap<_, _> = before.map(|(part, standing)| (part, &standing.failure)).collect();
        all.extend(self.failed.iter().map(|(part, failed)| (part, &failed.failure)));
        all.into_iter().map(|((concern, _), failure)| (*concern, failure)).collect()
    }

    /// Logs what failed, a line each concern.
    pub(crate) fn log(&self) {
        let mut lines: BTreeMap<Concern, (&Failed, usize)> = BTreeMap::new();
        for ((concern, _), failed) in &self.failed {
            lines.entry(*concern).or_insert((failed, 0)).1 += 1;
        }
        for (concern, (failed, count)) in lines {
            let (concern, error) = (concern.name, &failed.failure.message);
            tracing::warn!(concern, count, reason = failed.reason, %error, "failed, and is tried again");
        }
    }
}

/// Waits for all of `results`: what succeeded, and what failed. One that fails keeps no other from being done.
pub async fn all<T, E>(results: impl Stream<Item = Result<T, E>>) -> (Vec<T>, Vec<E>) {
    let (mut done, mut failed) = (Vec::new(), Vec::new());
    let mut results = pin!(results);
    while let Some(result) = results.next().await {
        match result {
            Ok(value) => done.push(value),
            Err(error) => failed.push(error),
        }
    }
    (done, failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLICES: Concern = Concern::new("Slices", "SlicesFailed");
    const SERVICE: Concern = Concern::new("Service", "ServiceFailed");
    const GATES: Concern = Concern::new("Gates", "GatesFailed");

    fn refused() -> RequestError {
        RequestError::Forbidden("no".into())
    }

    fn part(concern: Concern, name: &str) -> Part {
        (concern, Some(name.into()))
    }

    /// A turn after one of which these have failed and wait for so many seconds.
    fn turn<const N: usize>(failed: [(Part, u64); N]) -> Turn {
        let standing = |seconds| Standing {
            failure: refused().explain(),
            left: Some(seconds).filter(|seconds| *seconds > 0).map(Duration::from_secs),
        };
        Turn::new(failed.into_iter().map(|(part, seconds)| (part, standing(seconds))).collect())
    }

    #[tokio::test(start_paused = true)]
    async fn a_concern_waits_alone_and_the_whole_holds_all() {
        let second = Duration::from_secs(1);
        let one = turn([((SERVICE, None), 1), (part(GATES, "a"), 1)]);
        assert_eq!((one.held(SERVICE), one.held(SLICES)), (Some(second), None));
        assert_eq!((one.held_for(GATES, "a"), one.held_for(GATES, "b")), (Some(second), None));
        assert_eq!((one.held(GATES), one.held_for(SERVICE, "a")), (None, Some(second)));
        let whole = turn([((SERVICE, None), 1), ((WHOLE, None), 2)]);
        assert_eq!((whole.held(SERVICE), whole.held_for(SLICES, "a")), (Some(2 * second), Some(2 * second)));
    }

    #[test]
    fn only_what_needs_a_change_is_refused_whether_it_waits_or_is_due() {
        let turn = turn([(part(GATES, "a"), 9), (part(GATES, "b"), 0)]);
        assert_eq!(["a", "b", "c"].map(|name| turn.refused(GATES, name)), [true, true, false]);
        let mut outcomes = Outcomes::default();
        outcomes.fail(part(GATES, "a"), &refused());
        outcomes.fail(part(GATES, "b"), &RequestError::timed_out(Duration::from_secs(3)));
        assert_eq!(["a", "b", "c"].map(|name| outcomes.refused(GATES, name)), [true, false, false]);
    }

    #[test]
    fn what_one_concern_is_due_for_survives_the_failure_of_another() {
        let mut outcomes = Outcomes::default();
        outcomes.end::<RequestError>(SLICES, Ok(Some(Duration::from_secs(3))));
        outcomes.end::<RequestError>(SERVICE, Err(refused()));
        assert_eq!((outcomes.due, outcomes.failed()), (Some(Duration::from_secs(3)), true));
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_is_told_until_what_failed_is_tried_again_or_wanted_no_more() {
        let turn = turn([((SERVICE, None), 9), (part(GATES, "a"), 9), ((SLICES, None), 0)]);
        let told = |outcomes: &Outcomes| {
            let failures = outcomes.failures(&turn);
            [SERVICE, GATES, SLICES].map(|concern| failures.of(concern).is_some())
        };
        let mut outcomes = Outcomes::default();
        assert_eq!(told(&outcomes), [true, true, true], "nothing has been tried");
        outcomes.well(GATES);
        assert_eq!(told(&outcomes), [true, false, true], "no gate is to be opened");
        outcomes.waits(part(GATES, "a"));
        outcomes.fail(part(GATES, "b"), &refused());
        outcomes.note::<_, RequestError>(SLICES, Ok(()));
        assert_eq!(told(&outcomes), [true, true, false]);
        outcomes.note::<(), _>(SLICES, Err(refused()));
        assert_eq!(told(&outcomes), [true, true, true]);
    }
}
