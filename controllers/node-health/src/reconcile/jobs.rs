//! Requests: one of a kind for each node or policy, paced, with fair shares of the places for each kind.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use futures::{FutureExt, future::BoxFuture};
use mainstay_runtime::{
    backoff::{Backoff, Growth},
    clock::Moment,
    jobs,
    places::{Next, Places},
};

/// What fails is tried again after this, and each further time after twice as long.
const GROWTH: Growth = Growth { first: Duration::from_millis(500), cap: Duration::from_secs(30) };

/// What is done. Many that hang, of dead nodes that are asked or of a remediator that does not answer, hold up no other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Task {
    /// A node is read live.
    Confirm,
    /// A node is written.
    Write,
    /// Its pods are visited.
    Pods,
    /// Its remediations are.
    Remedy,
    /// The status of a policy is written.
    Report,
    /// Its remediations are listed.
    List,
    /// Those of them are deleted that are no longer needed.
    Clear,
}

impl Task {
    /// What is done with a node.
    pub(super) const OF_NODE: [Self; 4] = [Self::Confirm, Self::Write, Self::Pods, Self::Remedy];
    /// What is done with a policy.
    pub(super) const OF_POLICY: [Self; 3] = [Self::Report, Self::List, Self::Clear];
}

/// What is done, and with which node or policy.
pub(super) type Key = (Task, Arc<str>);

/// The requests that are under way. Dropping it ends them at once.
pub(super) struct Jobs<O> {
    places: Places<Task, Arc<str>>,
    /// Those that were started since [`Jobs::withdraw`].
    wanted: HashSet<Key>,
    /// Those that have no place yet.
    waiting: HashMap<Key, BoxFuture<'static, O>>,
    under_way: jobs::Jobs<'static, Key, O>,
    not_before: HashMap<Key, Moment>,
    backoff: Backoff<Key>,
}

