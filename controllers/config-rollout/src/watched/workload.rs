//! The workloads that use configuration: Deployments, StatefulSets, DaemonSets and ReplicaGroups.

use std::{collections::BTreeMap, fmt, marker::PhantomData, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, Time};
use kube::{Resource, core::Selector};
use mainstay_runtime::{
    identity_of,
    index::Indexed,
    slim::{self, Header},
};
use serde::Deserialize;
use serde_json::Value;

use crate::{
    names::{ADMISSION_PREFIX, RESTART_PREFIX},
    references::{self, Reference},
};

/// A workload of kind `K` as the watch decodes it. The four kinds agree in all that is read here.
#[derive(Clone, Deserialize)]
pub struct WatchedWorkload<K> {
    #[serde(deserialize_with = "slim::metadata")]
    metadata: ObjectMeta,
    #[serde(default)]
    spec: Spec,
    #[serde(default)]
    status: Status,
    #[serde(skip)]
    kind: PhantomData<fn() -> K>,
}

#[derive(Clone, Default, Deserialize)]
#[serde(default)]
struct Spec {
    replicas: Option<i32>,
    selector: LabelSelector,
    template: Template,
}

#[derive(Clone, Default, Deserialize)]
#[serde(default)]
struct Template {
    metadata: TemplateMetadata,
    spec: Value,
}

#[derive(Clone, Default, Deserialize)]
#[serde(default)]
struct TemplateMetadata {
    annotations: BTreeMap<String, String>,
}

/// Counters of all four kinds. A DaemonSet counts nodes and has names of its own.
#[derive(Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    observed_generation: i64,
    #[serde(alias = "currentNumberScheduled")]
    replicas: i32,
    #[serde(alias = "updatedNumberScheduled")]
    updated_replicas: i32,
    #[serde(alias = "numberAvailable")]
    available_replicas: i32,
    desired_number_scheduled: Option<i32>,
    conditions: Vec<Condition>,
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Condition {
    r#type: String,
    status: String,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    message: String,
    last_update_time: Option<Time>,
    last_transition_time: Option<Time>,
}

impl<K> fmt::Debug for WatchedWorkload<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("WatchedWorkload").field(&self.metadata.name).finish()
    }
}

impl<K: Resource<DynamicType = ()>> Resource for WatchedWorkload<K> {
    identity_of!(K);

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// A workload as the store keeps it.
#[derive(Debug, PartialEq)]
pub struct Workload {
    /// Name, UID and version.
    pub header: Header,
    /// `metadata.labels`.
    pub labels: BTreeMap<String, String>,
    /// `metadata.generation`.
    pub generation: i64,
    /// What its template names.
    pub references: Vec<Reference>,
    /// Those annotations of its template that name revisions.
    pub annotations: BTreeMap<String, String>,
    /// By which labels its pods are found; `None` where there are none to ask for.
    pub pods: Option<String>,
    /// How far its pods are.
    pub progress: Progress,
}

/// How far the pods of a workload are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// Whether the counters are about the template as it is.
    pub observed: bool,
    /// How many pods there should be.
    pub wanted: i32,
    /// How many there are.
    pub current: i32,
    /// How many are of the template.
    pub updated: i32,
    /// How many are available.
    pub available: i32,
    /// When and why the workload's own controller reports that it makes no progress.
    pub given_up: Option<(Timestamp, String)>,
}

impl Progress {
    /// Whether all pods are of the template, and available, but for `missing` of them.
    pub fn is_settled(&self, missing: Option<i32>) -> bool {
        let needed = self.needed(missing);
        self.observed && self.current == self.wanted && self.updated >= needed && self.available >= needed
    }

    /// How many pods have to be available where `missing` need not be. Where that would be none, all have to be: no pod
    /// shows nothing.
    pub fn needed(&self, missing: Option<i32>) -> i32 {
        let needed = self.wanted.saturating_sub(missing.unwrap_or_default());
        if needed > 0 { needed } else { self.wanted }
    }

