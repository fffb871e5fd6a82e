//! What is told of members that are refused.

use std::{net::IpAddr, sync::Arc};

use super::Gathering;
use crate::{
    observe::{
        member::{CHECK_PORT_NOT_FOUND, PORT_NOT_FOUND, Refused},
        ports::Ports,
    },
    settings::{MAX_MEMBERS, Set},
    watched::Pod,
};

impl Gathering<'_> {
    /// Told first: what the pool lacks by it, no other sentence explains.
    pub(super) fn too_many(&mut self) {
        let Some((set, beyond)) = &self.beyond else { return };
        let message = format!(
            "the pool has {} addresses and pods, of which {MAX_MEMBERS} at most are used, those that have an endpoint \
             first: spread them over several pools",
            self.budget.taken() + beyond
        );
        self.found.refused.insert(0, Refused::set(set, "TooManyMembers", message));
    }

    pub(super) fn not_granted(&mut self, set: &Set, pod: &Pod, address: Option<IpAddr>) {
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

    pub(super) fn grant_unread(&mut self, set: &Set, pod: &Pod, address: Option<IpAddr>, left_out: bool) {
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

    pub(super) fn port_not_found(&mut self, set: &Set, pod: &Pod, port: &str) {
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
    pub(super) fn unknown_ports(&mut self, set: &Set) {
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
    pub(super) fn no_number(&mut self, set: &Set, ports: &Ports) {
        let Some(missing) = &ports.missing else { return };
        let message = format!(
            "a target port of the Service is the name {missing:?}, which only pods have: give the number in ports of the set"
        );
        self.found.refused.push(Refused::set(&set.name, PORT_NOT_FOUND, message));
    }

    /// Told once a set.
    pub(super) fn check_port_not_found(&mut self, set: &Set, why: &str) {
        if !self.uncheckable.insert(Arc::clone(&set.name)) {
            return;
        }
        self.found.refused.push(Refused {
            set: Arc::clone(&set.name),
            address: None,
            name: None,
            reason: CHECK_PORT_NOT_FOUND,
            message: format!(
                "there is no port to check: {why}; correct spec.check.port or the Service. Until then the \
                 last check results are kept"
            ),
            left_out: false,
        });
    }
}
