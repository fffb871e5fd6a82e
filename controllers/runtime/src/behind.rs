//! Objects of which the server is known to have a later version than a store shows.
//!
//! A write that names the version in the store would be refused. The event that shows the later one enqueues the object by
//! itself, so until then such a write is tried less and less often: should the event be lost, or the server have
//! refused for another reason, it is tried all the same.

use std::{collections::HashMap, time::Duration};

use parking_lot::Mutex;

use crate::{
    backoff::{Growth, Held},
    key::ObjectKey,
};

/// Only a lost event makes these tries worthwhile.
const AGAIN: Growth = Growth { first: Duration::from_millis(200), cap: Duration::from_secs(60) };

/// The version of each object at which no write is worthwhile for now.
#[derive(Debug, Default)]
pub struct Behind(Mutex<HashMap<ObjectKey, (Option<String>, Held)>>);

impl Behind {
    /// The server has, or may have, a later version than this one. Returns how long writes that name this one wait.
    pub fn note(&self, object: &ObjectKey, version: Option<&str>) -> Duration {
        let mut objects = self.0.lock();
        let (noted, held) = objects.entry(object.clone()).or_default();
        if noted.as_deref() != version {
            (*noted, *held) = (version.map(str::to_owned), Held::default());
        }
        held.fail(AGAIN, None)
    }

    /// How long a write that names this version still waits; `None` when it may go.
    pub fn left(&self, object: &ObjectKey, version: Option<&str>) -> Option<Duration> {
        let objects = self.0.lock();
        let (noted, held) = objects.get(object)?;
        held.left().filter(|_| noted.as_deref() == version)
    }

    /// Forgets an object that is gone.
    pub fn forget(&self, object: &ObjectKey) {
        self.0.lock().remove(object);
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn writes_at_one_version_are_tried_less_and_less_often_and_at_the_next_at_once() {
        let (behind, key) = (Behind::default(), |name| ObjectKey::new("ns", name));
        assert_eq!(behind.left(&key("a"), Some("1")), None);
        let (mut tries, mut passed) = (0, Duration::ZERO);
        while passed < Duration::from_secs(20) {
            let wait = behind.note(&key("a"), Some("1"));
            assert_eq!(behind.left(&key("a"), Some("1")), Some(wait));
            assert_eq!(behind.left(&key("b"), Some("1")), None, "another object");
            assert_eq!(behind.left(&key("a"), Some("2")), None, "the store shows it");
            advance(wait).await;
            passed += wait;
            tries += 1;
        }
        assert!((5..12).contains(&tries), "tried {tries} times in 20 s");
        assert_eq!(behind.left(&key("a"), Some("1")), None, "should no event come");
        assert!(behind.note(&key("a"), Some("2")) <= AGAIN.first);
    }
}
