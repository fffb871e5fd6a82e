//! Sets of fields as `managedFields` writes them, and what of an object is in one.
//!
//! A set is a tree of maps. The names of its steps are `f:` and the name of a field, `k:` and the keys of an item, or `v:` and
//! the value of a member of a set. A leaf is in the set; so is another node that has the step `.`.

use serde_json::{Map, Value};

use super::{
    object::items,
    schema::{self, List},
};

/// The steps to a field.
pub(super) type Path = Vec<String>;
/// A set of fields.
pub(super) type Fields = Map<String, Value>;

/// Puts a field into a set.
pub(super) fn insert(set: &mut Fields, path: &[String]) {
    let Some((first, rest)) = path.split_first() else { return };
    let is_new = !set.contains_key(first);
    let child = set.entry(first.as_str()).or_insert_with(|| Value::Object(Map::new()));
    let child = child.as_object_mut().expect("each step leads to a map");
    if rest.is_empty() {
        if !child.is_empty() {
            child.insert(".".to_owned(), Value::Object(Map::new()));
        }
        return;
    }
    if !is_new && child.is_empty() {
        child.insert(".".to_owned(), Value::Object(Map::new()));
    }
    insert(child, rest);
}

/// Takes a field out of a set. Returns whether the set is empty then.
pub(super) fn remove(set: &mut Fields, path: &[String]) -> bool {
    let Some((first, rest)) = path.split_first() else { return set.is_empty() };
    if let Some(child) = set.get_mut(first).and_then(Value::as_object_mut) {
        let is_empty = if rest.is_empty() {
            child.remove(".");
            child.is_empty()
        } else {
            !child.is_empty() && remove(child, rest)
        };
        if is_empty {
            set.remove(first);
        }
    }
    set.is_empty()
}

/// The part of a set below a field, if there is one.
pub(super) fn below<'a>(set: &'a Fields, path: &[String]) -> Option<&'a Fields> {
    path.iter().try_fold(set, |set, step| set.get(step)?.as_object())
}

/// Whether a field is in a set.
pub(super) fn contains(set: &Fields, path: &[String]) -> bool {
    below(set, path).is_some_and(|node| node.is_empty() || node.contains_key("."))
}

/// The fields of a set.
pub(super) fn paths(set: &Fields) -> Vec<Path> {
    fn walk(set: &Fields, path: &mut Path, all: &mut Vec<Path>) {
        for (step, child) in set {
            let Some(child) = child.as_object().filter(|_| step != ".") else { continue };
            path.push(step.clone());
            if child.is_empty() || child.contains_key(".") {
                all.push(path.clone());
            }
            walk(child, path, all);
            path.pop();
        }
    }
    let mut all = Vec::new();
    walk(set, &mut Vec::new(), &mut all);
    all
}

/// The step to an item of a list that is merged by these keys.
pub(super) fn step(keys: &[(&str, Option<&str>)], item: &Value) -> String {
    let keys = keys.iter().filter_map(|(key, default)| {
        let value = item.get(*key).cloned().or_else(|| default.map(Value::from));
        Some(((*key).to_owned(), value?))
    });
    format!("k:{}", Value::Object(keys.collect()))
}

/// What of an object differs from another, and is there in one of them only.
#[derive(Debug, Default)]
pub(super) struct Difference {
    /// Fields that are new, or have another value.
    pub written: Vec<Path>,
    /// Fields that are gone.
    pub removed: Vec<Path>,
}

impl Difference {
    /// What has become of an object.
    pub(super) fn between(old: &Value, new: &Value) -> Self {
        let mut difference = Self::default();
        difference.walk(&mut Vec::new(), Some(old), Some(new));
        difference
    }

    /// Every field that an object has.
    pub(super) fn all_of(object: &Value) -> Vec<Path> {
        let mut difference = Self::default();
        difference.walk(&mut Vec::new(), None, Some(object));
        difference.written
    }

