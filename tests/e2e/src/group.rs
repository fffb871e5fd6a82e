//! ReplicaGroups: drafts of them, and those that exist.

use std::collections::BTreeSet;

use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::Condition};
use kube::{ResourceExt, api::ListParams};
use mainstay_crds::{ReplicaGroup, ReplicaGroupStatus};
use serde_json::{Value, json};

use crate::object::{DraftOf, Made};

/// A group as a user writes it.
pub type Draft = DraftOf<ReplicaGroup>;

/// A group that exists.
pub type Group = Made<ReplicaGroup>;

/// A group of one pod of this spec; selector and template have the label `app: <name>`.
pub fn group(name: &str, pod: Value) -> Draft {
    let labels = json!({"app": name});
    let template = json!({"metadata": {"labels": labels}, "spec": pod});
    Draft::new(name, json!({"selector": {"matchLabels": labels}, "template": template}))
}

impl Draft {
    /// Sets `spec.replicas`.
    pub fn replicas(self, replicas: usize) -> Self {
        self.with("spec.replicas", replicas)
    }
}

impl Group {
    /// Sets `spec.replicas`.
    pub async fn scale(&self, replicas: usize) {
        self.patch(json!({"spec": {"replicas": replicas}})).await;
    }

    /// All pods that the group controls, also those that have ended or are on their way out, by name.
    ///
    /// # Panics
    /// When they cannot be listed.
    pub async fn pods(&self) -> Vec<Pod> {
        let pods = self.beside::<Pod>().list(&ListParams::default()).await.expect("pods are listed").items;
        let controls = |pod: &Pod| {
            let mut owners = pod.owner_references().iter();
            owners.any(|owner| owner.controller == Some(true) && owner.uid == self.uid())
        };
        pods.into_iter().filter(controls).collect()
    }

    /// UIDs of [`Self::pods`].
    pub async fn pod_uids(&self) -> BTreeSet<String> {
        self.pods().await.iter().filter_map(ResourceExt::uid).collect()
    }

    /// Names of [`Self::pods`].
    pub async fn pod_names(&self) -> BTreeSet<String> {
        self.pods().await.iter().map(ResourceExt::name_any).collect()
    }

    /// Waits until `Ready` is true.
    pub async fn ready(&self) -> ReplicaGroupStatus {
        self.until("is ready", |status| condition(status, "Ready").status == "True").await
    }

    /// Waits until exactly `count` pods count, and no more writes are due.
    pub async fn has(&self, count: usize) -> ReplicaGroupStatus {
        let count = i32::try_from(count).expect("a test's count is small");
        self.until(&format!("has {count} pods"), |status| {
            status.replicas == count && !["ScalingUp", "ScalingDown"].contains(&reason(status))
        })
        .await
    }

    /// Waits until `Ready` has this reason.
    pub async fn reason(&self, wanted: &str) -> ReplicaGroupStatus {
        self.until(&format!("says {wanted}"), |status| reason(status) == wanted).await
    }
}

/// The condition of this type.
///
/// # Panics
/// When there is none: all are always written.
pub fn condition<'a>(status: &'a ReplicaGroupStatus, kind: &str) -> &'a Condition {
    let found = status.conditions.iter().find(|condition| condition.type_ == kind);
    found.unwrap_or_else(|| panic!("there is no condition {kind} in {:?}", status.conditions))
}

/// The reason of the condition `Ready`, or nothing before the first report.
pub fn reason(status: &ReplicaGroupStatus) -> &str {
    let ready = status.conditions.iter().find(|condition| condition.type_ == "Ready");
    ready.map(|condition| condition.reason.as_str()).unwrap_or_default()
}
