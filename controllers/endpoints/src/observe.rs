//! What a reconcile observes of one pool: its Service, its members and its slices.

mod grants;
mod member;
mod members;
mod names;
mod ports;
#[cfg(test)]
pub(crate) mod tests;
mod view;

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use kube::ResourceExt;
use mainstay_crds::EndpointPool;
use mainstay_runtime::index::ObjectKey;
use thiserror::Error;

use self::{
    grants::{Judgement, foreign_pod, judge_pod},
    members::Gathered,
    names::Names,
};
pub use self::{
    member::{CHECK_PORT_NOT_FOUND, LOOKUP_FAILED, Member, Refused},
    names::{Awaited, Kept},
    view::View,
};
use crate::{
    settings::Settings,
    stores::Stores,
    watched::{Conditions, Endpoint, Pod, Service, Slice, Target},
};

/// Why a pool has no Service to write endpoints for. The variant's name is the reason of `Ready`.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ServiceError {
    /// There is none of that name.
    #[error(
        "there is no Service {0:?} in the namespace: create it without a selector, or let the pool create \
         it with spec.serviceRef.create"
    )]
    NotFound(String),
    /// It has a selector.
    #[error(
        "Service {0:?} has a selector, so kube-controller-manager writes its endpoints too: remove \
             spec.selector from the Service, or name another one"
    )]
    HasSelector(String),
    /// It is of the type ExternalName.
    #[error(
        "Service {0:?} is of the type ExternalName and has no endpoints: change its type, or name another one"
    )]
    IsExternalName(String),
    /// An older pool names it too.
    #[error("Service {service:?} belongs to the older EndpointPool {pool:?}: delete one of the two pools")]
    Taken {
        /// The Service.
        service: String,
        /// The pool that has it.
        pool: Arc<str>,
    },
}

impl ServiceError {
    /// The reason of `Ready`.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NotFound(_) => "ServiceNotFound",
            Self::HasSelector(_) => "ServiceHasSelector",
            Self::IsExternalName(_) => "ServiceIsExternalName",
            Self::Taken { .. } => "ServiceTaken",
        }
    }
}

/// What a reconcile sees.
pub struct Observed {
    /// The pool's Service, if it is the pool's to write endpoints for.
    pub service: Result<Arc<Service>, ServiceError>,
    /// Members that may become endpoints, in a stable order: tiers first. Without a Service to write endpoints for, those whose
    /// pods wait for their readiness gate.
    pub members: Vec<Member>,
    /// Those that may not, and why.
    pub refused: Vec<Refused>,
    /// The names that give no member only because nothing is known of them yet.
    pub awaited: Vec<Awaited>,
    /// The sets and names that the spec does not have any more and whose addresses stay members until there is an answer
    /// for those that took their place.
    pub replaced: BTreeSet<(Arc<str>, Arc<str>)>,
    /// Endpoints that are to stay as long as nothing is known of a name that may have them.
    pub kept: Vec<Kept>,
    /// Endpoints of names that no longer resolve to them: they may stay until their replacements have been checked.
    pub exchanged: Vec<Kept>,
    /// The pool's slices, by name.
    pub slices: Vec<Arc<Slice>>,
}

impl Observed {
    /// Gathers what there is of `pool`.
    pub fn gather(pool: &EndpointPool, key: &ObjectKey, settings: &Settings, view: &View<'_>) -> Self {
        let service = service(pool, key, view);
        let slices = Self::own_slices(pool, key, view.stores);
        let names = Names::new(settings, &slices, view.lookups);
        let gathered = match &service {
            Ok(service) => members::gather(key, settings, service, &names, &slices, view),
            Err(_) => waiting(pool, key, settings, &names, &slices, view),
        };
        let Gathered { members, refused, awaited, replaced } = gathered;
        let mut kept = names.kept(&slices, &members, &refused);
        kept.retain(|kept| may_use(key, kept.endpoint.address, view));
        let mut exchanged = names.exchanged(&slices, &members, &refused);
        exchanged.retain(|kept| may_use(key, kept.endpoint.address, view));
        Self { service, members, refused, awaited, replaced, kept, exchanged, slices }
    }

    /// The addresses that the pool's DNS names resolve to, and those of its endpoints: a name may resolve to them, for all
    /// that is known, and those that have left the spec may drain, as long as nothing forbids it.
    pub fn reached(key: &ObjectKey, settings: &Settings, view: &View<'_>) -> Vec<IpAddr> {
        let resolved = settings.names().flat_map(|name| view.lookups.get(name).addresses);
        resolved.chain(Self::standing(key, view.stores)).collect()
    }

    /// The addresses of the pool's endpoints.
    pub fn standing(key: &ObjectKey, stores: &Stores) -> Vec<IpAddr> {
        let slices = Self::slices(key, stores);
        slices.iter().flat_map(|slice| &slice.endpoints).map(|endpoint| endpoint.address).collect()
    }

