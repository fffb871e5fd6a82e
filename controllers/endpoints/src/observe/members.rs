//! The members of a pool: which addresses may become endpoints, and which may not.

mod budget;
mod told;

use std::{
    collections::{BTreeSet, HashMap, hash_map::Entry},
    net::IpAddr,
    sync::Arc,
};

use kube::core::Selector;
use mainstay_runtime::index::ObjectKey;

use self::budget::Budget;
use super::{
    grants::{Grants, Judged, Judgement, foreign_pod},
    member::{LOOKUP_FAILED, Member, Refused},
    names::{Awaited, Names},
    ports::{Ports, Resolver},
    view::View,
};
use crate::{
    checker::Target,
    settings::{Fixed, Set, Settings, Source},
    watched::{self, Bucket, Conditions, Endpoint, Family, Pod, Port, Service, Slice},
};

/// What [`gather`] finds.
#[derive(Default)]
pub(super) struct Gathered {
    pub(super) members: Vec<Member>,
    pub(super) refused: Vec<Refused>,
    pub(super) awaited: Vec<Awaited>,
    pub(super) replaced: BTreeSet<(Arc<str>, Arc<str>)>,
}

/// Gathers the members of a pool that has its Service.
pub(super) fn gather(
    pool: &ObjectKey,
    settings: &Settings,
    service: &Service,
    names: &Names<'_>,
    slices: &[Arc<Slice>],
    view: &View<'_>,
) -> Gathered {
    let gather = |budget| {
        let (found, seen, beyond, is_over, uncheckable) = Default::default();
        let mut gathering = Gathering {
            pool,
            service,
            names,
            slices,
            view,
            found,
            seen,
            budget,
            beyond,
            is_over,
            uncheckable,
        };
        gathering.sets(settings);
        gathering.too_many();
        gathering
    };
    match gather(Budget::any()) {
        gathering if !gathering.is_over => gathering.found,
        _ => gather(Budget::preferring(settings, names, slices)).found,
    }
}

/// Address and ports.
type Identity = (IpAddr, Arc<[Port]>);

struct Gathering<'a> {
    pool: &'a ObjectKey,
    service: &'a Service,
    names: &'a Names<'a>,
    slices: &'a [Arc<Slice>],
    view: &'a View<'a>,
    found: Gathered,
    /// What is a member already, with the names of the pods, of which those on the network of their node share an address;
    /// without one it is a mere address. Of two sets that name the same, the one of the lower tier has it.
    seen: HashMap<Identity, Vec<Arc<str>>>,
    /// Nothing is judged beyond it: the answers of others' DNS servers decide how much there is.
    budget: Budget,
    /// The first set of which something was left out, and how much was in all.
    beyond: Option<(Arc<str>, usize)>,
    /// Whether the budget did not suffice.
    is_over: bool,
    /// The sets of which it was told that there is no port to check.
    uncheckable: BTreeSet<Arc<str>>,
}

