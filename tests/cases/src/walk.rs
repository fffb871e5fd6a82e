//! All that lies within a schema.

use serde_json::Value;

/// The key of a map in paths.
pub(crate) const KEY: &str = "key";

/// Calls `visit` with the path, a JSON pointer into an object that has all fields, and the schema of all that lies within.
pub fn walk(path: &str, schema: &Value, visit: &mut impl FnMut(&str, &Value)) {
    visit(path, schema);
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        walk(&format!("{path}/{name}"), field, visit);
    }
    for (key, inner) in [(KEY, "additionalProperties"), ("0", "items")] {
        if let Some(inner) = schema.get(inner) {
            walk(&format!("{path}/{key}"), inner, visit);
        }
    }
}

/// The names of the fields that must be there.
pub(crate) fn required(schema: &Value) -> impl Iterator<Item = &str> {
    schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str)
}

/// The schema of the value at one step of a path.
pub(crate) fn within<'a>(schema: &'a Value, step: &str) -> Option<&'a Value> {
    let properties = schema["properties"].as_object();
    let field = properties.and_then(|properties| properties.get(step));
    field.or_else(|| schema.get("additionalProperties")).or_else(|| schema.get("items"))
}
