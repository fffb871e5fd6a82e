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

use crate::{ranges::translated, watched::Pod};

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
    /// The addresses of all pools, each with the pool.
    by_address: BTreeSet<(IpAddr, ObjectKey)>,
}

#[derive(Debug)]
struct Interest {
    created: Timestamp,
    service: ObjectKey,
    pods: Vec<(Arc<str>, Selector)>,
    addresses: BTreeSet<IpAddr>,
    /// What its DNS names may resolve to, and its endpoints.
    reached: BTreeSet<IpAddr>,
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
        let addresses = judged(addresses.filter_map(|address| address.ip.parse().ok()));
        let interest =
            Interest { created, service, pods: pods.collect(), addresses, reached: BTreeSet::new() };
        let mut inner = self.0.write();
        inner.remove(&key);
        inner.insert(key, interest);
    }

    /// Records the addresses that `pool` reaches beside those that it names: what its DNS names may resolve to, and its
    /// endpoints. To be called before they are judged, so that no later change of what is at an address goes unnoticed.
    pub fn reach(&self, pool: &ObjectKey, addresses: impl IntoIterator<Item = IpAddr>) {
        let reached = judged(addresses);
        let is_known = |interest: &Interest| interest.reached == reached;
        if self.0.read().pools.get(pool).is_none_or(is_known) {
            return;
        }
        let inner = &mut *self.0.write();
        let Some(interest) = inner.pools.get_mut(pool) else { return };
        let before = std::mem::replace(&mut interest.reached, reached);
        for address in before.difference(&interest.reached).filter(|gone| !interest.addresses.contains(gone))
        {
            inner.by_address.remove(&(*address, pool.clone()));
        }
        let new = interest.reached.difference(&before).map(|address| (*address, pool.clone()));
        inner.by_address.extend(new);
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

    /// The pools of which this pod may be a member, by its labels or by an address, or which have an endpoint at one.
    pub fn of_pod(&self, pod: &Pod) -> Vec<ObjectKey> {
        let inner = self.0.read();
        let namespace = &pod.header.key.namespace;
        let pools = inner.by_namespace.get(namespace).into_iter().flatten();
        let selects = |pool: &&ObjectKey| {
            let pods = inner.pools.get(pool).map(|interest| &interest.pods);
            pods.into_iter().flatten().any(|(of, selector)| of == namespace && selector.matches(&*pod.labels))
        };
        let by_address = pod.addresses.iter().flat_map(|address| inner.within(*address, *address));
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

    /// The pools that name one of these addresses, have a name that may resolve to it, or an endpoint there.
    pub fn of_addresses(&self, addresses: &[IpAddr]) -> Vec<ObjectKey> {
        let inner = self.0.read();
        addresses.iter().flat_map(|address| inner.within(*address, *address)).cloned().collect()
    }

    /// The pools of which [`Self::of_addresses`] would tell for any address of these networks.
    pub fn of_networks(&self, networks: &[IpNet]) -> HashSet<ObjectKey> {
        let inner = self.0.read();
        let within = networks.iter().flat_map(|network| inner.within(network.network(), network.broadcast()));
        within.cloned().collect()
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
        self.by_address.extend(interest.addresses.iter().map(|address| (*address, key.clone())));
        self.pools.insert(key, interest);
    }

    fn remove(&mut self, key: &ObjectKey) {
        let Some(interest) = self.pools.remove(key) else { return };
        let Interest { created, service, pods, addresses, reached } = interest;
        if let Some(pools) = self.by_service.get_mut(&service) {
            pools.remove(&(created, Arc::clone(&key.name)));
            if pools.is_empty() {
                self.by_service.remove(&service);
            }
        }
        for (namespace, _) in pods {
            forget(&mut self.by_namespace, &namespace, key);
        }
        for address in addresses.union(&reached) {
            self.by_address.remove(&(*address, key.clone()));
        }
    }

    /// The pools of the addresses from `first` to `last`.
    fn within(&self, first: IpAddr, last: IpAddr) -> impl Iterator<Item = &ObjectKey> {
        let from = (first, ObjectKey::new("", ""));
        self.by_address.range(from..).take_while(move |(address, _)| *address <= last).map(|(_, pool)| pool)
    }
}

/// The addresses, and those that they stand for: what is there decides about them, too.
fn judged(addresses: impl IntoIterator<Item = IpAddr>) -> BTreeSet<IpAddr> {
    let with_others = |address| std::iter::once(address).chain(translated(address).map(IpAddr::V4));
    addresses.into_iter().flat_map(with_others).collect()
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
        interests.reach(&key, [address]);
        interests.reach(&key, []);
        assert_eq!(interests.of_pod(&pod("z")).len(), 1, "it names the address all the same");
        interests.remove(&key);
        assert_eq!(interests.of_pod(&pod("z")), []);
        let named = ObjectKey::new("ns", "x");
        interests.reach(&named, [address]);
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
        interests.reach(&named, []);
        assert_eq!(interests.of_pod(&pod("z")), []);
    }

    fn addresses(all: &[&str]) -> Vec<IpAddr> {
        all.iter().map(|address| address.parse().unwrap()).collect()
    }

    #[test]
    fn an_address_concerns_the_pools_whose_addresses_stand_for_it() {
        let interests = Interests::default();
        let mut translating = pool("x", 1, "web", "a");
        translating.spec.members[0].addresses =
            vec![mainstay_crds::MemberAddress { ip: "64:ff9b::10.0.0.1".into(), ..Default::default() }];
        interests.set(&translating);
        let key = ObjectKey::new("ns", "x");
        let of = |address: &str| interests.of_addresses(&addresses(&[address]));
        for address in ["10.0.0.1", "64:ff9b::10.0.0.1"] {
            assert_eq!(of(address), std::slice::from_ref(&key), "{address}");
        }
        assert_eq!(interests.of_pod(&pod("z")), std::slice::from_ref(&key), "a pod that gets the address");
        interests.reach(&key, addresses(&["2002:a00:2::1"]));
        assert_eq!(of("10.0.0.2"), std::slice::from_ref(&key), "a name resolves to what stands for it");
        interests.reach(&key, []);
        assert_eq!((of("10.0.0.2"), of("10.0.0.1").len()), (vec![], 1));
        interests.remove(&key);
        assert_eq!((of("10.0.0.1"), of("64:ff9b::10.0.0.1")), (vec![], vec![]));
    }

    #[test]
    fn a_network_concerns_the_pools_with_an_address_in_it() {
        let interests = Interests::default();
        for (second, (name, reached)) in
            [("a", "10.1.0.0"), ("b", "10.1.255.255"), ("c", "10.2.0.0"), ("d", "fd00::ffff")]
                .iter()
                .enumerate()
        {
            interests.set(&pool(name, u8::try_from(second).unwrap(), "web", "a"));
            interests.reach(&ObjectKey::new("ns", name), addresses(&[*reached]));
        }
        let of = |networks: &[&str]| {
            let networks: Vec<_> = networks.iter().map(|network| network.parse().unwrap()).collect();
            let mut names: Vec<_> =
                interests.of_networks(&networks).iter().map(|pool| pool.name.to_string()).collect();
            names.sort();
            names
        };
        assert_eq!(of(&["10.1.0.0/16"]), ["a", "b"]);
        assert_eq!(of(&["10.2.0.0/24", "fd00::/112"]), ["c", "d"]);
        assert!(of(&[]).is_empty() && of(&["10.3.0.0/16"]).is_empty());
    }

    #[test]
    fn a_namespace_concerns_the_pools_that_select_pods_there() {
        let interests = Interests::default();
        let mut elsewhere = pool("x", 1, "web", "a");
        elsewhere.spec.members[0].namespace = Some("other".into());
        interests.set(&elsewhere);
        interests.set(&pool("y", 2, "web", "a"));
        assert_eq!(interests.of_namespace(&"other".into()), [ObjectKey::new("ns", "x")]);
        assert_eq!(interests.of_namespace(&"ns".into()), [ObjectKey::new("ns", "y")]);
        interests.remove(&ObjectKey::new("ns", "x"));
        assert_eq!(interests.of_namespace(&"other".into()), []);
    }
}
