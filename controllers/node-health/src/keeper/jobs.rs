//! Requests under way: one of a kind for each node or policy, paced, and none left behind when the process must stop.

use std::{
    collections::{HashMap, HashSet},
    future::Future,
    sync::Arc,
    time::Duration,
};

use mainstay_runtime::{
    backoff::{Backoff, Growth},
    clock::Moment,
};
use tokio::{
    sync::Semaphore,
    task::{Id, JoinSet},
};

/// What fails is tried again after this, and each further time after twice as long.
const GROWTH: Growth = Growth { first: Duration::from_millis(500), cap: Duration::from_secs(30) };

/// What is done.
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
    /// Those of them are deleted that nobody waits for any more.
    Clear,
}

/// What is done, and with which node or policy.
pub(super) type Key = (Task, Arc<str>);

/// The requests that are under way. Dropping it ends them at once.
#[derive(Debug)]
pub(super) struct Jobs<O> {
    tasks: JoinSet<O>,
    keys: HashMap<Id, Key>,
    running: HashSet<Key>,
    not_before: HashMap<Key, Moment>,
    backoff: Backoff<Key>,
    permits: Arc<Semaphore>,
}

impl<O: Send + 'static> Jobs<O> {
    /// With at most `limit` jobs under way; more wait for their turn.
    pub(super) fn new(limit: usize) -> Self {
        Self {
            tasks: JoinSet::new(),
            keys: HashMap::new(),
            running: HashSet::new(),
            not_before: HashMap::new(),
            backoff: Backoff::new(GROWTH),
            permits: Arc::new(Semaphore::new(limit)),
        }
    }

    /// Begins `job`, unless one of its key is under way or is to rest.
    pub(super) fn start(&mut self, key: Key, now: Moment, job: impl Future<Output = O> + Send + 'static) {
        if self.running.contains(&key) || self.not_before.get(&key).is_some_and(|rest| *rest > now) {
            return;
        }
        self.not_before.remove(&key);
        self.running.insert(key.clone());
        let permits = Arc::clone(&self.permits);
        let task = self.tasks.spawn(async move {
            let _permit = permits.acquire_owned().await.expect("the semaphore is never closed");
            job.await
        });
        self.keys.insert(task.id(), key);
    }

    /// The next job that ends; never when none is under way. `None` in place of its outcome: it panicked.
    pub(super) async fn next(&mut self) -> (Key, Option<O>) {
        let Some(ended) = self.tasks.join_next_with_id().await else { return std::future::pending().await };
        let (id, outcome) = match ended {
            Ok((id, outcome)) => (id, Some(outcome)),
            Err(crash) => {
                tracing::error!(%crash, "a request panicked and is tried again");
                (crash.id(), None)
            }
        };
        let key = self.keys.remove(&id).expect("every job is noted when it begins");
        self.running.remove(&key);
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

    /// When the first key that rests may go on.
    pub(super) fn due(&mut self, now: Moment) -> Option<Moment> {
        self.not_before.retain(|_, rest| *rest > now);
        self.not_before.values().min().copied()
    }

    /// Whether a job of this key is under way.
    #[cfg(test)]
    pub(super) fn is_running(&self, key: &Key) -> bool {
        self.running.contains(key)
    }

    /// Waits until none is under way.
    pub(super) async fn finish(&mut self) {
        while self.tasks.join_next().await.is_some() {}
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn key(task: Task) -> Key {
        (task, "n".into())
    }

    #[tokio::test]
    async fn one_job_of_a_key_is_under_way_and_the_next_one_rests() {
        let mut jobs = Jobs::new(2);
        let (now, second) = (Duration::ZERO, Duration::from_secs(1));
        jobs.start(key(Task::Write), now, async { 1 });
        jobs.start(key(Task::Write), now, async { 2 });
        jobs.start(key(Task::Pods), now, async { 3 });
        let mut ended = vec![jobs.next().await, jobs.next().await];
        ended.sort_by_key(|(_, outcome)| *outcome);
        assert_eq!(ended, [(key(Task::Write), Some(1)), (key(Task::Pods), Some(3))]);
        jobs.rest(key(Task::Write), now, second);
        jobs.start(key(Task::Write), now, async { 4 });
        assert_eq!(jobs.next().now_or_never(), None, "it rests");
        assert_eq!(jobs.due(now), Some(second));
        jobs.start(key(Task::Write), second, async { 5 });
        assert_eq!(jobs.next().await, (key(Task::Write), Some(5)));
        assert_eq!(jobs.due(second), None);
    }

    #[tokio::test]
    async fn a_job_that_panics_can_begin_again() {
        let mut jobs = Jobs::new(1);
        jobs.start(key(Task::Confirm), Duration::ZERO, async { panic!("a bug that one node meets") });
        assert_eq!(jobs.next().await, (key(Task::Confirm), None));
        jobs.start(key(Task::Confirm), Duration::ZERO, async { 1 });
        assert_eq!(jobs.next().await, (key(Task::Confirm), Some(1)));
    }
}
