//! The write gate: no key is planned against a store that has not seen the key's own last writes.
//!
//! A watch lags behind the writes that it will report. A planner that looks at the store in between creates
//! what it has just created, or deletes one more because the first victim still looks alive. Kubernetes 1.36
//! guards its own ReplicaSet controller in the same way (KEP-5647, `ConsistencyStore`).
//!
//! While the gate is closed a key may still be observed and its status written; its writes wait for the event
//! that opens the gate, which triggers the key by itself.

use std::{collections::HashMap, hash::Hash};

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::index::{Index, Indexed, ObjectKey};

/// What the store must show before the key is planned again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expect {
    /// The object at this version or a later one, as create and patch answer it.
    Version(u64),
    /// The object under this UID, where versions are no numbers and do not compare.
    Present(ObjectKey, String),
    /// The effect of a write that has not been answered: it may have happened or not. Where the store does not come
    /// to show it, the key's next pass asks the server ([`Gate::unanswered`]).
    Unanswered(Intent),
    /// The object of this UID terminating or gone. The answer to a delete carries no version that compares.
    Ended(ObjectKey, String),
}

/// A write that is about to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Intent {
    /// A create under this name.
    Create(ObjectKey),
    /// A delete of the object of this UID.
    Delete(ObjectKey, String),
}

impl Intent {
    /// The name of the object.
    pub fn object(&self) -> &ObjectKey {
        match self {
            Self::Create(key) | Self::Delete(key, _) => key,
        }
    }
}

impl Expect {
    /// What a create or patch that answered with `version` makes the gate wait for.
    pub fn written(key: ObjectKey, uid: &str, version: Option<&str>) -> Self {
        match version.and_then(|version| version.parse().ok()) {
            Some(version) => Self::Version(version),
            None => Self::Present(key, uid.to_owned()),
        }
    }

    fn met<T: Indexed>(&self, store: &Index<T>, since: Instant) -> bool {
        match self {
            Self::Version(version) => store.reached(*version, since),
            Self::Present(key, uid) => {
                store.get(key).is_some_and(|object| object.uid() == uid) || store.reached(u64::MAX, since)
            }
            Self::Unanswered(Intent::Create(key)) => store.get(key).is_some(),
            Self::Ended(key, uid) | Self::Unanswered(Intent::Delete(key, uid)) => {
                store.get(key).is_none_or(|object| object.uid() != uid || object.terminating())
            }
        }
    }
}

/// The writes of each key that the store has not shown yet.
#[derive(Debug)]
pub struct Gate<K> {
    waiting: Mutex<HashMap<K, Vec<(Instant, Expect)>>>,
}

impl<K> Default for Gate<K> {
    fn default() -> Self {
        Self { waiting: Mutex::default() }
    }
}

impl<K: Hash + Eq + Clone> Gate<K> {
    /// Closes the gate of `key` until the store has seen the write, which has just been answered.
    pub fn wrote(&self, key: &K, expect: Expect) {
        let mut waiting = self.waiting.lock();
        let writes = waiting.entry(key.clone()).or_default();
        let now = Instant::now();
        // Of versions only the highest matters, so that a thousand creates wait as one entry.
        if let Expect::Version(new) = expect {
            for (at, waiting) in writes.iter_mut() {
                if let Expect::Version(old) = waiting {
                    (*at, *old) = (now, new.max(*old));
                    return;
                }
            }
        }
        writes.push((now, expect));
    }

    /// Notes a write before it is sent, so that no crash of the pass and no lost answer makes it forgotten.
    pub fn intend(&self, key: &K, intent: Intent) {
        let mut waiting = self.waiting.lock();
        waiting.entry(key.clone()).or_default().push((Instant::now(), Expect::Unanswered(intent)));
    }

    /// The outcome of the intended write of `object` is known.
    pub fn answered(&self, key: &K, object: &ObjectKey) {
        if let Some(writes) = self.waiting.lock().get_mut(key) {
            writes.retain(
                |(_, expect)| !matches!(expect, Expect::Unanswered(intent) if intent.object() == object),
            );
        }
    }

    /// The writes of `key` whose outcome is not known.
    pub fn unanswered(&self, key: &K) -> Vec<Intent> {
        let waiting = self.waiting.lock();
        let intents = waiting.get(key).into_iter().flatten().filter_map(|(_, expect)| match expect {
            Expect::Unanswered(intent) => Some(intent.clone()),
            _ => None,
        });
        intents.collect()
    }

    /// Whether the store has seen every write of `key`.
    pub fn is_open<T: Indexed>(&self, key: &K, store: &Index<T>) -> bool {
        let mut waiting = self.waiting.lock();
        let Some(writes) = waiting.get_mut(key) else { return true };
        writes.retain(|(since, expect)| !expect.met(store, *since));
        let open = writes.is_empty();
        if open {
            waiting.remove(key);
        }
        open
    }

