//! Who owns which fields of an object: what an update takes over, and server-side apply.

use serde_json::{Map, Value, json};

use super::{
    fields::{self, Difference, Fields, Path},
    kinds::Kind,
    merge::merge,
    object::{items, map},
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

    /// How a conflict names it.
    fn words(&self) -> String {
        let text = |field: &str| self.head[field].as_str().unwrap_or_default();
        let subresource = match text("subresource") {
            "" => String::new(),
            subresource => format!(" with subresource \"{subresource}\""),
        };
        let version = match text("operation") {
            "Update" => format!(" using {}", text("apiVersion")),
            _ => String::new(),
        };
        format!("\"{}\"{subresource}{version}", text("manager"))
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
    let mut entries: Vec<_> = entries.collect();
    entries.sort_by_key(|entry| {
        ["operation", "time", "manager", "subresource"]
            .map(|field| entry[field].as_str().unwrap_or_default().to_owned())
    });
    let metadata = map(object, "metadata");
    if entries.is_empty() {
        metadata.remove("managedFields");
    } else {
        metadata.insert("managedFields".to_owned(), entries.into());
    }
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
        own.head["time"] = writer.now.into();
        written.iter().for_each(|path| fields::insert(&mut own.fields, path));
    }
    store(new, entries);
}

/// A field that another manager has: who that is, and the field.
pub type Conflict = (String, String);

/// Server-side apply of `config` to `old`, which is null where there is no object yet.
///
/// # Errors
/// The fields that others have and that would change, unless it is forced.
pub fn apply(old: &Value, config: &Value, writer: Writer<'_>, force: bool) -> Result<Value, Vec<Conflict>> {
    let mut new = old.clone();
    merge(Kind::of_object(config), &mut new, config, &mut Vec::new());
    let mut entries = read(old);
    let own = entry(&mut entries, writer, "Apply", config);
    let before = std::mem::take(&mut own.fields);
    fields::applied(config).iter().for_each(|path| fields::insert(&mut own.fields, path));
    for path in fields::with_parents(&before) {
        if !entries.iter().any(|entry| fields::keeps(&entry.fields, &path)) {
            fields::take(&mut new, &path);
        }
    }
    let Difference { written, removed } = Difference::between(old, &new);
    let mut conflicts = Vec::new();
    for entry in entries.iter_mut().filter(|entry| !entry.is_of(writer, "Apply")) {
        for path in written.iter().filter(|path| fields::contains(&entry.fields, path)) {
            conflicts.push((entry.words(), words(path)));
        }
        for path in written.iter().chain(&removed) {
            fields::remove(&mut entry.fields, path);
        }
    }
    if !force && !conflicts.is_empty() {
        return Err(conflicts);
    }
    if !is_alike(old, &new) {
        entry(&mut entries, writer, "Apply", config).head["time"] = writer.now.into();
    }
    store(&mut new, entries);
    Ok(new)
}

/// Whether two objects differ in their managers at most.
fn is_alike(old: &Value, new: &Value) -> bool {
    let bare = |object: &Value| {
        let mut object = object.clone();
        if object.is_object() {
            map(&mut object, "metadata").remove("managedFields");
        }
        object
    };
    bare(old) == bare(new)
}

fn words(path: &Path) -> String {
    path.iter().fold(String::new(), |words, step| match step.split_once(':') {
        Some(("f", name)) => format!("{words}.{name}"),
        Some(("k", keys)) => {
            let keys: Map<String, Value> = serde_json::from_str(keys).unwrap_or_default();
            let keys: Vec<_> = keys.iter().map(|(key, value)| format!("{key}={value}")).collect();
            format!("{words}[{}]", keys.join(","))
        }
        Some((_, value)) => format!("{words}[={value}]"),
        None => words,
    })
}
