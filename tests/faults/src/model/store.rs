//! The objects of the server, each with its history.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use serde_json::Value;
use tokio::{sync::watch, time::Instant};

use super::{
    kinds::{Kind, ROWS},
    object::{finalizers, is_terminating, items, map, name, namespace, tidy},
};

/// Where an object is within its kind: namespace and name.
pub type Key = (String, String);

/// A change of an object.
#[derive(Debug, Clone)]
pub struct Change {
    /// The version of the server after it.
    pub version: u64,
    /// When it was.
    pub at: Instant,
    /// The object before, if there was one.
    pub old: Option<Arc<Value>>,
    /// The object after; the last that was seen of it where it is gone.
    pub new: Arc<Value>,
    /// Whether it is gone.
    pub gone: bool,
}

#[derive(Debug, Default)]
struct Table {
    objects: BTreeMap<Key, Arc<Value>>,
    history: Vec<Change>,
}

/// The objects of the server. Each change gives it a new version and is kept.
#[derive(Debug)]
pub struct Store {
    tables: Vec<Table>,
    version: u64,
    made: u64,
    changed: watch::Sender<u64>,
}

impl Default for Store {
    fn default() -> Self {
        let tables = ROWS.iter().map(|_| Table::default()).collect();
        Self { tables, version: 100, made: 0, changed: watch::Sender::new(100) }
    }
}

impl Store {
    /// The version of the server: that of the last change.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Shows each new version of the server.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// The object under this key.
    pub fn get(&self, kind: Kind, key: &Key) -> Option<&Arc<Value>> {
        self.tables[kind.0].objects.get(key)
    }

    /// The object of this namespace and name.
    pub fn find(&self, kind: Kind, namespace: &str, name: &str) -> Option<&Arc<Value>> {
        self.get(kind, &(namespace.to_owned(), name.to_owned()))
    }

    /// The objects of a kind, by namespace and name.
    pub fn all(&self, kind: Kind) -> impl Iterator<Item = &Arc<Value>> {
        self.tables[kind.0].objects.values()
    }

    /// The changes of a kind, from the first.
    pub fn history(&self, kind: Kind) -> &[Change] {
        &self.tables[kind.0].history
    }

    /// The objects of a kind as they were at this version.
    pub fn at(&self, kind: Kind, version: u64) -> BTreeMap<Key, Arc<Value>> {
        let mut objects = BTreeMap::new();
        for change in self.history(kind).iter().take_while(|change| change.version <= version) {
            if change.gone {
                objects.remove(&key(&change.new));
            } else {
                objects.insert(key(&change.new), Arc::clone(&change.new));
            }
        }
        objects
    }

    /// Stores a new object, with a UID of its own.
    pub fn create(&mut self, kind: Kind, object: Value) -> Arc<Value> {
        let object = self.identified(kind, object);
        self.put(kind, object)
    }

    /// A new object with what the server gives it, before it is stored.
    pub(super) fn identified(&mut self, kind: Kind, mut object: Value) -> Value {
        self.made += 1;
        let uid = format!("{:08x}-0000-4000-8000-000000000000", self.made);
        let metadata = map(&mut object, "metadata");
        metadata.insert("uid".to_owned(), uid.into());
        metadata.insert("creationTimestamp".to_owned(), now().into());
        if kind.row().counted {
            metadata.insert("generation".to_owned(), 1.into());
        }
        tidy(&mut object);
        object
    }

    /// Stores an object in the place of the one before, as the next version. One that is to be deleted and that nothing holds
    /// any more is gone then: what is returned was never stored, and watches show the one before.
    pub fn put(&mut self, kind: Kind, object: Value) -> Arc<Value> {
        let old = self.get(kind, &key(&object)).cloned();
        if let Some(old) = old
            && !is_held(&object)
        {
            self.remove(kind, &old);
            return Arc::new(object);
        }
        self.note(kind, object, false)
    }

    /// Takes an object away.
    pub(super) fn remove(&mut self, kind: Kind, object: &Value) {
        self.note(kind, object.clone(), true);
    }

    /// Stores an object, or that it is gone, as the next version.
    pub(super) fn note(&mut self, kind: Kind, mut object: Value, gone: bool) -> Arc<Value> {
        self.version += 1;
        let key = key(&object);
        map(&mut object, "metadata").insert("resourceVersion".to_owned(), self.version.to_string().into());
        let object = Arc::new(object);
        let table = &mut self.tables[kind.0];
        let old =
            if gone { table.objects.remove(&key) } else { table.objects.insert(key, Arc::clone(&object)) };
        let change =
            Change { version: self.version, at: Instant::now(), old, new: Arc::clone(&object), gone };
        table.history.push(change);
        self.changed.send_replace(self.version);
        object
    }

    /// Changes an object as the cluster's own components do, which no request of a controller shows. Nothing is stored where it
    /// stays as it was.
    pub fn edit(&mut self, kind: Kind, key: &Key, change: impl FnOnce(&mut Value)) {
        let Some(old) = self.get(kind, key).cloned() else { return };
        let mut new = Value::clone(&old);
        change(&mut new);
        if new != *old {
            self.replace(kind, &old, new);
        }
    }

    /// Stores `new` in the place of `old`; where it has another spec, as the next generation.
    pub fn replace(&mut self, kind: Kind, old: &Value, mut new: Value) -> Arc<Value> {
        if kind.row().counted && differs(kind, old, &new) {
            let generation = old["metadata"]["generation"].as_i64().unwrap_or_default();
            new["metadata"]["generation"] = (generation + 1).into();
        }
        self.put(kind, new)
    }
}

/// Where an object is.
pub fn key(object: &Value) -> Key {
    (namespace(object).to_owned(), name(object).to_owned())
}

/// The time, as objects write it.
pub fn now() -> String {
    Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Whether something keeps an object there: its deletion has not begun, or waits.
pub(super) fn is_held(object: &Value) -> bool {
    let waits = object["metadata"]["deletionGracePeriodSeconds"].as_i64().is_some_and(|left| left > 0);
    let is_namespace = object["kind"] == "Namespace" && items(&object["spec"]["finalizers"]).next().is_some();
    !is_terminating(object) || waits || is_namespace || finalizers(object).next().is_some()
}

/// Whether anything but metadata and status differs, or what else makes a new generation of the kind.
fn differs(kind: Kind, old: &Value, new: &Value) -> bool {
    let besides = match kind.row().plural {
        "deployments" => "annotations",
        "endpointslices" => "labels",
        _ => "",
    };
    let count = |object: &Value| object.as_object().map_or(0, |map| map.keys().filter(|k| counts(k)).count());
    let same = |(key, value): (&String, &Value)| !counts(key) || new.get(key) == Some(value);
    count(old) != count(new)
        || !old.as_object().is_some_and(|map| map.iter().all(same))
        || old["metadata"][besides] != new["metadata"][besides]
}

fn counts(key: &str) -> bool {
    !["metadata", "status", "apiVersion", "kind"].contains(&key)
}