    /// Forgets a key that is gone.
    pub fn forget(&self, key: &K) {
        self.waiting.lock().remove(key);
    }
}

#[cfg(test)]
mod tests {
    use kube::runtime::watcher::Event;

    use super::*;

    struct Thing(ObjectKey, &'static str, Option<u64>, bool);

    impl Indexed for Thing {
        type Bucket = ();
        fn key(&self) -> &ObjectKey {
            &self.0
        }
        fn uid(&self) -> &str {
            self.1
        }
        fn version(&self) -> Option<u64> {
            self.2
        }
        fn terminating(&self) -> bool {
            self.3
        }
        fn buckets(&self) -> Vec<()> {
            vec![]
        }
    }

    fn key(name: &str) -> ObjectKey {
        ObjectKey::new("ns", name)
    }

    fn show(store: &Index<Thing>, name: &str, uid: &'static str, version: Option<u64>, terminating: bool) {
        store.apply(Event::Apply(Thing(key(name), uid, version, terminating)), |_| {});
    }

    #[test]
    fn a_create_holds_its_own_key_until_the_store_shows_it() {
        let (gate, store) = (Gate::default(), Index::default());
        for version in ["3", "5", "4"] {
            gate.wrote(&"group", Expect::written(key("a"), "1", Some(version)));
        }
        assert!(!gate.is_open(&"group", &store));
        assert!(gate.is_open(&"other", &store));
        show(&store, "x", "9", Some(4), false);
        assert!(!gate.is_open(&"group", &store), "version 5 was written");
        show(&store, "x", "9", Some(5), false);
        assert!(gate.is_open(&"group", &store));
    }

    #[test]
    fn a_create_without_answer_holds_until_it_is_seen_or_settled() {
        let (gate, store) = (Gate::default(), Index::default());
        gate.intend(&"group", Intent::Create(key("a")));
        gate.intend(&"group", Intent::Create(key("b")));
        show(&store, "a", "1", Some(1), false);
        assert!(!gate.is_open(&"group", &store), "b may exist");
        assert_eq!(gate.unanswered(&"group"), [Intent::Create(key("b"))]);
        gate.answered(&"group", &key("b"));
        assert!(gate.is_open(&"group", &store));
    }

    #[test]
    fn a_delete_without_answer_holds_until_it_is_seen_or_settled() {
        let (gate, store) = (Gate::default(), Index::default());
        show(&store, "a", "1", Some(1), false);
        show(&store, "b", "2", Some(2), false);
        gate.intend(&"group", Intent::Delete(key("a"), "1".into()));
        gate.intend(&"group", Intent::Delete(key("b"), "2".into()));
        show(&store, "a", "1", Some(3), true);
        assert!(!gate.is_open(&"group", &store), "b may be terminating");
        assert_eq!(gate.unanswered(&"group"), [Intent::Delete(key("b"), "2".into())]);
        gate.answered(&"group", &key("b"));
        assert!(gate.is_open(&"group", &store), "the server said that b lives");
    }

    #[test]
    fn versions_that_do_not_compare_fall_back_to_uids() {
        let (gate, store) = (Gate::default(), Index::default());
        gate.wrote(&"group", Expect::written(key("a"), "new", Some("opaque")));
        show(&store, "a", "old", None, false);
        assert!(!gate.is_open(&"group", &store));
        show(&store, "a", "new", None, false);
        assert!(gate.is_open(&"group", &store));
    }

    #[test]
    fn a_delete_holds_until_the_victim_is_terminating_gone_or_another() {
        for ended in [("u", true), ("other", false)] {
            let (gate, store) = (Gate::default(), Index::default());
            show(&store, "a", "u", Some(1), false);
            gate.wrote(&"group", Expect::Ended(key("a"), "u".into()));
            // Another object's later version says nothing of this one.
            show(&store, "b", "v", Some(100), false);
            assert!(!gate.is_open(&"group", &store));
            show(&store, "a", ended.0, Some(101), ended.1);
            assert!(gate.is_open(&"group", &store));
        }
        let (gate, store) = (Gate::<&str>::default(), Index::<Thing>::default());
        gate.wrote(&"group", Expect::Ended(key("a"), "u".into()));
        assert!(gate.is_open(&"group", &store), "it is gone already");
    }

    #[tokio::test(start_paused = true)]
    async fn a_list_asked_for_after_the_write_opens_the_gate() {
        let (gate, store) = (Gate::default(), Index::<Thing>::default());
        gate.wrote(&"group", Expect::Version(5));
        tokio::time::advance(std::time::Duration::from_millis(1)).await;
        store.apply(Event::Init, |_| {});
        store.apply(Event::InitDone, |_| {});
        assert!(
            gate.is_open(&"group", &store),
            "the object was created and deleted while the watch was down"
        );
    }
}
