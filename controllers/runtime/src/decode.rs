//! Objects that a watch decodes one by one, so that one which cannot be decoded stops no other.
//!
//! kube decodes a whole page of a list at once, and each event of a watch as one value: an object that the type cannot
//! represent would make the page fail permanently, or the event with a backoff that all others wait for. A [`Decoded`]
//! always decodes: to the object, or to what is known of it.

use std::fmt::Debug;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::{Deserialize, Deserializer, de::DeserializeOwned, de::Error};
use serde_json::Value;

use crate::{identity_of, key::ObjectKey};

/// The most characters of what the decoder says; it may quote a value of any length.
const MOST: usize = 300;

/// An object of the kind `K`, without `managedFields`, or what can be said of one that `K` cannot hold.
#[derive(Clone, Debug)]
pub enum Decoded<K> {
    /// The object.
    Object(K),
    /// One that cannot be decoded. In a box: there is hardly ever one.
    Undecodable(Box<Undecodable>),
}

/// What can be said of an object that cannot be decoded.
#[derive(Clone, Debug)]
pub struct Undecodable {
    /// Its metadata.
    pub metadata: ObjectMeta,
    /// The field that cannot be decoded, as `spec.update.maxSurge`.
    pub field: String,
    /// Why it cannot.
    pub error: String,
    /// The existing `status.conditions`.
    pub conditions: Vec<Value>,
}

impl Undecodable {
    /// Its name within its kind.
    pub fn key(&self) -> ObjectKey {
        let text = |text: &Option<String>| text.as_deref().unwrap_or_default().to_owned();
        ObjectKey::new(&text(&self.metadata.namespace), &text(&self.metadata.name))
    }

    fn read<K: DeserializeOwned>(mut raw: Value, error: &str) -> Result<Self, serde_json::Error> {
        Ok(Self {
            field: refused_field::<K>(&raw, error),
            metadata: serde_json::from_value(raw["metadata"].take())?,
            error: error.chars().take(MOST).collect(),
            conditions: match raw["status"]["conditions"].take() {
                Value::Array(conditions) => conditions,
                _ => Vec::new(),
            },
        })
    }
}

/// The path of the value that the decoder refuses with `error`, as `spec.update.maxSurge`.
///
/// The decoder ends at the first value that it refuses. So an object of which only the first entries are kept gives the same
/// error exactly when that value is among them, and its place is found by halving. `serde_path_to_error` tells the path as
/// well, but it needs the whole decoder of each kind a second time, which were several megabytes of the program.
fn refused_field<K: DeserializeOwned>(raw: &Value, error: &str) -> String {
    let (mut raw, mut pointer, mut path) = (raw.clone(), String::new(), String::new());
    while let Some(whole) = raw.pointer(&pointer).cloned() {
        let mut is_refused = |entries: usize| {
            if let Some(place) = raw.pointer_mut(&pointer) {
                *place = first(&whole, entries);
            }
            K::deserialize(&raw).err().is_some_and(|now| now.to_string() == error)
        };
        let (mut kept, mut refused) = (0, length(&whole));
        if refused == 0 || is_refused(kept) {
            break;
        }
        while refused - kept > 1 {
            let middle = usize::midpoint(kept, refused);
            if is_refused(middle) {
                refused = middle;
            } else {
                kept = middle;
            }
        }
        is_refused(refused);
        match &whole {
            Value::Object(fields) => {
                let Some(name) = fields.keys().nth(kept) else { break };
                pointer += &format!("/{}", name.replace('~', "~0").replace('/', "~1"));
                path += &if path.is_empty() { name.clone() } else { format!(".{name}") };
            }
            _ => {
                pointer += &format!("/{kept}");
                path += &format!("[{kept}]");
            }
        }
    }
    path
}

/// How many entries it has; none where it is neither an object nor an array.
fn length(value: &Value) -> usize {
    value.as_object().map_or_else(|| value.as_array().map_or(0, Vec::len), serde_json::Map::len)
}

/// The first of its entries.
fn first(value: &Value, entries: usize) -> Value {
    match value {
        Value::Object(fields) => {
            let kept = fields.iter().take(entries);
            Value::Object(kept.map(|(name, value)| (name.clone(), value.clone())).collect())
        }
        Value::Array(items) => items.iter().take(entries).cloned().collect(),
        _ => value.clone(),
    }
}

