//! What all drafts of objects have in common.

use serde_json::Value;

/// Sets the field of this path, whose parts are divided by dots; places in lists are numbers.
pub fn set(object: &mut Value, path: &str, value: impl Into<Value>) {
    let field = path.split('.').fold(object, |value, part| match part.parse::<usize>() {
        Ok(place) => &mut value[place],
        Err(_) => &mut value[part],
    });
    *field = value.into();
}
