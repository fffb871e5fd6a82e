//! What a cluster looks like in the end, without what chance has chosen: names, UIDs, versions, addresses and times.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::model::{
    kinds::{Kind, ROWS},
    object::{items, name, uid},
    store::Store,
};

/// Kinds whose objects say when something was, and not what is.
const PASSING: [&str; 2] = ["leases", "events"];

/// The objects of the cluster, in an order of their own, and which of them has this UID.
pub(super) fn outcome(
    store: &Store,
    scrub: fn(&mut Value),
    of: Option<&str>,
) -> (Vec<String>, Option<String>) {
    let kinds: Vec<Kind> = ROWS
        .iter()
        .filter(|row| !PASSING.contains(&row.plural))
        .map(|row| Kind::find(row.group, row.plural).expect("it is a row"))
        .collect();
    let objects = || kinds.iter().flat_map(|kind| store.all(*kind));
    let names = placeholders(objects().map(|object| &**object));
    let shown = |object: &Value| {
        let mut object = object.clone();
        bare(&mut object);
        scrub(&mut object);
        replace(&mut object, &names);
        (!object.is_null()).then(|| object.to_string())
    };
    let mut all: Vec<String> = objects().filter_map(|object| shown(object)).collect();
    all.sort();
    let meant = objects().find(|object| Some(uid(object)) == of).and_then(|object| shown(object));
    (all, meant)
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

/// What of an end is as in none of the good ones, in words: a line for each field, or for each object. Between two good
/// ends are those that have what both have, and of the rest what one of them has.
pub(super) fn differences(good: &[Vec<String>], found: &[String]) -> Vec<String> {
    let good: Vec<_> = good.iter().map(|good| counts(good)).collect();
    let found = counts(found);
    let objects: BTreeSet<&str> = good.iter().chain([&found]).flat_map(|end| end.keys().copied()).collect();
    let (mut missing, mut strange) = (Vec::new(), Vec::new());
    for object in objects {
        let count = found.get(object).copied().unwrap_or_default();
        let in_good = || good.iter().map(|good| good.get(object).copied().unwrap_or_default());
        let (least, most) = (in_good().min().unwrap_or_default(), in_good().max().unwrap_or_default());
        let read = || object.parse::<Value>().expect("it was written as JSON");
        missing.extend((count..least).map(|_| read()));
        strange.extend((most..count).map(|_| read()));
    }
    let mut lines = Vec::new();
    for object in missing {
        match strange.iter().position(|other| title(other) == title(&object)) {
            Some(place) => compare(&title(&object), &object, &strange.remove(place), &mut lines),
            None => lines.push(format!("- {}", title(&object))),
        }
    }
    lines.extend(strange.iter().map(|object| format!("+ {}", title(object))));
    lines
}

/// Whether two objects of ends are of the same kind and name.
pub(super) fn is_same(one: &str, other: &str) -> bool {
    let title = |object: &str| object.parse().map(|object| title(&object)).unwrap_or_default();
    title(one) == title(other)
}

/// How often each object is there: what chance has chosen is taken out, so that some are the same.
fn counts(end: &[String]) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    end.iter().for_each(|object| *counts.entry(&**object).or_default() += 1);
    counts
}

fn title(object: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    format!("{} {}", text(&object["kind"]), name(object))
}

fn compare(path: &str, wanted: &Value, found: &Value, lines: &mut Vec<String>) {
    if wanted == found {
        return;
    }
    match (wanted, found) {
        (Value::Object(one), Value::Object(other)) => {
            for key in one.keys().chain(other.keys().filter(|key| !one.contains_key(*key))) {
                compare(&format!("{path}.{key}"), &wanted[key], &found[key], lines);
            }
        }
        (Value::Array(one), Value::Array(other)) if one.len() == other.len() => {
            for (place, (one, other)) in one.iter().zip(other).enumerate() {
                compare(&format!("{path}[{place}]"), one, other, lines);
            }
        }
        _ => lines.push(format!("{path}: {wanted} became {found}")),
    }
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
    object.get_mut("status").into_iter().for_each(drop_empty);
    // A map by their types: which came first says nothing.
    if let Some(conditions) = object["status"].get_mut("conditions").and_then(Value::as_array_mut) {
        conditions.sort_by_key(|condition| condition["type"].as_str().unwrap_or_default().to_owned());
    }
}

/// Drops what says nothing: an apply that takes the last item away leaves null where another one leaves an empty list.
fn drop_empty(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.values_mut().for_each(drop_empty);
            map.retain(|_, child| !child.is_null() && child.as_array().is_none_or(|list| !list.is_empty()));
        }
        Value::Array(list) => list.iter_mut().for_each(drop_empty),
        _ => {}
    }
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
