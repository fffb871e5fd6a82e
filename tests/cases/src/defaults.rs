//! The API server's defaulting.

use serde_json::Value;

/// Sets what is not there to its default, and goes on within, as the API server does
/// (apiextensions-apiserver `pkg/apiserver/schema/defaulting`).
pub fn set_defaults(value: &mut Value, schema: &Value) {
    match value {
        Value::Object(fields) => {
            for (name, property) in schema["properties"].as_object().into_iter().flatten() {
                if let Some(default) = property.get("default") {
                    fields.entry(name).or_insert_with(|| default.clone());
                }
                if let Some(field) = fields.get_mut(name) {
                    set_defaults(field, property);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| set_defaults(item, &schema["items"])),
        _ => {}
    }
}
