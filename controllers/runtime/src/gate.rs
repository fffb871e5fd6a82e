//! The write gate: no key is planned from a store that has not seen the key's own last writes.
//!
//! A watch is behind the writes that it will report. A planner that reads the store in between creates again what it
//! has just created, or deletes one more pod because the first one still looks alive. Kubernetes 1.36 protects its own
//! ReplicaSet controller in the same way (KEP-5647, `ConsistencyStore`).
//!
//! While the gate is closed a key may still be observed and its status written; its writes wait for the event that
//! opens the gate, which enqueues the key by itself.

use std::{collections::HashMap, hash::Hash};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::{
    index::{Index, Indexed},
    key::ObjectKey,
};

/// A write that is about to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Intent {
    /// A create.
    Create,
    /// A delete of the object of this UID.
    Delete(String),
}

/// What the store must show of one object.
#[derive(Debug)]
enum Expect {
    /// The effect of a write that has not been answered: it may have happened or not. Where the store does not come
    /// to show it, the key's next reconcile asks the server ([`Gate::unanswered`]).
    Unanswered(Intent),
    /// The object under this UID: its version is no number and does not compare.
    Present(String),
    /// The object of this UID terminating or gone. The answer to a delete carries no version that compares.
    Ended(String),
}

impl Expect {
    fn met<T: Indexed>(&self, object: &ObjectKey, store: &Index<T>, since: Instant) -> bool {
        let shown = store.get(object);
        match self {
            Self::Unanswered(Intent::Create) => shown.is_some(),
            Self::Present(uid) => {
                shown.is_some_and(|shown| *shown.header().uid == **uid) || store.listed_after(since)
            }
            Self::Ended(uid) | Self::Unanswered(Intent::Delete(uid)) => {
                shown.is_none_or(|shown| *shown.header().uid != **uid || shown.header().terminating)
            }
        }
    }
}

/// What one key waits for.
#[derive(Debug, Default)]
struct Waiting {
    /// The highest version that a create or patch was answered with, and when: of versions only the highest
    /// matters, so that a thousand creates wait as one.
    version: Option<(u64, Instant)>,
    objects: HashMap<ObjectKey, (Expect, Instant)>,
}

impl Waiting {
    fn is_over<T: Indexed>(&mut self, store: &Index<T>) -> bool {
        self.version = self.version.filter(|(version, since)| !store.reached(*version, *since));
        self.objects.retain(|object, (expect, since)| !expect.met(object, store, *since));
        self.version.is_none() && self.objects.is_empty()
    }
}

/// The writes of each key that the store has not shown yet.
#[derive(Debug)]
pub struct Gate<K> {
    waiting: Mutex<HashMap<K, Waiting>>,
}

impl<K> Default for Gate<K> {
    fn default() -> Self {
        Self { waiting: Mutex::default() }
    }
}

impl<K: Hash + Eq + Clone> Gate<K> {
    /// Notes a write before it is sent, so that no crash of the reconcile and no lost answer makes it forgotten.
    pub fn intend(&self, key: &K, object: &ObjectKey, intent: Intent) {
        self.expect(key, object, Expect::Unanswered(intent));
    }

    /// A create or patch of `object` was answered with this UID and version.
    pub fn stored(&self, key: &K, object: &ObjectKey, uid: &str, version: Option<&str>) {
        match version.and_then(|version| version.parse::<u64>().ok()) {
            Some(version) => {
                let mut waiting = self.waiting.lock();
                let waiting = waiting.entry(key.clone()).or_default();
                waiting.objects.remove(object);
                let highest = waiting.version.map_or(version, |(highest, _)| version.max(highest));
                waiting.version = Some((highest, Instant::now()));
            }
            None => self.expect(key, object, Expect::Present(uid.to_owned())),
        }
    }

    /// The object of this UID is being deleted or gone, as the server says.
    pub fn ended(&self, key: &K, object: &ObjectKey, uid: &str) {
        self.expect(key, object, Expect::Ended(uid.to_owned()));
    }

    /// The intended write of `object` is known to have had no effect.
    pub fn refused(&self, key: &K, object: &ObjectKey) {
        if let Some(waiting) = self.waiting.lock().get_mut(key) {
            waiting.objects.remove(object);
        }
    }

    /// The server was asked what became of an intended write of `object`; `found` is the object, if there is one.
    pub fn settle(&self, key: &K, object: &ObjectKey, intent: &Intent, found: Option<&ObjectMeta>) {
        match (intent, found) {
            (Intent::Create, Some(found)) => {
                let uid = found.uid.as_deref().unwrap_or_default();
                self.stored(key, object, uid, found.resource_version.as_deref());
            }
            (Intent::Delete(uid), Some(found))
                if found.uid.as_ref() == Some(uid) && found.deletion_timestamp.is_none() =>
            {
                self.refused(key, object);
            }
            (Intent::Delete(uid), _) => self.ended(key, object, uid),
            (Intent::Create, None) => self.refused(key, object),
        }
    }

