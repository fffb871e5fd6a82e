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

    fn read<K: DeserializeOwned>(mut raw: Value) -> Result<Self, serde_json::Error> {
        // Once more, and slower, for the path.
        let failure = serde_path_to_error::deserialize::<_, K>(&raw).err();
        let (field, error) = failure
            .map(|failure| (failure.path().to_string(), failure.into_inner().to_string()))
            .unwrap_or_default();
        Ok(Self {
            metadata: serde_json::from_value(raw["metadata"].take())?,
            field,
            error: error.chars().take(MOST).collect(),
            conditions: match raw["status"]["conditions"].take() {
                Value::Array(conditions) => conditions,
                _ => Vec::new(),
            },
        })
    }
}

impl<'de, K: DeserializeOwned> Deserialize<'de> for Decoded<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut raw = Value::deserialize(deserializer)?;
        if let Some(metadata) = raw.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("managedFields");
        }
        if let Ok(object) = K::deserialize(&raw) {
            return Ok(Self::Object(object));
        }
        let undecodable = Undecodable::read::<K>(raw).map_err(D::Error::custom)?;
        Ok(Self::Undecodable(undecodable.into()))
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
    use k8s_openapi::api::policy::v1::PodDisruptionBudget;
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
