//! Pods, nodes and quotas as the stores keep them: what a plan reads, and nothing else.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1,
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
};
use mainstay_runtime::{
    index::{Indexed, ObjectKey},
    slim::{self, MetadataOf},
    stands_for,
};
use serde::{Deserialize, Serialize, de::IgnoredAny};

use crate::plan::{Cause, Gate, Phase, Trouble};

/// The annotation by which a user says which pods should go first
/// (<https://kubernetes.io/docs/concepts/workloads/controllers/replicaset/#pod-deletion-cost>).
pub const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// The readiness gate of pods whose images may be changed in place: closed while their containers are replaced.
pub const READINESS_GATE: &str = "mainstay.dev/in-place-ready";
/// The annotation of a pod whose images were changed in place: the containers as they were before, as JSON.
pub const IN_PLACE: &str = "mainstay.dev/in-place-before";

/// A pod as the watch decodes it.
#[derive(Debug, Clone, Deserialize)]
pub struct WatchedPod {
    #[serde(deserialize_with = "slim::metadata")]
    metadata: ObjectMeta,
    #[serde(default)]
    spec: WatchedSpec,
    #[serde(default)]
    status: WatchedStatus,
}

stands_for!(WatchedPod, v1::Pod);

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct WatchedSpec {
    node_name: Option<String>,
    init_containers: Vec<InitContainer>,
    readiness_gates: Vec<ReadinessGate>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ReadinessGate {
    condition_type: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct InitContainer {
    name: String,
    restart_policy: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct WatchedStatus {
    phase: Option<String>,
    conditions: Vec<Condition>,
    container_statuses: Vec<ContainerStatus>,
    init_container_statuses: Vec<ContainerStatus>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Condition {
    r#type: String,
    status: String,
    reason: Option<String>,
    last_transition_time: Option<Time>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ContainerStatus {
    name: String,
    restart_count: i32,
    #[serde(rename = "containerID")]
    container_id: Option<String>,
    state: ContainerState,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct ContainerState {
    waiting: Option<Waiting>,
    running: Option<IgnoredAny>,
    terminated: Option<Terminated>,
}

#[derive(Debug, Clone, Deserialize)]
struct Waiting {
    reason: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Terminated {
    finished_at: Option<Time>,
}

/// Who controls a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Controller {
    /// The controller's UID.
    pub uid: Arc<str>,
    /// Its name, when it is a ReplicaGroup.
    pub group: Option<Arc<str>>,
}

/// A pod as the store keeps it.
#[derive(Debug)]
pub struct Pod {
    /// Namespace and name.
    pub key: ObjectKey,
    /// `metadata.uid`.
    pub uid: Box<str>,
    /// `metadata.resourceVersion`, where it is a number.
    pub version: Option<u64>,
    /// `metadata.labels`.
    pub labels: Labels,
    /// The owner reference with `controller: true`.
    pub controller: Option<Controller>,
    /// `spec.nodeName`.
    pub node: Option<Arc<str>>,
    /// `status.phase`.
    pub phase: Phase,
    /// Whether it has a deletion timestamp.
    pub terminating: bool,
    /// Since when it is ready.
    pub ready_since: Option<Timestamp>,
    /// `metadata.creationTimestamp`.
    pub created: Timestamp,
    /// When it failed, as far as its status tells.
    pub failed_at: Option<Timestamp>,
    /// Its deletion cost; 0 unless its annotation says otherwise.
    pub deletion_cost: i32,
    /// The most restarts of any container.
    pub restarts: i32,
    /// The most restarts of any sidecar.
    pub sidecar_restarts: i32,
    /// The most restarts of any container, those that run at the start included.
    pub crashes: i32,
    /// What keeps it from becoming ready.
    pub trouble: Option<Trouble>,
    /// For a pod whose images may be changed in place.
    pub in_place: Option<Box<InPlace>>,
}

/// A container as it was before it was replaced in place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Before {
    /// The container's ID.
    pub id: String,
    /// How often it had restarted.
    pub restarts: i32,
}

/// What is kept of a pod that has the readiness gate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InPlace {
    /// How its gate stands.
    pub gate: Gate,
    /// Whether it is ready all the same, since its node has not seen yet that the gate is closed.
    pub still_ready: bool,
    /// Its containers have not all been replaced since their images were changed.
    pub changing: bool,
    /// Its containers as they are.
    pub containers: BTreeMap<String, Before>,
}

/// The sets in which passes ask for pods.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Bucket {
    /// The pods that the object of this UID controls.
    ControlledBy(Arc<str>),
    /// The pods of this namespace that nobody controls.
    Orphans(Arc<str>),
    /// The pods that stay on this node: those that have ended or are on their way out keep no node from being freed.
    On(Arc<str>),
}

impl Indexed for Pod {
    type Bucket = Bucket;

    fn key(&self) -> &ObjectKey {
        &self.key
    }
    fn uid(&self) -> &str {
        &self.uid
    }
    fn version(&self) -> Option<u64> {
        self.version
    }
    fn terminating(&self) -> bool {
        self.terminating
    }
    fn buckets(&self) -> Vec<Bucket> {
        let by_owner = match &self.controller {
            Some(controller) => Bucket::ControlledBy(Arc::clone(&controller.uid)),
            None => Bucket::Orphans(Arc::clone(&self.key.namespace)),
        };
        let on = self.node.as_ref().filter(|_| !self.phase.is_terminal() && !self.terminating);
        [Some(by_owner), on.map(|node| Bucket::On(Arc::clone(node)))].into_iter().flatten().collect()
    }
}

/// Labels, shared by the objects that have the same.
pub type Labels = Arc<BTreeMap<String, String>>;

/// Lets pods of one template share their labels: they take room once, and a pass that has judged them for one pod
/// knows the answer for the others by their address.
#[derive(Debug, Default)]
pub struct LabelPool {
    known: HashSet<Labels>,
    /// At this size labels that no pod has any more are let go.
    full: usize,
}

impl LabelPool {
    fn share(&mut self, labels: BTreeMap<String, String>) -> Labels {
        if let Some(known) = self.known.get(&labels) {
            return Arc::clone(known);
        }
        if self.known.len() >= self.full {
            self.known.retain(|labels| Arc::strong_count(labels) > 1);
            self.full = (2 * self.known.len()).max(64);
        }
        let labels = Arc::new(labels);
        self.known.insert(Arc::clone(&labels));
        labels
    }
}

impl Pod {
    /// What the store keeps of a watched pod.
    pub fn slim(watched: WatchedPod, pool: &mut LabelPool) -> Self {
        let WatchedPod { metadata, spec, status } = watched;
        let phase = phase(status.phase.as_deref());
        let created = metadata.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0);
        let cost = metadata.annotations.as_ref().and_then(|annotations| annotations.get(DELETION_COST));
        let (restarts, sidecar_restarts) = restarts(&spec.init_containers, &status);
        let before = metadata.annotations.as_ref().and_then(|annotations| annotations.get(IN_PLACE));
        let before: BTreeMap<String, Before> =
            before.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
        let in_place = in_place(&spec, &status, &before);
        let closed = in_place.as_ref().is_some_and(|in_place| in_place.gate == Gate::Closed);
        Self {
            key: ObjectKey::new(
                metadata.namespace.as_deref().unwrap_or_default(),
                &metadata.name.unwrap_or_default(),
            ),
            uid: metadata.uid.unwrap_or_default().into(),
            version: metadata.resource_version.and_then(|version| version.parse().ok()),
            controller: metadata
                .owner_references
                .into_iter()
                .flatten()
                .find(|owner| owner.controller == Some(true))
                .map(|owner| Controller {
                    uid: owner.uid.into(),
                    group: is_replica_group(&owner.api_version, &owner.kind).then(|| owner.name.into()),
                }),
            node: spec.node_name.filter(|node| !node.is_empty()).map(Into::into),
            phase,
            terminating: metadata.deletion_timestamp.is_some(),
            ready_since: ready_since(&status.conditions, created).filter(|_| !closed),
            failed_at: (phase == Phase::Failed).then(|| last_change(&status)).flatten(),
            created,
            deletion_cost: cost.and_then(|cost| cost.parse().ok()).unwrap_or_default(),
            restarts,
            sidecar_restarts,
            crashes: crashes(&status, &before),
            in_place: in_place.map(Box::new),
            trouble: trouble(&status, created),
            labels: pool.share(metadata.labels.unwrap_or_default()),
        }
    }
}

fn is_replica_group(api_version: &str, kind: &str) -> bool {
    kind == "ReplicaGroup" && api_version.split('/').next() == Some(mainstay_crds::GROUP)
}

fn phase(text: Option<&str>) -> Phase {
    match text {
        Some("Running") => Phase::Running,
        Some("Succeeded") => Phase::Succeeded,
        Some("Failed") => Phase::Failed,
        Some("Unknown") => Phase::Unknown,
        _ => Phase::Pending,
    }
}

fn ready_since(conditions: &[Condition], created: Timestamp) -> Option<Timestamp> {
    let ready =
        conditions.iter().find(|condition| condition.r#type == "Ready" && condition.status == "True")?;
    Some(ready.last_transition_time.as_ref().map_or(created, |time| time.0))
}

/// The last instant that the status of an ended pod tells: when a container ended or a condition changed. An
/// evicted pod has no container status.
fn last_change(status: &WatchedStatus) -> Option<Timestamp> {
    let conditions = status.conditions.iter().filter_map(|condition| condition.last_transition_time.as_ref());
    let ends = status.container_statuses.iter().filter_map(|container| container.state.terminated.as_ref());
    let ends = ends.filter_map(|terminated| terminated.finished_at.as_ref());
    conditions.chain(ends).map(|time| time.0).max()
}

impl WatchedStatus {
    fn containers(&self) -> impl Iterator<Item = &ContainerStatus> {
        self.container_statuses.iter().chain(&self.init_container_statuses)
    }
}

/// The most restarts of any container; of one that was replaced in place those since then.
fn crashes(status: &WatchedStatus, before: &BTreeMap<String, Before>) -> i32 {
    let since = |container: &ContainerStatus| match before.get(&container.name) {
        // The replacement itself counts as a restart.
        Some(before) => (container.restart_count - before.restarts - 1).max(0),
        None => container.restart_count,
    };
    status.containers().map(since).max().unwrap_or_default()
}

fn in_place(
    spec: &WatchedSpec,
    status: &WatchedStatus,
    before: &BTreeMap<String, Before>,
) -> Option<InPlace> {
    spec.readiness_gates.iter().find(|gate| gate.condition_type == READINESS_GATE)?;
    let condition = |kind: &str| status.conditions.iter().find(|condition| condition.r#type == kind);
    let is_true = |kind: &str| condition(kind).map(|condition| condition.status == "True");
    let gate = match is_true(READINESS_GATE) {
        None => Gate::Unset,
        Some(false) => Gate::Closed,
        Some(true) => Gate::Open,
    };
    let running = status.container_statuses.iter().filter(|container| container.state.running.is_some());
    let running: BTreeMap<_, _> =
        running.filter_map(|container| Some((&container.name, container.container_id.as_ref()?))).collect();
    let is_old = |(name, old): (&String, &Before)| running.get(name).is_none_or(|id| **id == old.id);
    let containers = status.container_statuses.iter().filter_map(|container| {
        let id = container.container_id.clone()?;
        Some((container.name.clone(), Before { id, restarts: container.restart_count }))
    });
    Some(InPlace {
        gate,
        still_ready: is_true("Ready") == Some(true),
        changing: before.iter().any(is_old),
        containers: containers.collect(),
    })
}

/// What keeps a pod from becoming ready, as far as waiting alone does not help. The kubelet gives no time for what a
/// container waits for; it began to try when the pod was scheduled.
fn trouble(status: &WatchedStatus, created: Timestamp) -> Option<Trouble> {
    let scheduled = status.conditions.iter().find(|condition| condition.r#type == "PodScheduled");
    let since =
        scheduled.and_then(|condition| condition.last_transition_time.as_ref()).map_or(created, |at| at.0);
    let refused = scheduled.filter(|condition| condition.status == "False");
    if refused.is_some_and(|condition| condition.reason.as_deref() == Some("Unschedulable")) {
        return Some(Trouble { cause: Cause::Unschedulable, since });
    }
    let waiting =
        status.containers().filter_map(|container| container.state.waiting.as_ref()?.reason.as_deref());
    let cause = waiting.filter_map(cause).next()?;
    Some(Trouble { cause, since })
}

/// The kubelet's reasons (pkg/kubelet/images/types.go, pkg/kubelet/kuberuntime/kuberuntime_container.go).
fn cause(reason: &str) -> Option<Cause> {
    match reason {
        "ErrImagePull"
        | "ImagePullBackOff"
        | "InvalidImageName"
        | "ErrImageNeverPull"
        | "ImageInspectError"
        | "RegistryUnavailable"
        | "SignatureValidationFailed" => Some(Cause::Image),
        "CreateContainerConfigError" | "CreateContainerError" | "PreCreateHookError" => Some(Cause::Config),
        _ => None,
    }
}

/// The most restarts of any container, and of any sidecar: an init container with `restartPolicy: Always`.
fn restarts(init_containers: &[InitContainer], status: &WatchedStatus) -> (i32, i32) {
    let is_sidecar = |name: &str| {
        init_containers
            .iter()
            .any(|init| init.name == name && init.restart_policy.as_deref() == Some("Always"))
    };
    let of_containers = status.container_statuses.iter().map(|container| container.restart_count).max();
    let sidecars = status.init_container_statuses.iter().filter(|container| is_sidecar(&container.name));
    let of_sidecars = sidecars.map(|container| container.restart_count).max();
    (of_containers.unwrap_or_default(), of_sidecars.unwrap_or_default())
}

/// An object of which only the labels are read, as the store keeps it: a node, whose labels say what domains it
/// lies in, or a quota, of which it matters only that it changed.
#[derive(Debug)]
pub struct Labelled {
    /// Namespace and name.
    pub key: ObjectKey,
    uid: Box<str>,
    version: Option<u64>,
    /// `metadata.labels`.
    pub labels: BTreeMap<String, String>,
}

impl<K> From<MetadataOf<K>> for Labelled {
    fn from(watched: MetadataOf<K>) -> Self {
        let metadata = watched.metadata;
        let namespace = metadata.namespace.unwrap_or_default();
        Self {
            key: ObjectKey::new(&namespace, &metadata.name.unwrap_or_default()),
            uid: metadata.uid.unwrap_or_default().into(),
            version: metadata.resource_version.and_then(|version| version.parse().ok()),
            labels: metadata.labels.unwrap_or_default(),
        }
    }
}

impl Indexed for Labelled {
    type Bucket = ();

    fn key(&self) -> &ObjectKey {
        &self.key
    }
    fn uid(&self) -> &str {
        &self.uid
    }
    fn version(&self) -> Option<u64> {
        self.version
    }
    fn terminating(&self) -> bool {
        false
    }
    fn buckets(&self) -> Vec<()> {
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(object: serde_json::Value) -> Pod {
        Pod::slim(serde_json::from_value(object).unwrap(), &mut LabelPool::default())
    }

    #[test]
    fn a_running_pod_keeps_what_a_plan_reads() {
        let pod = pod(json!({
            "metadata": {
                "name": "a", "namespace": "ns", "uid": "u", "resourceVersion": "12",
                "creationTimestamp": "2026-01-01T00:00:00Z",
                "annotations": {DELETION_COST: "-7"},
                "ownerReferences": [
                    {"apiVersion": "v1", "kind": "X", "name": "x", "uid": "x"},
                    {"apiVersion": "mainstay.dev/v1alpha1", "kind": "ReplicaGroup", "name": "g", "uid": "g-uid",
                     "controller": true}
                ],
                "managedFields": [{"manager": "m"}]
            },
            "spec": {"nodeName": "n", "containers": [{"name": "c"}],
                     "initContainers": [{"name": "s", "restartPolicy": "Always"}, {"name": "once"}]},
            "status": {
                "phase": "Running",
                "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:05Z"}],
                "containerStatuses": [{"name": "c", "restartCount": 2}, {"name": "d", "restartCount": 1}],
                "initContainerStatuses": [{"name": "s", "restartCount": 4}, {"name": "once", "restartCount": 9}]
            }
        }));
        let controller = Controller { uid: "g-uid".into(), group: Some("g".into()) };
        assert_eq!(pod.controller.as_ref(), Some(&controller));
        assert_eq!(
            (pod.version, pod.deletion_cost, pod.restarts, pod.sidecar_restarts),
            (Some(12), -7, 2, 4)
        );
        assert_eq!((pod.phase, pod.terminating, pod.failed_at), (Phase::Running, false, None));
        assert_eq!(pod.ready_since, "2026-01-01T00:00:05Z".parse().ok());
        assert_eq!(pod.buckets(), [Bucket::ControlledBy("g-uid".into()), Bucket::On("n".into())]);
    }

    #[test]
    fn an_evicted_pod_tells_when_it_failed_and_takes_no_room() {
        let pod = pod(json!({
            "metadata": {"name": "a", "namespace": "ns", "uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"nodeName": "n"},
            "status": {"phase": "Failed", "reason": "Evicted", "conditions": [
                {"type": "PodScheduled", "status": "True", "lastTransitionTime": "2026-01-01T00:00:01Z"},
                {"type": "DisruptionTarget", "status": "True", "lastTransitionTime": "2026-01-01T00:01:00Z"}
            ]}
        }));
        assert_eq!(pod.failed_at, "2026-01-01T00:01:00Z".parse().ok());
        assert_eq!(pod.buckets(), [Bucket::Orphans("ns".into())]);
    }

    #[test]
    fn trouble_tells_what_and_since_when() {
        let pod = |status: serde_json::Value| {
            pod(json!({
                "metadata": {"name": "a", "namespace": "ns", "uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z"},
                "status": status
            }))
        };
        let scheduled = |status: &str, reason: &str| {
            json!([{"type": "PodScheduled", "status": status, "reason": reason,
                    "lastTransitionTime": "2026-01-01T00:00:03Z"}])
        };
        let waiting = |reason: &str| json!([{"name": "c", "restartCount": 7, "state": {"waiting": {"reason": reason}}}]);
        let since = "2026-01-01T00:00:03Z".parse().unwrap();
        let unschedulable = pod(json!({"conditions": scheduled("False", "Unschedulable")}));
        assert_eq!(unschedulable.trouble, Some(Trouble { cause: Cause::Unschedulable, since }));
        for (reason, cause) in [
            ("ImagePullBackOff", Some(Cause::Image)),
            ("CreateContainerConfigError", Some(Cause::Config)),
            ("ContainerCreating", None),
            ("CrashLoopBackOff", None),
        ] {
            for statuses in ["containerStatuses", "initContainerStatuses"] {
                let pod = pod(json!({"conditions": scheduled("True", ""), statuses: waiting(reason)}));
                assert_eq!(pod.trouble, cause.map(|cause| Trouble { cause, since }), "{reason}");
                assert_eq!(pod.crashes, 7);
            }
        }
    }

    #[test]
    fn a_change_in_place_is_over_when_all_its_containers_are_new_and_is_no_crash() {
        let pod = |id: &str, state: serde_json::Value, gate: &str| {
            pod(json!({
                "metadata": {
                    "name": "a", "namespace": "ns", "uid": "u",
                    "annotations": {IN_PLACE: r#"{"c": {"id": "old", "restarts": 2}}"#}
                },
                "spec": {"readinessGates": [{"conditionType": READINESS_GATE}]},
                "status": {
                    "conditions": [{"type": READINESS_GATE, "status": gate}, {"type": "Ready", "status": "True"}],
                    "containerStatuses": [{"name": "c", "restartCount": 3, "containerID": id, "state": state}]
                }
            }))
        };
        let changing = |pod: &Pod| pod.in_place.as_ref().map(|in_place| in_place.changing);
        let running = json!({"running": {"startedAt": "2026-01-01T00:00:00Z"}});
        let waiting = json!({"waiting": {"reason": "PodInitializing"}});
        let done = pod("new", running.clone(), "True");
        assert_eq!((changing(&done), done.crashes, done.ready_since.is_some()), (Some(false), 0, true));
        assert_eq!(changing(&pod("old", running.clone(), "False")), Some(true));
        assert_eq!(changing(&pod("new", waiting, "False")), Some(true));
        let closed = pod("old", running, "False");
        assert_eq!(closed.ready_since, None, "no matter what its node has seen");
        assert!(closed.in_place.is_some_and(|in_place| in_place.still_ready));
    }

    #[test]
    fn null_and_missing_fields_are_the_defaults() {
        let pod = pod(json!({"metadata": {"name": "a", "namespace": "ns", "uid": "u", "labels": null}}));
        assert_eq!((pod.phase, pod.ready_since, pod.node.as_deref()), (Phase::Pending, None, None));
    }

    #[test]
    fn equal_labels_are_shared_and_unused_ones_let_go() {
        let mut pool = LabelPool::default();
        let labels = |value: usize| BTreeMap::from([("app".to_owned(), value.to_string())]);
        let first = pool.share(labels(0));
        assert!(Arc::ptr_eq(&first, &pool.share(labels(0))));
        for value in 1..1000 {
            pool.share(labels(value));
        }
        assert!(pool.known.len() <= 64, "{} kept", pool.known.len());
        assert!(Arc::ptr_eq(&first, &pool.share(labels(0))), "labels in use are kept");
    }
}
