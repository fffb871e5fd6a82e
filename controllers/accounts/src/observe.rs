//! Turns the stores into what the plan of one namespace needs.

use std::{collections::BTreeSet, sync::Arc};

use jiff::Timestamp;
use kube::ResourceExt;
use mainstay_crds::DeletionPolicy;
use mainstay_runtime::index::ObjectKey;

use crate::{
    plan::{AccountView, Leaving, Observed, SeenAt},
    settings::Settings,
    stores::Stores,
    watched::{Bucket, SecretView, Stored, consent},
};

impl Stores {
    /// Looks at a namespace; `None` when it is gone or going.
    pub fn observe(
        &self,
        policies: &[Arc<Settings>],
        namespace: &ObjectKey,
        now: Timestamp,
    ) -> Option<Observed> {
        let found = self.namespaces.get(&namespace.reference())?;
        if found.metadata.deletion_timestamp.is_some() {
            return None;
        }
        let bucket = Bucket::Namespace(Arc::clone(&namespace.name));
        let mut observed = Observed {
            namespace: Arc::clone(&namespace.name),
            consent: consent(&found.metadata),
            grantable: Arc::clone(&self.grantable),
            ..Observed::default()
        };
        // A policy gives nothing before it has its finalizer: what it gave would stay when it is deleted at once.
        let policies: Vec<_> = policies.iter().filter(|policy| policy.held).collect();
        let known: BTreeSet<_> = policies.iter().map(|policy| Arc::clone(&policy.name)).collect();
        for account in self.accounts.bucket(&bucket) {
            let version = SeenAt(account.header.version);
            let view = AccountView { version, ..account.view.clone() };
            observed.accounts.insert(Arc::clone(&account.header.key.name), view);
        }
        for binding in self.bindings.bucket(&bucket) {
            observed.bindings.insert(Arc::clone(&binding.header.key.name), binding.view.clone());
        }
        for secret in self.secrets.bucket(&bucket) {
            let is_known = secret.policy.as_ref().is_some_and(|policy| known.contains(policy));
            let is_invalid = matches!(secret.view, SecretView::Invalid(_));
            if !secret.header.terminating && (is_known || !is_invalid) {
                add_secret(&mut observed, &secret);
            }
        }
        let owners = owners(&observed);
        // What a policy made that nobody knows any more, or that cannot be read, is nobody's to take away.
        let unknown = owners.iter().filter(|owner| !known.contains(*owner));
        observed.leaving = unknown.map(|owner| (Arc::clone(owner), Leaving::Unknown)).collect();
        for policy in policies {
            let key = (Arc::clone(&policy.uid), Arc::clone(&namespace.name));
            if policy.picks(found.labels()) {
                self.leaving.lock().remove(&key);
                observed.desired.push(self.desired(policy));
            } else if owners.contains(&policy.name) {
                observed.leaving.insert(Arc::clone(&policy.name), self.leaves(policy, key, now));
            } else {
                self.leaving.lock().remove(&key);
            }
        }
        Some(observed)
    }

    fn desired(&self, policy: &Settings) -> crate::plan::Desired {
        let mut desired = policy.desired.clone();
        let sources = self.sources.lock();
        for copy in desired.copies.values_mut() {
            let known = sources.get(&ObjectKey::new(&copy.namespace, &copy.name)).cloned();
            copy.source = known.unwrap_or_default();
        }
        desired
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
}

fn add_secret(observed: &mut Observed, secret: &Stored<SecretView>) {
    let name = Arc::clone(&secret.header.key.name);
    match &secret.view {
        SecretView::Copy(copy) => drop(observed.copies.insert(name, copy.clone())),
        SecretView::Handle(handle) => drop(observed.handles.insert(name, handle.clone())),
        SecretView::Output(output) => drop(observed.outputs.insert(name, output.clone())),
        SecretView::Invalid(origin) => {
            drop(observed.invalid.insert(name, (secret.header.uid.clone(), *origin)));
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
