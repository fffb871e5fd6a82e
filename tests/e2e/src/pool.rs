//! EndpointPools: drafts of them, and those that exist.

use std::collections::BTreeMap;

use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::ListParams;
use mainstay_crds::{EndpointPool, EndpointPoolStatus};
use serde_json::{Value, json};

use crate::{
    object::{DraftOf, Made},
    wait::eventually,
};

/// A pool as a user writes it.
pub type PoolDraft = DraftOf<EndpointPool>;

/// A pool that exists.
pub type Pool = Made<EndpointPool>;

/// A pool that makes a Service of its own name, from port 80 to port 8080 of its members. It has no members yet.
pub fn pool(name: &str) -> PoolDraft {
    let service = json!({"name": name, "create": {"spec": {"ports": [{"port": 80, "targetPort": 8080}]}}});
    PoolDraft::new(name, json!({"serviceRef": service, "members": []}))
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
    pub fn set(self, set: Value) -> Self {
        let mut members = self.object()["spec"]["members"].as_array().expect("members are a list").clone();
        members.push(set);
        self.with("spec.members", members)
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
        let name = self.object()["spec"]["serviceRef"]["name"].clone();
        self.with("spec.serviceRef", json!({"name": name}))
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

impl Pool {
    /// Waits until `count` members are used.
    pub async fn uses(&self, count: i32) -> EndpointPoolStatus {
        self.until(&format!("uses {count} members"), |status| status.members.in_use == count).await
    }

    /// Its slices.
    ///
    /// # Panics
    /// When they cannot be listed.
    pub async fn slices(&self) -> Vec<EndpointSlice> {
        let ours = ListParams::default().labels(&format!("mainstay.dev/pool={}", self.name()));
        self.beside::<EndpointSlice>().list(&ours).await.expect("slices are listed").items
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
        eventually(&format!("{} has the endpoints {expected:?}", self.name()), async || {
            let endpoints = self.endpoints().await;
            if endpoints == expected { Ok(()) } else { Err(format!("{endpoints:?}")) }
        })
        .await;
    }
}
