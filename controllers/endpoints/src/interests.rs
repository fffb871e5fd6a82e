//! Which pools a change affects.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    hash::Hash,
    net::IpAddr,
    sync::Arc,
};

use ipnet::IpNet;
use jiff::Timestamp;
use kube::core::{Selector, SelectorExt};
use mainstay_crds::EndpointPool;
use mainstay_runtime::index::ObjectKey;
use parking_lot::RwLock;

use crate::watched::Pod;

/// What every pool looks at. Cloning shares it.
#[derive(Debug, Clone, Default)]
pub struct Interests(Arc<RwLock<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    pools: HashMap<ObjectKey, Interest>,
    /// The pools that name a Service, oldest first.
    by_service: HashMap<ObjectKey, BTreeSet<(Timestamp, Arc<str>)>>,
    /// The pools that have pods of a namespace among their members.
    by_namespace: HashMap<Arc<str>, HashSet<ObjectKey>>,
    /// The pools that name an address, or have a name that may resolve to it.
    by_address: HashMap<IpAddr, HashSet<ObjectKey>>,
}

#[derive(Debug)]
struct Interest {
    created: Timestamp,
    service: ObjectKey,
    pods: Vec<(Arc<str>, Selector)>,
    addresses: BTreeSet<IpAddr>,
    /// What its DNS names may resolve to.
    resolved: BTreeSet<IpAddr>,
}

impl Interests {
    /// Records the objects that `pool` depends on.
    pub fn set(&self, pool: &EndpointPool) {
        let key = ObjectKey::of(pool);
        let created = pool.metadata.creation_timestamp.as_ref().map_or(Timestamp::MAX, |time| time.0);
        let pods = pool.spec.members.iter().filter_map(|members| {
            let selector = Selector::try_from(members.pod_selector.clone()?).ok()?;
            let namespace = members.namespace.as_deref().unwrap_or(&key.namespace);
            Some((namespace.into(), selector))
        });
        let service = ObjectKey::new(&key.namespace, &pool.spec.service_ref.name);
        let addresses = pool.spec.members.iter().flat_map(|members| &members.addresses);
        let addresses = addresses.filter_map(|address| address.ip.parse().ok()).collect();
        let interest =
            Interest { created, service, pods: pods.collect(), addresses, resolved: BTreeSet::new() };
        let mut inner = self.0.write();
        inner.remove(&key);
        inner.insert(key, interest);
    }

    /// Records the addresses that the DNS names of `pool` may resolve to. To be called before they are judged, so that no
    /// later change of what is at an address goes unnoticed.
    pub fn resolve(&self, pool: &ObjectKey, resolved: BTreeSet<IpAddr>) {
        let is_known = |interest: &Interest| interest.resolved == resolved;
        if self.0.read().pools.get(pool).is_none_or(is_known) {
            return;
        }
        let inner = &mut *self.0.write();
        let Some(interest) = inner.pools.get_mut(pool) else { return };
        let before = std::mem::replace(&mut interest.resolved, resolved);
        for address in before.difference(&interest.resolved).filter(|gone| !interest.addresses.contains(gone))
        {
            forget(&mut inner.by_address, address, pool);
        }
        for address in &interest.resolved {
            inner.by_address.entry(*address).or_default().insert(pool.clone());
        }
    }

    /// Forgets a pool that is gone.
    pub fn remove(&self, pool: &ObjectKey) {
        self.0.write().remove(pool);
    }

    /// The pools that name this Service.
    pub fn of_service(&self, service: &ObjectKey) -> Vec<ObjectKey> {
        let inner = self.0.read();
        let pools = inner.by_service.get(service).into_iter().flatten();
        pools
            .map(|(_, name)| ObjectKey { namespace: Arc::clone(&service.namespace), name: Arc::clone(name) })
            .collect()
    }

