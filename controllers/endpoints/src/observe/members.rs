//! The members of a pool: which addresses may become endpoints, and which may not.

use std::{
    collections::{BTreeSet, HashMap, hash_map::Entry},
    net::IpAddr,
    sync::Arc,
};

use kube::core::Selector;
use mainstay_runtime::index::ObjectKey;

use super::{
    grants::{Grants, Judged, Judgement, foreign_pod},
    member::{CHECK_PORT_NOT_FOUND, Member, PORT_NOT_FOUND, Refused},
    names::{Awaited, Names},
    ports::{Ports, Resolver},
    view::View,
};
use crate::{
    settings::{Fixed, Set, Settings, Source},
    watched::{self, Bucket, Conditions, Endpoint, Family, Pod, Port, Service, Slice},
};

/// No pool has more members: their endpoints go to every node, and DNS names alone could bring a million.
const MAX_MEMBERS: usize = 20_000;

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
    let mut sets: Vec<_> = settings.sets.iter().collect();
    // Of a pod and a mere address of one tier, the pod is the member: it says whether it is ready.
    sets.sort_by_key(|set| (set.tier, !matches!(set.source, Source::Pods { .. })));
    let check = settings.check.as_ref().map(|check| &check.port);
    let (found, seen) = (Gathered::default(), HashMap::new());
    let mut gathering = Gathering { pool, service, names, slices, view, found, seen };
    for set in sets {
        let mut ports = Resolver::new(service, set, check);
        gathering.unknown_ports(set);
        match &set.source {
            Source::Pods { namespace, selector } => gathering.pods(set, namespace, selector, &mut ports),
            Source::Addresses(addresses) => {
                let shared = ports.of(None);
                gathering.no_number(set, &shared);
                addresses.iter().for_each(|fixed| gathering.address(set, fixed, None, &shared));
            }
            Source::Names(names) => {
                let shared = ports.of(None);
                gathering.no_number(set, &shared);
                gathering.names(set, names, &shared);
            }
        }
    }
    bounded(gathering.found)
}

fn bounded(mut found: Gathered) -> Gathered {
    if let Some(first) = found.members.get(MAX_MEMBERS) {
        let message = format!(
            "the pool has {} members and uses the first {MAX_MEMBERS}: spread them over several pools",
            found.members.len()
        );
        found.refused.push(Refused::set(&first.target.0, "TooManyMembers", message));
        found.members.truncate(MAX_MEMBERS);
    }
    found
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
}

