//! The stores that reconciles read.

use std::{collections::HashMap, sync::Arc};

use k8s_openapi::api::core::v1::Namespace;
use kube::runtime::reflector::Store;
use mainstay_runtime::{
    index::{Index, ObjectKey},
    slim::MetadataOf,
};
use parking_lot::{Mutex, RwLock};

use crate::{
    departures::Departures,
    plan::{AccountView, BindingView, Copy, Grantable, Source},
    settings::Settings,
    watched::{Bucket, NonExpiring, SecretView, Stored},
};

/// The policies that can be carried out, in the order of their names.
pub type Policies = Arc<Vec<Arc<Settings>>>;

/// How many reconciles over namespaces are under way that may give what each policy asks for.
type Givers = Arc<Mutex<HashMap<Arc<str>, usize>>>;

/// The policies as a reconcile over a namespace sees them. While it exists none of them is done with its namespaces.
pub struct Giving {
    /// The policies.
    pub policies: Policies,
    givers: Givers,
}

impl Drop for Giving {
    fn drop(&mut self) {
        let mut givers = self.givers.lock();
        for policy in self.policies.iter().filter(|policy| !policy.going) {
            if let Some(count) = givers.get_mut(&policy.name) {
                *count -= 1;
            }
        }
        givers.retain(|_, count| *count > 0);
    }
}

/// What reconciles read.
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
    pub non_expiring: Index<NonExpiring>,
    /// The Secrets that are copied, by namespace and name.
    pub sources: Arc<Mutex<HashMap<ObjectKey, Source>>>,
    /// The roles that policies may give.
    pub grantable: Arc<Grantable>,
    /// The policies.
    pub policies: Arc<RwLock<Policies>>,
    /// When the objects in namespaces that are no longer selected are removed.
    pub leaving: Arc<Mutex<Departures>>,
    givers: Givers,
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
            non_expiring: Index::default(),
            sources: Arc::default(),
            policies: Arc::default(),
            leaving: Arc::default(),
            givers: Givers::default(),
        }
    }

    /// Notes that a source is no pull secret, unless another Secret has taken its place since it was read.
    pub fn is_no_pull_secret(&self, copy: &Copy, uid: &str) {
        let mut sources = self.sources.lock();
        let known = sources.get_mut(&ObjectKey::new(&copy.namespace, &copy.name));
        if let Some(known) = known.filter(|known| matches!(known, Source::At(known, _) if **known == *uid)) {
            *known = Source::NotPullSecret;
        }
    }

    /// Forgets which namespaces the policy of this UID has left: it is gone.
    pub fn forget_policy(&self, uid: &str) {
        self.leaving.lock().retain(|(policy, _), _| **policy != *uid);
    }

    /// The policies, for a reconcile over a namespace.
    pub fn giving(&self) -> Giving {
        let mut givers = self.givers.lock();
        let policies = Arc::clone(&self.policies.read());
        for policy in policies.iter().filter(|policy| !policy.going) {
            *givers.entry(Arc::clone(&policy.name)).or_default() += 1;
        }
        Giving { policies, givers: Arc::clone(&self.givers) }
    }

    /// Whether something may still be given for a policy that goes: a reconcile that began before it did may be under way.
    pub fn may_give(&self, policy: &Arc<str>) -> bool {
        let givers = self.givers.lock();
        givers.contains_key(policy)
            || self.policies.read().iter().any(|known| known.name == *policy && !known.going)
    }

    /// How many objects a policy has in all namespaces.
    pub fn owned_by(&self, policy: &Arc<str>) -> usize {
        let bucket = Bucket::Policy(Arc::clone(policy));
        self.accounts.count(&bucket) + self.bindings.count(&bucket) + self.secrets.count(&bucket)
    }
}
