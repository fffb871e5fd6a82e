//! Objects of this project's kinds: drafts of them, and those that were made.

use std::{fmt::Debug, marker::PhantomData};

use k8s_openapi::{
    ClusterResourceScope, NamespaceResourceScope, apimachinery::pkg::apis::meta::v1::Condition,
};
use kube::{
    Api, Client, Resource,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use mainstay_crds::{
    AccountPolicy, AccountPolicyStatus, ConfigRollout, ConfigRolloutStatus, EndpointPool, EndpointPoolStatus,
    NodeHealthPolicy, NodeHealthPolicyStatus, ReplicaGroup, ReplicaGroupStatus,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::{command::kubectl, event::event, last::at_the_end, wait::eventually};

/// A kind of this project.
pub trait Kind: Resource<DynamicType = ()> + Clone + Debug + Serialize + DeserializeOwned {
    /// What its controller says.
    type Status: Clone + Debug + Default + Serialize;

    /// The status, if there is one yet.
    fn status(&self) -> Option<&Self::Status>;

    /// Which spec a status answers.
    fn observed_generation(status: &Self::Status) -> Option<i64>;

    /// The conditions of a status.
    fn conditions(status: &Self::Status) -> &[Condition];
}

macro_rules! kinds {
    ($($kind:ty: $status:ty,)*) => {$(
        impl Kind for $kind {
            type Status = $status;

            fn status(&self) -> Option<&$status> {
                self.status.as_ref()
            }

            fn observed_generation(status: &$status) -> Option<i64> {
                status.observed_generation.into()
            }

            fn conditions(status: &$status) -> &[Condition] {
                &status.conditions
            }
        }
    )*};
}
kinds! {
    ReplicaGroup: ReplicaGroupStatus,
    EndpointPool: EndpointPoolStatus,
    NodeHealthPolicy: NodeHealthPolicyStatus,
    ConfigRollout: ConfigRolloutStatus,
    AccountPolicy: AccountPolicyStatus,
}

/// An object as a user writes it.
#[derive(Clone, Debug)]
pub struct DraftOf<K>(Value, PhantomData<fn() -> K>);

impl<K: Kind> DraftOf<K> {
    /// An object of this name and spec.
    pub fn new(name: &str, spec: Value) -> Self {
        let (api_version, kind) = (K::api_version(&()), K::kind(&()));
        let object = json!({
            "apiVersion": api_version, "kind": kind, "metadata": {"name": name}, "spec": spec,
        });
        Self(object, PhantomData)
    }

    /// Sets the field of this path, whose parts are divided by dots; places in lists are numbers.
    ///
    /// # Panics
    /// When a part of the path leads through something that has no fields.
    pub fn with(mut self, path: &str, value: impl Into<Value>) -> Self {
        let field = path.split('.').fold(&mut self.0, |value, part| match part.parse::<usize>() {
            Ok(place) => &mut value[place],
            Err(_) => &mut value[part],
        });
        *field = value.into();
        self
    }

    /// The object.
    pub fn object(&self) -> &Value {
        &self.0
    }

    async fn create_by(&self, client: &Client, api: Api<K>) -> Made<K> {
        let object = serde_json::from_value(self.0.clone()).expect("a draft is an object of its kind");
        let made = api.create(&PostParams::default(), &object).await.expect("the object is created");
        Made::of(client, api, &made)
    }

    /// Makes it in a namespace.
    ///
    /// # Panics
    /// When the API server refuses it.
    pub async fn create_in(&self, client: &Client, namespace: &str) -> Made<K>
    where
        K: Resource<Scope = NamespaceResourceScope>,
    {
        self.create_by(client, Api::namespaced(client.clone(), namespace)).await
    }

    /// Makes it in the cluster. It is deleted when what is returned is dropped.
    ///
    /// # Panics
    /// When the API server refuses it.
    pub async fn create(&self, client: &Client) -> Made<K>
    where
        K: Resource<Scope = ClusterResourceScope>,
    {
        self.create_by(client, Api::all(client.clone())).await
    }
}

/// An object that exists. One that is in no namespace, and so does not go with that, is deleted when this is dropped.
pub struct Made<K: Kind> {
    client: Client,
    api: Api<K>,
    namespace: Option<String>,
    name: String,
    uid: String,
}

impl<K: Kind> Made<K> {
    /// One that was read.
    ///
    /// # Panics
    /// When it does not come from the API server.
    pub(crate) fn of(client: &Client, api: Api<K>, object: &K) -> Self {
        let metadata = object.meta().clone();
        Self {
            client: client.clone(),
            api,
            namespace: metadata.namespace,
            name: metadata.name.expect("an object that exists has a name"),
            uid: metadata.uid.expect("an object that exists has a UID"),
        }
    }

    /// Objects of a kind in its namespace.
    pub(crate) fn beside<O>(&self) -> Api<O>
    where
        O: Resource<Scope = NamespaceResourceScope>,
        O::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), self.namespace.as_deref().expect("it is in a namespace"))
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its UID.
    pub fn uid(&self) -> &str {
        &self.uid
    }

    /// It as it is now.
    ///
    /// # Panics
    /// When it cannot be read.
    pub async fn get(&self) -> K {
        self.api.get(&self.name).await.expect("the object is there")
    }

    /// Changes it by a merge patch.
    ///
    /// # Panics
    /// When the API server refuses the patch.
    pub async fn patch(&self, patch: Value) {
        let patched = self.api.patch(&self.name, &PatchParams::default(), &Patch::Merge(patch)).await;
        patched.expect("the object is patched");
    }

    /// Waits until the status answers the present spec and `holds`; returns it.
    pub async fn until(&self, what: &str, holds: impl Fn(&K::Status) -> bool) -> K::Status {
        eventually(&format!("{} {}: {what}", K::kind(&()), self.name), async || {
            let object = self.api.get(&self.name).await.map_err(|error| error.to_string())?;
            let status = object.status().cloned().unwrap_or_default();
            let generation = object.meta().generation;
            let answers = K::observed_generation(&status) == generation;
            let seen = || json!({"generation": generation, "status": status}).to_string();
            if answers && holds(&status) { Ok(status) } else { Err(seen()) }
        })
        .await
    }

    /// Waits until the condition has this status and reason; returns its sentence.
    pub async fn says(&self, kind: &str, holds: bool, reason: &str) -> String {
        let wanted = if holds { "True" } else { "False" };
        let found = |status: &K::Status| {
            let condition = K::conditions(status).iter().find(|condition| condition.type_ == kind)?;
            (condition.status == wanted && condition.reason == reason).then(|| condition.message.clone())
        };
        let what = format!("{kind} is {wanted} for {reason}");
        let status = self.until(&what, |status| found(status).is_some()).await;
        found(&status).unwrap_or_default()
    }

    /// Waits for an event of this reason about it; returns its sentence.
    pub async fn event(&self, reason: &str) -> String {
        let namespace = self.namespace.as_deref().unwrap_or("default");
        event(&self.client, namespace, (&self.name, &self.uid), reason).await
    }
}

impl<K: Kind> Drop for Made<K> {
    fn drop(&mut self) {
        if self.namespace.is_some() {
            return;
        }
        let object = format!("{}.{} {}", K::plural(&()), K::group(&()), self.name);
        if std::thread::panicking() {
            let seen = kubectl(&format!("get {object} --output=yaml"));
            eprintln!("{object} when the test failed:\n{}{}", seen.stdout, seen.stderr);
        }
        let name = self.name.clone();
        at_the_end(&format!("{object} is deleted"), async move |client| {
            match Api::<K>::all(client).delete(&name, &DeleteParams::default()).await {
                Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
                deleted => deleted.map(drop),
            }
        });
    }
}
