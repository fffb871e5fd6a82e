//! Watch types that never decode what no plan reads.
//!
//! Half of a typical object is `managedFields`, and most of the rest is spec that a plan does not read. A slim type
//! names the fields that it wants, gets its metadata through [`metadata`], and has the identity of the kind that it
//! represents by [`stands_for!`](crate::stands_for); serde skips everything else without building it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use kube::Resource;
use serde::{Deserialize, Deserializer};

use crate::key::ObjectKey;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SlimMeta {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    generation: Option<i64>,
    creation_timestamp: Option<Time>,
    deletion_timestamp: Option<Time>,
    #[serde(default)]
    labels: Option<BTreeMap<String, String>>,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
    #[serde(default)]
    owner_references: Option<Vec<OwnerReference>>,
    #[serde(default)]
    finalizers: Option<Vec<String>>,
}

/// Reads an `ObjectMeta` without `managedFields` and what else no plan reads.
///
/// # Errors
/// Those of the deserializer.
pub fn metadata<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ObjectMeta, D::Error> {
    let slim = SlimMeta::deserialize(deserializer)?;
    Ok(ObjectMeta {
        name: slim.name,
        namespace: slim.namespace,
        uid: slim.uid,
        resource_version: slim.resource_version,
        generation: slim.generation,
        creation_timestamp: slim.creation_timestamp,
        deletion_timestamp: slim.deletion_timestamp,
        labels: slim.labels,
        annotations: slim.annotations,
        owner_references: slim.owner_references,
        finalizers: slim.finalizers,
        ..ObjectMeta::default()
    })
}

/// The conditions of a pod, or of another object whose conditions say no more.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Conditions(Vec<Condition>);

/// One of them.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    r#type: String,
    /// `status`.
    pub status: String,
    /// `reason`.
    pub reason: Option<String>,
    last_transition_time: Option<Time>,
}

impl Conditions {
    /// The condition of this type.
    pub fn get(&self, kind: &str) -> Option<&Condition> {
        self.0.iter().find(|condition| condition.r#type == kind)
    }

    /// Whether the condition of this type is `True`.
    pub fn is_true(&self, kind: &str) -> bool {
        self.get(kind).is_some_and(|condition| condition.status == "True")
    }

    /// When the status of the condition of this type changed last.
    pub fn changed(&self, kind: &str) -> Option<Timestamp> {
        self.get(kind)?.changed()
    }

    /// When the last of them changed.
    pub fn last_change(&self) -> Option<Timestamp> {
        self.0.iter().filter_map(Condition::changed).max()
    }
}

impl Condition {
    fn changed(&self) -> Option<Timestamp> {
        self.last_transition_time.as_ref().map(|time| time.0)
    }
}

/// What an [`Index`](crate::index::Index) keeps of every object.
#[derive(Debug, Clone)]
pub struct Header {
    /// Namespace and name.
    pub key: ObjectKey,
    /// `metadata.uid`.
    pub uid: Box<str>,
    /// `metadata.resourceVersion` where it is a number, as the API server's is (KEP-5504).
    pub version: Option<u64>,
    /// Whether it has a deletion timestamp.
    pub terminating: bool,
}

/// The version is not compared: it says when, and not what.
impl PartialEq for Header {
    fn eq(&self, other: &Self) -> bool {
        let Self { key, uid, version: _, terminating } = self;
        (key, uid, terminating) == (&other.key, &other.uid, &other.terminating)
    }
}

impl Eq for Header {}

impl Header {
    /// The header of `object`.
    pub fn of(object: &impl Resource) -> Self {
        let metadata = object.meta();
        Self {
            key: ObjectKey::of(object),
            uid: metadata.uid.as_deref().unwrap_or_default().into(),
            version: metadata.resource_version.as_ref().and_then(|version| version.parse().ok()),
            terminating: metadata.deletion_timestamp.is_some(),
        }
    }
}

/// Within an `impl Resource`: the API identity of the kind `$kind`, which another type represents.
#[macro_export]
macro_rules! identity_of {
    ($kind:ty) => {
        type DynamicType = ();
        type Scope = <$kind as $crate::kube::Resource>::Scope;

        fn kind((): &()) -> ::std::borrow::Cow<'_, str> {
            <$kind as $crate::kube::Resource>::kind(&())
        }
        fn group((): &()) -> ::std::borrow::Cow<'_, str> {
            <$kind as $crate::kube::Resource>::group(&())
        }
        fn version((): &()) -> ::std::borrow::Cow<'_, str> {
            <$kind as $crate::kube::Resource>::version(&())
        }
        fn plural((): &()) -> ::std::borrow::Cow<'_, str> {
            <$kind as $crate::kube::Resource>::plural(&())
        }
    };
}

/// Gives a slim type, which has a field `metadata: ObjectMeta`, the API identity of the kind it represents.
#[macro_export]
macro_rules! stands_for {
    ($slim:ty, $kind:ty) => {
        impl $crate::kube::Resource for $slim {
            $crate::identity_of!($kind);

            fn meta(&self) -> &$crate::k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta {
                &self.metadata
            }
            fn meta_mut(
                &mut self,
            ) -> &mut $crate::k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta {
                &mut self.metadata
            }
        }
    };
}

/// An object of which only the metadata is read, without `managedFields`.
///
/// For list and watch it is asked for as `PartialObjectMetadata`, so the server sends no spec either.
#[derive(Clone, Deserialize)]
pub struct MetadataOf<K> {
    /// The metadata that [`metadata`] keeps.
    #[serde(deserialize_with = "metadata")]
    pub metadata: ObjectMeta,
    #[serde(skip)]
    kind: std::marker::PhantomData<fn() -> K>,
}

impl<K> std::fmt::Debug for MetadataOf<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("MetadataOf").field(&self.metadata.name).finish()
    }
}

impl<K: Resource<DynamicType = ()>> Resource for MetadataOf<K> {
    identity_of!(K);

    fn metadata_api() -> bool {
        true
    }
    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Node;
    use kube::Resource;

    use super::*;

    #[test]
    fn managed_fields_are_skipped_and_the_rest_is_kept() {
        let node: MetadataOf<Node> = serde_json::from_value(serde_json::json!({
            "kind": "PartialObjectMetadata",
            "metadata": {
                "name": "n", "resourceVersion": "7", "labels": {"topology.kubernetes.io/zone": "z"},
                "creationTimestamp": "2026-01-01T00:00:00Z",
                "managedFields": [{"manager": "m", "fieldsV1": {"f:metadata": {}}}]
            }
        }))
        .unwrap();
        assert_eq!(node.meta().name.as_deref(), Some("n"));
        assert_eq!(node.meta().labels.as_ref().map(BTreeMap::len), Some(1));
        assert_eq!(node.meta().managed_fields, None);
        assert_eq!(MetadataOf::<Node>::plural(&()), "nodes");
    }
}
