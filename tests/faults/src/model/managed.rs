//! Who owns which fields of an object: what an update takes over, and server-side apply.

use serde_json::{Map, Value, json};

use super::{
    fields::{self, Difference, Fields, Path},
    object::{items, map},
    schema::{self, List},
};

/// Who writes.
#[derive(Debug, Clone, Copy)]
pub struct Writer<'a> {
    /// The field manager.
    pub manager: &'a str,
    /// The subresource that it writes; empty for the object.
    pub subresource: &'a str,
    /// The time, as objects write it.
    pub now: &'a str,
}

/// The fields of one writer.
struct Entry {
    head: Value,
    fields: Fields,
}

impl Entry {
    fn is_of(&self, writer: Writer<'_>, operation: &str) -> bool {
        self.head["manager"] == writer.manager
            && self.head["operation"] == operation
            && self.head["subresource"].as_str().unwrap_or_default() == writer.subresource
    }
}

fn read(object: &Value) -> Vec<Entry> {
    let entries = items(&object["metadata"]["managedFields"]);
    entries
        .map(|entry| Entry {
            fields: entry["fieldsV1"].as_object().cloned().unwrap_or_default(),
            head: json!({"manager": entry["manager"], "operation": entry["operation"],
                "subresource": entry["subresource"], "time": entry["time"], "apiVersion": entry["apiVersion"]}),
        })
        .collect()
}

fn store(object: &mut Value, entries: Vec<Entry>) {
    let entries = entries.into_iter().filter(|entry| !entry.fields.is_empty()).map(|entry| {
        let mut head = entry.head;
        if let Some(head) = head.as_object_mut() {
            head.retain(|_, value| !value.is_null());
            head.insert("fieldsType".to_owned(), "FieldsV1".into());
            head.insert("fieldsV1".to_owned(), Value::Object(entry.fields));
        }
        head
    });
    let entries: Vec<_> = entries.collect();
    map(object, "metadata").insert("managedFields".to_owned(), entries.into());
}

fn entry<'a>(
    entries: &'a mut Vec<Entry>,
    writer: Writer<'_>,
    operation: &str,
    object: &Value,
) -> &'a mut Entry {
    let place = entries.iter().position(|entry| entry.is_of(writer, operation));
    let place = place.unwrap_or_else(|| {
        let subresource = Some(writer.subresource).filter(|name| !name.is_empty());
        let head = json!({"manager": writer.manager, "operation": operation, "subresource": subresource,
            "apiVersion": object["apiVersion"]});
        entries.push(Entry { head, fields: Map::new() });
        entries.len() - 1
    });
    entries[place].head["time"] = writer.now.into();
    &mut entries[place]
}

/// Notes that `writer` has made `new` of `old`: what it has changed is its own, and no other manager's.
pub fn updated(old: &Value, new: &mut Value, writer: Writer<'_>) {
    let Difference { written, removed } = Difference::between(old, new);
    let mut entries = read(old);
    for entry in &mut entries {
        for path in written.iter().chain(&removed) {
            fields::remove(&mut entry.fields, path);
        }
    }
    if !written.is_empty() {
        let own = entry(&mut entries, writer, "Update", new);
        written.iter().for_each(|path| fields::insert(&mut own.fields, path));
    }
    store(new, entries);
}

/// A field that another manager has: its name, and the field.
pub type Conflict = (String, String);

/// Server-side apply of `config` to `old`, which is null where there is no object yet.
///
/// # Errors
/// The fields that others have and that would change, unless it is forced.
pub fn apply(old: &Value, config: &Value, writer: Writer<'_>, force: bool) -> Result<Value, Vec<Conflict>> {
    let mut new = old.clone();
    merge(&mut new, config, &mut Vec::new());
    let wanted = Difference::all_of(config);
    let mut entries = read(old);
    let changed = Difference::between(old, &new).written;
    let mut conflicts = Vec::new();
    for entry in entries.iter_mut().filter(|entry| !entry.is_of(writer, "Apply")) {
        let theirs: Vec<_> = changed.iter().filter(|path| fields::contains(&entry.fields, path)).collect();
        let manager = entry.head["manager"].as_str().unwrap_or_default().to_owned();
        for path in theirs {
            conflicts.push((manager.clone(), words(path)));
            fields::remove(&mut entry.fields, path);
        }
    }
    if !force && !conflicts.is_empty() {
        return Err(conflicts);
    }
    let before = std::mem::take(&mut entry(&mut entries, writer, "Apply", config).fields);
    let own = entry(&mut entries, writer, "Apply", config);
    wanted.iter().for_each(|path| fields::insert(&mut own.fields, path));
    // An item of a list goes as a whole: without the field that it is found by, the rest of it would stay.
    for path in &fields::paths(&before) {
        if !entries.iter().any(|entry| fields::below(&entry.fields, path).is_some()) {
            fields::take(&mut new, path);
        }
    }
    // An apply that changes nothing is no write.
    let is_same = {
        let mut bare = new.clone();
        map(&mut bare, "metadata").remove("managedFields");
        let mut before = old.clone();
        if old.is_object() {
            map(&mut before, "metadata").remove("managedFields");
        }
        bare == before
    };
    if is_same
        && let Some(stood) = read(old).iter().find(|entry| entry.is_of(writer, "Apply"))
        && entries.iter().any(|entry| entry.is_of(writer, "Apply") && entry.fields == stood.fields)
    {
        return Ok(old.clone());
    }
    store(&mut new, entries);
    Ok(new)
}

fn words(path: &Path) -> String {
    path.iter().fold(String::new(), |words, step| match step.split_once(':') {
        Some(("f", name)) => format!("{words}.{name}"),
        _ => format!("{words}[{step}]"),
    })
}

fn merge(object: &mut Value, config: &Value, path: &mut Path) {
    match config {
        Value::Object(config) if !(schema::is_atomic(path)) => {
            if !object.is_object() {
                *object = Value::Object(Map::new());
            }
            for (key, value) in config {
                path.push(format!("f:{key}"));
                merge(&mut object[key.as_str()], value, path);
                path.pop();
            }
        }
        Value::Array(config) if object.is_array() => {
            let list = object.as_array_mut().expect("it is a list");
            match schema::list(path) {
                List::Atomic => list.clone_from(config),
                List::Set => {
                    let new: Vec<_> = config.iter().filter(|item| !list.contains(item)).cloned().collect();
                    list.extend(new);
                }
                List::Map(keys) => {
                    for item in config {
                        let step = fields::step(keys, item);
                        match list.iter().position(|old| fields::step(keys, old) == step) {
                            Some(place) => {
                                path.push(step);
                                merge(&mut list[place], item, path);
                                path.pop();
                            }
                            None => list.push(item.clone()),
                        }
                    }
                }
            }
        }
        _ => *object = config.clone(),
    }
}