impl Gathering<'_> {
    fn pods(&mut self, set: &Set, namespace: &Arc<str>, selector: &Selector, ports: &mut Resolver<'_>) {
        let grants = (*namespace != self.pool.namespace).then(|| Grants::of(namespace, self.view.stores));
        let mut judged = Judged::new(self.pool, selector, grants);
        let mut pods = self.view.stores.pods.bucket(&Bucket::Namespace(Arc::clone(namespace)));
        let has_node = |pod: &Pod| self.service.publish_not_ready || self.has_node(pod);
        pods.retain(|pod| pod.is_placed() && judged.of(&pod.labels) != Judgement::Other && has_node(pod));
        pods.sort_unstable_by(|one, other| one.header.key.name.cmp(&other.header.key.name));
        for pod in pods {
            let mut addresses = pod.addresses.to_vec();
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

    /// Whether the pod's node is there. As upstream: where it is gone, the pod is as well, although its object says otherwise
    /// until it is collected.
    fn has_node(&self, pod: &Pod) -> bool {
        let node = |name| self.view.stores.nodes.get(&ObjectKey::new("", name));
        pod.node.as_ref().is_none_or(|name| node(name).is_some())
    }

    /// Whether the pool has an endpoint of this address, of this pod or of none.
    fn stands(&self, address: IpAddr, pod: &Pod) -> bool {
        self.slices.iter().flat_map(|slice| &slice.endpoints).any(|endpoint| {
            let is_its = endpoint.target.as_ref().is_none_or(|target| *target.uid == *pod.header.uid);
            let has_left = endpoint.conditions.terminating && !pod.header.terminating;
            endpoint.address == address && is_its && !has_left
        })
    }

    fn not_granted(&mut self, set: &Set, pod: &Pod, address: Option<IpAddr>) {
        let message = format!(
            "no EndpointGrant in namespace {} lets pools of {} use this pod: create one there",
            pod.header.key.namespace, self.pool.namespace
        );
        self.found.refused.push(Refused {
            set: Arc::clone(&set.name),
            address: address.or(pod.addresses.first().copied()),
            name: Some(Arc::clone(&pod.header.key.name)),
            reason: "NotGranted",
            message,
            left_out: true,
        });
    }

    fn grant_unread(&mut self, set: &Set, pod: &Pod, address: Option<IpAddr>, left_out: bool) {
        let stays = if left_out { "" } else { "; its endpoint stays until then" };
        let message = format!(
            "no readable EndpointGrant in namespace {} lets pools of {} use this pod: correct the one that \
             cannot be read{stays}",
            pod.header.key.namespace, self.pool.namespace
        );
        self.found.refused.push(Refused {
            set: Arc::clone(&set.name),
            address: address.or(pod.addresses.first().copied()),
            name: Some(Arc::clone(&pod.header.key.name)),
            reason: "GrantUnreadable",
            message,
            left_out,
        });
    }

    fn port_not_found(&mut self, set: &Set, pod: &Pod, port: &str) {
        self.found.refused.push(Refused {
            set: Arc::clone(&set.name),
            address: pod.addresses.first().copied(),
            name: Some(Arc::clone(&pod.header.key.name)),
            reason: PORT_NOT_FOUND,
            message: format!(
                "no container of the pod has a port named {port:?}: name the port, or use its number"
            ),
            left_out: false,
        });
    }

    /// Ports of a set that the Service does not have: a name that is written wrong sends traffic elsewhere.
    fn unknown_ports(&mut self, set: &Set) {
        let has = |name: &String| self.service.ports.iter().any(|port| port.name == *name);
        let mut unknown: Vec<_> = set.ports.keys().filter(|name| !has(name)).collect();
        unknown.sort_unstable();
        for name in unknown {
            let message = format!(
                "spec.members[].ports names {name:?}, and the Service has no port of that name, so the target port of the \
                 Service applies: correct the name, or the Service"
            );
            self.found.refused.push(Refused::set(&set.name, PORT_NOT_FOUND, message));
        }
    }

    /// Only pods have ports with names.
    fn no_number(&mut self, set: &Set, ports: &Ports) {
        let Some(missing) = &ports.missing else { return };
        let message = format!(
            "a target port of the Service is the name {missing:?}, which only pods have: give the number in ports of the set"
        );
        self.found.refused.push(Refused::set(&set.name, PORT_NOT_FOUND, message));
    }

    /// Told once a set.
    fn check_port_not_found(&mut self, set: &Set, why: &str) {
        let reason = CHECK_PORT_NOT_FOUND;
        if self.found.refused.iter().any(|told| told.reason == reason && told.set == set.name) {
            return;
        }
        self.found.refused.push(Refused {
            set: Arc::clone(&set.name),
            address: None,
            name: None,
            reason,
            message: format!(
                "there is no port to check: {why}; correct spec.check.port or the Service. Until then the \
                 last check results are kept"
            ),
            left_out: false,
        });
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
                reason: "LookupFailed",
                message: format!("{name} could not be looked up: {failure}{kept}"),
                left_out: addresses.is_empty(),
            });
        }
        let is_served = |address: &IpAddr| self.service.families.contains(&Family::of(address));
        if !addresses.is_empty() && !addresses.iter().any(is_served) {
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
        if name.is_none() && !self.service.families.contains(&Family::of(&fixed.address)) {
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
        if !self.service.families.contains(&Family::of(&address)) {
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
            target: (Arc::clone(&set.name), address),
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
