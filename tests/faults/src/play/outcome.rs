//! What a cluster looks like in the end, without what chance has chosen: names, UIDs, versions, addresses and times.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::model::{
    kinds::{Kind, ROWS},
    object::{items, name, uid},
    store::Store,
};

/// Kinds whose objects say when something was, and not what is.
const PASSING: [&str; 2] = ["leases", "events"];

/// The objects of the cluster, in an order of their own.
pub(super) fn outcome(store: &Store, scrub: fn(&mut Value)) -> Vec<String> {
    let kinds: Vec<Kind> = ROWS
        .iter()
        .filter(|row| !PASSING.contains(&row.plural))
        .map(|row| Kind::find(row.group, row.plural).expect("it is a row"))
        .collect();
    let objects = || kinds.iter().flat_map(|kind| store.all(*kind));
    let names = placeholders(objects().map(|object| &**object));
    let mut all: Vec<String> = objects()
        .map(|object| {
            let mut object = Value::clone(object);
            bare(&mut object);
            scrub(&mut object);
            replace(&mut object, &names);
            object.to_string()
        })
        .collect();
    all.sort();
    all
}

/// What stands for what: names of objects that have a controller, all UIDs, and addresses of pods.
fn placeholders<'a>(objects: impl Iterator<Item = &'a Value>) -> BTreeMap<String, String> {
    let mut names = BTreeMap::new();
    for object in objects {
        let owner = items(&object["metadata"]["ownerReferences"]).find(|owner| owner["controller"] == true);
        let kind = object["kind"].as_str().unwrap_or_default();
        let shown = match owner {
            Some(owner) => format!("<{kind} of {}>", owner["name"].as_str().unwrap_or_default()),
            None => name(object).to_owned(),
        };
        names.insert(uid(object).to_owned(), format!("<uid of {kind} {shown}>"));
        if owner.is_some() {
            names.insert(name(object).to_owned(), shown);
        }
        if let Some(address) = object["status"]["podIP"].as_str() {
            names.insert(address.to_owned(), "<address>".to_owned());
        }
    }
    names
}

/// Without what only says when and how often it was written.
fn bare(object: &mut Value) {
    let generation = object["metadata"]["generation"].clone();
    if let Some(metadata) = object["metadata"].as_object_mut() {
        for passing in ["resourceVersion", "creationTimestamp", "managedFields", "generation"] {
            metadata.remove(passing);
        }
    }
    settle(object, &generation);
}

/// Says of each observed generation only whether it is the present one.
fn settle(value: &mut Value, generation: &Value) {
    match value {
        Value::Object(map) => {
            for (key, child) in map {
                if key == "observedGeneration" && child.is_number() {
                    *child = (child == generation).into();
                } else {
                    settle(child, generation);
                }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(|child| settle(child, generation)),
        _ => {}
    }
}

fn replace(value: &mut Value, names: &BTreeMap<String, String>) {
    match value {
        Value::Object(map) => {
            let old = std::mem::take(map);
            for (key, mut child) in old {
                replace(&mut child, names);
                let key = if is_time(&key) { "<time>".to_owned() } else { stand_in(key, names) };
                map.insert(key, child);
            }
        }
        Value::Array(list) => {
            list.iter_mut().for_each(|child| replace(child, names));
        }
        Value::String(text) => {
            *text = if is_time(text) { "<time>".to_owned() } else { stand_in(std::mem::take(text), names) };
        }
        _ => {}
    }
}

fn stand_in(text: String, names: &BTreeMap<String, String>) -> String {
    if let Some(shown) = names.get(&text) {
        return shown.clone();
    }
    let within = names.iter().filter(|(name, _)| name.len() > 5 && text.contains(name.as_str()));
    let within: Vec<_> = within.collect();
    within.into_iter().fold(text, |text, (name, shown)| text.replace(name.as_str(), shown))
}

fn is_time(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() >= 20 && bytes[4] == b'-' && bytes[10] == b'T' && bytes[13] == b':' && text.ends_with('Z')
}