    /// The pool that has this Service: the oldest of those that name it.
    pub fn holder(&self, service: &ObjectKey) -> Option<Arc<str>> {
        let inner = self.0.read();
        inner.by_service.get(service)?.first().map(|(_, name)| Arc::clone(name))
    }

    /// The pools of which this pod may be a member, by its labels or by an address.
    pub fn of_pod(&self, pod: &Pod) -> Vec<ObjectKey> {
        let inner = self.0.read();
        let namespace = &pod.header.key.namespace;
        let pools = inner.by_namespace.get(namespace).into_iter().flatten();
        let selects = |pool: &&ObjectKey| {
            let pods = inner.pools.get(pool).map(|interest| &interest.pods);
            pods.into_iter().flatten().any(|(of, selector)| of == namespace && selector.matches(&*pod.labels))
        };
        let by_address = pod.addresses.iter().filter_map(|address| inner.by_address.get(address)).flatten();
        pools.filter(selects).chain(by_address).cloned().collect()
    }

    /// The pools of which a pod may have been a member before a change, or may be one after it.
    pub fn of_pod_change(&self, old: Option<&Pod>, new: Option<&Pod>) -> Vec<ObjectKey> {
        // Most changes are of what says nothing of that.
        let is_same =
            |(old, new): (&Pod, &Pod)| (&old.labels, &old.addresses) == (&new.labels, &new.addresses);
        let old = if old.zip(new).is_some_and(is_same) { None } else { old };
        old.into_iter().chain(new).flat_map(|pod| self.of_pod(pod)).collect()
    }

    /// The pools that have pods of this namespace among their members.
    pub fn of_namespace(&self, namespace: &Arc<str>) -> Vec<ObjectKey> {
        self.0.read().by_namespace.get(namespace).into_iter().flatten().cloned().collect()
    }

    /// The pools that name one of these addresses, or have a name that may resolve to it.
    pub fn of_addresses(&self, addresses: &[IpAddr]) -> Vec<ObjectKey> {
        let inner = self.0.read();
        addresses.iter().filter_map(|address| inner.by_address.get(address)).flatten().cloned().collect()
    }

    /// The pools that name an address in one of these networks, or have a name that may resolve to one.
    pub fn of_networks(&self, networks: &[IpNet]) -> Vec<ObjectKey> {
        let inner = self.0.read();
        let is_within = |address: &IpAddr| networks.iter().any(|network| network.contains(address));
        let within = inner.by_address.iter().filter(|(address, _)| is_within(address));
        within.flat_map(|(_, pools)| pools).cloned().collect()
    }

    /// All pools.
    pub fn all(&self) -> Vec<ObjectKey> {
        self.0.read().pools.keys().cloned().collect()
    }
}

impl Inner {
    fn insert(&mut self, key: ObjectKey, interest: Interest) {
        let entry = (interest.created, Arc::clone(&key.name));
        self.by_service.entry(interest.service.clone()).or_default().insert(entry);
        for (namespace, _) in &interest.pods {
            self.by_namespace.entry(Arc::clone(namespace)).or_default().insert(key.clone());
        }
        for address in &interest.addresses {
            self.by_address.entry(*address).or_default().insert(key.clone());
        }
        self.pools.insert(key, interest);
    }

    fn remove(&mut self, key: &ObjectKey) {
        let Some(interest) = self.pools.remove(key) else { return };
        let Interest { created, service, pods, addresses, resolved } = interest;
        if let Some(pools) = self.by_service.get_mut(&service) {
            pools.remove(&(created, Arc::clone(&key.name)));
            if pools.is_empty() {
                self.by_service.remove(&service);
            }
        }
        for (namespace, _) in pods {
            forget(&mut self.by_namespace, &namespace, key);
        }
        for address in addresses.union(&resolved) {
            forget(&mut self.by_address, address, key);
        }
    }
}

fn forget<K: Hash + Eq>(pools: &mut HashMap<K, HashSet<ObjectKey>>, of: &K, pool: &ObjectKey) {
    if let Some(known) = pools.get_mut(of) {
        known.remove(pool);
        if known.is_empty() {
            pools.remove(of);
        }
    }
}

