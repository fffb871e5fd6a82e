//! What a reconcile brings about, concern by concern.
//!
//! A concern is a part of a reconcile that succeeds or fails by itself, such as a pool's slices, its Service and the readiness
//! gates of its pods. Each has its own result, backoff, metric and condition, so that one that is refused delays no other.

use std::{collections::BTreeMap, pin::pin, sync::Arc, time::Duration};

use futures::{Stream, StreamExt};
use tokio::time::Instant;

use crate::{
    conditions::Verdict,
    failure::{PassError, RequestError},
};

/// A concern of a fixed set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Concern {
    /// CamelCase, as a label of metrics.
    pub name: &'static str,
    /// The type of the condition that an object has while it fails.
    pub condition: &'static str,
}

impl Concern {
    /// A concern of this name and condition.
    pub const fn new(name: &'static str, condition: &'static str) -> Self {
        Self { name, condition }
    }
}

/// What keeps all of a reconcile from ending: a panic, or its time limit.
pub const WHOLE: Concern = Concern::new("Reconcile", "ReconcileFailed");

/// Writing the status. It has no condition of its own: that could not be written either.
pub const STATUS: Concern = Concern::new("Status", "StatusFailed");

/// A reconcile begins new writes for this long. Then it ends and is queued again, so that no object delays the others.
pub const WRITES: Duration = Duration::from_secs(1);

/// A concern as a whole, or one object of it, by its name: a pod that refuses is no reason to leave the next one alone.
pub type Part = (Concern, Option<Arc<str>>);

/// What the loop grants one reconcile.
#[derive(Debug, Clone)]
pub struct Turn {
    held: Vec<(Part, Duration)>,
    ends: Instant,
}

impl Turn {
    /// A turn in which these wait, because they failed last.
    pub fn new(held: Vec<(Part, Duration)>) -> Self {
        Self { held, ends: Instant::now() + WRITES }
    }

    /// How long the writes of `concern` must still wait. It may be observed and reported all the same.
    pub fn held(&self, concern: Concern) -> Option<Duration> {
        let of =
            self.held.iter().filter(|((held, name), _)| name.is_none() && [concern, WHOLE].contains(held));
        of.map(|(_, left)| *left).max()
    }

    /// How long those of the object of that name must still wait, be it alone or with all.
    pub fn held_for(&self, concern: Concern, name: &str) -> Option<Duration> {
        let of = self.held.iter().filter(|((held, of), _)| *held == concern && of.as_deref() == Some(name));
        of.map(|(_, left)| *left).chain(self.held(concern)).max()
    }

    /// Whether all may be tried.
    pub fn holds_nothing(&self) -> bool {
        self.held.is_empty()
    }

    /// When no more writes should be begun.
    pub fn ends(&self) -> Instant {
        self.ends
    }

    /// Whether no more writes should be begun.
    pub fn is_over(&self) -> bool {
        Instant::now() >= self.ends
    }
}

/// Why a concern failed, for the loop.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) reason: &'static str,
    pub(crate) retry_after: Option<Duration>,
    pub(crate) needs_change: bool,
    pub(crate) ambiguous: bool,
}

/// What a reconcile ended with. A concern that it does not name is as it was; of one that it names, those objects are well that
/// it does not name.
#[derive(Debug, Default)]
pub struct Outcomes {
    /// When time alone makes another reconcile worthwhile.
    pub due: Option<Duration>,
    pub(crate) well: Vec<Concern>,
    pub(crate) failed: Vec<(Part, Failed)>,
}

impl Outcomes {
    /// One that ends well and is due again at this time, if any.
    pub fn due(due: Option<Duration>) -> Self {
        Self { due, ..Self::default() }
    }

    /// Time alone makes another reconcile worthwhile after `due`; of several the first counts.
    pub fn again(&mut self, due: Option<Duration>) {
        self.due = [self.due, due].into_iter().flatten().min();
    }

    /// Takes up how `concern` ended, and logs a failure. Returns what it brought. In a namespace that is being deleted nothing
    /// can be made, and all goes with it: that is no failure.
    pub fn note<T, E: PassError>(&mut self, concern: Concern, result: Result<T, E>) -> Option<T> {
        match result {
            Ok(value) => {
                self.well.push(concern);
                Some(value)
            }
            Err(error) => {
                self.fail((concern, None), &error);
                None
            }
        }
    }

    /// Takes up that `concern` was tried; what [fails](Self::fail) of it is named besides.
    pub fn well(&mut self, concern: Concern) {
        self.well.push(concern);
    }

    /// Takes up that this could not be done.
    pub fn fail<E: PassError>(&mut self, part: Part, error: &E) {
        let (request, (concern, name)) = (error.request(), &part);
        let name = name.as_deref();
        if matches!(request, RequestError::NamespaceTerminating(_)) {
            return self.well(*concern);
        }
        tracing::warn!(concern = concern.name, name, reason = request.reason(), %error, "failed, and is tried again");
        self.failed.push((part, Failed::from(request)));
    }

    /// The same of a concern whose value is when it is due again.
    pub fn end<E: PassError>(&mut self, concern: Concern, result: Result<Option<Duration>, E>) {
        let due = self.note(concern, result).flatten();
        self.again(due);
    }

    /// One that did not come to its end, for this reason.
    pub fn whole_failed(reason: &'static str) -> Self {
        let failed = Failed { reason, retry_after: None, needs_change: false, ambiguous: false };
        Self { failed: vec![((WHOLE, None), failed)], ..Self::default() }
    }

    /// The same, as one that did.
    pub(crate) fn with_whole(mut self) -> Self {
        self.well.push(WHOLE);
        self
    }

