//! Texts that a schema admits, and texts that it refuses.

use std::{collections::HashMap, sync::Mutex};

use regex::Regex;
use serde_json::Value;

/// Texts of the forms that fields have, and of none. Which of them a schema admits is found by its pattern and lengths.
const POOL: &[&str] = &[
    "x",
    "",
    "a-b",
    "a.b",
    "a/b",
    "A_b",
    "-a",
    "a-",
    ".",
    "/",
    "/a?b=%20",
    "https://a:1/b",
    "http://a",
    "ATemplate",
    "0s",
    "1s",
    "15m",
    "0.000001ms",
    "1h1h1h",
    "999999.999999h",
    "999999h999999h99999h",
    "1000000h",
    "0.0000001s",
    "-1s",
    "1",
    "-.5e+30",
    "1.Ei",
    "much",
    "200",
    "399-200",
    "600",
    "0%",
    "00000000%",
    "100%",
    "101%",
    "999999999%",
    "1000000000%",
    "-1%",
    "1.5%",
    " 1%",
    "2026-01-01T00:00:00Z",
    "10.0.0.1",
    "::1",
    "999.0.0.1",
    "[::1]:80",
    "-----BEGIN CERTIFICATE-----",
    " ",
    "\u{0}\n\"ü\u{1F600}",
];

/// The longest text of a field whose length nothing bounds.
const LONG: usize = 300;

/// Texts that fill a field of this length, in the forms that fields have.
fn of_length(length: usize) -> Vec<String> {
    let filled = |before: &str, after: &str| {
        let letters = length.checked_sub(before.len() + after.len())?;
        Some(format!("{before}{}{after}", "a".repeat(letters)))
    };
    let forms = [
        ("", ""),
        ("/", ""),
        ("a/", ""),
        ("https://", ""),
        ("-----BEGIN CERTIFICATE-----", ""),
        ("", "Template"),
        ("0.", "s"),
    ];
    forms.into_iter().filter_map(|(before, after)| filled(before, after)).collect()
}

/// Whether the pattern and the lengths of the schema admit the text.
pub(crate) fn admits(schema: &Value, text: &str) -> bool {
    let length = text.chars().count();
    let bound = |name: &str, without: usize| {
        schema[name].as_u64().map_or(without, |bound| usize::try_from(bound).unwrap_or(usize::MAX))
    };
    let fits = (bound("minLength", 0)..=bound("maxLength", usize::MAX)).contains(&length);
    fits && schema["pattern"].as_str().is_none_or(|pattern| matches(pattern, text))
}

fn matches(pattern: &str, text: &str) -> bool {
    static COMPILED: Mutex<Option<HashMap<String, Regex>>> = Mutex::new(None);
    let mut compiled = COMPILED.lock().expect("a test that panicked holds no lock");
    let compiled = compiled.get_or_insert_default().entry(pattern.to_owned());
    compiled.or_insert_with(|| Regex::new(pattern).expect("the API server took the pattern")).is_match(text)
}

/// The texts of the pool, and those at the bounds of its length, that a schema admits or refuses.
fn pool(schema: &Value, admitted: bool) -> Vec<Value> {
    let pool = POOL.iter().map(|text| (*text).to_owned());
    let at = |name: &str| schema[name].as_u64().and_then(|length| usize::try_from(length).ok());
    let lengths = [at("maxLength").or(Some(LONG)), at("maxLength").map(|most| most + 1), at("minLength")];
    let long = lengths.into_iter().flatten().flat_map(of_length);
    let mut found: Vec<Value> = Vec::new();
    for text in pool.chain(long).filter(|text| admits(schema, text) == admitted).map(Value::from) {
        if !found.contains(&text) {
            found.push(text);
        }
    }
    found
}

/// Texts that the schema admits; the first is a usual one.
pub(crate) fn admitted(schema: &Value) -> Vec<Value> {
    if let Some(values) = schema["enum"].as_array() {
        return values.clone();
    }
    if schema["format"] == "date-time" {
        return ["2026-01-01T00:00:00Z", "0001-01-01T23:59:60.123456789+14:00"].map(Value::from).into();
    }
    let mut all = pool(schema, true);
    if schema.get("pattern").is_none() {
        // Of a text without a form: a usual one, the shortest, the longest, and one that nothing expects.
        let is_kept = |text: &Value| {
            let text = text.as_str().unwrap_or_default();
            ["x", "", " "].contains(&text) || text.len() >= LONG.min(60) || !text.is_ascii()
        };
        all.retain(is_kept);
        all.truncate(5);
    }
    all
}

/// Texts that the schema refuses.
pub(crate) fn refused(schema: &Value) -> Vec<Value> {
    if schema.get("enum").is_some() {
        return ["NoSuchValue", ""].map(Value::from).into();
    }
    if schema["format"] == "date-time" {
        return ["yesterday", ""].map(Value::from).into();
    }
    pool(schema, false)
}