#[cfg(test)]
mod tests {
    use mainstay_runtime::labels::LabelPool;
    use serde_json::json;

    use super::*;

    fn pool(name: &str, second: u8, service: &str, app: &str) -> EndpointPool {
        serde_json::from_value(json!({
            "apiVersion": "mainstay.dev/v1alpha1", "kind": "EndpointPool",
            "metadata": {"name": name, "namespace": "ns", "creationTimestamp": format!("2026-01-01T00:00:{second:02}Z")},
            "spec": {
                "serviceRef": {"name": service},
                "members": [{"name": "pods", "podSelector": {"matchLabels": {"app": app}}}],
            }
        }))
        .unwrap()
    }

    fn pod(app: &str) -> Pod {
        let object = json!({
            "metadata": {"name": "p", "namespace": "ns", "labels": {"app": app}},
            "status": {"podIPs": [{"ip": "10.0.0.1"}]},
        });
        Pod::slim(serde_json::from_value(object).unwrap(), &mut LabelPool::default())
    }

    #[test]
    fn the_oldest_pool_has_the_service_until_it_is_gone() {
        let (interests, service) = (Interests::default(), ObjectKey::new("ns", "web"));
        interests.set(&pool("young", 2, "web", "a"));
        interests.set(&pool("old", 1, "web", "a"));
        assert_eq!(interests.holder(&service).as_deref(), Some("old"));
        assert_eq!(interests.of_service(&service).len(), 2);
        interests.remove(&ObjectKey::new("ns", "old"));
        assert_eq!(interests.holder(&service).as_deref(), Some("young"));
        interests.remove(&ObjectKey::new("ns", "young"));
        assert_eq!((interests.holder(&service), interests.all()), (None, vec![]));
    }

    #[test]
    fn a_pod_concerns_the_pools_that_select_it_as_they_are_now() {
        let interests = Interests::default();
        interests.set(&pool("x", 1, "web", "a"));
        assert_eq!(interests.of_pod(&pod("a")), [ObjectKey::new("ns", "x")]);
        interests.set(&pool("x", 1, "web", "b"));
        assert_eq!((interests.of_pod(&pod("a")).len(), interests.of_pod(&pod("b")).len()), (0, 1));
        let mut by_address = pool("y", 1, "other", "c");
        by_address.spec.members[0].addresses =
            vec![mainstay_crds::MemberAddress { ip: "10.0.0.1".into(), ..Default::default() }];
        interests.set(&by_address);
        assert_eq!(interests.of_pod(&pod("z")), [ObjectKey::new("ns", "y")], "it has the address of the pod");
        let (key, address) = (ObjectKey::new("ns", "y"), "10.0.0.1".parse().unwrap());
        interests.resolve(&key, [address].into());
        interests.resolve(&key, BTreeSet::new());
        assert_eq!(interests.of_pod(&pod("z")).len(), 1, "it names the address all the same");
        interests.remove(&key);
        assert_eq!(interests.of_pod(&pod("z")), []);
        let named = ObjectKey::new("ns", "x");
        interests.resolve(&named, [address].into());
        assert_eq!(
            interests.of_pod(&pod("z")),
            std::slice::from_ref(&named),
            "a name resolves to the address of the pod"
        );
        let mut pending = pod("z");
        pending.addresses = Box::default();
        assert_eq!(
            interests.of_pod_change(Some(&pending), Some(&pod("z"))),
            std::slice::from_ref(&named),
            "it got the address"
        );
        assert_eq!(
            interests.of_pod_change(Some(&pod("z")), Some(&pending)),
            std::slice::from_ref(&named),
            "it lost it"
        );
        interests.resolve(&named, BTreeSet::new());
        assert_eq!(interests.of_pod(&pod("z")), []);
    }
}