    /// The slices of the pool. Of one in its deletion, one without its owner was orphaned, and is not to be deleted with it.
    pub fn own_slices(pool: &EndpointPool, key: &ObjectKey, stores: &Stores) -> Vec<Arc<Slice>> {
        let mut slices = Self::slices(key, stores);
        if pool.metadata.deletion_timestamp.is_some() {
            let uid = pool.metadata.uid.as_deref();
            slices.retain(|slice| slice.owner.as_ref().map(|(_, owner)| &**owner) == uid);
        }
        slices
    }

    /// The slices that carry the pool's name.
    pub fn slices(key: &ObjectKey, stores: &Stores) -> Vec<Arc<Slice>> {
        let mut slices = stores.slices.bucket(key);
        slices.sort_by(Slice::by_name);
        slices
    }
}

/// What there is of a pool that has no Service to write endpoints for: only the pods that wait for their readiness gate. What is
/// asked of them does not depend on who writes the endpoints. Where there is no Service at all, nothing says at which port, so
/// only a pool without checks has such.
fn waiting(
    pool: &EndpointPool,
    key: &ObjectKey,
    settings: &Settings,
    names: &Names<'_>,
    slices: &[Arc<Slice>],
    view: &View<'_>,
) -> Gathered {
    let absent = || Arc::new(Service::absent(service_key(pool, key)));
    let service = found(pool, key, view).or_else(|| settings.check.is_none().then(absent));
    let Some(service) = service else { return Gathered::default() };
    let Gathered { mut members, .. } = members::gather(key, settings, &service, names, slices, view);
    members.retain(Member::waits_for_gate);
    Gathered { members, ..Gathered::default() }
}

/// Whether the pool may use an address that it does not name.
fn may_use(pool: &ObjectKey, address: IpAddr, view: &View<'_>) -> bool {
    view.forbidden.reason(address).is_none()
        && foreign_pod(pool, address, view.stores)
            .is_none_or(|(_, judgement)| judgement == Judgement::Unknown)
}

/// Whether an endpoint that is no member any more may be kept for a while: it has a server that could still answer, and
/// nothing forbids the pool to use it.
pub fn may_drain(pool: &ObjectKey, endpoint: &Endpoint, view: &View<'_>) -> bool {
    let Some(target) = &endpoint.target else { return may_use(pool, endpoint.address, view) };
    pod_of(endpoint, target, view.stores).is_some_and(|pod| {
        let runs = pod.ready && !pod.header.terminating && view.stores.has_node(&pod);
        runs && judge_pod(pool, &pod, view.stores) != Judgement::NotGranted
    })
}

/// What an endpoint of a pool of which no spec can be followed may say at most, as `before` it was lowered: nothing if it may not
/// stay, because something forbids the pool to use it, or its pod has gone. One whose pod does not serve is not ready, except in a
/// Service that `publishes` those.
pub fn may_say(
    pool: &ObjectKey,
    endpoint: &Endpoint,
    before: Conditions,
    publishes: bool,
    view: &View<'_>,
) -> Option<Conditions> {
    let Some(target) = &endpoint.target else {
        return may_use(pool, endpoint.address, view).then_some(before);
    };
    let pod = pod_of(endpoint, target, view.stores)?;
    (judge_pod(pool, &pod, view.stores) != Judgement::NotGranted).then(|| Conditions {
        ready: before.ready && (publishes || (pod.ready && !pod.header.terminating)),
        serving: before.serving && pod.ready,
        terminating: before.terminating || pod.header.terminating,
    })
}

/// The pod of an endpoint, if it is still there, at this address, and has not ended.
fn pod_of(endpoint: &Endpoint, target: &Target, stores: &Stores) -> Option<Arc<Pod>> {
    let key = ObjectKey { namespace: Arc::clone(&target.namespace), name: Arc::clone(&target.name) };
    let pod = stores.pods.get(&key).filter(|pod| *pod.header.uid == *target.uid)?;
    (pod.is_placed() && pod.addresses.contains(&endpoint.address)).then_some(pod)
}

fn service_key(pool: &EndpointPool, key: &ObjectKey) -> ObjectKey {
    ObjectKey::new(&key.namespace, &pool.spec.service_ref.name)
}

/// The Service that the pool names, whoever writes its endpoints.
fn found(pool: &EndpointPool, key: &ObjectKey, view: &View<'_>) -> Option<Arc<Service>> {
    view.stores.services.get(&service_key(pool, key)).filter(|service| !service.header.terminating)
}

/// The Service of a pool.
fn service(pool: &EndpointPool, key: &ObjectKey, view: &View<'_>) -> Result<Arc<Service>, ServiceError> {
    let name = &pool.spec.service_ref.name;
    if let Some(holder) = view.interests.holder(&service_key(pool, key))
        && *holder != *pool.name_any()
    {
        return Err(ServiceError::Taken { service: name.clone(), pool: holder });
    }
    match found(pool, key, view) {
        None => Err(ServiceError::NotFound(name.clone())),
        Some(service) if service.is_external_name => Err(ServiceError::IsExternalName(name.clone())),
        Some(service) if service.has_selector => Err(ServiceError::HasSelector(name.clone())),
        Some(service) => Ok(service),
    }
}
