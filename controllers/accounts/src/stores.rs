//! The stores that reconciles read.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Namespace;
use kube::runtime::reflector::Store;
use mainstay_runtime::{
    index::{Index, ObjectKey},
    slim::MetadataOf,
};
use parking_lot::{Mutex, RwLock};

use crate::{
    plan::{AccountView, BindingView, Copy, Grantable, Source},
    settings::Settings,
    watched::{Bucket, NonExpiring, SecretView, Stored},
};

/// The policies that can be carried out, in the order of their names.
pub type Policies = Arc<Vec<Arc<Settings>>>;
/// When the objects in a namespace are removed, by policy and namespace.
pub type Departures = BTreeMap<(Arc<str>, Arc<str>), Timestamp>;

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
    /// When the objects in a namespace are removed, by policy and namespace.
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
            non_expiring: Index::default(),
            sources: Arc::default(),
            policies: Arc::default(),
            leaving: Arc::default(),
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

    /// How many objects a policy has in all namespaces.
    pub fn owned_by(&self, policy: &Arc<str>) -> usize {
        let bucket = Bucket::Policy(Arc::clone(policy));
        self.accounts.count(&bucket) + self.bindings.count(&bucket) + self.secrets.count(&bucket)
    }
}
