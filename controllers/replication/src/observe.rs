//! Turns the stores into what a plan needs: one value for one group, at one moment.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use kube::{
    ResourceExt,
    core::{Selector, SelectorExt},
};
use mainstay_crds::{NodePreference, PodReplacement, ReplicaGroup};
use mainstay_runtime::index::{Index, ObjectKey};
use thiserror::Error;

use crate::{
    plan::{self, Claim, Domains, MAX_SPREAD_KEYS, Plan, Policy},
    pod::{Bucket, Labelled, Pod},
};

/// The stores that a pass reads.
#[derive(Clone, Default)]
pub struct Stores {
    /// All pods.
    pub pods: Index<Pod>,
    /// All nodes.
    pub nodes: Index<Labelled>,
}

/// A group that cannot be planned.
#[derive(Debug, Error)]
pub enum ObserveError {
    /// Admission refuses this; an object from before the rule may still carry it.
    #[error("spec.selector cannot be used: {0}")]
    Selector(#[source] kube::core::ParseExpressionError),
    /// Without a namespace and a UID an object has not come from the API server.
    #[error("the object has no {0}")]
    NotStored(&'static str),
}

/// Everything that decides what a group needs.
#[derive(Debug)]
pub struct Observed {
    /// Namespace and name of the group.
    pub key: ObjectKey,
    /// UID of the group.
    pub uid: Arc<str>,
    /// The group's selector.
    pub selector: Selector,
    /// What is wanted.
    pub policy: Policy,
    pods: Vec<(Arc<Pod>, Claim)>,
    nodes: HashMap<Arc<str>, Place>,
    spread: Vec<String>,
    template_labels: BTreeMap<String, String>,
}

#[derive(Debug)]
struct Place {
    node: Option<Arc<Labelled>>,
    pods: usize,
}

impl Observed {
    /// Gathers the group's own pods and the orphans of its namespace. Costs what these cost, however many pods
    /// others have.
    ///
    /// # Errors
    /// [`ObserveError`], when the group itself cannot be used.
    pub fn gather(group: &ReplicaGroup, stores: &Stores) -> Result<Self, ObserveError> {
        let namespace = group.namespace().ok_or(ObserveError::NotStored("namespace"))?;
        let uid: Arc<str> = group.uid().ok_or(ObserveError::NotStored("uid"))?.into();
        let selector = Selector::try_from(group.spec.selector.clone()).map_err(ObserveError::Selector)?;
        let key = ObjectKey::new(&namespace, &group.name_any());
        let own = stores.pods.bucket(&Bucket::ControlledBy(Arc::clone(&uid)));
        let orphans = stores.pods.bucket(&Bucket::Orphans(Arc::clone(&key.namespace)));
        let claim = |pod: Arc<Pod>| {
            let claim = match (pod.controller.is_some(), selector.matches(&pod.labels)) {
                (true, true) => Claim::Mine,
                (true, false) => Claim::MineUnmatched,
                (false, true) => Claim::OrphanMatching,
                (false, false) => Claim::Foreign,
            };
            (pod, claim)
        };
        let pods: Vec<_> =
            own.into_iter().chain(orphans).map(claim).filter(|(_, c)| *c != Claim::Foreign).collect();
        let policy = policy(group);
        let mut nodes = HashMap::new();
        // Where pods run matters only when some of them are too many.
        if pods.len() > policy.replicas {
            for node in pods.iter().filter_map(|(pod, _)| pod.node.as_ref()) {
                if !nodes.contains_key(node) {
                    nodes.insert(Arc::clone(node), Place::of(node, stores));
                }
            }
        }
        let template_labels = group.spec.template.metadata.as_ref().map(|metadata| metadata.labels.clone());
        Ok(Self {
            key,
            uid,
            selector,
            policy,
            pods,
            nodes,
            spread: group.spec.scale_down.spread.iter().take(MAX_SPREAD_KEYS).cloned().collect(),
            template_labels: template_labels.unwrap_or_default(),
        })
    }

    /// What the group needs now.
    pub fn plan(&self, now: Timestamp) -> Plan {
        let pods: Vec<_> = self.pods.iter().map(|(pod, claim)| self.view(pod, *claim)).collect();
        plan::plan(&self.policy, &pods, now)
    }

    /// The pod that a plan names by its index.
    pub fn pod(&self, index: usize) -> &Arc<Pod> {
        &self.pods[index].0
    }

    /// The pods of the group and the orphans that it selects.
    pub fn pods(&self) -> impl Iterator<Item = (&Arc<Pod>, Claim)> {
        self.pods.iter().map(|(pod, claim)| (pod, *claim))
    }

    fn view<'a>(&'a self, pod: &'a Pod, claim: Claim) -> plan::Pod<'a> {
        plan::Pod {
            name: &pod.key.name,
            uid: &pod.uid,
            claim,
            node: pod.node.as_deref().map(|name| self.place(name)),
            phase: pod.phase,
            terminating: pod.terminating,
            ready_since: pod.ready_since,
            created: pod.created,
            failed_at: pod.failed_at,
            deletion_cost: pod.deletion_cost,
            restarts: pod.restarts,
            sidecar_restarts: pod.sidecar_restarts,
            fully_labeled: self.template_labels.iter().all(|(key, value)| pod.labels.get(key) == Some(value)),
        }
    }

    fn place<'a>(&'a self, name: &'a str) -> plan::Node<'a> {
        let place = self.nodes.get(name);
        let labels = place.and_then(|place| place.node.as_ref()).map(|node| &node.labels);
        let mut domains: Domains<'a> = [None; MAX_SPREAD_KEYS];
        for (domain, key) in domains.iter_mut().zip(&self.spread) {
            *domain = labels.and_then(|labels| labels.get(key)).map(String::as_str);
        }
        plan::Node { name, domains, pods: place.map_or(0, |place| place.pods) }
    }
}

impl Place {
    fn of(name: &Arc<str>, stores: &Stores) -> Self {
        Self {
            node: stores.nodes.get(&ObjectKey::new("", name)),
            pods: stores.pods.count(&Bucket::On(Arc::clone(name))),
        }
    }
}

fn policy(group: &ReplicaGroup) -> Policy {
    let spec = &group.spec;
    Policy {
        replicas: usize::try_from(spec.replicas).unwrap_or_default(),
        min_ready: Duration::from_secs(u64::try_from(spec.min_ready_seconds).unwrap_or_default()),
        replacement: match spec.pod_replacement {
            PodReplacement::WhenTerminating => plan::Replacement::WhenTerminating,
            PodReplacement::WhenTerminated => plan::Replacement::WhenTerminated,
        },
        prefer: match spec.scale_down.prefer {
            NodePreference::CrowdedNode => plan::NodePreference::CrowdedNode,
            NodePreference::EmptiestNode => plan::NodePreference::EmptiestNode,
        },
        condemned: spec.scale_down.pods_to_delete.iter().cloned().collect(),
        deleting: group.metadata.deletion_timestamp.is_some(),
    }
}
