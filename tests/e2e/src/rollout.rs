//! Rollouts: how a draft asks for them, and what a group says of them.

use std::collections::BTreeMap;

use k8s_openapi::api::{apps::v1::ControllerRevision, core::v1::Pod};
use kube::{
    ResourceExt,
    api::{ListParams, Patch, PatchParams},
};
use mainstay_crds::{ReplicaGroup, ReplicaGroupStatus};
use serde_json::{Value, json};

use crate::{
    group::{Draft, Group, condition},
    pods::is_active,
    wait::eventually,
};

/// The annotation of a template that tells its versions apart without asking the controller for its own names.
const VERSION: &str = "e2e.mainstay.dev/version";

/// The label by which the controller tells them apart.
const REVISION: &str = "mainstay.dev/revision";

/// Pods, counted by the version of their template.
pub type Counts = BTreeMap<String, usize>;

/// The version of the template that a pod was made from, or nothing.
pub fn version(pod: &Pod) -> &str {
    pod.annotations().get(VERSION).map(String::as_str).unwrap_or_default()
}

impl Draft {
    /// Makes this the version of the template.
    pub fn version(self, version: &str) -> Self {
        self.with("spec.template.metadata.annotations", json!({VERSION: version}))
    }

    /// Sets `spec.update.maxSurge` and `spec.update.maxUnavailable`.
    pub fn rolling(self, surge: impl Into<Value>, unavailable: impl Into<Value>) -> Self {
        self.with("spec.update.maxSurge", surge).with("spec.update.maxUnavailable", unavailable)
    }

    /// Sets `spec.update.type`.
    pub fn update_type(self, kind: &str) -> Self {
        self.with("spec.update.type", kind)
    }

    /// Sets `spec.update.steps`: of each the weight, and the pause if there is one.
    pub fn steps(self, steps: &[(i32, Option<Value>)]) -> Self {
        let step = |(weight, pause): &(i32, Option<Value>)| match pause {
            Some(pause) => json!({"weight": weight, "pause": pause}),
            None => json!({"weight": weight}),
        };
        self.with("spec.update.steps", steps.iter().map(step).collect::<Vec<_>>())
    }
}

/// A revision of a group's template.
#[derive(Clone, Debug, PartialEq)]
pub struct Revision {
    /// Name of the ControllerRevision.
    pub name: String,
    /// Its number, from 1.
    pub number: i64,
    /// The version of the template that it holds.
    pub version: String,
}

impl Group {
    /// Changes the template to this version, and nothing else of it.
    pub async fn change(&self, version: &str) {
        self.change_with(version, json!({})).await;
    }

    /// Changes the template to this version, with all that a merge patch of it says.
    pub async fn change_with(&self, version: &str, mut template: Value) {
        template["metadata"]["annotations"][VERSION] = version.into();
        self.patch(json!({"spec": {"template": template}})).await;
    }

    /// The template's only container, with these fields of it changed.
    ///
    /// # Panics
    /// When they are no object.
    pub async fn container_with(&self, fields: Value) -> Value {
        let mut container = self.get().await.spec.template.spec["containers"][0].clone();
        let fields = fields.as_object().expect("fields are an object").clone();
        container.as_object_mut().expect("a container is an object").extend(fields);
        container
    }

    /// Sets an annotation of the group.
    pub async fn annotate(&self, key: &str, value: &str) {
        self.patch(json!({"metadata": {"annotations": {key: value}}})).await;
    }

    /// Sets `spec.replicas` as an autoscaler does.
    ///
    /// # Panics
    /// When the API server refuses it.
    pub async fn scale_by_subresource(&self, replicas: usize) {
        let patch = Patch::Merge(json!({"spec": {"replicas": replicas}}));
        let scaled =
            self.beside::<ReplicaGroup>().patch_scale(self.name(), &PatchParams::default(), &patch).await;
        scaled.expect("the scale is patched");
    }

    /// The revisions that the group owns, by number.
    ///
    /// # Panics
    /// When they cannot be listed.
    pub async fn revisions(&self) -> Vec<Revision> {
        let all = self.beside::<ControllerRevision>().list(&ListParams::default()).await;
        let ours = |revision: &ControllerRevision| {
            let mut owners = revision.owner_references().iter();
            owners.any(|owner| owner.uid == self.uid() && owner.controller == Some(true))
        };
        let read = |revision: ControllerRevision| {
            let data = revision
                .data
                .as_ref()
                .map(|data| &data.0["spec"]["template"]["metadata"]["annotations"][VERSION]);
            Revision {
                name: revision.name_any(),
                number: revision.revision,
                version: data.and_then(Value::as_str).unwrap_or_default().into(),
            }
        };
        let mut revisions: Vec<_> =
            all.expect("revisions are listed").items.into_iter().filter(ours).map(read).collect();
        revisions.sort_by_key(|revision| revision.number);
        revisions
    }

