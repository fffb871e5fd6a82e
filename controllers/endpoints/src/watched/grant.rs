//! Grants: which pools of other namespaces may use the pods of one.

use std::{collections::BTreeMap, sync::Arc};

use kube::core::{Selector, SelectorExt};
use mainstay_crds::{EndpointGrant, GrantedTo};
use mainstay_runtime::{
    index::{Indexed, ObjectKey},
    slim::Header,
};

/// A grant as the store keeps it.
#[derive(Debug, PartialEq)]
pub struct Grant {
    header: Header,
    from: Vec<GrantedTo>,
    /// The pods that it is about; `None` where its selector cannot be read, and nothing is granted.
    pods: Option<Selector>,
}

impl Grant {
    /// Whether it lets `pool` use pods with these labels.
    pub fn allows(&self, pool: &ObjectKey, labels: &BTreeMap<String, String>) -> bool {
        let named = |from: &GrantedTo| {
            *from.namespace == *pool.namespace && from.pool.as_deref().is_none_or(|name| *name == *pool.name)
        };
        self.from.iter().any(named) && self.pods.as_ref().is_some_and(|pods| pods.matches(labels))
    }
}

impl From<EndpointGrant> for Grant {
    fn from(grant: EndpointGrant) -> Self {
        let header = Header::of(&grant);
        let pods = grant.spec.pod_selector.map_or_else(|| Ok(Selector::default()), Selector::try_from);
        Self { header, from: grant.spec.from, pods: pods.ok() }
    }
}

impl Indexed for Grant {
    /// The namespace.
    type Bucket = Arc<str>;

    fn header(&self) -> &Header {
        &self.header
    }
    fn buckets(&self) -> Vec<Arc<str>> {
        vec![Arc::clone(&self.header.key.namespace)]
    }
    fn is_same(&self, other: &Self) -> bool {
        self == other
    }
}
