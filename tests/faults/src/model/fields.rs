//! Sets of fields as `managedFields` writes them, and what of an object is in one.
//!
//! A set is a tree of maps. The names of its steps are `f:` and the name of a field, `k:` and the keys of an item, or `v:` and
//! the value of a member of a set. A leaf is in the set; so is another node that has the step `.`.

use serde_json::{Map, Value};

use super::{
    kinds::Kind,
    object::items,
    schema::{self, Key, List},
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
        // What has nothing left below it is a leaf.
        if child.len() == 1 && child.contains_key(".") {
            child.clear();
        }
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

/// The step to an item of a list that is merged by these keys.
pub(super) fn step(keys: &[Key], item: &Value) -> String {
    let keys = keys.iter().filter_map(|(key, default)| {
        let value = item.get(key).or(default.as_ref())?;
        Some((key.clone(), value.clone()))
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
        let old = Some(old).filter(|old| !old.is_null());
        difference.walk(&mut Vec::new(), old, Some(new), Kind::of_object(new));
        difference
    }

    fn walk(&mut self, path: &mut Path, old: Option<&Value>, new: Option<&Value>, kind: Option<Kind>) {
        if old == new || is_not_owned(path) {
            return;
        }
        let sides = || [old, new].into_iter().flatten();
        let is_empty = sides().all(|value| match value {
            Value::Object(map) => map.is_empty(),
            Value::Array(list) => list.is_empty(),
            _ => false,
        });
        if !is_empty && sides().all(|value| is_map(kind, path, value)) {
            let empty = Map::new();
            let olds = old.and_then(Value::as_object).unwrap_or(&empty);
            let news = new.and_then(Value::as_object).unwrap_or(&empty);
            for (key, value) in olds {
                self.step(path, format!("f:{key}"), Some(value), news.get(key), kind);
            }
            for (key, value) in news.iter().filter(|(key, _)| !olds.contains_key(*key)) {
                self.step(path, format!("f:{key}"), None, Some(value), kind);
            }
        } else if !is_empty && sides().all(Value::is_array) && schema::list(kind, path) != List::Atomic {
            let steps = |list: Option<&Value>| -> Vec<(String, Value)> {
                let items = list.map(items).into_iter().flatten();
                items.map(|item| (item_step(kind, path, item), item.clone())).collect()
            };
            let (olds, news) = (steps(old), steps(new));
            let find = |list: &[(String, Value)], name: &str| {
                list.iter().find(|(step, _)| step == name).map(|(_, item)| item.clone())
            };
            for (name, item) in &olds {
                self.step(path, name.clone(), Some(item), find(&news, name).as_ref(), kind);
            }
            for (name, item) in news.iter().filter(|(name, _)| find(&olds, name).is_none()) {
                self.step(path, name.clone(), None, Some(item), kind);
            }
        } else if old.is_some() && new.is_some() {
            self.written.push(path.clone());
            return;
        }
        if !is_always_there(path, kind) {
            match (old, new) {
                (None, Some(_)) => self.written.push(path.clone()),
                (Some(_), None) => self.removed.push(path.clone()),
                _ => {}
            }
        }
    }

    fn step(
        &mut self,
        path: &mut Path,
        step: String,
        old: Option<&Value>,
        new: Option<&Value>,
        kind: Option<Kind>,
    ) {
        path.push(step);
        self.walk(path, old, new, kind);
        path.pop();
    }
}

/// The fields of an object that is applied.
pub(super) fn applied(config: &Value) -> Vec<Path> {
    fn walk(kind: Option<Kind>, path: &mut Path, value: &Value, all: &mut Vec<Path>) {
        if is_not_owned(path) {
            return;
        }
        match value {
            Value::Object(object) if is_map(kind, path, value) => {
                for (key, child) in object {
                    path.push(format!("f:{key}"));
                    walk(kind, path, child, all);
                    let is_leaf = child.is_null()
                        || is_map(kind, path, child) && child.as_object().is_some_and(Map::is_empty);
                    if (is_leaf || schema::is_free(kind, path)) && !is_not_owned(path) {
                        all.push(path.clone());
                    }
                    path.pop();
                }
            }
            Value::Array(list) if schema::list(kind, path) != List::Atomic => {
                for item in list {
                    path.push(item_step(kind, path, item));
                    if is_map(kind, path, item) {
                        walk(kind, path, item, all);
                    }
                    all.push(path.clone());
                    path.pop();
                }
            }
            Value::Null => {}
            _ => all.push(path.clone()),
        }
    }
    let mut all = Vec::new();
    walk(Kind::of_object(config), &mut Vec::new(), config, &mut all);
    all
}

/// The fields of a set, and the fields that have some of them: an owner of `a.b` has `a` too.
pub(super) fn with_parents(set: &Fields) -> Vec<Path> {
    fn walk(set: &Fields, path: &mut Path, all: &mut Vec<Path>) {
        for (step, child) in set {
            let Some(child) = child.as_object().filter(|_| step != ".") else { continue };
            path.push(step.clone());
            if step.starts_with("f:") || child.is_empty() || child.contains_key(".") {
                all.push(path.clone());
            }
            walk(child, path, all);
            path.pop();
        }
    }
    let mut all = Vec::new();
    walk(set, &mut Vec::new(), &mut all);
    all.retain(|path| *path != ["f:metadata"]);
    all
}

/// Whether an owner of this set keeps a field from being removed: an item of a list only if the item is its own.
pub(super) fn keeps(set: &Fields, path: &[String]) -> bool {
    match path.last() {
        Some(last) if last.starts_with("f:") => below(set, path).is_some(),
        _ => contains(set, path),
    }
}

/// The step to an item of the list at this path.
fn item_step(kind: Option<Kind>, path: &[String], item: &Value) -> String {
    match schema::list(kind, path) {
        List::Map(keys) => step(&keys, item),
        _ => format!("v:{item}"),
    }
}

/// Whether the structures in which the server has its own kinds always have this field.
fn is_always_there(path: &[String], kind: Option<Kind>) -> bool {
    let is_structure = |step: &String| {
        let always = [
            "metadata",
            "spec",
            "status",
            "strategy",
            "updateStrategy",
            "template",
            "containers",
            "boundObjectRef",
        ];
        step.strip_prefix("f:").is_some_and(|name| always.contains(&name))
    };
    let is_custom = kind.is_some_and(Kind::is_custom);
    path.is_empty() || *path == ["f:metadata"] || !is_custom && path.iter().all(is_structure)
}

fn is_map(kind: Option<Kind>, path: &[String], value: &Value) -> bool {
    value.is_object() && !schema::is_atomic(kind, path)
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