impl Gathering<'_> {
    fn sets(&mut self, settings: &Settings) {
        let mut sets: Vec<_> = settings.sets.iter().collect();
        // Of a pod and a mere address of one tier, the pod is the member: it says whether it is ready.
        sets.sort_by_key(|set| (set.tier, !matches!(set.source, Source::Pods { .. })));
        let check = settings.check.as_ref().map(|check| &check.port);
        for set in sets {
            let mut ports = Resolver::new(self.service, set, check);
            self.unknown_ports(set);
            match &set.source {
                Source::Pods { namespace, selector } => self.pods(set, namespace, selector, &mut ports),
                Source::Addresses(addresses) => {
                    let shared = ports.of(None);
                    self.no_number(set, &shared);
                    addresses.iter().for_each(|fixed| self.address(set, fixed, None, &shared));
                }
                Source::Names(names) => {
                    let shared = ports.of(None);
                    self.no_number(set, &shared);
                    self.names(set, names, &shared);
                }
            }
        }
    }

    /// Whether one more address of a set may be judged.
    fn may_judge(&mut self, set: &Set, address: &IpAddr) -> bool {
        let may = self.budget.take(address);
        if !may {
            self.is_over = true;
            self.leave_out(set, 1);
        }
        may
    }

    fn leave_out(&mut self, set: &Set, count: usize) {
        let (_, beyond) = self.beyond.get_or_insert_with(|| (Arc::clone(&set.name), 0));
        *beyond += count;
    }

    fn is_served(&self, address: &IpAddr) -> bool {
        self.service.families.contains(&Family::of(address))
    }

    /// The addresses of a pod that may be judged; `None` if it has to be left out. One of a pod that has none of the Service's
    /// family counts all the same: the pod is judged.
    fn addresses(&mut self, set: &Set, pod: &Pod) -> Option<Vec<IpAddr>> {
        let mut served: Vec<_> =
            pod.addresses.iter().copied().filter(|address| self.is_served(address)).collect();
        if served.is_empty() {
            return self.may_judge(set, pod.addresses.first()?).then_some(served);
        }
        served.retain(|address| self.may_judge(set, address));
        (!served.is_empty()).then_some(served)
    }

    fn pods(&mut self, set: &Set, namespace: &Arc<str>, selector: &Selector, ports: &mut Resolver<'_>) {
        let grants = (*namespace != self.pool.namespace).then(|| Grants::of(namespace, self.view.stores));
        let mut judged = Judged::new(self.pool, selector, grants);
        let mut pods = self.view.stores.pods.bucket(&Bucket::Namespace(Arc::clone(namespace)));
        let has_node = |pod: &Pod| self.service.publish_not_ready || self.view.stores.has_node(pod);
        pods.retain(|pod| pod.is_placed() && judged.of(&pod.labels) != Judgement::Other && has_node(pod));
        pods.sort_unstable_by(|one, other| one.header.key.name.cmp(&other.header.key.name));
        for pod in pods {
            let Some(mut addresses) = self.addresses(set, &pod) else { continue };
            match judged.of(&pod.labels) {
                Judgement::NotGranted => {
                    self.not_granted(set, &pod, None);
                    continue;
                }
                Judgement::Unknown => {
                    addresses.retain(|address| self.stands(*address, &pod));
                    self.grant_unread(set, &pod, None, addresses.is_empty());
                }
                Judgement::Member | Judgement::Other => {}
            }
            let ports = ports.of(Some(&pod));
            if let Some(missing) = &ports.missing {
                self.port_not_found(set, &pod, missing);
            }
            for address in addresses {
                let endpoint = self.endpoint_of(&pod, address);
                self.add(set, endpoint, Some(&pod), None, &ports);
            }
        }
    }

    /// Whether the pool has an endpoint of this address, of this pod or of none.
    fn stands(&self, address: IpAddr, pod: &Pod) -> bool {
        self.slices.iter().flat_map(|slice| &slice.endpoints).any(|endpoint| {
            let is_its = endpoint.target.as_ref().is_none_or(|target| *target.uid == *pod.header.uid);
            let has_left = endpoint.conditions.terminating && !pod.header.terminating;
            endpoint.address == address && is_its && !has_left
        })
    }

    fn names(&mut self, set: &Set, names: &[String], ports: &Ports) {
        for name in names {
            self.name(set, name, ports);
        }
        for (name, address) in self.names.replaced(&set.name) {
            self.found.replaced.insert((Arc::clone(&set.name), Arc::clone(&name)));
            self.address(set, &Fixed { address, zone: None, hostname: None }, Some(&name), ports);
        }
    }

    fn name(&mut self, set: &Set, name: &str, ports: &Ports) {
        let (known, stood) = self.names.of(name);
        let name: Arc<str> = name.into();
        if known.left_out > 0 {
            self.leave_out(set, known.left_out);
        }
        let addresses: Vec<_> = known.addresses.into_iter().chain(stood).collect();
        if addresses.is_empty() && !known.unknown.is_empty() {
            let (set, tier) = (Arc::clone(&set.name), set.tier);
            self.found.awaited.push(Awaited { set, tier, name: Arc::clone(&name) });
        }
        if let Some(failure) = known.failure {
            let kept = if addresses.is_empty() { "" } else { "; its last addresses are kept" };
            self.found.refused.push(Refused {
                set: Arc::clone(&set.name),
                address: None,
                name: Some(Arc::clone(&name)),
                reason: LOOKUP_FAILED,
                message: format!("{name} could not be looked up: {failure}{kept}"),
                left_out: addresses.is_empty(),
            });
        }
        if !addresses.is_empty() && !addresses.iter().any(|address| self.is_served(address)) {
            let message = format!(
                "{name} has no address of a family (IPv4, IPv6) in spec.ipFamilies of the Service: add the family to the \
                 Service, or a record to the name"
            );
            let refused = Refused::set(&set.name, "FamilyNotServed", message);
            self.found.refused.push(Refused { name: Some(Arc::clone(&name)), left_out: true, ..refused });
        }
        for address in addresses {
            self.address(set, &Fixed { address, zone: None, hostname: None }, Some(&name), ports);
        }
    }

    fn address(&mut self, set: &Set, fixed: &Fixed, name: Option<&Arc<str>>, ports: &Ports) {
        if !self.may_judge(set, &fixed.address) {
            return;
        }
        let is_own = self.service.addresses.contains(&fixed.address);
        let own = is_own.then(|| "it is an address of the pool's own Service".to_owned());
        if let Some(why) = own.or_else(|| self.view.forbidden.reason(fixed.address)) {
            let stands_for = name.map(|name| format!(", to which {name} resolves,")).unwrap_or_default();
            self.found.refused.push(Refused {
                set: Arc::clone(&set.name),
                address: Some(fixed.address),
                name: name.cloned(),
                reason: "RangeForbidden",
                message: format!("{}{stands_for} is left out: {why}", fixed.address),
                left_out: true,
            });
            return;
        }
        if name.is_none() && !self.is_served(&fixed.address) {
            self.found.refused.push(Refused {
                set: Arc::clone(&set.name),
                address: Some(fixed.address),
                name: None,
                reason: "FamilyNotServed",
                message: format!(
                    "{} is left out: its family is not in spec.ipFamilies of the Service",
                    fixed.address
                ),
                left_out: true,
            });
            return;
        }
        match foreign_pod(self.pool, fixed.address, self.view.stores) {
            None => {}
            Some((pod, Judgement::Unknown)) => {
                let stands = self.stands(fixed.address, &pod);
                self.grant_unread(set, &pod, Some(fixed.address), !stands);
                if !stands {
                    return;
                }
            }
            Some((pod, _)) => {
                self.not_granted(set, &pod, Some(fixed.address));
                return;
            }
        }
        let endpoint = Endpoint {
            address: fixed.address,
            conditions: Conditions::default(),
            hostname: fixed.hostname.clone(),
            node: None,
            zone: fixed.zone.clone(),
            target: None,
            hint_zone: None,
            hint_node: None,
        };
        self.add(set, endpoint, None, name, ports);
    }

    fn endpoint_of(&self, pod: &Pod, address: IpAddr) -> Endpoint {
        let named = pod.subdomain.as_deref() == Some(&*self.service.header.key.name)
            && pod.header.key.namespace == self.service.header.key.namespace;
        let node = pod.node.as_ref().and_then(|node| self.view.stores.nodes.get(&ObjectKey::new("", node)));
        Endpoint {
            address,
            conditions: Conditions::default(),
            hostname: pod.hostname.clone().filter(|_| named),
            node: pod.node.clone(),
            zone: node.and_then(|node| node.zone.clone()),
            target: Some(watched::Target {
                namespace: Arc::clone(&pod.header.key.namespace),
                name: Arc::clone(&pod.header.key.name),
                uid: pod.header.uid.as_ref().into(),
            }),
            hint_zone: None,
            hint_node: None,
        }
    }

    fn add(
        &mut self,
        set: &Set,
        endpoint: Endpoint,
        pod: Option<&Arc<Pod>>,
        name: Option<&Arc<str>>,
        ports: &Ports,
    ) {
        let address = endpoint.address;
        if !self.is_served(&address) {
            return;
        }
        let pod_name = pod.map(|pod| Arc::clone(&pod.header.key.name));
        match (self.seen.entry((address, Arc::clone(&ports.slice))), &pod_name) {
            (Entry::Vacant(free), pod) => _ = free.insert(pod.iter().cloned().collect()),
            (Entry::Occupied(mut pods), Some(pod)) if !pods.get().is_empty() && !pods.get().contains(pod) => {
                pods.get_mut().push(Arc::clone(pod));
            }
            (Entry::Occupied(_), _) => return,
        }
        if let Some(why) = &ports.uncheckable {
            self.check_port_not_found(set, why);
        }
        self.found.members.push(Member {
            target: Target { set: Arc::clone(&set.name), address, pod: pod_name.clone() },
            tier: set.tier,
            pod: pod.cloned(),
            name: pod_name.or_else(|| name.cloned()),
            is_reachable: !ports.slice.is_empty()
                || self.service.ports.is_empty()
                || self.service.is_headless,
            ports: Arc::clone(&ports.slice),
            check_port: ports.check,
            endpoint,
        });
    }
}
