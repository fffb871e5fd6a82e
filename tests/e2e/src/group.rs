//! ReplicaGroups: drafts of them, and those that exist.

use std::collections::BTreeSet;

use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::Condition};
use kube::{
    Api, Client, ResourceExt,
    api::{ListParams, Patch, PatchParams, PostParams},
};
use mainstay_crds::{ReplicaGroup, ReplicaGroupStatus};
use serde_json::{Value, json};

use crate::{draft::set, event::event, eventually};

/// A group as a user writes it.
#[derive(Clone, Debug)]
pub struct Draft(Value);

/// A group of one pod of this spec; selector and template have the label `app: <name>`.
pub fn group(name: &str, pod: Value) -> Draft {
    let labels = json!({"app": name});
    Draft(json!({
        "apiVersion": "mainstay.dev/v1alpha1",
        "kind": "ReplicaGroup",
        "metadata": {"name": name},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }))
}

impl Draft {
    /// Sets `spec.replicas`.
    pub fn replicas(self, replicas: usize) -> Self {
        self.with("spec.replicas", replicas)
    }

    /// Sets the field of this path, whose parts are divided by dots.
    ///
    /// # Panics
    /// When a part of the path leads through something that is no object.
    pub fn with(mut self, path: &str, value: impl Into<Value>) -> Self {
        set(&mut self.0, path, value);
        self
    }

    /// The object.
    pub fn object(&self) -> &Value {
        &self.0
    }
}

/// A group that exists.
#[derive(Clone)]
pub struct Group {
    client: Client,
    namespace: String,
    name: String,
    uid: String,
}

impl Group {
    /// Creates what is drafted.
    ///
    /// # Panics
    /// When the API server refuses it.
    pub async fn create(client: &Client, namespace: &str, draft: &Draft) -> Self {
        let object = serde_json::from_value(draft.0.clone()).expect("a draft is a group");
        let groups: Api<ReplicaGroup> = Api::namespaced(client.clone(), namespace);
        let made = groups.create(&PostParams::default(), &object).await.expect("the group is created");
        Self::of(client, &made)
    }

    /// A group that was read.
    ///
    /// # Panics
    /// When it does not come from the API server.
    pub fn of(client: &Client, object: &ReplicaGroup) -> Self {
        Self {
            client: client.clone(),
            namespace: object.namespace().expect("a group has a namespace"),
            name: object.name_any(),
            uid: object.uid().expect("an object that exists has a UID"),
        }
    }

    fn api(&self) -> Api<ReplicaGroup> {
        self.beside()
    }

    /// Objects of a kind in the group's namespace.
    pub(crate) fn beside<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its UID.
    pub fn uid(&self) -> &str {
        &self.uid
    }

    /// The group as it is now.
    ///
    /// # Panics
    /// When it is gone.
    pub async fn get(&self) -> ReplicaGroup {
        self.api().get(&self.name).await.expect("the group is there")
    }

    /// Changes it by a merge patch.
    ///
    /// # Panics
    /// When the API server refuses the patch.
    pub async fn patch(&self, patch: Value) {
        let patched = self.api().patch(&self.name, &PatchParams::default(), &Patch::Merge(patch)).await;
        patched.expect("the group is patched");
    }

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
            owners.any(|owner| owner.controller == Some(true) && owner.uid == self.uid)
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

    /// Waits until the status answers the present spec and `holds`; returns it.
    pub async fn until(&self, what: &str, holds: impl Fn(&ReplicaGroupStatus) -> bool) -> ReplicaGroupStatus {
        eventually(&format!("{}: {what}", self.name), async || {
            let group = self.api().get(&self.name).await.map_err(|error| error.to_string())?;
            let status = group.status.clone().unwrap_or_default();
            let answers = Some(status.observed_generation) == group.metadata.generation;
            let seen = || json!({"generation": group.metadata.generation, "status": status}).to_string();
            if answers && holds(&status) { Ok(status) } else { Err(seen()) }
        })
        .await
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

    /// Waits for an event of this reason about the group; returns its sentence.
    pub async fn event(&self, reason: &str) -> String {
        event(&self.client, &self.namespace, (&self.name, &self.uid), reason).await
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
