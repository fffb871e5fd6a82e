//! What a schema refuses.

use serde_json::{Value, json};

use crate::{
    admitted::{full, is_int_or_string, is_open, is_quantity, kind_of, sparse},
    texts,
    walk::{KEY, required},
};

/// A value that the schema refuses.
#[derive(Clone, Debug)]
pub struct Refused {
    /// What is wrong with it.
    pub what: &'static str,
    /// The field within the value that is to blame, where it is not the value as a whole.
    pub field: Option<String>,
    /// The value.
    pub value: Value,
}

/// A field that no schema has.
const UNKNOWN: &str = "noSuchField";

/// More than 32 bits hold.
const HUGE: i64 = 3_000_000_000;

/// Values that the schema refuses: of another type, beyond its bounds, with fields that are missing, unknown or there
/// twice. Unknown fields are refused where they are validated strictly, as by kubectl.
pub fn refused(schema: &Value) -> Vec<Refused> {
    let one = |what, value| Refused { what, field: None, value };
    let types = |values: Vec<Value>| values.into_iter().map(move |value| one("of another type", value));
    if is_quantity(schema) {
        let texts = texts::refused(schema).into_iter().map(|text| one("not of its form", text));
        return texts.collect();
    }
    if is_open(schema) {
        return types(vec![json!("x"), json!(1), json!([])])
            .filter(|_| kind_of(schema) == "object")
            .collect();
    }
    if is_int_or_string(schema) {
        let texts = texts::refused(schema).into_iter().map(|text| one("not of its form", text));
        let other = types(vec![json!(true), json!([]), json!({}), json!(1.5)]);
        return other.chain(texts).chain(numbers(schema)).collect();
    }
    match kind_of(schema) {
        "object" => types(vec![json!("x"), json!(1), json!([])]).chain(objects(schema)).collect(),
        "array" => types(vec![json!("x"), json!({})]).chain(lists(schema)).collect(),
        "integer" => {
            types(vec![json!("1"), json!(1.5), json!(true), json!([])]).chain(numbers(schema)).collect()
        }
        "boolean" => types(vec![json!("true"), json!(1)]).collect(),
        "string" => {
            let texts = texts::refused(schema).into_iter().map(|text| one("not of its form", text));
            types(vec![json!(1), json!(true), json!(["x"])]).chain(texts).collect()
        }
        other => panic!("a value of type {other:?} has no bounds here"),
    }
}

fn numbers(schema: &Value) -> Vec<Refused> {
    let bound = |name: &str| schema[name].as_f64().map(|bound| bound as i64);
    let (least, most) = (bound("minimum"), bound("maximum"));
    let least = least.into_iter().flat_map(|least| [least.saturating_sub(1), i64::MIN]);
    let most = most.into_iter().flat_map(|most| {
        [most.saturating_add(1), HUGE, i64::MAX].map(|number| number.max(most.saturating_add(1)))
    });
    let out = |number| Refused { what: "out of its range", field: None, value: json!(number) };
    least.chain(most).map(out).collect()
}

fn objects(schema: &Value) -> Vec<Refused> {
    let mut found = Vec::new();
    if let Some(values) = schema.get("additionalProperties") {
        let most = schema["maxProperties"].as_u64();
        found.extend(most.map(|most| Refused {
            what: "of too many keys",
            field: None,
            value: (0..=most).map(|number| (format!("{KEY}-{number}"), full(values))).collect(),
        }));
        return found;
    }
    let sparse = sparse(schema);
    let mut unknown = sparse.clone();
    unknown[UNKNOWN] = json!(1);
    found.push(Refused { what: "with an unknown field", field: Some(UNKNOWN.into()), value: unknown });
    for name in required(schema) {
        // What has a default is never missing.
        if schema["properties"][name].get("default").is_some() {
            continue;
        }
        for (what, value) in [("without a field", None), ("with a field of null", Some(Value::Null))] {
            let mut object = sparse.clone();
            let fields = object.as_object_mut().expect("an object has fields");
            fields.remove(name);
            fields.extend(value.map(|value| (name.to_owned(), value)));
            found.push(Refused { what, field: Some(name.to_owned()), value: object });
        }
    }
    found
}

fn lists(schema: &Value) -> Vec<Refused> {
    let item = full(&schema["items"]);
    let one = |what, value| Refused { what, field: None, value };
    let mut found = Vec::new();
    if schema["minItems"].as_u64().unwrap_or_default() > 0 {
        found.push(one("of too few items", json!([])));
    }
    if let Some(most) = schema["maxItems"].as_u64().and_then(|most| usize::try_from(most).ok()) {
        found.push(one("of too many items", Value::Array(vec![item.clone(); most + 1])));
    }
    if ["set", "map"].map(Some).contains(&schema["x-kubernetes-list-type"].as_str()) {
        found.push(one("with an item twice", json!([item, item])));
    }
    found
}
