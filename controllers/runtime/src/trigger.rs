//! Which keys have unserved changes, and since when.
//!
//! kube-runtime's queue tells neither its depth nor how long a key has waited (kube-rs#1917). Every source of
//! work therefore goes through [`Triggers`]: a key that is already waiting is not queued twice, and the wait is
//! measured from the first change that no pass has served yet.

use std::{collections::HashMap, hash::Hash, time::Duration};

use futures::Stream;
use parking_lot::Mutex;
use tokio::{sync::mpsc, time::Instant};

/// The waiting keys. The stream that comes with it feeds the loop.
#[derive(Debug)]
pub struct Triggers<K> {
    waiting: Mutex<HashMap<K, Instant>>,
    queue: mpsc::UnboundedSender<K>,
}

impl<K: Hash + Eq + Clone> Triggers<K> {
    /// Makes the set and the stream of keys that begin to wait. The stream holds each key at most once
    /// between two [`Triggers::serve`] calls, so its length is bounded by the number of keys.
    pub fn new() -> (Self, impl Stream<Item = K>) {
        let (queue, mut receiver) = mpsc::unbounded_channel();
        let stream = futures::stream::poll_fn(move |context| receiver.poll_recv(context));
        (Self { waiting: Mutex::default(), queue }, stream)
    }

    /// Something about `key` has changed. Returns whether it was not waiting before.
    pub fn trigger(&self, key: &K) -> bool {
        let mut waiting = self.waiting.lock();
        if waiting.contains_key(key) {
            return false;
        }
        waiting.insert(key.clone(), Instant::now());
        // The receiver is gone only while the process ends, when nothing is served any more.
        let _ = self.queue.send(key.clone());
        true
    }

    /// A pass over `key` begins: changes from now on count anew. Returns how long the first one waited;
    /// `None` when the pass was scheduled by time alone.
    pub fn serve(&self, key: &K) -> Option<Duration> {
        self.waiting.lock().remove(key).map(|since| since.elapsed())
    }

    /// How many keys wait.
    pub fn depth(&self) -> usize {
        self.waiting.lock().len()
    }

    /// How long the key that has waited longest has done so.
    pub fn longest_wait(&self) -> Option<Duration> {
        self.waiting.lock().values().map(Instant::elapsed).max()
    }

    /// Forgets a key that is gone.
    pub fn forget(&self, key: &K) {
        self.waiting.lock().remove(key);
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt, StreamExt};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_waiting_key_is_queued_once_and_timed_from_its_first_change() {
        let (triggers, stream) = Triggers::new();
        let mut stream = std::pin::pin!(stream);
        assert!(triggers.trigger(&"a"));
        tokio::time::advance(Duration::from_secs(2)).await;
        assert!(!triggers.trigger(&"a"));
        assert_eq!((triggers.depth(), triggers.longest_wait()), (1, Some(Duration::from_secs(2))));
        assert_eq!(stream.next().now_or_never(), Some(Some("a")));
        assert_eq!(stream.next().now_or_never(), None, "queued once");
        assert_eq!(triggers.serve(&"a"), Some(Duration::from_secs(2)));
        assert_eq!(triggers.serve(&"a"), None);
    }

    #[tokio::test]
    async fn a_change_during_a_pass_is_not_lost() {
        let (triggers, stream) = Triggers::new();
        let mut stream = std::pin::pin!(stream);
        triggers.trigger(&"a");
        assert_eq!(stream.next().await, Some("a"));
        triggers.serve(&"a");
        assert!(triggers.trigger(&"a"), "the pass has begun: this change needs another one");
        assert_eq!(stream.next().await, Some("a"));
    }
}
