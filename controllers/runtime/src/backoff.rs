//! Exponential delays with jitter, a key at a time.
//!
//! kube-runtime's `error_policy` is not told how often a key has failed (kube-rs#1916), so the count is kept
//! here. A held key may still be observed and its status written; only its writes wait.

use std::{collections::HashMap, hash::Hash, time::Duration};

use parking_lot::Mutex;
use rand::Rng;
use tokio::time::Instant;

/// How the delays grow.
#[derive(Debug, Clone, Copy)]
pub struct Growth {
    /// The delay after the first failure.
    pub first: Duration,
    /// No delay is longer, jitter included.
    pub cap: Duration,
}

/// When to look again after a store was found behind the server; each further time in a row twice as late.
pub const CATCH_UP: Growth = Growth { first: Duration::from_millis(200), cap: Duration::from_secs(5) };

impl Default for Growth {
    /// 100 ms doubling to one minute: client-go's queue goes to 16 minutes, which users report as a stall
    /// (kubernetes/kubernetes#98656).
    fn default() -> Self {
        Self { first: Duration::from_millis(100), cap: Duration::from_secs(60) }
    }
}

impl Growth {
    /// The delay before attempt number `failures + 1`, without jitter.
    pub fn delay(&self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        self.first.saturating_mul(1 << doublings).min(self.cap)
    }
}

/// How often something has failed in a row, and until when it waits.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Held {
    failures: u32,
    until: Option<Instant>,
}

impl Held {
    /// Counts a failure and returns how long it now waits: between 80 % and 100 % of the doubled delay, so that what failed
    /// together does not return together. A server's `Retry-After` may ask for more, up to the cap.
    pub(crate) fn fail(&mut self, growth: Growth, at_least: Option<Duration>) -> Duration {
        self.failures = self.failures.saturating_add(1);
        let jitter = rand::rng().random_range(0.8..=1.0);
        let delay = growth.delay(self.failures).mul_f64(jitter).max(at_least.unwrap_or_default());
        let delay = delay.min(growth.cap);
        self.until = Some(Instant::now() + delay);
        delay
    }

    /// How long it still waits; `None` when it may go.
    pub(crate) fn left(&self) -> Option<Duration> {
        self.until?.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
    }
}

/// The failure count of each key and the instant until which its writes wait.
#[derive(Debug)]
pub struct Backoff<K> {
    growth: Growth,
    held: Mutex<HashMap<K, Held>>,
}

impl<K: Hash + Eq + Clone> Backoff<K> {
    /// No key is held at first.
    pub fn new(growth: Growth) -> Self {
        Self { growth, held: Mutex::default() }
    }

    /// Counts a failure and returns how long the key's writes now wait. A server's `Retry-After` may ask for more, up to the
    /// cap.
    pub fn fail(&self, key: &K, at_least: Option<Duration>) -> Duration {
        self.held.lock().entry(key.clone()).or_default().fail(self.growth, at_least)
    }

    /// How long the key's writes still wait; `None` when they may go.
    pub fn held(&self, key: &K) -> Option<Duration> {
        self.held.lock().get(key)?.left()
    }

    /// Forgets the key's failures: it succeeded, its spec changed, it is gone, or something outside changed that may
    /// help. A reconcile that is under way may fail for what was so before: it then counts as the first failure and the key
    /// soon tries again. Returns whether there were failures.
    pub fn forget(&self, key: &K) -> bool {
        self.held.lock().remove(key).is_some()
    }

    /// How many keys have failed since they were last forgotten.
    pub(crate) fn len(&self) -> usize {
        self.held.lock().len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_and_stop_at_the_cap() {
        let growth = Growth { first: Duration::from_millis(100), cap: Duration::from_secs(60) };
        let delays: Vec<_> = [1, 2, 3, 10, 11, u32::MAX].map(|n| growth.delay(n).as_millis()).into();
        assert_eq!(delays, [100, 200, 400, 51_200, 60_000, 60_000]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_held_key_waits_alone_and_is_released_by_time() {
        let backoff = Backoff::new(Growth::default());
        let delay = backoff.fail(&"a", None);
        assert!(backoff.held(&"a").is_some_and(|left| left <= delay));
        assert_eq!(backoff.held(&"b"), None);
        tokio::time::advance(delay).await;
        assert_eq!(backoff.held(&"a"), None);
        let second = backoff.fail(&"a", None);
        assert!(second > delay.mul_f64(1.2), "the count survived the wait: {delay:?} then {second:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_whose_failures_are_forgotten_begins_again() {
        let backoff = Backoff::new(Growth::default());
        for _ in 0..8 {
            backoff.fail(&"a", None);
        }
        assert!(backoff.forget(&"a"));
        assert!(!backoff.forget(&"a"), "there is nothing more to forget");
        assert_eq!(backoff.held(&"a"), None);
        let of_the_pass_under_way = backoff.fail(&"a", None);
        assert!(of_the_pass_under_way <= Duration::from_millis(100), "waits for {of_the_pass_under_way:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn retry_after_is_honoured_up_to_the_cap() {
        let backoff = Backoff::new(Growth::default());
        assert_eq!(backoff.fail(&"a", Some(Duration::from_secs(7))), Duration::from_secs(7));
        assert_eq!(backoff.fail(&"a", Some(Duration::from_secs(700))), Duration::from_secs(60));
    }
}