impl<'de, K: DeserializeOwned> Deserialize<'de> for Decoded<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut raw = Value::deserialize(deserializer)?;
        if let Some(metadata) = raw.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("managedFields");
        }
        match K::deserialize(&raw) {
            Ok(object) => Ok(Self::Object(object)),
            Err(error) => {
                let undecodable =
                    Undecodable::read::<K>(raw, &error.to_string()).map_err(D::Error::custom)?;
                Ok(Self::Undecodable(undecodable.into()))
            }
        }
    }
}

impl<K: Resource<DynamicType = ()>> Resource for Decoded<K> {
    identity_of!(K);

    fn metadata_api() -> bool {
        K::metadata_api()
    }
    fn meta(&self) -> &ObjectMeta {
        match self {
            Self::Object(object) => object.meta(),
            Self::Undecodable(undecodable) => &undecodable.metadata,
        }
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        match self {
            Self::Object(object) => object.meta_mut(),
            Self::Undecodable(undecodable) => &mut undecodable.metadata,
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::{apps::v1::Deployment, policy::v1::PodDisruptionBudget};
    use serde_json::json;

    use super::*;

    fn decode(max_unavailable: Value) -> Decoded<PodDisruptionBudget> {
        let object = json!({
            "metadata": {
                "name": "a", "namespace": "ns", "uid": "u", "generation": 2, "managedFields": [{"manager": "m"}],
            },
            "spec": {"maxUnavailable": max_unavailable},
            "status": {"conditions": [{
                "type": "Ready", "status": "True", "reason": "", "message": "",
                "lastTransitionTime": "2026-01-01T00:00:00Z",
            }]},
        });
        serde_json::from_value(object).expect("nothing fails a watch")
    }

    #[test]
    fn an_object_is_decoded_without_its_managed_fields() {
        let Decoded::Object(budget) = decode(json!(1)) else { panic!("it can be decoded") };
        assert_eq!(budget.metadata.managed_fields, None);
        assert_eq!(budget.metadata.uid.as_deref(), Some("u"));
    }

    #[test]
    fn of_an_undecodable_object_the_field_is_known() {
        for (value, words) in [(json!(3_000_000_000_u32), "32-bit"), (json!({}), "invalid type: map")] {
            let Decoded::Undecodable(undecodable) = decode(value) else { panic!("it cannot be decoded") };
            assert_eq!(undecodable.field, "spec.maxUnavailable");
            assert!(undecodable.error.contains(words), "{}", undecodable.error);
            assert_eq!(undecodable.key(), ObjectKey::new("ns", "a"));
            assert_eq!((undecodable.metadata.generation, undecodable.conditions.len()), (Some(2), 1));
        }
    }

    #[test]
    fn the_refused_field_is_found_at_every_depth() {
        let field = |template: Value| {
            let template =
                json!({"metadata": {"name": "a"}, "spec": {"containers": [{"name": "a"}, template]}});
            let object = json!({
                "metadata": {"name": "a"},
                "spec": {"selector": {}, "template": template},
                "status": {"replicas": "many"},
            });
            match serde_json::from_value::<Decoded<Deployment>>(object).expect("nothing fails a watch") {
                Decoded::Object(_) => panic!("it cannot be decoded"),
                Decoded::Undecodable(undecodable) => undecodable.field,
            }
        };
        let container = |rest: &str| format!("spec.template.spec.containers[1]{rest}");
        assert_eq!(field(json!({"name": 7})), container(".name"));
        assert_eq!(field(json!("b")), container(""));
        // The first of two that are refused with the same words.
        let twice = json!({"name": "b", "ports": [{"containerPort": 1}, {"containerPort": {}}, {"containerPort": {}}]});
        assert_eq!(field(twice), container(".ports[1].containerPort"));
        let odd = json!({"name": "b", "resources": {"limits": {"example.com/a~b": []}}});
        assert_eq!(field(odd), container(".resources.limits.example.com/a~b"));
        assert_eq!(field(json!({"name": "b"})), "status.replicas");
    }

    #[test]
    fn what_the_decoder_quotes_is_cut() {
        let long = json!({"name": "a", "labels": "x".repeat(5000)});
        let object = json!({"metadata": {"name": "a"}, "spec": {"selector": long["labels"]}});
        let Decoded::<PodDisruptionBudget>::Undecodable(undecodable) =
            serde_json::from_value(object).unwrap()
        else {
            panic!("it cannot be decoded")
        };
        assert!(undecodable.error.len() <= MOST);
    }
}
