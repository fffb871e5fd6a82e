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

use super::{
    progress::{Blocked, Progress},
    template::{Fingerprint, Template, is_written},
};
use crate::references::{self, Reference};

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
#[serde(rename_all = "camelCase", default)]
struct Spec {
    replicas: Option<i32>,
    selector: LabelSelector,
    template: Template,
    paused: bool,
    // A ReplicaGroup calls it `update`.
    #[serde(alias = "update")]
    update_strategy: Strategy,
}

#[derive(Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Strategy {
    r#type: String,
    rolling_update: Partition,
    partition: Value,
}

#[derive(Clone, Default, Deserialize)]
#[serde(default)]
struct Partition {
    partition: Value,
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
    update_revision: Option<String>,
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
    /// What else of its template is known.
    pub template: Fingerprint,
    /// By which labels its pods are found; `None` where there are none to ask for.
    pub pods: Option<String>,
    /// How far its pods are.
    pub progress: Progress,
}

impl Spec {
    fn blocked(&self) -> Option<Blocked> {
        let Strategy { r#type, rolling_update, partition } = &self.update_strategy;
        let holds = |partition: &Value| match partition {
            Value::Number(number) => number.as_i64() != Some(0),
            Value::String(text) => text.trim_end_matches('%') != "0",
            _ => false,
        };
        match () {
            () if self.paused => Some(Blocked::Paused),
            () if r#type == "OnDelete" => Some(Blocked::OnDelete),
            () if holds(partition) || holds(&rolling_update.partition) => Some(Blocked::Partition),
            () => None,
        }
    }
}

impl<K: Resource<DynamicType = ()>> From<WatchedWorkload<K>> for Workload {
    fn from(watched: WatchedWorkload<K>) -> Self {
        let header = Header::of(&watched);
        let WatchedWorkload { metadata, spec, status, kind: _ } = watched;
        let generation = metadata.generation.unwrap_or_default();
        let references = references::find(&spec.template.spec);
        let step = || status.conditions.iter().any(Condition::is_step).then_some(Blocked::Step);
        let blocked = spec.blocked().or_else(step);
        let over_quota = status.conditions.iter().any(Condition::is_over_quota);
        let template = Fingerprint::of(&spec.template, &references);
        let mut annotations = spec.template.metadata.annotations;
        annotations.retain(|key, _| is_written(key));
        let selector = Selector::try_from(spec.selector).ok().filter(|selector| !selector.selects_all());
        let pods = selector.map(|selector| selector.to_string());
        // Others tell a revision too, and replace pods that are not ready by themselves.
        let revision = status.update_revision.filter(|_| K::kind(&()) == "StatefulSet");
        let outdated = pods.as_ref().zip(revision);
        Self {
            header,
            labels: metadata.labels.unwrap_or_default(),
            generation,
            references,
            annotations,
            template,
            pods: pods.clone(),
            progress: Progress {
                observed: status.observed_generation >= generation,
                wanted: status.desired_number_scheduled.unwrap_or_else(|| spec.replicas.unwrap_or(1)),
                current: status.replicas,
                updated: status.updated_replicas,
                available: status.available_replicas,
                given_up: status.conditions.into_iter().find_map(given_up),
                over_quota,
                blocked,
                outdated: outdated
                    .map(|(pods, revision)| format!("{pods},controller-revision-hash!={revision}")),
            },
        }
    }
}

impl Condition {
    /// Whether a Deployment or a ReplicaGroup says by it that the API server refuses a pod because of a ResourceQuota
    /// (plugin/pkg/admission/resourcequota/controller.go: `exceeded quota: NAME, requested: …`).
    fn is_over_quota(&self) -> bool {
        self.r#type == "ReplicaFailure" && self.status == "True" && self.message.contains("exceeded quota")
    }

