//! The garbage collector: what has lost all its owners is deleted, and what is in a namespace that is.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde_json::Value;

use super::timers::Timers;
use crate::model::{
    deletion::{FOREGROUND, ORPHAN},
    kinds::{Kind, ROWS},
    object::{finalizers, is_terminating, items, namespace, uid},
    store::{Key, Store, key},
};

/// How long it takes to notice.
const TAKES: Duration = Duration::from_millis(200);

pub(super) fn step(store: &mut Store, timers: &mut Timers) {
    let kinds: Vec<Kind> =
        ROWS.iter().map(|row| Kind::of(&api_version(row.group, row.version), row.kind)).collect();
    let mut standing = BTreeSet::new();
    let mut held: BTreeMap<String, (Kind, Key, &'static str)> = BTreeMap::new();
    for kind in &kinds {
        for object in store.all(*kind) {
            standing.insert(uid(object).to_owned());
            for holder in [FOREGROUND, ORPHAN] {
                if is_terminating(object) && finalizers(object).any(|finalizer| finalizer == holder) {
                    held.insert(uid(object).to_owned(), (*kind, key(object), holder));
                }
            }
        }
    }
    let mut lost = Vec::new();
    let mut waited_for = BTreeSet::new();
    for kind in &kinds {
        for object in store.all(*kind) {
            let owners: Vec<&Value> = items(&object["metadata"]["ownerReferences"]).collect();
            let owner = |reference: &Value| reference["uid"].as_str().unwrap_or_default().to_owned();
            let is_leaving = |reference: &&&Value| {
                held.get(&owner(reference)).is_some_and(|(_, _, holder)| *holder == FOREGROUND)
            };
            waited_for.extend(owners.iter().filter(is_leaving).map(|reference| owner(reference)));
            let stands = |reference: &&Value| standing.contains(&owner(reference)) && !is_leaving(&reference);
            if !owners.is_empty() && !owners.iter().any(stands) && !is_terminating(object) {
                lost.push((*kind, key(object), uid(object).to_owned()));
            }
        }
    }
    let leaving: Vec<Key> =
        store.all(Kind::named("namespaces")).filter(|space| is_terminating(space)).map(|s| key(s)).collect();
    for (_, name) in leaving {
        let of = |kind: &Kind| -> Vec<(Kind, Key, bool)> {
            let inside = store.all(*kind).filter(|object| namespace(object) == name);
            inside.map(|object| (*kind, key(object), is_terminating(object))).collect()
        };
        let inside: Vec<_> = kinds.iter().flat_map(of).collect();
        if inside.is_empty() {
            store.edit(Kind::named("namespaces"), &(String::new(), name), |space| {
                space["spec"]["finalizers"] = Value::Array(Vec::new())
            });
        }
        for (kind, key, _) in inside.into_iter().filter(|(_, _, is_leaving)| !is_leaving) {
            store.delete(kind, &key, None);
        }
    }
    for (kind, key, uid) in lost {
        if timers.passed(&uid, "garbage", TAKES) {
            store.delete(kind, &key, None);
        }
    }
    for (uid, (kind, key, holder)) in held {
        if holder == ORPHAN || !waited_for.contains(&uid) {
            store.edit(kind, &key, |object| {
                let rest =
                    finalizers(object).filter(|finalizer| *finalizer != holder).map(Value::from).collect();
                object["metadata"]["finalizers"] = Value::Array(rest);
            });
        }
    }
}

fn api_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}
