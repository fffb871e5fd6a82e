//! Target ports: resolves the names in a Service to the port numbers of one member.

use std::{collections::BTreeSet, sync::Arc};

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::{
    settings::{CheckPort, Set},
    watched::{Pod, Port, Service, ServicePort},
};

/// The ports of one member.
#[derive(Debug, Clone)]
pub(super) struct Ports {
    /// As in a slice, in order.
    pub(super) slice: Arc<[Port]>,
    /// The one that is checked.
    pub(super) check: Option<u16>,
    /// Why there is none, although there should be one.
    pub(super) uncheckable: Option<String>,
    /// The first named port that the member does not have.
    pub(super) missing: Option<String>,
}

/// Resolves the ports of members of one set.
pub(super) struct Resolver<'a> {
    service: &'a Service,
    set: &'a Set,
    check: Option<&'a CheckPort>,
    /// Members with the same ports share them.
    known: BTreeSet<Arc<[Port]>>,
    /// The answer for every member, where no port has a name.
    same: Option<Ports>,
}

impl<'a> Resolver<'a> {
    pub(super) fn new(service: &'a Service, set: &'a Set, check: Option<&'a CheckPort>) -> Self {
        let mut resolver = Self { service, set, check, known: BTreeSet::new(), same: None };
        let is_number = |port| matches!(resolver.target(port), IntOrString::Int(_));
        if service.ports.iter().all(is_number) {
            resolver.same = Some(resolver.resolve(None));
        }
        resolver
    }

    /// The ports of a pod, or of an address.
    pub(super) fn of(&mut self, pod: Option<&Pod>) -> Ports {
        match &self.same {
            Some(same) => same.clone(),
            None => self.resolve(pod),
        }
    }

    fn target(&self, port: &'a ServicePort) -> &'a IntOrString {
        self.set.ports.get(&port.name).unwrap_or(&port.target)
    }

    fn resolve(&mut self, pod: Option<&Pod>) -> Ports {
        let mut missing = None;
        let mut number = |port: &'a ServicePort| match self.target(port) {
            IntOrString::Int(number) => u16::try_from(*number).ok(),
            IntOrString::String(name) => {
                let number = pod.and_then(|pod| pod.port(name, &port.protocol));
                if number.is_none() {
                    missing.get_or_insert_with(|| name.clone());
                }
                number
            }
        };
        let numbers: Vec<_> = self.service.ports.iter().map(|port| (port, number(port))).collect();
        let check = self.check.map(|check| self.check_port(check, &numbers)).transpose();
        let mut ports: Vec<_> =
            numbers.iter().filter_map(|(port, number)| Some(written(port, (*number)?))).collect();
        ports.sort();
        let (check, uncheckable) = match check {
            Ok(check) => (check, None),
            Err(why) => (None, Some(why)),
        };
        Ports { slice: self.share(ports), check, uncheckable, missing }
    }

    /// The port to check out of those of a member, or why there is none.
    fn check_port(
        &self,
        check: &CheckPort,
        numbers: &[(&'a ServicePort, Option<u16>)],
    ) -> Result<u16, String> {
        let found = match check {
            CheckPort::Number(number) => return Ok(*number),
            CheckPort::Named(name) => numbers
                .iter()
                .find(|(port, _)| port.name == *name)
                .ok_or_else(|| format!("the Service has no port named {name:?}"))?,
            CheckPort::First => numbers
                .iter()
                .find(|(port, _)| port.protocol == "TCP")
                .ok_or("the Service has no TCP port")?,
        };
        found.1.ok_or_else(|| match self.target(found.0) {
            IntOrString::String(target) => format!("a member has no port named {target:?}"),
            IntOrString::Int(number) => format!("{number} is not a port number"),
        })
    }

    fn share(&mut self, ports: Vec<Port>) -> Arc<[Port]> {
        if let Some(known) = self.known.get(ports.as_slice()) {
            return Arc::clone(known);
        }
        let ports: Arc<[Port]> = ports.into();
        self.known.insert(Arc::clone(&ports));
        ports
    }
}

fn written(port: &ServicePort, number: u16) -> Port {
    Port {
        name: port.name.clone(),
        port: number,
        protocol: port.protocol.clone(),
        app_protocol: port.app_protocol.clone(),
    }
}