    /// Whether a write may have been carried out although it failed.
    pub fn is_ambiguous(&self) -> bool {
        self.failed.iter().any(|(_, failed)| failed.ambiguous)
    }

    /// Whether `concern`, or an object of it, failed.
    pub(crate) fn fails(&self, concern: Concern) -> bool {
        self.failed.iter().any(|((failed, _), _)| *failed == concern)
    }

    /// Whether this very part failed.
    pub(crate) fn names(&self, concern: Concern, name: Option<&str>) -> bool {
        self.failed.iter().any(|((failed, of), _)| *failed == concern && of.as_deref() == name)
    }

    /// Whether anything failed.
    pub fn failed(&self) -> bool {
        !self.failed.is_empty()
    }
}

impl From<&RequestError> for Failed {
    fn from(error: &RequestError) -> Self {
        Self {
            reason: error.reason(),
            retry_after: error.retry_after(),
            needs_change: error.needs_change(),
            ambiguous: error.is_ambiguous(),
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

/// What keeps a concern from succeeding, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// CamelCase, as a condition names it.
    pub reason: &'static str,
    /// Whether it lasts until a person or another object changes something.
    pub stalled: bool,
    /// What was wrong, where, and what to do.
    pub message: String,
}

/// An error that can be told to people.
pub trait Explain {
    /// What it keeps from succeeding, in words.
    fn explain(&self) -> Failure;
}

/// What keeps each concern of an object from succeeding: remembered between reconciles, since one that waits is not tried in
/// each. A new spec starts without failures.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Failures {
    generation: Option<i64>,
    of: BTreeMap<Concern, Failure>,
}

impl Failures {
    /// Takes up how `concern` ended under a spec of this generation.
    pub fn note(&mut self, generation: Option<i64>, concern: Concern, failure: Option<Failure>) {
        if self.generation != generation {
            *self = Self { generation, of: BTreeMap::new() };
        }
        match failure {
            Some(failure) => drop(self.of.insert(concern, failure)),
            None => drop(self.of.remove(&concern)),
        }
    }

    /// Those under the spec of this generation.
    pub fn under(&self, generation: Option<i64>) -> Self {
        if self.generation == generation { self.clone() } else { Self { generation, of: BTreeMap::new() } }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.of.is_empty()
    }

    /// The one that an object's own conditions name: one that lasts before one that may pass.
    pub fn first(&self) -> Option<&Failure> {
        self.of.values().find(|failure| failure.stalled).or_else(|| self.of.values().next())
    }

    /// What keeps `concern` from succeeding.
    pub fn of(&self, concern: Concern) -> Option<&Failure> {
        self.of.get(&concern)
    }

    /// A condition for each concern that fails; it goes when the concern succeeds.
    pub fn verdicts(&self) -> impl Iterator<Item = Verdict> {
        self.of.iter().map(|(concern, failure)| Verdict {
            kind: concern.condition,
            status: true,
            reason: failure.reason,
            message: failure.message.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLICES: Concern = Concern::new("Slices", "SlicesFailed");
    const SERVICE: Concern = Concern::new("Service", "ServiceFailed");
    const GATES: Concern = Concern::new("Gates", "GatesFailed");

    fn refused() -> Result<Option<Duration>, RequestError> {
        Err(RequestError::Forbidden("no".into()))
    }

    #[tokio::test(start_paused = true)]
    async fn a_concern_waits_alone_and_the_whole_holds_all() {
        let second = Duration::from_secs(1);
        let turn = Turn::new(vec![((SERVICE, None), second), ((GATES, Some("a".into())), second)]);
        assert_eq!((turn.held(SERVICE), turn.held(SLICES)), (Some(second), None));
        assert_eq!((turn.held_for(GATES, "a"), turn.held_for(GATES, "b")), (Some(second), None));
        assert_eq!((turn.held(GATES), turn.held_for(SERVICE, "a")), (None, Some(second)));
        let turn = Turn::new(vec![((SERVICE, None), second), ((WHOLE, None), 2 * second)]);
        assert_eq!((turn.held(SERVICE), turn.held_for(SLICES, "a")), (Some(2 * second), Some(2 * second)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_turn_is_over_after_its_time() {
        let turn = Turn::new(Vec::new());
        assert!(!turn.is_over());
        tokio::time::advance(WRITES).await;
        assert!(turn.is_over());
    }

    #[test]
    fn what_one_concern_is_due_for_survives_the_failure_of_another() {
        let mut outcomes = Outcomes::default();
        outcomes.end::<RequestError>(SLICES, Ok(Some(Duration::from_secs(3))));
        outcomes.end(SERVICE, refused());
        assert_eq!((outcomes.due, outcomes.failed()), (Some(Duration::from_secs(3)), true));
    }

    #[test]
    fn each_failing_concern_has_a_condition_until_it_succeeds_or_the_spec_changes() {
        let failure = |stalled| Failure { reason: "Forbidden", stalled, message: "no".into() };
        let mut failures = Failures::default();
        failures.note(Some(1), GATES, Some(failure(false)));
        failures.note(Some(1), SERVICE, Some(failure(true)));
        let kinds: Vec<_> = failures.verdicts().map(|verdict| verdict.kind).collect();
        assert_eq!(kinds, ["GatesFailed", "ServiceFailed"]);
        assert_eq!(failures.first(), Some(&failure(true)), "what lasts is told first");
        assert!(failures.under(Some(2)).is_empty(), "a new spec may be a right one");
        failures.note(Some(1), SERVICE, None);
        assert_eq!(failures.first(), Some(&failure(false)));
        failures.note(Some(2), SLICES, None);
        assert!(failures.is_empty());
    }
}