impl<O: Send + 'static> Jobs<O> {
    /// With at most `limit` jobs under way; more wait for their turn.
    pub(super) fn new(limit: usize) -> Self {
        Self {
            places: Places::new(limit),
            wanted: HashSet::new(),
            waiting: HashMap::new(),
            under_way: jobs::Jobs::default(),
            not_before: HashMap::new(),
            backoff: Backoff::new(GROWTH),
        }
    }

    /// Begins `job`, unless one of its key is under way or is to rest. It takes the place of one that waits for its turn.
    pub(super) fn start(&mut self, key: Key, now: Moment, job: impl Future<Output = O> + Send + 'static) {
        self.wanted.insert(key.clone());
        if self.is_under_way(&key) || self.not_before.get(&key).is_some_and(|rest| *rest > now) {
            return;
        }
        self.not_before.remove(&key);
        if self.waiting.insert(key.clone(), job.boxed()).is_none() {
            self.places.put(&key.0, key.1, now);
        }
        self.begin();
    }

    /// Drops the jobs that wait for their turn and that nothing has started since the last call: they are not wanted any more,
    /// and what they would do was decided of a node as it was. What is to be deleted of a list is started once.
    pub(super) fn withdraw(&mut self) {
        let wanted = std::mem::take(&mut self.wanted);
        let unwanted: Vec<_> = {
            let is_unwanted = |key: &&Key| key.0 != Task::Clear && !wanted.contains(*key);
            self.waiting.keys().filter(is_unwanted).cloned().collect()
        };
        for key in unwanted {
            self.waiting.remove(&key);
            self.places.remove(&key.0, &key.1);
        }
    }

    fn begin(&mut self) {
        // Whatever was started is due.
        while let Next::Begin { owner, key, .. } = self.places.next(Moment::MAX) {
            let key = (owner, key);
            let job = self.waiting.remove(&key).expect("a job waits for each place that is asked for");
            self.under_way.start(key, job);
        }
    }

    /// The next job that ends; never when none is under way. `None` in place of its outcome: it panicked.
    pub(super) async fn next(&mut self) -> (Key, Option<O>) {
        let (key, outcome) = self.under_way.next().await;
        self.places.ended(&key.0, &key.1);
        self.begin();
        (key, outcome)
    }

    /// A job of this key has failed: the next one comes later, and no sooner than the server has asked for.
    pub(super) fn failed(&mut self, key: Key, now: Moment, at_least: Option<Duration>) {
        let rest = self.backoff.fail(&key, at_least);
        self.not_before.insert(key, now + rest);
    }

    /// A job of this key has succeeded, and the next one is to rest.
    pub(super) fn rest(&mut self, key: Key, now: Moment, rest: Duration) {
        self.backoff.forget(&key);
        self.not_before.insert(key, now + rest);
    }

    /// Forgets what these jobs of a node or a policy are to wait for: it is gone.
    pub(super) fn forget(&mut self, tasks: &[Task], name: &Arc<str>) {
        for key in tasks.iter().map(|task| (*task, Arc::clone(name))) {
            self.backoff.forget(&key);
            self.not_before.remove(&key);
        }
    }

    /// When the first key that rests may go on.
    pub(super) fn due(&mut self, now: Moment) -> Option<Moment> {
        self.not_before.retain(|_, rest| *rest > now);
        self.not_before.values().min().copied()
    }

    /// Whether a job of this key is under way.
    pub(super) fn is_under_way(&self, key: &Key) -> bool {
        self.places.is_under_way(&key.0, &key.1)
    }

    /// Waits until none is under way. Those that wait for their turn never begin.
    pub(super) async fn finish(mut self) {
        self.under_way.finish().await;
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    const NOW: Moment = Duration::ZERO;
    const SECOND: Duration = Duration::from_secs(1);

    fn key(task: Task) -> Key {
        (task, "n".into())
    }

    #[tokio::test]
    async fn one_job_of_a_key_is_under_way_and_the_next_one_rests() {
        let mut jobs = Jobs::new(2);
        jobs.start(key(Task::Write), NOW, async { 1 });
        jobs.start(key(Task::Write), NOW, async { 2 });
        jobs.start(key(Task::Pods), NOW, async { 3 });
        let mut ended = vec![jobs.next().await, jobs.next().await];
        ended.sort_by_key(|(_, outcome)| *outcome);
        assert_eq!(ended, [(key(Task::Write), Some(1)), (key(Task::Pods), Some(3))]);
        jobs.rest(key(Task::Write), NOW, SECOND);
        jobs.start(key(Task::Write), NOW, async { 4 });
        assert_eq!(jobs.next().now_or_never(), None, "it rests");
        assert_eq!(jobs.due(NOW), Some(SECOND));
        jobs.start(key(Task::Write), SECOND, async { 5 });
        assert_eq!(jobs.next().await, (key(Task::Write), Some(5)));
        assert_eq!(jobs.due(SECOND), None);
    }

    #[tokio::test]
    async fn requests_that_hang_hold_up_none_of_another_kind() {
        let mut jobs = Jobs::new(4);
        for node in 0..100 {
            jobs.start((Task::Confirm, node.to_string().into()), NOW, pending());
        }
        jobs.start(key(Task::Write), NOW, async { 1 });
        assert_eq!(jobs.next().now_or_never(), Some((key(Task::Write), Some(1))));
    }

    #[tokio::test]
    async fn what_waits_for_its_turn_is_what_was_wanted_last() {
        let mut jobs = Jobs::new(1);
        jobs.start(key(Task::Pods), NOW, async { 1 });
        jobs.start(key(Task::Write), NOW, async { 2 });
        jobs.start(key(Task::Write), NOW, async { 3 });
        assert_eq!(jobs.next().await, (key(Task::Pods), Some(1)));
        assert_eq!(jobs.next().await, (key(Task::Write), Some(3)));
    }

    #[tokio::test]
    async fn what_waits_for_its_turn_and_is_wanted_no_more_never_begins() {
        let mut jobs = Jobs::new(1);
        jobs.start(key(Task::Pods), NOW, async { 1 });
        jobs.start(key(Task::Write), NOW, async { 2 });
        jobs.start(key(Task::Remedy), NOW, async { 3 });
        jobs.withdraw();
        jobs.start(key(Task::Remedy), NOW, async { 4 });
        jobs.withdraw();
        assert_eq!(jobs.next().await, (key(Task::Pods), Some(1)));
        assert_eq!(jobs.next().await, (key(Task::Remedy), Some(4)));
        assert_eq!(jobs.next().now_or_never(), None);
    }

    #[tokio::test]
    async fn what_is_gone_has_no_failures() {
        let mut jobs = Jobs::new(1);
        for _ in 0..10 {
            jobs.failed(key(Task::Write), NOW, None);
        }
        assert!(jobs.due(NOW).is_some());
        jobs.forget(&Task::OF_NODE, &"n".into());
        assert_eq!(jobs.due(NOW), None);
        jobs.start(key(Task::Write), NOW, async { 1 });
        assert_eq!(jobs.next().await, (key(Task::Write), Some(1)));
        jobs.failed(key(Task::Write), NOW, None);
        assert!(jobs.due(NOW).is_some_and(|due| due <= GROWTH.first), "it is the first failure");
    }

    #[tokio::test]
    async fn a_job_that_panics_can_begin_again() {
        let mut jobs = Jobs::new(1);
        jobs.start(key(Task::Confirm), NOW, async { panic!("a bug that one node meets") });
        assert_eq!(jobs.next().await, (key(Task::Confirm), None));
        jobs.start(key(Task::Confirm), NOW, async { 1 });
        assert_eq!(jobs.next().await, (key(Task::Confirm), Some(1)));
    }
}
