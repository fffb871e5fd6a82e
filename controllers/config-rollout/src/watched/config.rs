//! Secrets and ConfigMaps: sources, and the objects of revisions.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use mainstay_runtime::{
    index::Indexed,
    slim::{Header, MetadataOf},
};

use crate::names::{REVISION, ROLLOUT, SOURCE, SOURCE_UID, SOURCE_VERSION, object_name};

/// A Secret or ConfigMap as the watch decodes it: its metadata alone, so that no value comes over the wire.
pub type WatchedConfig<K> = MetadataOf<K>;

/// A Secret or ConfigMap as the store keeps it. Annotations are let go: in one of them kubectl keeps values.
#[derive(Debug, PartialEq)]
pub struct Config {
    /// Name, UID and version.
    pub header: Header,
    /// `metadata.resourceVersion` as it was written.
    pub version: Box<str>,
    /// `metadata.labels`.
    pub labels: BTreeMap<String, String>,
    /// What of a revision it is, if it is of one.
    pub mark: Option<Mark>,
}

/// Whose copy an object of a revision is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// The rollout's name.
    pub rollout: Arc<str>,
    /// The source's name.
    pub source: Box<str>,
    /// The number of the revision that it was made for.
    pub number: u64,
    /// The source's UID.
    pub source_uid: Box<str>,
    /// The source's resourceVersion.
    pub source_version: Box<str>,
}

impl Mark {
    /// The highest number that a revision may have: the status has to say it.
    pub const LAST: u64 = i64::MAX.unsigned_abs();
    /// The highest number that is believed of a name alone, so that a name which a user made up leaves numbers over.
    pub const LAST_FOUND: u64 = Self::LAST / 2;

    /// The mark in an object's metadata. Labels and annotations are copied when a user copies an object of a revision
    /// under another name: such a copy has no mark.
    pub fn read(metadata: &ObjectMeta) -> Option<Self> {
        let annotations = metadata.annotations.as_ref()?;
        let annotation = |key| annotations.get(key).map(String::as_str);
        let mark = Self {
            rollout: metadata.labels.as_ref()?.get(ROLLOUT)?.as_str().into(),
            source: annotation(SOURCE)?.into(),
            number: annotation(REVISION)?.parse().ok()?,
            source_uid: annotation(SOURCE_UID)?.into(),
            source_version: annotation(SOURCE_VERSION)?.into(),
        };
        let is_possible = (1..=Self::LAST).contains(&mark.number);
        (is_possible && metadata.name.as_deref() == Some(&*mark.object_name())).then_some(mark)
    }

    /// The name of the object with this mark.
    pub fn object_name(&self) -> String {
        object_name(&self.source, self.number)
    }

    /// The metadata of an object with this mark.
    pub fn write(&self, namespace: &str) -> ObjectMeta {
        let annotations = [
            (SOURCE, self.source.to_string()),
            (REVISION, self.number.to_string()),
            (SOURCE_UID, self.source_uid.to_string()),
            (SOURCE_VERSION, self.source_version.to_string()),
        ];
        ObjectMeta {
            name: Some(self.object_name()),
            namespace: Some(namespace.into()),
            labels: Some([(ROLLOUT.to_owned(), self.rollout.to_string())].into()),
            annotations: Some(annotations.map(|(key, value)| (key.to_owned(), value)).into()),
            ..ObjectMeta::default()
        }
    }
}

impl<K: Resource<DynamicType = ()>> From<WatchedConfig<K>> for Config {
    fn from(watched: WatchedConfig<K>) -> Self {
        Self {
            header: Header::of(&watched),
            version: watched.metadata.resource_version.as_deref().unwrap_or_default().into(),
            mark: Mark::read(&watched.metadata),
            labels: watched.metadata.labels.unwrap_or_default(),
        }
    }
}

/// By what Secrets and ConfigMaps are asked for together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Bucket {
    /// The sources of a namespace.
    Namespace(Arc<str>),
    /// The objects of a rollout, by its namespace and name.
    Rollout(Arc<str>, Arc<str>),
}

impl Indexed for Config {
    type Bucket = Bucket;

    fn header(&self) -> &Header {
        &self.header
    }
    fn buckets(&self) -> Vec<Bucket> {
        let namespace = Arc::clone(&self.header.key.namespace);
        vec![match &self.mark {
            Some(mark) => Bucket::Rollout(namespace, Arc::clone(&mark.rollout)),
            None => Bucket::Namespace(namespace),
        }]
    }
    fn is_same(&self, other: &Self) -> bool {
        self == other
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Secret;
    use serde_json::json;

    use super::*;

    fn mark(number: u64) -> Mark {
        Mark {
            rollout: "web".into(),
            source: "keys".into(),
            number,
            source_uid: "u".into(),
            source_version: "12".into(),
        }
    }

    #[test]
    fn a_copy_under_another_name_has_no_mark() {
        let copied = mark(7).write("ns");
        for name in ["keys", "keys-8", "keys-07", "my-keys-7"] {
            assert_eq!(Mark::read(&ObjectMeta { name: Some(name.into()), ..copied.clone() }), None, "{name}");
        }
    }

    #[test]
    fn numbers_that_no_status_can_say_are_no_mark() {
        for number in [0, Mark::LAST + 1, u64::MAX] {
            assert_eq!(Mark::read(&mark(number).write("ns")), None, "{number}");
        }
        assert_eq!(Mark::read(&mark(Mark::LAST).write("ns")), Some(mark(Mark::LAST)));
    }

    #[test]
    fn a_mark_survives_and_annotations_with_values_are_let_go() {
        assert_eq!(Mark::read(&mark(7).write("ns")), Some(mark(7)));
        let watched: WatchedConfig<Secret> = serde_json::from_value(json!({
            "metadata": {
                "name": "keys", "namespace": "ns", "resourceVersion": "12",
                "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "the-value"},
            },
            "data": {"k": "dGhlLXZhbHVl"},
        }))
        .unwrap();
        let kept = format!("{:?}", Config::from(watched));
        assert!(!kept.contains("the-value") && !kept.contains("dGhl"), "{kept}");
    }
}