    /// Whether a ReplicaGroup says by it that its update waits in a step.
    fn is_step(&self) -> bool {
        self.r#type == "Progressing" && self.status == "True" && self.reason == "StepPaused"
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

    #[test]
    fn what_holds_pods_back_is_read_of_all_kinds() {
        let blocked = |spec: Value| {
            let object = json!({"metadata": {"name": "web", "generation": 1}, "spec": spec});
            let watched: WatchedWorkload<Deployment> = serde_json::from_value(object).unwrap();
            Workload::from(watched).progress.blocked
        };
        let partition =
            |partition: Value| json!({"type": "RollingUpdate", "rollingUpdate": {"partition": partition}});
        for (spec, expected) in [
            (json!({"paused": true}), Some(Blocked::Paused)),
            (json!({"updateStrategy": {"type": "OnDelete"}}), Some(Blocked::OnDelete)),
            (json!({"updateStrategy": partition(json!(2))}), Some(Blocked::Partition)),
            (json!({"updateStrategy": partition(json!(0))}), None),
            (json!({"updateStrategy": {"rollingUpdate": {"maxUnavailable": 1}}}), None),
            (json!({"update": {"type": "Rolling", "partition": "50%"}}), Some(Blocked::Partition)),
            (json!({"update": {"type": "Rolling", "partition": 0}}), None),
            (json!({}), None),
        ] {
            assert_eq!(blocked(spec.clone()), expected, "{spec}");
        }
    }

    #[test]
    fn a_group_that_pauses_in_a_step_of_its_own_is_blocked_until_it_goes_on() {
        let blocked = |reason: &str| {
            let group: WatchedWorkload<mainstay_crds::ReplicaGroup> = serde_json::from_value(json!({
                "metadata": {"name": "web"},
                "spec": {"replicas": 4, "update": {"type": "Rolling", "steps": [{"weight": 25, "pause": {}}]}},
                "status": {
                    "replicas": 4, "updatedReplicas": 1, "availableReplicas": 4,
                    "conditions": [{"type": "Progressing", "status": "True", "reason": reason}],
                },
            }))
            .unwrap();
            Workload::from(group).progress.is_blocked()
        };
        assert_eq!(blocked("StepPaused"), Some(Blocked::Step));
        assert_eq!(blocked("RollingOut"), None);
    }

    #[test]
    fn a_quota_is_told_from_other_refusals() {
        let over_quota = |status: &str, message: &str| {
            let deployment: WatchedWorkload<Deployment> = serde_json::from_value(json!({
                "metadata": {"name": "web"},
                "status": {"conditions": [{"type": "ReplicaFailure", "status": status, "message": message}]},
            }))
            .unwrap();
            Workload::from(deployment).progress.over_quota
        };
        let refused = r#"pods "web-1" is forbidden: exceeded quota: q, requested: pods=1, used: pods=2, limited: pods=2"#;
        assert!(over_quota("True", refused));
        assert!(!over_quota("False", refused));
        assert!(!over_quota("True", "admission webhook denied the request"));
    }

    #[test]
    fn what_a_rollout_writes_is_told_from_other_changes_of_a_template() {
        let of = |config: &str, image: &str, number: &str| {
            let object = json!({"metadata": {"name": "web"}, "spec": {"template": {
                "metadata": {"annotations": {"revision.mainstay.dev/web": number}},
                "spec": {"containers": [{"image": image, "envFrom": [{"configMapRef": {"name": config}}]}]},
            }}});
            let watched: WatchedWorkload<Deployment> = serde_json::from_value(object).unwrap();
            Workload::from(watched).template
        };
        let one = of("web-1", "a", "1");
        for (other, is_same) in
            [(of("web-2", "a", "1"), true), (of("web-1", "a", "2"), true), (of("web-1", "b", "1"), false)]
        {
            assert_ne!(one.whole, other.whole);
            assert_eq!(one.rest == other.rest, is_same);
        }
        assert_eq!(one, of("web-1", "a", "1"));
    }

    #[test]
    fn a_stateful_set_that_waits_for_its_broken_pod_says_which_pods_are_of_another_template() {
        let progress = |updated: i32, available: i32| {
            let set: WatchedWorkload<k8s_openapi::api::apps::v1::StatefulSet> = serde_json::from_value(json!({
                "metadata": {"name": "db"},
                "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "db"}}},
                "status": {"updatedReplicas": updated, "availableReplicas": available, "updateRevision": "db-6"},
            }))
            .unwrap();
            Workload::from(set).progress
        };
        assert_eq!(progress(1, 1).is_stuck(), Some("app=db,controller-revision-hash!=db-6"));
        assert_eq!(progress(2, 1).is_stuck(), None, "a pod of the template is not ready yet");
        assert_eq!(progress(1, 2).is_stuck(), None, "it goes on");
    }

    #[test]
    fn no_other_kind_waits_for_a_broken_pod() {
        let group: WatchedWorkload<mainstay_crds::ReplicaGroup> = serde_json::from_value(json!({
            "metadata": {"name": "db"},
            "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "db"}}},
            "status": {"updatedReplicas": 1, "availableReplicas": 1, "updateRevision": "db-6"},
        }))
        .unwrap();
        assert_eq!(Workload::from(group).progress.is_stuck(), None);
    }
}