    /// The name of the revision that holds this version of the template; waits until there is one.
    pub async fn revision(&self, version: &str) -> String {
        eventually(&format!("{} has a revision of version {version}", self.name()), async || {
            let revisions = self.revisions().await;
            let found = revisions.iter().find(|revision| revision.version == version);
            found.map(|revision| revision.name.clone()).ok_or(format!("{revisions:?}"))
        })
        .await
    }

    /// The active pods, by version. Their labels must name the revision that holds it.
    ///
    /// # Panics
    /// When a label does not.
    pub async fn versions(&self) -> Counts {
        let pods = self.pods().await;
        let revisions = self.revisions().await;
        let mut counts = Counts::new();
        for pod in pods.iter().filter(|pod| is_active(pod)) {
            let label = pod.labels().get(REVISION);
            let named = label.map(|label| format!("{}-{label}", self.name()));
            let revision = revisions.iter().find(|revision| Some(&revision.name) == named.as_ref());
            let held = revision.map(|revision| revision.version.as_str());
            assert_eq!(
                held,
                Some(version(pod)),
                "the label {label:?} of {}, of {revisions:?}",
                pod.name_any()
            );
            *counts.entry(version(pod).into()).or_default() += 1;
        }
        counts
    }

    /// Waits until the pods are these many of these versions, and no more writes are due.
    pub async fn settles_at(&self, expected: &[(&str, usize)]) {
        let expected = counts(expected);
        eventually(&format!("{} has the pods {expected:?}", self.name()), async || {
            let now = self.versions().await;
            (now == expected).then_some(()).ok_or_else(|| format!("{now:?}"))?;
            let group = self.get().await;
            let status = group.status.unwrap_or_default();
            let total = i32::try_from(expected.values().sum::<usize>()).expect("a test's count is small");
            let told = Some(status.observed_generation) == group.metadata.generation;
            (told && status.replicas == total).then_some(()).ok_or_else(|| format!("{now:?}, {status:?}"))
        })
        .await;
    }

    /// Waits until `Progressing` has this reason.
    pub async fn progressing(&self, wanted: &str) -> ReplicaGroupStatus {
        self.until(&format!("is progressing: {wanted}"), |status| {
            status.conditions.iter().any(|found| found.type_ == "Progressing" && found.reason == wanted)
        })
        .await
    }

    /// Waits until all pods are of this version and available, and the group says so.
    ///
    /// # Panics
    /// When the group says so and the pods are others.
    pub async fn completes(&self, version: &str) -> ReplicaGroupStatus {
        let revision = self.revision(version).await;
        let status = self
            .until(&format!("has completed version {version}"), |status| {
                is_complete(status) && status.current_revision.as_ref() == Some(&revision)
            })
            .await;
        let replicas = usize::try_from(status.replicas).expect("a count is not negative");
        assert_eq!(self.versions().await, counts(&[(version, replicas)]), "the pods, and {status:?}");
        let equal = [status.ready_replicas, status.available_replicas, status.updated_replicas];
        assert_eq!(equal, [status.replicas; 3], "{status:?}");
        status
    }

    /// Waits until the group has gone back for this reason, all pods being of `version` and available.
    ///
    /// # Panics
    /// When the group says so and the pods are others.
    pub async fn rolls_back(&self, version: &str, reason: &str) -> ReplicaGroupStatus {
        let status = self
            .until(&format!("has rolled back for {reason}"), |status| {
                let back = condition(status, "RolledBack");
                (back.status.as_str(), back.reason.as_str()) == ("True", reason)
                    && status.available_replicas == status.replicas
                    && condition(status, "Progressing").reason != "RollingBack"
            })
            .await;
        let replicas = usize::try_from(status.replicas).expect("a count is not negative");
        assert_eq!(self.versions().await, counts(&[(version, replicas)]), "the pods, and {status:?}");
        status
    }
}

/// Counts, as a test writes them; none is left out.
pub fn counts(expected: &[(&str, usize)]) -> Counts {
    expected
        .iter()
        .filter(|(_, count)| *count > 0)
        .map(|(version, count)| ((*version).into(), *count))
        .collect()
}

fn is_complete(status: &ReplicaGroupStatus) -> bool {
    let progressing = condition(status, "Progressing");
    condition(status, "Ready").status == "True"
        && (progressing.status.as_str(), progressing.reason.as_str()) == ("True", "RolloutComplete")
        && status.rollout.is_none()
        && status.current_revision == status.update_revision
}
