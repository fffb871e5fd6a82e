//! What a schema admits.

use serde_json::{Value, json};

use crate::{
    texts,
    walk::{KEY, required},
};

pub(crate) fn is_quantity(schema: &Value) -> bool {
    schema["pattern"].as_str().is_some_and(|pattern| pattern.contains("KMGTPE"))
}

pub(crate) fn is_int_or_string(schema: &Value) -> bool {
    schema["x-kubernetes-int-or-string"] == true
}

/// Whether any value at all may stand there.
pub(crate) fn is_open(schema: &Value) -> bool {
    schema["x-kubernetes-preserve-unknown-fields"] == true && schema.get("properties").is_none()
}

pub(crate) fn kind_of(schema: &Value) -> &str {
    schema["type"].as_str().unwrap_or_default()
}

/// A value that the schema admits, with all that it may have.
pub fn full(schema: &Value) -> Value {
    if is_quantity(schema) {
        return json!("1");
    }
    if is_int_or_string(schema) {
        return json!(1);
    }
    match kind_of(schema) {
        "object" => {
            let fields = schema["properties"].as_object().into_iter().flatten();
            let fields = fields.map(|(name, field)| (name.clone(), full(field)));
            let values = schema.get("additionalProperties").map(|values| (KEY.to_owned(), full(values)));
            Value::Object(fields.chain(values).collect())
        }
        "array" => json!([full(&schema["items"])]),
        "integer" => schema
            .get("minimum")
            .map_or(json!(1), |least| json!(least.as_f64().map_or(1, |least| least as i64))),
        "boolean" => json!(true),
        "string" => texts::admitted(schema).into_iter().next().unwrap_or_else(|| json!("x")),
        other => panic!("a value of type {other:?} has no example here"),
    }
}

/// A value that the schema admits, with what it must have alone.
pub fn sparse(schema: &Value) -> Value {
    match kind_of(schema) {
        "object" => {
            let fields = required(schema).map(|name| (name.to_owned(), sparse(&schema["properties"][name])));
            Value::Object(fields.collect())
        }
        "array" if schema["minItems"].as_u64().unwrap_or_default() == 0 => json!([]),
        "array" => json!([sparse(&schema["items"])]),
        _ => full(schema),
    }
}

/// The least and the most of numbers.
fn numbers(schema: &Value) -> Vec<Value> {
    let bound = |name: &str, without: i64| schema[name].as_f64().map_or(without, |bound| bound as i64);
    let (least, most) = (bound("minimum", i64::MIN), bound("maximum", i64::MAX));
    let mut numbers = vec![least, most];
    numbers.extend((least..=most).contains(&1).then_some(1));
    numbers.dedup();
    numbers.into_iter().map(Value::from).collect()
}

/// Values at the bounds of a schema that it admits. Of an object and a list they are the least and the most alone: what
/// lies within has bounds of its own.
pub fn admitted(schema: &Value) -> Vec<Value> {
    let mut values = if is_quantity(schema) {
        [vec![json!(0.5), json!(i64::MAX)], texts::admitted(schema)].concat()
    } else if is_int_or_string(schema) {
        [numbers(schema), texts::admitted(schema)].concat()
    } else {
        match kind_of(schema) {
            "object" => objects(schema),
            "array" => lists(schema),
            "integer" => numbers(schema),
            "boolean" => vec![json!(false), json!(true)],
            "string" => texts::admitted(schema),
            other => panic!("a value of type {other:?} has no bounds here"),
        }
    };
    if schema["nullable"] == true {
        values.push(Value::Null);
    }
    values
}

fn objects(schema: &Value) -> Vec<Value> {
    let Some(values) = schema.get("additionalProperties") else { return vec![sparse(schema)] };
    // Which keys there may be is left to rules.
    let keys = ["", " ", "/", "a/b", "A.b_c", "a/b/c", "ü"];
    let maps = keys.map(|key| json!({key: full(values)}));
    [vec![json!({})], maps.into()].concat()
}

fn lists(schema: &Value) -> Vec<Value> {
    let item = full(&schema["items"]);
    let least = schema["minItems"].as_u64().unwrap_or_default();
    let mut lists = vec![json!([item])];
    if least == 0 {
        lists.push(json!([]));
    }
    let most = schema["maxItems"].as_u64().and_then(|most| usize::try_from(most).ok());
    if let Some(most) = most.filter(|_| schema["x-kubernetes-list-type"] == "atomic") {
        lists.push(Value::Array(vec![item; most]));
    }
    lists
}
