//! Label and field selectors, as queries write them.

use serde_json::Value;

use super::{
    kinds::Kind,
    object::at,
    request::{Reply, Request},
};

/// Which objects a list or a watch shows.
#[derive(Debug, Clone, Default)]
pub struct Selector {
    /// All of these hold of its labels.
    labels: Vec<Requirement>,
    /// All of these fields are so, or are not so where the flag is false.
    fields: Vec<(String, bool, String)>,
}

#[derive(Debug, Clone)]
enum Requirement {
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Has(String),
    HasNot(String),
}

impl Selector {
    /// Reads `labelSelector` and `fieldSelector`.
    pub fn read(labels: Option<&str>, fields: Option<&str>) -> Self {
        let fields = fields.unwrap_or_default().split(',').filter(|part| !part.is_empty()).map(field);
        Self {
            labels: split(labels.unwrap_or_default()).map(requirement).collect(),
            fields: fields.collect(),
        }
    }

    /// The selector of a list or a watch of a kind.
    ///
    /// # Errors
    /// 400 where the kind has no index of a field, or a set of labels does not end.
    pub(super) fn of(kind: Kind, request: &Request) -> Result<Self, Reply> {
        let labels = request.parameter("labelSelector");
        let selector = Self::read(labels, request.parameter("fieldSelector"));
        if let Some((field, ..)) = selector.fields.iter().find(|(field, ..)| !kind.selects_by(field)) {
            return Err(Reply::bad(&format!("field label not supported: {field}")));
        }
        let count = |letter: char| labels.unwrap_or_default().matches(letter).count();
        if count('(') != count(')') {
            return Err(Reply::bad("unable to parse requirement"));
        }
        Ok(selector)
    }

    /// Whether it is for all objects.
    pub(super) fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    /// Whether it shows this object.
    pub fn matches(&self, object: &Value) -> bool {
        let labels = &object["metadata"]["labels"];
        let value = |key: &str| labels.get(key).and_then(Value::as_str);
        self.labels.iter().all(|requirement| match requirement {
            Requirement::In(key, values) => value(key).is_some_and(|value| values.iter().any(|v| v == value)),
            Requirement::NotIn(key, values) => {
                value(key).is_none_or(|value| values.iter().all(|v| v != value))
            }
            Requirement::Has(key) => value(key).is_some(),
            Requirement::HasNot(key) => value(key).is_none(),
        }) && self.fields.iter().all(|(path, wanted, text)| {
            let value = at(object, path);
            let shown = value.as_str().map(str::to_owned).unwrap_or_else(|| match value {
                Value::Null => String::new(),
                other => other.to_string(),
            });
            (shown == *text) == *wanted
        })
    }
}

/// The parts of a label selector: commas inside parentheses do not divide.
fn split(text: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0;
    text.split(move |letter| {
        match letter {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        letter == ',' && depth == 0
    })
    .map(str::trim)
    .filter(|part| !part.is_empty())
}

fn requirement(text: &str) -> Requirement {
    let list = |values: &str| {
        values.trim().trim_matches(['(', ')']).split(',').map(|value| value.trim().to_owned()).collect()
    };
    if let Some((key, values)) = text.split_once(" notin ") {
        Requirement::NotIn(key.trim().to_owned(), list(values))
    } else if let Some((key, values)) = text.split_once(" in ") {
        Requirement::In(key.trim().to_owned(), list(values))
    } else if let Some((key, value)) = text.split_once("!=") {
        Requirement::NotIn(key.trim().to_owned(), vec![value.trim().to_owned()])
    } else if let Some((key, value)) = text.split_once('=') {
        Requirement::In(key.trim().to_owned(), vec![value.trim_start_matches('=').trim().to_owned()])
    } else if let Some(key) = text.strip_prefix('!') {
        Requirement::HasNot(key.trim().to_owned())
    } else {
        Requirement::Has(text.to_owned())
    }
}

fn field(text: &str) -> (String, bool, String) {
    let (key, wanted, value) = match text.split_once("!=") {
        Some((key, value)) => (key, false, value),
        None => text.split_once('=').map(|(key, value)| (key, true, value)).unwrap_or((text, true, "")),
    };
    (key.to_owned(), wanted, value.trim_start_matches('=').to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_form_selects_what_it_says() {
        let object =
            json!({"metadata": {"name": "a", "labels": {"app": "web", "tier": "2"}}, "spec": {"on": true}});
        for (labels, fields, expected) in [
            ("app=web,tier", "", true),
            ("app==web", "metadata.name=a", true),
            ("app in (db, web),!gone", "", true),
            ("app notin (db),other!=x", "", true),
            ("app=db", "", false),
            ("!app", "", false),
            ("tier notin (2)", "", false),
            ("", "metadata.name!=a", false),
            ("", "spec.on=true,spec.nodeName=", true),
        ] {
            let selector = Selector::read(Some(labels), Some(fields));
            assert_eq!(selector.matches(&object), expected, "{labels:?} {fields:?}");
        }
    }
}
