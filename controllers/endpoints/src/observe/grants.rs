//! Which pods of other namespaces a pool may use.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::Arc,
};

use kube::core::{Selector, SelectorExt};
use mainstay_runtime::{index::ObjectKey, labels::Labels};

use crate::{
    stores::Stores,
    watched::{Bucket, Grant, Pod},
};

/// Whether pods with certain labels may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Judgement {
    /// They are not selected.
    Other,
    /// They are, and no grant allows it.
    NotGranted,
    /// They are not granted, but a grant that cannot be read may allow them: existing endpoints stay, and none are
    /// added.
    Unknown,
    Member,
}

/// The grants of a namespace.
pub(super) struct Grants {
    known: Vec<Arc<Grant>>,
    /// Whether there is one of which this process has never known what it allows.
    is_one_unread: bool,
}

impl Grants {
    pub(super) fn of(namespace: &Arc<str>, stores: &Stores) -> Self {
        let unread = stores.undecoded_grants.in_namespace(namespace);
        let is_unknown = |name: &String| stores.grants.get(&ObjectKey::new(namespace, name)).is_none();
        Self {
            known: stores.grants.bucket(namespace),
            is_one_unread: unread.iter().filter_map(|grant| grant.name.as_ref()).any(is_unknown),
        }
    }

    /// Whether they let `pool` use pods with these labels.
    pub(super) fn judge(&self, pool: &ObjectKey, labels: &BTreeMap<String, String>) -> Judgement {
        if self.known.iter().any(|grant| grant.allows(pool, labels)) {
            Judgement::Member
        } else if self.is_one_unread {
            Judgement::Unknown
        } else {
            Judgement::NotGranted
        }
    }
}

/// The pod of another namespace that has this address, if no grant is known to let the pool use it: what a selector may not
/// reach, an address may not either.
pub(super) fn foreign_pod(
    pool: &ObjectKey,
    address: IpAddr,
    stores: &Stores,
) -> Option<(Arc<Pod>, Judgement)> {
    let judge = |pod: Arc<Pod>| {
        let judgement = judge_pod(pool, &pod, stores);
        (pod, judgement)
    };
    let pods = stores.pods.bucket(&Bucket::Address(address)).into_iter().map(judge);
    let best = pods.max_by_key(|(_, judgement)| *judgement);
    best.filter(|(_, judgement)| *judgement != Judgement::Member)
}

/// Whether the pool may use this pod.
pub(super) fn judge_pod(pool: &ObjectKey, pod: &Pod, stores: &Stores) -> Judgement {
    let namespace = &pod.header.key.namespace;
    if *namespace == pool.namespace {
        Judgement::Member
    } else {
        Grants::of(namespace, stores).judge(pool, &pod.labels)
    }
}

/// Pods of one template share their labels, so each set of them is judged once.
pub(super) struct Judged<'a> {
    pool: &'a ObjectKey,
    selector: &'a Selector,
    /// Those of the pods' namespace, unless it is the pool's own.
    grants: Option<Grants>,
    known: HashMap<*const BTreeMap<String, String>, Judgement>,
}

impl<'a> Judged<'a> {
    pub(super) fn new(pool: &'a ObjectKey, selector: &'a Selector, grants: Option<Grants>) -> Self {
        Self { pool, selector, grants, known: HashMap::new() }
    }

    pub(super) fn of(&mut self, labels: &Labels) -> Judgement {
        let (pool, selector, grants) = (self.pool, self.selector, &self.grants);
        *self.known.entry(Arc::as_ptr(labels)).or_insert_with(|| {
            if selector.matches(&**labels) {
                grants.as_ref().map_or(Judgement::Member, |grants| grants.judge(pool, labels))
            } else {
                Judgement::Other
            }
        })
    }
}