    /// How many pods are not available.
    pub fn unavailable(&self) -> i32 {
        self.wanted.saturating_sub(self.available).max(0)
    }
}

impl<K: Resource<DynamicType = ()>> From<WatchedWorkload<K>> for Workload {
    fn from(watched: WatchedWorkload<K>) -> Self {
        let header = Header::of(&watched);
        let WatchedWorkload { metadata, spec, status, kind: _ } = watched;
        let generation = metadata.generation.unwrap_or_default();
        let names_revision =
            |key: &String| [ADMISSION_PREFIX, RESTART_PREFIX].iter().any(|p| key.starts_with(p));
        let mut annotations = spec.template.metadata.annotations;
        annotations.retain(|key, _| names_revision(key));
        let selector = Selector::try_from(spec.selector).ok().filter(|selector| !selector.selects_all());
        Self {
            header,
            labels: metadata.labels.unwrap_or_default(),
            generation,
            references: references::find(&spec.template.spec),
            annotations,
            pods: selector.map(|selector| selector.to_string()),
            progress: Progress {
                observed: status.observed_generation >= generation,
                wanted: status.desired_number_scheduled.unwrap_or_else(|| spec.replicas.unwrap_or(1)),
                current: status.replicas,
                updated: status.updated_replicas,
                available: status.available_replicas,
                given_up: status.conditions.into_iter().find_map(given_up),
            },
        }
    }
}

/// Upstream's Deployment controller and ReplicaGroup say by `Progressing` that a change has failed; the other kinds
/// have no such word.
fn given_up(condition: Condition) -> Option<(Timestamp, String)> {
    let has_failed = condition.r#type == "Progressing" && condition.status == "False";
    let at = condition.last_update_time.or(condition.last_transition_time)?;
    has_failed.then(|| (at.0, format!("{}: {}", condition.reason, condition.message)))
}

impl Indexed for Workload {
    /// The namespace.
    type Bucket = Arc<str>;

    fn header(&self) -> &Header {
        &self.header
    }
    fn buckets(&self) -> Vec<Arc<str>> {
        vec![Arc::clone(&self.header.key.namespace)]
    }
    fn is_same(&self, other: &Self) -> bool {
        self == other
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
    use serde_json::json;

    use super::*;

    #[test]
    fn the_counters_of_all_kinds_are_read() {
        let deployment: WatchedWorkload<Deployment> = serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "ns", "generation": 3},
            "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "web"}}, "template": {"spec": {}}},
            "status": {
                "observedGeneration": 3, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2,
                "conditions": [{
                    "type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded",
                    "message": "late", "lastUpdateTime": "2026-01-01T00:00:00Z",
                }],
            },
        }))
        .unwrap();
        let deployment = Workload::from(deployment);
        assert!(deployment.progress.is_settled(None), "{:?}", deployment.progress);
        assert_eq!(deployment.pods.as_deref(), Some("app=web"));
        let given_up = deployment.progress.given_up.unwrap().1;
        assert_eq!(given_up, "ProgressDeadlineExceeded: late");

        let daemons: WatchedWorkload<DaemonSet> = serde_json::from_value(json!({
            "metadata": {"name": "agent", "namespace": "ns", "generation": 1},
            "spec": {"selector": {}, "template": {"spec": {}}},
            "status": {
                "observedGeneration": 1, "currentNumberScheduled": 3, "desiredNumberScheduled": 3,
                "updatedNumberScheduled": 2, "numberAvailable": 3,
            },
        }))
        .unwrap();
        let daemons = Workload::from(daemons);
        assert!(!daemons.progress.is_settled(None), "one node has an old pod");
        assert!(daemons.progress.is_settled(Some(1)), "as before");
        assert_eq!(daemons.pods, None, "no selector asks for all pods");
    }
}