    /// The writes of `key` whose outcome is not known.
    pub fn unanswered(&self, key: &K) -> Vec<(ObjectKey, Intent)> {
        let waiting = self.waiting.lock();
        let objects = waiting.get(key).into_iter().flat_map(|waiting| &waiting.objects);
        let intents = objects.filter_map(|(object, (expect, _))| match expect {
            Expect::Unanswered(intent) => Some((object.clone(), intent.clone())),
            _ => None,
        });
        intents.collect()
    }

    /// Whether the store has seen every write of `key`.
    pub fn is_open<T: Indexed>(&self, key: &K, store: &Index<T>) -> bool {
        let mut waiting = self.waiting.lock();
        let open = waiting.get_mut(key).is_none_or(|waiting| waiting.is_over(store));
        if open {
            waiting.remove(key);
        }
        open
    }

    /// Forgets a key that is gone.
    pub fn forget(&self, key: &K) {
        self.waiting.lock().remove(key);
    }

    fn expect(&self, key: &K, object: &ObjectKey, expect: Expect) {
        let mut waiting = self.waiting.lock();
        waiting.entry(key.clone()).or_default().objects.insert(object.clone(), (expect, Instant::now()));
    }
}

#[cfg(test)]
mod tests {
    use kube::runtime::watcher::Event;

    use super::*;
    use crate::slim::Header;

    struct Thing(Header);

    impl Indexed for Thing {
        type Bucket = ();
        fn header(&self) -> &Header {
            &self.0
        }
        fn buckets(&self) -> Vec<()> {
            vec![]
        }
        fn is_same(&self, _: &Self) -> bool {
            false
        }
    }

    fn key(name: &str) -> ObjectKey {
        ObjectKey::new("ns", name)
    }

    fn show(store: &Index<Thing>, name: &str, uid: &'static str, version: Option<u64>, terminating: bool) {
        let header = Header { key: key(name), uid: uid.into(), version, terminating };
        store.apply(Event::Apply(Thing(header)), |_| {});
    }

    #[test]
    fn a_create_holds_its_own_key_until_the_store_shows_it() {
        let (gate, store) = (Gate::default(), Index::default());
        for version in ["3", "5", "4"] {
            gate.stored(&"group", &key("a"), "1", Some(version));
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
        gate.intend(&"group", &key("a"), Intent::Create);
        gate.intend(&"group", &key("b"), Intent::Create);
        show(&store, "a", "1", Some(1), false);
        assert!(!gate.is_open(&"group", &store), "b may exist");
        assert_eq!(gate.unanswered(&"group"), [(key("b"), Intent::Create)]);
        gate.refused(&"group", &key("b"));
        assert!(gate.is_open(&"group", &store));
    }

    #[test]
    fn a_delete_without_answer_holds_until_it_is_seen_or_settled() {
        let (gate, store) = (Gate::default(), Index::default());
        show(&store, "a", "1", Some(1), false);
        show(&store, "b", "2", Some(2), false);
        gate.intend(&"group", &key("a"), Intent::Delete("1".into()));
        gate.intend(&"group", &key("b"), Intent::Delete("2".into()));
        show(&store, "a", "1", Some(3), true);
        assert!(!gate.is_open(&"group", &store), "b may be terminating");
        assert_eq!(gate.unanswered(&"group"), [(key("b"), Intent::Delete("2".into()))]);
        gate.refused(&"group", &key("b"));
        assert!(gate.is_open(&"group", &store), "the server said that b lives");
    }

    #[test]
    fn versions_that_do_not_compare_fall_back_to_uids() {
        let (gate, store) = (Gate::default(), Index::default());
        gate.stored(&"group", &key("a"), "new", Some("opaque"));
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
            gate.ended(&"group", &key("a"), "u");
            // Another object's later version says nothing of this one.
            show(&store, "b", "v", Some(100), false);
            assert!(!gate.is_open(&"group", &store));
            show(&store, "a", ended.0, Some(101), ended.1);
            assert!(gate.is_open(&"group", &store));
        }
        let (gate, store) = (Gate::<&str>::default(), Index::<Thing>::default());
        gate.ended(&"group", &key("a"), "u");
        assert!(gate.is_open(&"group", &store), "it is gone already");
    }

    #[tokio::test(start_paused = true)]
    async fn a_list_asked_for_after_the_write_opens_the_gate() {
        let (gate, store) = (Gate::default(), Index::<Thing>::default());
        gate.stored(&"group", &key("a"), "1", Some("5"));
        tokio::time::advance(std::time::Duration::from_millis(1)).await;
        store.apply(Event::Init, |_| {});
        store.apply(Event::InitDone, |_| {});
        assert!(
            gate.is_open(&"group", &store),
            "the object was created and deleted while the watch was down"
        );
    }
}
