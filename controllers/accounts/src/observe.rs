//! Turns the stores into what the rules need of one namespace.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Namespace;
use kube::{ResourceExt, runtime::reflector::Store};
use mainstay_crds::DeletionPolicy;
use mainstay_runtime::{
    index::{Index, ObjectKey},
    slim::MetadataOf,
};
use parking_lot::{Mutex, RwLock};

use crate::{
    plan::{AccountView, BindingView, Copy, Grantable, Leaving, Observed, Source},
    settings::Settings,
    watched::{Bucket, Eternal, SecretView, Stored, consent},
};

/// The policies that can be carried out, in the order of their names.
pub type Policies = Arc<Vec<Arc<Settings>>>;
/// When what a namespace was given is taken back, by policy and namespace.
pub type Departures = BTreeMap<(Arc<str>, Arc<str>), Timestamp>;

/// What passes read.
#[derive(Clone)]
pub struct Stores {
    /// Namespaces.
    pub namespaces: Store<MetadataOf<Namespace>>,
    /// All service accounts.
    pub accounts: Index<Stored<AccountView>>,
    /// All role bindings.
    pub bindings: Index<Stored<BindingView>>,
    /// The Secrets of policies.
    pub secrets: Index<Stored<SecretView>>,
    /// Secrets with tokens that never end.
    pub eternal: Index<Eternal>,
    /// The Secrets that are copied, by namespace and name.
    pub sources: Arc<Mutex<HashMap<ObjectKey, Source>>>,
    /// The roles that policies may give.
    pub grantable: Arc<Grantable>,
    /// The policies.
    pub policies: Arc<RwLock<Policies>>,
    /// When what a namespace was given is taken back, by policy and namespace.
    pub leaving: Arc<Mutex<Departures>>,
}

impl Stores {
    /// Empty stores beside the one of the namespaces.
    pub fn new(namespaces: Store<MetadataOf<Namespace>>, grantable: Grantable) -> Self {
        Self {
            namespaces,
            grantable: Arc::new(grantable),
            accounts: Index::default(),
            bindings: Index::default(),
            secrets: Index::default(),
            eternal: Index::default(),
            sources: Arc::default(),
            policies: Arc::default(),
            leaving: Arc::default(),
        }
    }

    /// Ends when all have been filled once.
    pub async fn synced(&self) {
        // The writer lives in a task that ends with the process, so waiting cannot fail.
        let _ = self.namespaces.wait_until_ready().await;
        self.accounts.synced().await;
        self.bindings.synced().await;
        self.secrets.synced().await;
        self.eternal.synced().await;
    }

    /// Looks at a namespace; `None` when it is gone or going.
    pub fn observe(&self, namespace: &ObjectKey, now: Timestamp) -> Option<Observed> {
        let found = self.namespaces.get(&namespace.reference())?;
        if found.metadata.deletion_timestamp.is_some() {
            return None;
        }
        let policies = Arc::clone(&self.policies.read());
        let bucket = Bucket::Namespace(Arc::clone(&namespace.name));
        let mut observed = Observed {
            namespace: Arc::clone(&namespace.name),
            consent: consent(&found.metadata),
            grantable: Arc::clone(&self.grantable),
            ..Observed::default()
        };
        let known: BTreeSet<_> = policies.iter().map(|policy| Arc::clone(&policy.name)).collect();
        for account in self.accounts.bucket(&bucket) {
            observed.accounts.insert(Arc::clone(&account.header.key.name), account.view.clone());
        }
        for binding in self.bindings.bucket(&bucket) {
            observed.bindings.insert(Arc::clone(&binding.header.key.name), binding.view.clone());
        }
        for secret in self.secrets.bucket(&bucket) {
            // What a policy made that nobody knows any more is nobody's to take away.
            if secret.policy.as_ref().is_some_and(|policy| known.contains(policy))
                && !secret.header.terminating
            {
                add_secret(&mut observed, &secret);
            }
        }
        observed
            .accounts
            .retain(|_, view| view.mark.as_ref().is_none_or(|mark| known.contains(&mark.policy)));
        observed
            .bindings
            .retain(|_, view| view.mark.as_ref().is_none_or(|mark| known.contains(&mark.policy)));
        let owners = owners(&observed);
        for policy in policies.iter() {
            let key = (Arc::clone(&policy.name), Arc::clone(&namespace.name));
            if policy.picks(found.labels()) {
                self.leaving.lock().remove(&key);
                observed.gifts.push(self.gift(policy));
            } else if owners.contains(&policy.name) {
                observed.leaving.insert(Arc::clone(&policy.name), self.leaves(policy, key, now));
            } else {
                self.leaving.lock().remove(&key);
            }
        }
        Some(observed)
    }

    fn gift(&self, policy: &Settings) -> crate::plan::Gift {
        let mut gift = policy.gift.clone();
        let sources = self.sources.lock();
        for copy in gift.copies.values_mut() {
            let known = sources.get(&ObjectKey::new(&copy.namespace, &copy.name)).cloned();
            copy.source = known.unwrap_or_default();
        }
        gift
    }

    /// Notes that a source is no pull secret, unless another Secret has taken its place since it was read.
    pub fn is_no_pull_secret(&self, copy: &Copy, uid: &str) {
        let mut sources = self.sources.lock();
        let known = sources.get_mut(&ObjectKey::new(&copy.namespace, &copy.name));
        if let Some(known) = known.filter(|known| matches!(known, Source::At(known, _) if **known == *uid)) {
            *known = Source::NotPullSecret;
        }
    }

    fn leaves(&self, policy: &Settings, key: (Arc<str>, Arc<str>), now: Timestamp) -> Leaving {
        match policy.deletion {
            DeletionPolicy::Orphan if policy.going => Leaving::Orphan,
            _ if policy.going => Leaving::Delete(now),
            _ => {
                let at = now.checked_add(policy.grace).unwrap_or(now);
                Leaving::Delete(*self.leaving.lock().entry(key).or_insert(at))
            }
        }
    }

    /// How many objects a policy has in all namespaces.
    pub fn owned_by(&self, policy: &Arc<str>) -> usize {
        let bucket = Bucket::Policy(Arc::clone(policy));
        self.accounts.count(&bucket) + self.bindings.count(&bucket) + self.secrets.count(&bucket)
    }
}

fn add_secret(observed: &mut Observed, secret: &Stored<SecretView>) {
    let name = Arc::clone(&secret.header.key.name);
    match &secret.view {
        SecretView::Copy(copy) => drop(observed.copies.insert(name, copy.clone())),
        SecretView::Handle(handle) => drop(observed.handles.insert(name, handle.clone())),
        SecretView::Output(output) => drop(observed.outputs.insert(name, output.clone())),
        SecretView::Spoilt(origin) => {
            drop(observed.spoilt.insert(name, (secret.header.uid.clone(), *origin)));
        }
    }
}

fn owners(observed: &Observed) -> BTreeSet<Arc<str>> {
    let accounts = observed.accounts.values().filter_map(|view| Some(&view.mark.as_ref()?.policy));
    let bindings = observed.bindings.values().filter_map(|view| Some(&view.mark.as_ref()?.policy));
    let copies = observed.copies.values().map(|view| &view.policy);
    let handles = observed.handles.values().map(|view| &view.policy);
    let outputs = observed.outputs.values().map(|view| &view.policy);
    accounts.chain(bindings).chain(copies).chain(handles).chain(outputs).cloned().collect()
}
