//! Answers without what no two servers share: UIDs, versions, times, addresses, tokens, and the wording of messages.
//!
//! UIDs and versions become numbers in the order in which the script meets them, so that it still shows which are the same.
//! A time becomes what lies between it and now. Of a token its claims are left.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

/// Times that lie further away are given by a script, and stay.
const NEAR: f64 = 2.0 * 24.0 * 3600.0;

/// The UIDs and versions that a script has met.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    uids: Vec<String>,
    versions: Vec<String>,
}

fn number(all: &mut Vec<String>, what: &str, value: &str) -> Value {
    let place = all.iter().position(|known| known == value).unwrap_or_else(|| {
        all.push(value.to_owned());
        all.len() - 1
    });
    format!("{what} {}", place + 1).into()
}

/// Takes out of an answer, or of a part of it, what no two servers share.
pub(super) fn normal(value: &mut Value, seen: &mut Seen) {
    match value {
        Value::Object(object) => {
            of_object(object);
            let named =
                object.keys().filter(|key| key.starts_with("k:{\"uid\"")).cloned().collect::<Vec<_>>();
            for key in named {
                // An item of `managedFields` that is found by a UID.
                let fields = object.remove(&key).unwrap_or_default();
                let uid = number(&mut seen.uids, "uid", key.split('"').nth(3).unwrap_or_default());
                object.insert(format!("k:{uid}"), fields);
            }
            for (key, value) in object.iter_mut() {
                field(key, value, seen);
            }
            // The server writes some empty fields, and leaves others out.
            object.retain(|_, value| !value.is_null());
        }
        Value::Array(list) => {
            list.iter_mut().for_each(|item| normal(item, seen));
        }
        Value::String(text) => {
            if let Ok(time) = text.parse::<Timestamp>() {
                let away = time.duration_since(Timestamp::now()).as_secs_f64();
                if away.abs() < NEAR {
                    *value = if away < 5.0 {
                        "now".into()
                    } else {
                        format!("in {:.0} s", (away / 10.0).round() * 10.0).into()
                    };
                }
            }
        }
        _ => {}
    }
}

/// What depends on several fields of an object.
fn of_object(object: &mut Map<String, Value>) {
    let kind = object.get("kind").and_then(Value::as_str).unwrap_or_default().to_owned();
    // How far a server is depends on all of its clients.
    if (kind.ends_with("List") || object.contains_key("items"))
        && let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut)
    {
        metadata.remove("resourceVersion");
        metadata.retain(|key, value| key != "continue" || *value != "");
        if let Some(next) = metadata.get_mut("continue") {
            *next = "more".into();
        }
    }
    if object.get("type").is_some_and(|of| of == "BOOKMARK") {
        let annotations = object["object"]["metadata"]["annotations"].take();
        object.insert("object".to_owned(), json!({"annotations": annotations}));
    }
    if kind == "Status" {
        object.remove("message");
        // Success and failure have it, and it is empty.
        object.remove("metadata");
        let is_invalid = object.get("code").is_some_and(|code| *code == 422);
        if let Some(details) = object.get_mut("details").and_then(Value::as_object_mut) {
            if is_invalid {
                // What is wrong is the schemas' business; but a UID is what a controller names as a precondition.
                let of_uid = details
                    .get("causes")
                    .is_some_and(|causes| causes.to_string().contains("\"metadata.uid\""));
                details.remove("causes");
                if of_uid {
                    details.insert("of".to_owned(), "the UID".into());
                }
            }
            if let Some(causes) = details.get_mut("causes").and_then(Value::as_array_mut) {
                for cause in causes.iter_mut().filter(|cause| cause["reason"] != "FieldManagerConflict") {
                    cause.as_object_mut().map(|cause| cause.remove("message"));
                }
                causes.sort_by_key(Value::to_string);
            }
        }
        object.retain(|key, value| {
            key != "details" || value.as_object().is_none_or(|details| !details.is_empty())
        });
    }
    if let (Some(Value::String(prefix)), Some(Value::String(name))) =
        (object.get("generateName").cloned(), object.get_mut("name"))
        && let Some(rest) = name.strip_prefix(&prefix)
    {
        *name = format!("{prefix} and {} letters", rest.len());
    }
}

fn field(key: &str, value: &mut Value, seen: &mut Seen) {
    let key = key.rsplit('/').next().unwrap_or_default();
    match (key, &mut *value) {
        ("uid", Value::String(uid)) => *value = number(&mut seen.uids, "uid", uid),
        ("resourceVersion", Value::String(version)) if !version.is_empty() => {
            *value = number(&mut seen.versions, "version", version);
        }
        ("managedFields", Value::Array(entries)) => {
            entries.sort_by_key(|entry| {
                ["operation", "manager", "subresource"]
                    .map(|key| entry[key].as_str().unwrap_or_default().to_owned())
            });
            entries.iter_mut().for_each(|entry| normal(entry, seen));
        }
        ("token", Value::String(token)) => {
            let mut claims = claims(token);
            normal(&mut claims, seen);
            *value = claims;
        }
        ("clusterIP", Value::String(address)) if address.parse::<std::net::IpAddr>().is_ok() => {
            *value = "an address".into();
        }
        ("clusterIPs", Value::Array(addresses)) => {
            addresses.iter_mut().for_each(|address| *address = "an address".into())
        }
        _ => normal(value, seen),
    }
}

/// What a token says, with its times from when it was issued.
fn claims(token: &str) -> Value {
    let payload = token.split('.').nth(1).and_then(|payload| BASE64_URL_SAFE_NO_PAD.decode(payload).ok());
    let mut claims: Value = payload.and_then(|json| serde_json::from_slice(&json).ok()).unwrap_or_default();
    let issued = claims["iat"].as_i64().unwrap_or_default();
    for time in ["exp", "nbf"] {
        if let Some(at) = claims[time].as_i64() {
            claims[time] = (at - issued).into();
        }
    }
    if let Some(claims) = claims.as_object_mut() {
        for own in ["iat", "jti", "iss"] {
            claims.remove(own);
        }
    }
    claims
}

/// Where two answers differ, a line for each place.
pub fn differences(path: &str, model: &Value, server: &Value) -> Vec<String> {
    match (model, server) {
        (Value::Object(one), Value::Object(other)) => {
            let mut keys: Vec<&String> = one.keys().chain(other.keys()).collect();
            keys.sort();
            keys.dedup();
            let value = |of: &Map<String, Value>, key: &str| of.get(key).cloned().unwrap_or_default();
            keys.into_iter()
                .flat_map(|key| differences(&format!("{path}/{key}"), &value(one, key), &value(other, key)))
                .collect()
        }
        (Value::Array(one), Value::Array(other)) if one.len() == other.len() => {
            let items = one.iter().zip(other).enumerate();
            items
                .flat_map(|(place, (one, other))| differences(&format!("{path}/{place}"), one, other))
                .collect()
        }
        _ if model == server => Vec::new(),
        _ => vec![format!("{path}: the model says {model}, the server {server}")],
    }
}
