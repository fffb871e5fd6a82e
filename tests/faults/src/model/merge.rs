//! How server-side apply merges a configuration into an object.

use serde_json::{Map, Value};

use super::{
    fields::{self, Path},
    kinds::Kind,
    object::items,
    schema::{self, List},
};

/// Merges `config` into `object`, of which `path` leads to this part.
pub(super) fn merge(kind: Option<Kind>, object: &mut Value, config: &Value, path: &mut Path) {
    match config {
        Value::Object(config) if !schema::is_atomic(kind, path) => {
            if !object.is_object() {
                *object = Value::Object(Map::new());
            }
            for (key, value) in config {
                path.push(format!("f:{key}"));
                merge(kind, &mut object[key.as_str()], value, path);
                path.pop();
            }
        }
        Value::Array(_) if object.is_array() && schema::list(kind, path) != List::Atomic => {
            *object = list(kind, object, config, path).into();
        }
        _ => *object = config.clone(),
    }
}

/// The items of both lists. Those that both have come in the order of the configuration.
fn list(kind: Option<Kind>, old: &Value, config: &Value, path: &mut Path) -> Vec<Value> {
    let how = schema::list(kind, path);
    let step = |item: &Value| match &how {
        List::Map(keys) => fields::step(keys, item),
        _ => format!("v:{item}"),
    };
    let olds: Vec<_> = items(old).map(|item| (step(item), item)).collect();
    let news: Vec<_> = items(config).map(|item| (step(item), item)).collect();
    let has = |list: &[(String, &Value)], step: &str| list.iter().any(|(other, _)| other == step);
    let mut shared = news.iter().map(|(step, _)| step).filter(|step| has(&olds, step));
    let mut next = shared.next();
    let mut taken: Vec<&String> = Vec::new();
    let mut order: Vec<(&String, &Value, Option<&Value>)> = Vec::new();
    let (mut left, mut right) = (olds.iter().peekable(), news.iter().peekable());
    let standing = |step: &String| olds.iter().find(|(other, _)| other == step).map(|(_, item)| *item);
    while left.peek().is_some() || right.peek().is_some() {
        if let (Some((one, item)), Some((other, new))) = (left.peek(), right.peek()) {
            if one == other {
                taken.push(one);
                order.push((one, item, Some(new)));
                left.next();
                right.next();
                next = shared.next();
                continue;
            }
            if has(&news, one) && next.is_some_and(|next| next != one) {
                left.next();
                continue;
            }
        }
        if let Some((one, item)) = left.peek() {
            if !has(&news, one) {
                order.push((one, item, None));
                left.next();
                continue;
            }
            if taken.contains(&one) {
                left.next();
            }
        }
        if let Some((other, new)) = right.next() {
            taken.push(other);
            match standing(other) {
                Some(item) => order.push((other, item, Some(new))),
                None => order.push((other, new, None)),
            }
            if next == Some(other) {
                next = shared.next();
            }
        }
    }
    let merged = order.into_iter().map(|(step, item, new)| {
        let mut item = item.clone();
        if let Some(new) = new {
            path.push(step.clone());
            merge(kind, &mut item, new, path);
            path.pop();
        }
        item
    });
    merged.collect()
}
