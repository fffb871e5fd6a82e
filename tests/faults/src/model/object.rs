//! What is read of every object.

use serde_json::{Map, Value};

static NULL: Value = Value::Null;

/// `metadata.name`.
pub fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}

/// `metadata.namespace`; empty where there is none.
pub fn namespace(object: &Value) -> &str {
    object["metadata"]["namespace"].as_str().unwrap_or_default()
}

/// `metadata.uid`.
pub fn uid(object: &Value) -> &str {
    object["metadata"]["uid"].as_str().unwrap_or_default()
}

/// `metadata.resourceVersion`.
pub fn version(object: &Value) -> &str {
    object["metadata"]["resourceVersion"].as_str().unwrap_or_default()
}

/// Whether its deletion has begun.
pub fn is_terminating(object: &Value) -> bool {
    object["metadata"]["deletionTimestamp"].is_string()
}

/// One of `metadata.labels`.
pub fn label<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object["metadata"]["labels"].get(key)?.as_str()
}

/// One of `metadata.annotations`.
pub fn annotation<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object["metadata"]["annotations"].get(key)?.as_str()
}

/// The UID of the object's controller.
pub fn controller(object: &Value) -> Option<&str> {
    let mut owners = items(&object["metadata"]["ownerReferences"]);
    owners.find(|owner| owner["controller"] == true)?["uid"].as_str()
}

/// `metadata.finalizers`.
pub fn finalizers(object: &Value) -> impl Iterator<Item = &str> {
    items(&object["metadata"]["finalizers"]).filter_map(Value::as_str)
}

/// The items of a list; none where there is no list.
pub fn items(list: &Value) -> std::slice::Iter<'_, Value> {
    list.as_array().map_or(&[][..], Vec::as_slice).iter()
}

/// What a path such as `spec.nodeName` leads to; null where it leads nowhere.
pub fn at<'a>(object: &'a Value, path: &str) -> &'a Value {
    path.split('.').fold(object, |value, key| value.get(key).unwrap_or(&NULL))
}

/// The condition of this type in `status.conditions`.
pub fn condition<'a>(object: &'a Value, type_: &str) -> Option<&'a Value> {
    items(&object["status"]["conditions"]).find(|condition| condition["type"] == type_)
}

/// Whether the condition of this type is true.
pub fn is_true(object: &Value, type_: &str) -> bool {
    condition(object, type_).is_some_and(|condition| condition["status"] == "True")
}

/// The map under this key, which is made where there is none.
pub fn map<'a>(object: &'a mut Value, key: &str) -> &'a mut Map<String, Value> {
    let value = &mut object[key];
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    value.as_object_mut().expect("it was just made")
}

/// Takes empty maps and lists out of its metadata, as the server does.
pub fn tidy(object: &mut Value) {
    map(object, "metadata").retain(|_, value| {
        !value.is_null()
            && !value.as_object().is_some_and(Map::is_empty)
            && !value.as_array().is_some_and(Vec::is_empty)
    });
}

/// Takes what is null out of an object, as the server does where a field may not be null.
pub(super) fn without_nulls(object: &mut Value) {
    match object {
        Value::Object(fields) => {
            fields.retain(|_, value| !value.is_null());
            fields.values_mut().for_each(without_nulls);
        }
        Value::Array(list) => list.iter_mut().for_each(without_nulls),
        _ => {}
    }
}

/// Its metadata alone, as `PartialObjectMetadata`.
pub fn partial(object: &Value) -> Value {
    serde_json::json!({
        "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"],
    })
}
