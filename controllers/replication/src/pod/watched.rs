//! A pod as the watch decodes it, and a summary of its status.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1,
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
};
use mainstay_runtime::{
    slim::{self, Conditions},
    stands_for,
};
use serde::{Deserialize, de::IgnoredAny};

use super::in_place::{Before, InPlace};
use crate::{
    names::{READINESS_GATE, SLOT},
    plan::{Cause, Gate, Phase},
};

/// A pod as the watch decodes it.
#[derive(Debug, Clone, Deserialize)]
pub struct WatchedPod {
    #[serde(deserialize_with = "slim::metadata")]
    pub(super) metadata: ObjectMeta,
    #[serde(default)]
    pub(super) spec: WatchedSpec,
    #[serde(default)]
    pub(super) status: WatchedStatus,
}

stands_for!(WatchedPod, v1::Pod);

impl WatchedPod {
    /// What is read of a pod that is no group's: where it runs, and which claims it holds.
    pub(super) fn of_another(self) -> Self {
        let slot = self.metadata.labels.and_then(|mut labels| labels.remove_entry(SLOT));
        Self {
            metadata: ObjectMeta { labels: Some(slot.into_iter().collect()), ..ObjectMeta::default() },
            spec: WatchedSpec { node_name: self.spec.node_name, ..WatchedSpec::default() },
            status: WatchedStatus { phase: self.status.phase, ..WatchedStatus::default() },
        }
    }
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct WatchedSpec {
    pub(super) node_name: Option<String>,
    pub(super) init_containers: Vec<InitContainer>,
    readiness_gates: Vec<ReadinessGate>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ReadinessGate {
    condition_type: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct InitContainer {
    name: String,
    restart_policy: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct WatchedStatus {
    pub(super) phase: Option<String>,
    pub(super) conditions: Conditions,
    container_statuses: Vec<ContainerStatus>,
    init_container_statuses: Vec<ContainerStatus>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ContainerStatus {
    name: String,
    restart_count: i32,
    #[serde(rename = "containerID")]
    container_id: Option<String>,
    state: ContainerState,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct ContainerState {
    waiting: Option<Waiting>,
    running: Option<IgnoredAny>,
    terminated: Option<Terminated>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Waiting {
    reason: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Terminated {
    finished_at: Option<Time>,
}

pub(super) fn phase(text: Option<&str>) -> Phase {
    match text {
        Some("Running") => Phase::Running,
        Some("Succeeded") => Phase::Succeeded,
        Some("Failed") => Phase::Failed,
        Some("Unknown") => Phase::Unknown,
        _ => Phase::Pending,
    }
}

pub(super) fn ready_since(conditions: &Conditions, created: Timestamp) -> Option<Timestamp> {
    conditions.is_true("Ready").then(|| conditions.changed("Ready").unwrap_or(created))
}

/// The last instant that the status of an ended pod tells: when a container ended or a condition changed. An
/// evicted pod has no container status.
pub(super) fn last_change(status: &WatchedStatus) -> Option<Timestamp> {
    let ends = status.container_statuses.iter().filter_map(|container| container.state.terminated.as_ref());
    let ends = ends.filter_map(|terminated| terminated.finished_at.as_ref());
    ends.map(|time| time.0).chain(status.conditions.last_change()).max()
}

impl WatchedStatus {
    fn containers(&self) -> impl Iterator<Item = &ContainerStatus> {
        self.container_statuses.iter().chain(&self.init_container_statuses)
    }
}

/// The most restarts of any container; of a pod that took its revision while it ran those since then.
pub(super) fn crashes(status: &WatchedStatus, before: &BTreeMap<String, Before>) -> i32 {
    let since = |container: &ContainerStatus| match before.get(&container.name) {
        // The replacement itself counts as a restart.
        Some(before) => container
            .restart_count
            .saturating_sub(before.restarts)
            .saturating_sub(before.is_replaced().into())
            .max(0),
        None => container.restart_count,
    };
    status.containers().map(since).max().unwrap_or_default()
}

/// How often each container has restarted, of those that have.
pub(super) fn restarted(status: &WatchedStatus) -> BTreeMap<String, i32> {
    let restarted = status.containers().filter(|container| container.restart_count > 0);
    restarted.map(|container| (container.name.clone(), container.restart_count)).collect()
}

pub(super) fn in_place(
    spec: &WatchedSpec,
    status: &WatchedStatus,
    before: &BTreeMap<String, Before>,
) -> Option<InPlace> {
    spec.readiness_gates.iter().find(|gate| gate.condition_type == READINESS_GATE)?;
    let gate = match status.conditions.get(READINESS_GATE) {
        None => Gate::Unset,
        Some(condition) if condition.status == "True" => Gate::Open,
        Some(_) => Gate::Closed,
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
        still_ready: status.conditions.is_true("Ready"),
        changing: before.iter().filter(|(_, old)| old.is_replaced()).any(is_old),
        containers: containers.collect(),
    })
}

/// What keeps a pod from becoming ready, as far as waiting alone does not help. Since when, its status does not tell:
/// the kubelet gives no time for what a container waits for.
pub(super) fn blocker(status: &WatchedStatus) -> Option<Cause> {
    let refused = status.conditions.get("PodScheduled").filter(|condition| condition.status == "False");
    match refused.and_then(|condition| condition.reason.as_deref()) {
        Some("Unschedulable") => return Some(Cause::Unschedulable),
        Some("SchedulingGated") => return Some(Cause::Gated),
        _ => {}
    }
    let waiting =
        status.containers().filter_map(|container| container.state.waiting.as_ref()?.reason.as_deref());
    // Without volumes and a network the kubelet begins no container, and gives no other sign of what is missing than events
    // (pkg/kubelet/status/generate.go, `GeneratePodReadyToStartContainersCondition`).
    let unprepared = status.phase.as_deref() == Some("Pending")
        && status.conditions.get("PodReadyToStartContainers").is_some_and(|found| found.status == "False");
    waiting.filter_map(cause).next().or(unprepared.then_some(Cause::Setup))
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
pub(super) fn restarts(init_containers: &[InitContainer], status: &WatchedStatus) -> (i32, i32) {
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
