//! Reconciles one policy: its finalizer and its status. It creates nothing in namespaces.

use std::{collections::BTreeSet, fmt::Debug, sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::{core::v1, rbac::v1::RoleBinding};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{ListParams, Patch},
};
use mainstay_crds::{AccountPolicy, AccountPolicyStatus};
use mainstay_runtime::{
    backoff::{Backoff, CATCH_UP},
    behind::Behind,
    conditions::same_heads,
    failure::RequestError,
    index::ObjectKey,
    outcome::{Concern, Outcomes, Turn},
    reconcile::{PACE, Reconciler},
    report::StatusWriter,
    request::{ObjectPath, in_time},
    writes::Writes,
};
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::{
    announce::Announcer,
    apply::ApplyError,
    failing::{self, Failing},
    metrics::STATES,
    names::{FIELD_MANAGER, FINALIZER, POLICY},
    settings::Settings,
    status::{self, Told},
    stores::Stores,
    watched::{Bucket, SecretView},
};

/// How often a policy's status follows its counters.
pub const STATUS_PACE: Duration = Duration::from_secs(5);

/// The reconcile over policies.
pub struct Policies {
    /// For the finalizer and the status.
    pub client: Client,
    /// What reconciles read.
    pub stores: Stores,
    /// What came of the reconciles over namespaces.
    pub outcomes: Arc<failing::Outcomes>,
    /// Writes the status.
    pub status_writer: Arc<StatusWriter<AccountPolicyStatus>>,
    /// Tells people and Prometheus.
    pub announcer: Announcer,
    /// Policies whose finalizer was written, or that were found to be other than the store shows.
    pub behind: Behind,
    /// Policies that go and have something left that the stores do not show.
    pub leaves: Backoff<ObjectKey>,
}

/// How long a policy rests after a reconcile, a namespace: each looks at all of them.
const PACE_A_NAMESPACE: Duration = Duration::from_micros(50);
/// No policy rests for longer.
const SLOWEST_PACE: Duration = Duration::from_secs(5);
/// The policy's own finalizer.
const FINALIZERS: Concern = Concern::new("Finalizer", "FinalizerFailed");

impl Reconciler for Policies {
    type Object = AccountPolicy;

    async fn reconcile(self: Arc<Self>, policy: Arc<AccountPolicy>, turn: Turn) -> Outcomes {
        let mut outcomes = Outcomes::default();
        let settings = match Settings::read(&policy) {
            Ok(settings) => settings,
            Err(error) => {
                let current = self.status_writer.current(&*policy);
                self.report(&policy, status::unusable(&current, &error, Timestamp::now()));
                return outcomes;
            }
        };
        let left = self.stores.owned_by(&settings.name);
        let ends = settings.going && left == 0;
        if (ends || !settings.going) && turn.held(FINALIZERS).is_none() {
            let done = if ends { self.end(&policy).await } else { self.set_finalizer(&policy, true).await };
            outcomes.end(FINALIZERS, done);
        }
        let refused = outcomes.failures(&turn);
        if !ends || !refused.is_empty() {
            let told = Told { refused, ..self.look(&settings, left) };
            self.tell_failing(&policy, &told);
            let current = self.status_writer.current(&*policy);
            self.report(&policy, status::told(&current, &told, Timestamp::now()));
        }
        outcomes
    }

    fn pace(&self, _: &AccountPolicy) -> Duration {
        let namespaces = u32::try_from(self.stores.namespaces.len()).unwrap_or(u32::MAX);
        PACE_A_NAMESPACE.saturating_mul(namespaces).clamp(PACE, SLOWEST_PACE)
    }

    fn forget(&self, key: &ObjectKey) {
        self.status_writer.forget(key);
        self.behind.forget(key);
        self.leaves.forget(key);
        self.announcer.metrics.forget(&key.name);
    }
}

impl Policies {
    fn look(&self, settings: &Settings, left: usize) -> Told {
        let mut told = Told { left: settings.going.then_some(left), ..Told::default() };
        for namespace in self.stores.namespaces.state() {
            if namespace.metadata.deletion_timestamp.is_some() {
                continue;
            }
            let name: Arc<str> = namespace.name_any().into();
            if !settings.picks(namespace.labels()) {
                let failing = self.outcomes.of(&name, &settings.name).flatten();
                told.stuck.extend(failing.map(|failing| (name, failing)));
                continue;
            }
            told.total += 1;
            told.non_expiring += self.stores.non_expiring.count(&name);
            match self.outcomes.of(&name, &settings.name) {
                Some(None) => told.ready += 1,
                Some(Some(failing)) => told.failing.push((name, failing)),
                None => {}
            }
        }
        told.failing.sort_by(|one, other| one.0.cmp(&other.0));
        told.stuck.sort_by(|one, other| one.0.cmp(&other.0));
        for secret in self.stores.secrets.bucket(&Bucket::Policy(Arc::clone(&settings.name))) {
            if let SecretView::Output(output) = &secret.view {
                let key = &secret.header.key;
                told.tokens.push((output.expires, Arc::clone(&key.namespace), Arc::clone(&key.name)));
            }
        }
        told.tokens.sort();
        let leaving = self.stores.leaving.lock();
        let is_there = |namespace: &Arc<str>| {
            self.stores.namespaces.get(&ObjectKey::new("", namespace).reference()).is_some()
        };
        let ours =
            leaving.iter().filter(|((policy, namespace), _)| *policy == settings.uid && is_there(namespace));
        told.leaving = ours.map(|((_, namespace), at)| (Arc::clone(namespace), *at)).collect();
        self.measure(settings, &told);
        told
    }

