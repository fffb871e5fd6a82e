//! The members of a pool: which addresses may become endpoints, and which may not.

use std::{
    collections::{BTreeSet, HashSet},
    net::IpAddr,
    sync::Arc,
};

use kube::core::Selector;
use mainstay_runtime::index::ObjectKey;

use super::{
    grants::{Grants, Judged, Judgement, foreign_pod},
    member::{CHECK_PORT_NOT_FOUND, Member, Refused},
    names::{Awaited, Names},
    ports::{Ports, Resolver},
    view::View,
};
use crate::{
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
    let mut sets: Vec<_> = settings.sets.iter().collect();
    sets.sort_by_key(|set| set.tier);
    let check = settings.check.as_ref().map(|check| &check.port);
    let (found, seen) = (Gathered::default(), HashSet::new());
    let mut gathering = Gathering { pool, service, names, slices, view, found, seen };
    for set in sets {
        let mut ports = Resolver::new(service, set, check);
        match &set.source {
            Source::Pods { namespace, selector } => gathering.pods(set, namespace, selector, &mut ports),
            Source::Addresses(addresses) => {
                let shared = ports.of(None);
                addresses.iter().for_each(|fixed| gathering.address(set, fixed, None, &shared));
            }
            Source::Names(names) => gathering.names(set, names, &ports.of(None)),
        }
    }
    gathering.found
}

/// Address, ports and pod.
type Identity = (IpAddr, Arc<[Port]>, Option<Arc<str>>);

struct Gathering<'a> {
    pool: &'a ObjectKey,
    service: &'a Service,
    names: &'a Names<'a>,
    slices: &'a [Arc<Slice>],
    view: &'a View<'a>,
    found: Gathered,
    /// What has its endpoint already: of two sets that name the same, the one of the lower tier has it.
    seen: HashSet<Identity>,
}

impl Gathering<'_> {
    fn pods(&mut self, set: &Set, namespace: &Arc<str>, selector: &Selector, ports: &mut Resolver<'_>) {
        let grants = (*namespace != self.pool.namespace).then(|| Grants::of(namespace, self.view.stores));
        let mut judged = Judged::new(self.pool, selector, grants);
        let mut pods = self.view.stores.pods.bucket(&Bucket::Namespace(Arc::clone(namespace)));
        pods.retain(|pod| pod.is_placed() && judged.of(&pod.labels) != Judgement::Other);
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
            reason: "PortNotFound",
            message: format!(
                "no container of the pod has a port named {port:?}: name the port, or use its number"
            ),
            left_out: false,
        });
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
        for address in addresses {
            self.address(set, &Fixed { address, zone: None, hostname: None }, Some(&name), ports);
        }
    }

    fn address(&mut self, set: &Set, fixed: &Fixed, name: Option<&Arc<str>>, ports: &Ports) {
        let is_own = self.service.addresses.contains(&fixed.address);
        let own = is_own.then(|| "it is an address of the pool's own Service".to_owned());
        if let Some(why) = own.or_else(|| self.view.forbidden.reason(fixed.address, self.view.stores)) {
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
        if !self.seen.insert((address, Arc::clone(&ports.slice), pod_name.clone())) {
            return;
        }
        if let Some(why) = &ports.uncheckable {
            self.check_port_not_found(set, why);
        }
        self.found.members.push(Member {
            target: (Arc::clone(&set.name), address),
            tier: set.tier,
            pod: pod.cloned(),
            name: pod_name.or_else(|| name.cloned()),
            ports: Arc::clone(&ports.slice),
            check_port: ports.check,
            endpoint,
        });
    }
}
