//! What patches make of an object: JSON merge patch, strategic merge patch as the controllers use it, and JSON patch.

use serde_json::{Map, Value};

use super::{object::items, schema};

/// RFC 7396.
pub fn merge(object: &mut Value, patch: &Value) {
    let Some(patch) = patch.as_object() else {
        *object = patch.clone();
        return;
    };
    if !object.is_object() {
        *object = Value::Object(Map::new());
    }
    for (key, value) in patch {
        if value.is_null() {
            object.as_object_mut().expect("it is a map").remove(key);
        } else {
            merge(&mut object[key.as_str()], value);
        }
    }
}

/// A strategic merge patch, with `$patch: delete` for items and `$deleteFromPrimitiveList`. It has no `$setElementOrder`.
pub fn strategic(object: &mut Value, patch: &Value) {
    below("", object, patch);
}

fn below(parent: &str, object: &mut Value, patch: &Value) {
    let Some(patch) = patch.as_object() else {
        *object = patch.clone();
        return;
    };
    if !object.is_object() {
        *object = Value::Object(Map::new());
    }
    for (key, value) in patch {
        if let Some(name) = key.strip_prefix("$deleteFromPrimitiveList/") {
            if let Some(list) = object[name].as_array_mut() {
                list.retain(|item| !items(value).any(|gone| gone == item));
            }
        } else if key.starts_with('$') {
        } else if value.is_null() {
            object.as_object_mut().expect("it is a map").remove(key);
        } else if value.is_array() && key == "finalizers" {
            let new = items(value).map(|item| (item.clone(), item.clone())).collect();
            merged(list(object, key), new, Clone::clone);
        } else if let (true, Some(by)) = (value.is_array(), schema::strategic(parent, key)) {
            by_key(list(object, key), value, by);
        } else if value.is_object() {
            below(key, &mut object[key.as_str()], value);
        } else {
            object[key.as_str()] = value.clone();
            for item in object[key.as_str()].as_array_mut().into_iter().flatten() {
                item.as_object_mut().map(|item| item.remove("$patch"));
            }
        }
    }
}

fn list<'a>(object: &'a mut Value, key: &str) -> &'a mut Vec<Value> {
    if !object[key].is_array() {
        object[key] = Value::Array(Vec::new());
    }
    object[key].as_array_mut().expect("it was just made")
}

fn by_key(list: &mut Vec<Value>, patch: &Value, by: &str) {
    let mut new = Vec::new();
    for item in items(patch) {
        let place = list.iter().position(|old| old[by] == item[by]);
        match (place, item["$patch"] == "delete") {
            (Some(place), true) => drop(list.remove(place)),
            (Some(place), false) => {
                let mut both = list[place].clone();
                strategic(&mut both, item);
                new.push((item[by].clone(), both));
            }
            (None, true) => {}
            (None, false) => new.push((item[by].clone(), item.clone())),
        }
    }
    merged(list, new, |item| item[by].clone());
}

/// Puts the items of a patch between those that stand: new ones come first, the others where they stood.
fn merged(list: &mut Vec<Value>, new: Vec<(Value, Value)>, by: impl Fn(&Value) -> Value) {
    let standing: Vec<_> = list.iter().map(&by).collect();
    let place = |key: &Value| standing.iter().position(|other| other == key);
    let mut rest: Vec<_> =
        list.drain(..).filter(|item| new.iter().all(|(key, _)| *key != by(item))).collect();
    rest.reverse();
    for (key, item) in new {
        while let Some(next) = rest.pop_if(|next| place(&by(next)) < place(&key)) {
            list.push(next);
        }
        list.push(item);
    }
    rest.reverse();
    list.extend(rest);
}

/// RFC 6902, without `move` and `copy`.
///
/// # Errors
/// When a test fails, or a path leads nowhere.
pub fn json(object: &mut Value, patch: &Value) -> Result<(), String> {
    for step in items(patch) {
        let path = step["path"].as_str().unwrap_or_default();
        let (parent, last) = path.rsplit_once('/').ok_or_else(|| format!("{path:?} is no path"))?;
        let last = last.replace("~1", "/").replace("~0", "~");
        if step["op"] == "test" {
            if object.pointer(path).unwrap_or(&Value::Null) != &step["value"] {
                return Err(format!("testing path {path} failed"));
            }
            continue;
        }
        let parent = object.pointer_mut(parent).ok_or_else(|| format!("{path:?} leads nowhere"))?;
        let removes = step["op"] == "remove";
        let is_there = parent.get(&last).is_some() || parent.is_array();
        if removes && !is_there {
            return Err(format!("{path:?} leads nowhere"));
        }
        match parent {
            Value::Object(map) if removes => drop(map.remove(&last)),
            Value::Object(map) => drop(map.insert(last, step["value"].clone())),
            Value::Array(list) => {
                let place = last.parse().unwrap_or(list.len());
                if removes {
                    list.remove(place);
                } else if step["op"] == "replace" {
                    list[place] = step["value"].clone();
                } else {
                    list.insert(place, step["value"].clone());
                }
            }
            _ => return Err(format!("{path:?} leads into a scalar")),
        }
    }
    Ok(())
}