    fn measure(&self, settings: &Settings, told: &Told) {
        let metrics = &self.announcer.metrics;
        let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        let waiting = told.total - told.ready - told.failing.len();
        let failing = told.failing.len() + told.stuck.len();
        for (state, count) in STATES.iter().zip([told.ready, failing, waiting]) {
            metrics.namespaces.with_label_values(&[&*settings.name, state]).set(number(count));
        }
        metrics.non_expiring.with_label_values(&[&*settings.name]).set(number(told.non_expiring));
        metrics.ends(&settings.name, told.tokens.first().map(|(expires, ..)| *expires));
    }

    /// One event for each namespace that has begun to fail.
    fn tell_failing(&self, policy: &AccountPolicy, told: &Told) {
        let before =
            self.status_writer.ahead_of(policy).or_else(|| policy.status.clone()).unwrap_or_default();
        let before: BTreeSet<_> = before.failing.iter().map(|failing| failing.name.as_str()).collect();
        let failing = told.failing.iter().chain(&told.stuck);
        for (namespace, Failing { message, .. }) in failing.take(before.len() + 10) {
            if !before.contains(&**namespace) {
                self.announcer.failing(policy, namespace, message);
            }
        }
    }

    /// Takes the finalizer off a policy of which nothing is seen to be left. Returns when to look again.
    ///
    /// What was made by a reconcile that has not ended, or that no watch has shown yet, would be left without a policy: so
    /// the API server is asked.
    async fn end(&self, policy: &AccountPolicy) -> Result<Option<Duration>, ApplyError> {
        let (key, name) = (ObjectKey::of(policy), policy.name_any().into());
        if self.stores.may_give(&name) {
            return Ok(Some(CATCH_UP.first));
        }
        if let Some(left) = self.leaves.held(&key) {
            return Ok(Some(left));
        }
        if self.has_any(&name).await? {
            return Ok(Some(self.leaves.fail(&key, None)));
        }
        self.set_finalizer(policy, false).await
    }

    /// Whether the API server has any object of the policy.
    async fn has_any(&self, policy: &str) -> Result<bool, ApplyError> {
        let (accounts, bindings, secrets) = tokio::join!(
            self.has_any_of::<v1::ServiceAccount>(policy),
            self.has_any_of::<RoleBinding>(policy),
            self.has_any_of::<v1::Secret>(policy),
        );
        Ok(accounts? || bindings? || secrets?)
    }

    async fn has_any_of<K>(&self, policy: &str) -> Result<bool, ApplyError>
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug,
    {
        let first = ListParams::default().labels(&format!("{POLICY}={policy}")).limit(1);
        let listed = in_time(Api::<K>::all(self.client.clone()).list_metadata(&first)).await;
        let listed = listed.map_err(|source| {
            let what = format!("whether a {} of AccountPolicy {policy} is left", K::kind(&()));
            ApplyError { operation: "read", what, source }
        })?;
        Ok(!listed.items.is_empty())
    }

    /// Returns when to look again.
    async fn set_finalizer(
        &self,
        policy: &AccountPolicy,
        wanted: bool,
    ) -> Result<Option<Duration>, ApplyError> {
        let mut finalizers = policy.metadata.finalizers.clone().unwrap_or_default();
        if finalizers.iter().any(|finalizer| finalizer == FINALIZER) == wanted {
            return Ok(None);
        }
        let (key, version) = (ObjectKey::of(policy), policy.metadata.resource_version.as_deref());
        if let Some(left) = self.behind.left(&key, version) {
            return Ok(Some(left));
        }
        finalizers.retain(|finalizer| finalizer != FINALIZER);
        if wanted {
            finalizers.push(FINALIZER.to_owned());
        }
        // The version keeps finalizers of others from being written over.
        let patch = json!({"metadata": {
            "uid": policy.metadata.uid,
            "resourceVersion": policy.metadata.resource_version,
            "finalizers": finalizers,
        }});
        let writes = Writes::new(self.client.clone(), FIELD_MANAGER);
        match writes.patch(&ObjectPath::of::<AccountPolicy>(&key), &Patch::Merge(patch)).await {
            Err(RequestError::NotFound(_)) => Ok(None),
            // The store is about to show another version, which may be of its own status: that is no reason to look again.
            Ok(_) | Err(RequestError::Conflict(_)) => Ok(Some(self.behind.note(&key, version))),
            Err(source) => {
                let what = format!("the finalizer of AccountPolicy {}", policy.name_any());
                Err(ApplyError { operation: "change", what, source })
            }
        }
    }

    fn report(&self, policy: &AccountPolicy, status: AccountPolicyStatus) {
        let is_urgent = |old: &AccountPolicyStatus, new: &AccountPolicyStatus| {
            old.observed_generation != new.observed_generation
                || !same_heads(&old.conditions, &new.conditions)
        };
        self.status_writer.put(policy, policy.status.as_ref(), status, is_urgent);
    }
}

#[cfg(test)]
mod tests;
