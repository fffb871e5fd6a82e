//! What becomes of an object that is deleted.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{
    kinds::Kind,
    object::{finalizers, is_terminating, items, map},
    store::{Key, Store, is_held},
};

/// The finalizer of an object whose dependents go first.
pub const FOREGROUND: &str = "foregroundDeletion";
/// The finalizer of an object whose dependents stay.
pub const ORPHAN: &str = "orphan";

impl Store {
    /// Begins the deletion of an object, which ends at once where nothing holds it. A pod on a node is held by its kubelet, for
    /// `grace` seconds or those of its spec.
    pub fn delete(&mut self, kind: Kind, key: &Key, grace: Option<i64>) {
        self.delete_so(kind, key, grace, None);
    }

    /// The same with a `propagationPolicy`.
    pub(super) fn delete_so(&mut self, kind: Kind, key: &Key, grace: Option<i64>, policy: Option<&str>) {
        let Some(old) = self.get(kind, key).cloned() else { return };
        let mut new = Value::clone(&old);
        let is_pod = kind == Kind::named("pods");
        let left = old["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap_or_default();
        if kind == Kind::named("namespaces") {
            terminate(&mut new);
        } else if is_pod && (left > 0 || !is_terminating(&old)) {
            if is_terminating(&old) {
                // What was asked for more time may get less; and once it has begun, it is told no more how to propagate.
                let Some(grace) = grace.filter(|grace| *grace < left) else { return };
                let end = time(&old["metadata"]["deletionTimestamp"], grace - left).max(Timestamp::now());
                set_end(&mut new, end, grace);
            } else {
                let grace = of_pod(&old, grace);
                set_end(&mut new, time(&Value::Null, grace), grace);
                next_generation(&mut new);
            }
            propagate(&mut new, policy);
        } else {
            propagate(&mut new, policy);
            if finalizers(&new).next().is_none() {
                self.remove(kind, &old);
                return;
            }
            if !is_terminating(&old) {
                next_generation(&mut new);
            }
            let end = if is_terminating(&old) {
                time(&old["metadata"]["deletionTimestamp"], 0)
            } else {
                Timestamp::now()
            };
            set_end(&mut new, end.min(Timestamp::now()), 0);
        }
        if new == *old {
            return;
        }
        if is_pod && !is_held(&new) {
            // It is seen to end before it is gone.
            new = Value::clone(&self.note(kind, new, false));
            self.remove(kind, &new);
        } else {
            self.put(kind, new);
        }
    }
}

/// The seconds that a pod is given.
fn of_pod(pod: &Value, grace: Option<i64>) -> i64 {
    let has_ended = ["Failed", "Succeeded"].iter().any(|phase| pod["status"]["phase"] == *phase);
    if !pod["spec"]["nodeName"].is_string() || has_ended {
        return 0;
    }
    grace.unwrap_or_else(|| pod["spec"]["terminationGracePeriodSeconds"].as_i64().unwrap_or(30))
}

/// A time that an object names, or now, and some seconds.
fn time(at: &Value, seconds: i64) -> Timestamp {
    let at = at.as_str().and_then(|at| at.parse().ok()).unwrap_or_else(Timestamp::now);
    at.checked_add(SignedDuration::from_secs(seconds)).unwrap_or(at)
}

fn set_end(object: &mut Value, end: Timestamp, grace: i64) {
    let metadata = map(object, "metadata");
    metadata.insert("deletionTimestamp".to_owned(), end.strftime("%Y-%m-%dT%H:%M:%SZ").to_string().into());
    metadata.insert("deletionGracePeriodSeconds".to_owned(), grace.into());
}

fn next_generation(object: &mut Value) {
    if let Some(generation) = object["metadata"]["generation"].as_i64() {
        object["metadata"]["generation"] = (generation + 1).into();
    }
}

/// The namespace's own controller ends it, once it is empty.
fn terminate(namespace: &mut Value) {
    if !is_terminating(namespace) {
        namespace["metadata"]["deletionTimestamp"] = super::store::now().into();
        namespace["status"]["phase"] = "Terminating".into();
    }
}

/// Sets the finalizers that hold an object until its dependents have been seen to.
fn propagate(object: &mut Value, policy: Option<&str>) {
    let holder = match policy {
        Some("Foreground") => Some(FOREGROUND),
        Some("Orphan") => Some(ORPHAN),
        Some(_) => None,
        None => return,
    };
    let before = &object["metadata"]["finalizers"];
    let others =
        items(before).filter(|finalizer| **finalizer != FOREGROUND && **finalizer != ORPHAN).cloned();
    let after: Vec<Value> = others.chain(holder.map(Value::from)).collect();
    if before.as_array().map_or(0, Vec::len) == after.len()
        && items(before).all(|finalizer| after.contains(finalizer))
    {
        return;
    }
    object["metadata"]["finalizers"] = json!(after);
    super::object::tidy(object);
}