    fn walk(&mut self, path: &mut Path, old: Option<&Value>, new: Option<&Value>) {
        if old == new || is_not_owned(path) {
            return;
        }
        if [old, new].into_iter().flatten().all(|value| is_map(path, value)) {
            let empty = Map::new();
            let olds = old.and_then(Value::as_object).unwrap_or(&empty);
            let news = new.and_then(Value::as_object).unwrap_or(&empty);
            if old.is_none() && news.is_empty() && !path.is_empty() {
                self.written.push(path.clone());
            }
            for (key, value) in olds {
                self.step(path, format!("f:{key}"), Some(value), news.get(key));
            }
            for (key, value) in news.iter().filter(|(key, _)| !olds.contains_key(*key)) {
                self.step(path, format!("f:{key}"), None, Some(value));
            }
            return;
        }
        let is_list = |value: &Value| value.is_array();
        match schema::list(path) {
            List::Map(keys) if [old, new].into_iter().flatten().all(is_list) => {
                let find = |list: Option<&Value>, name: &str| {
                    list.and_then(|list| items(list).find(|item| step(keys, item) == name).cloned())
                };
                for item in old.map(items).into_iter().flatten() {
                    let name = step(keys, item);
                    let now = find(new, &name);
                    if now.is_none() {
                        self.removed.push(joined(path, &name));
                    }
                    self.step(path, name, Some(item), now.as_ref());
                }
                for item in new.map(items).into_iter().flatten() {
                    let name = step(keys, item);
                    if find(old, &name).is_none() {
                        self.written.push(joined(path, &name));
                        self.step(path, name, None, Some(item));
                    }
                }
            }
            List::Set if [old, new].into_iter().flatten().all(is_list) => {
                let has =
                    |list: Option<&Value>, it: &Value| list.is_some_and(|list| items(list).any(|i| i == it));
                let gone = old.map(items).into_iter().flatten().filter(|item| !has(new, item));
                self.removed.extend(gone.map(|item| joined(path, &format!("v:{item}"))));
                let added = new.map(items).into_iter().flatten().filter(|item| !has(old, item));
                self.written.extend(added.map(|item| joined(path, &format!("v:{item}"))));
            }
            _ if new.is_some() => self.written.push(path.clone()),
            _ => self.removed.push(path.clone()),
        }
    }

    fn step(&mut self, path: &mut Path, step: String, old: Option<&Value>, new: Option<&Value>) {
        path.push(step);
        self.walk(path, old, new);
        path.pop();
    }
}

fn joined(path: &[String], step: &str) -> Path {
    path.iter().cloned().chain([step.to_owned()]).collect()
}

fn is_map(path: &[String], value: &Value) -> bool {
    value.is_object() && !schema::is_atomic(path)
}

/// What no manager owns: the object's identity, and what the server alone writes.
fn is_not_owned(path: &[String]) -> bool {
    match path {
        [top] => ["f:apiVersion", "f:kind"].contains(&top.as_str()),
        [metadata, field] if metadata == "f:metadata" => [
            "f:name",
            "f:namespace",
            "f:uid",
            "f:resourceVersion",
            "f:generation",
            "f:creationTimestamp",
            "f:deletionTimestamp",
            "f:deletionGracePeriodSeconds",
            "f:managedFields",
        ]
        .contains(&field.as_str()),
        _ => false,
    }
}

/// Takes what is at this path out of an object. A map that is empty then goes with it.
pub(super) fn take(object: &mut Value, path: &[String]) {
    let Some((first, rest)) = path.split_first() else { return };
    if let Some(name) = first.strip_prefix("f:") {
        if rest.is_empty() {
            if let Some(map) = object.as_object_mut() {
                map.remove(name);
            }
        } else if let Some(child) = object.get_mut(name) {
            take(child, rest);
            if child.as_object().is_some_and(Map::is_empty)
                && let Some(map) = object.as_object_mut()
            {
                map.remove(name);
            }
        }
        return;
    }
    let Some(list) = object.as_array_mut() else { return };
    let place = list.iter().position(|item| is_at(first, item));
    let Some(place) = place else { return };
    if rest.is_empty() {
        list.remove(place);
    } else {
        take(&mut list[place], rest);
    }
}

/// Whether a step leads to this item.
fn is_at(step: &str, item: &Value) -> bool {
    if let Some(value) = step.strip_prefix("v:") {
        return serde_json::from_str::<Value>(value).is_ok_and(|value| value == *item);
    }
    let keys = step.strip_prefix("k:").and_then(|keys| serde_json::from_str::<Map<_, _>>(keys).ok());
    keys.is_some_and(|keys| {
        keys.iter().all(|(key, value)| item.get(key).map_or(value == "TCP", |found| found == value))
    })
}
