//! EndpointPools: drafts of them, and those that exist.

use std::collections::BTreeMap;

use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::{
    Api, Client, ResourceExt,
    api::{ListParams, Patch, PatchParams, PostParams},
};
use mainstay_crds::{EndpointPool, EndpointPoolStatus};
use serde_json::{Value, json};

use crate::{draft::set, event::event, eventually};

/// A pool as a user writes it.
#[derive(Clone, Debug)]
pub struct PoolDraft(Value);

/// A pool that makes a Service of its own name, from port 80 to port 8080 of its members. It has no members yet.
pub fn pool(name: &str) -> PoolDraft {
    PoolDraft(json!({
        "apiVersion": "mainstay.dev/v1alpha1",
        "kind": "EndpointPool",
        "metadata": {"name": name},
        "spec": {
            "serviceRef": {"name": name, "create": {"spec": {"ports": [{"port": 80, "targetPort": 8080}]}}},
            "members": [],
        },
    }))
}

impl PoolDraft {
    /// Adds a set of pods with the label `app: <app>`, in a tier.
    pub fn pods(self, app: &str, tier: u8) -> Self {
        self.set(json!({"name": app, "tier": tier, "podSelector": {"matchLabels": {"app": app}}}))
    }

    /// Adds a set of addresses.
    pub fn addresses(self, name: &str, addresses: &[String]) -> Self {
        let addresses: Vec<_> = addresses.iter().map(|ip| json!({"ip": ip})).collect();
        self.set(json!({"name": name, "addresses": addresses}))
    }

    /// Adds a set of members.
    ///
    /// # Panics
    /// When the draft has been made one that has no list of them.
    pub fn set(mut self, set: Value) -> Self {
        self.0["spec"]["members"].as_array_mut().expect("members are a list").push(set);
        self
    }

    /// Has the pods of [`pods::judged`](crate::pods::judged) asked once a second whether they serve: three failures take
    /// one out, and two successes bring it back.
    pub fn checked(self) -> Self {
        self.with(
            "spec.check",
            json!({"type": "GRPC", "port": 8090, "intervalSeconds": 1, "edgeIntervalSeconds": 1, "timeoutSeconds": 1}),
        )
    }

    /// Leaves the Service to others.
    pub fn without_service(self) -> Self {
        let name = self.0["spec"]["serviceRef"]["name"].clone();
        self.with("spec.serviceRef", json!({"name": name}))
    }

    /// Sets the field of this path, whose parts are divided by dots.
    pub fn with(mut self, path: &str, value: impl Into<Value>) -> Self {
        set(&mut self.0, path, value);
        self
    }

    /// The object.
    pub fn object(&self) -> &Value {
        &self.0
    }
}

/// The conditions of an endpoint: ready, serving, terminating.
pub(crate) type Conditions = [bool; 3];

/// It gets traffic.
pub const USED: Conditions = [true, true, false];
/// It could get traffic, and does not.
pub const STANDBY: Conditions = [false, true, false];
/// It cannot get traffic.
pub const OUT: Conditions = [false, false, false];
/// It leaves, and still serves.
pub const DRAINING: Conditions = [false, true, true];

/// A pool that exists.
#[derive(Clone)]
pub struct Pool {
    client: Client,
    namespace: String,
    name: String,
    uid: String,
}

impl Pool {
    /// Creates what is drafted.
    ///
    /// # Panics
    /// When the API server refuses it.
    pub async fn create(client: &Client, namespace: &str, draft: &PoolDraft) -> Self {
        let object = serde_json::from_value(draft.0.clone()).expect("a draft is a pool");
        let pools: Api<EndpointPool> = Api::namespaced(client.clone(), namespace);
        let made = pools.create(&PostParams::default(), &object).await.expect("the pool is created");
        Self {
            client: client.clone(),
            namespace: namespace.to_owned(),
            name: made.name_any(),
            uid: made.uid().expect("an object that exists has a UID"),
        }
    }

    fn api(&self) -> Api<EndpointPool> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Its UID.
    pub fn uid(&self) -> &str {
        &self.uid
    }

    /// Changes it by a merge patch.
    ///
    /// # Panics
    /// When the API server refuses the patch.
    pub async fn patch(&self, patch: Value) {
        let patched = self.api().patch(&self.name, &PatchParams::default(), &Patch::Merge(patch)).await;
        patched.expect("the pool is patched");
    }

    /// Waits until the status answers the present spec and `holds`; returns it.
    pub async fn until(&self, what: &str, holds: impl Fn(&EndpointPoolStatus) -> bool) -> EndpointPoolStatus {
        eventually(&format!("{}: {what}", self.name), async || {
            let pool = self.api().get(&self.name).await.map_err(|error| error.to_string())?;
            let status = pool.status.clone().unwrap_or_default();
            let answers = Some(status.observed_generation) == pool.metadata.generation;
            if answers && holds(&status) { Ok(status) } else { Err(json!(status).to_string()) }
        })
        .await
    }

    /// Waits until `count` members are used.
    pub async fn uses(&self, count: i32) -> EndpointPoolStatus {
        self.until(&format!("uses {count} members"), |status| status.members.in_use == count).await
    }

    /// Waits until a condition has this status, and returns its reason and its sentence.
    pub async fn says(&self, kind: &str, status: &str, reason: &str) -> String {
        let found = |seen: &EndpointPoolStatus| {
            let condition = seen.conditions.iter().find(|condition| condition.type_ == kind)?;
            (condition.status == status && condition.reason == reason).then(|| condition.message.clone())
        };
        let seen = self.until(&format!("{kind} is {status}, {reason}"), |seen| found(seen).is_some()).await;
        found(&seen).unwrap_or_default()
    }

    /// Its slices.
    ///
    /// # Panics
    /// When they cannot be listed.
    pub async fn slices(&self) -> Vec<EndpointSlice> {
        let slices: Api<EndpointSlice> = Api::namespaced(self.client.clone(), &self.namespace);
        let ours = ListParams::default().labels(&format!("mainstay.dev/pool={}", self.name));
        slices.list(&ours).await.expect("slices are listed").items
    }

    /// The conditions of its endpoints, by address.
    pub async fn endpoints(&self) -> BTreeMap<String, Conditions> {
        let slices = self.slices().await;
        let endpoints = slices.into_iter().flat_map(|slice| slice.endpoints.unwrap_or_default());
        let conditions = endpoints.map(|endpoint| {
            let conditions = endpoint.conditions.unwrap_or_default();
            let of = |condition: Option<bool>| condition.unwrap_or_default();
            let conditions = [of(conditions.ready), of(conditions.serving), of(conditions.terminating)];
            (endpoint.addresses.first().cloned().unwrap_or_default(), conditions)
        });
        conditions.collect()
    }

    /// Waits until its endpoints are exactly these.
    pub async fn has(&self, expected: &[(&str, Conditions)]) {
        let expected: BTreeMap<_, _> =
            expected.iter().map(|(address, conditions)| ((*address).to_owned(), *conditions)).collect();
        eventually(&format!("{} has the endpoints {expected:?}", self.name), async || {
            let endpoints = self.endpoints().await;
            if endpoints == expected { Ok(()) } else { Err(format!("{endpoints:?}")) }
        })
        .await;
    }

    /// Waits for an event of this reason about the pool; returns its sentence.
    pub async fn event(&self, reason: &str) -> String {
        event(&self.client, &self.namespace, (&self.name, &self.uid), reason).await
    }
}
