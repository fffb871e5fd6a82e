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
    pod::{Bucket, Labelled, Labels, Pod},
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
    pods: Vec<Member>,
    nodes: HashMap<Arc<str>, Place>,
    spread: Vec<String>,
}

/// A pod that the group controls or may adopt.
#[derive(Debug)]
struct Member {
    pod: Arc<Pod>,
    claim: Claim,
    fully_labeled: bool,
}

/// What a group makes of a set of labels.
#[derive(Debug, Clone, Copy)]
struct Judged {
    selected: bool,
    fully_labeled: bool,
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
        group.namespace().ok_or(ObserveError::NotStored("namespace"))?;
        let uid: Arc<str> = group.uid().ok_or(ObserveError::NotStored("uid"))?.into();
        let selector = Selector::try_from(group.spec.selector.clone()).map_err(ObserveError::Selector)?;
        let key = ObjectKey::of(group);
        let own = stores.pods.bucket(&Bucket::ControlledBy(Arc::clone(&uid)));
        let orphans = stores.pods.bucket(&Bucket::Orphans(Arc::clone(&key.namespace)));
        let template = group.spec.template.metadata.as_ref().map(|metadata| &metadata.labels);
        let judge = |labels: &BTreeMap<String, String>| Judged {
            selected: selector.matches(labels),
            fully_labeled: template.into_iter().flatten().all(|(key, value)| labels.get(key) == Some(value)),
        };
        let pods = members(own.into_iter().chain(orphans), judge);
        let policy = policy(group);
        let mut nodes = HashMap::new();
        // Where pods run matters only when some of them are too many.
        let active = pods.iter().filter(|member| !member.pod.terminating && !member.pod.phase.is_terminal());
        if active.count() > policy.replicas {
            for node in pods.iter().filter_map(|member| member.pod.node.as_ref()) {
                if !nodes.contains_key(node) {
                    nodes.insert(Arc::clone(node), Place::of(node, stores));
                }
            }
        }
        Ok(Self {
            key,
            uid,
            selector,
            policy,
            pods,
            nodes,
            spread: group.spec.scale_down.spread.iter().take(MAX_SPREAD_KEYS).cloned().collect(),
        })
    }

    /// What the group needs now.
    pub fn plan(&self, now: Timestamp) -> Plan {
        let pods: Vec<_> = self.pods.iter().map(|member| self.view(member)).collect();
        plan::plan(&self.policy, &pods, now)
    }

    /// The pod that a plan names by its index.
    pub fn pod(&self, index: usize) -> &Arc<Pod> {
        &self.pods[index].pod
    }

    /// The pods of the group and the orphans that it selects.
    pub fn pods(&self) -> impl Iterator<Item = (&Arc<Pod>, Claim)> {
        self.pods.iter().map(|member| (&member.pod, member.claim))
    }

    fn view<'a>(&'a self, member: &'a Member) -> plan::Pod<'a> {
        let Member { pod, claim, fully_labeled } = member;
        plan::Pod {
            name: &pod.key.name,
            uid: &pod.uid,
            claim: *claim,
            node: pod.node.as_deref().map(|name| self.place(name)),
            phase: pod.phase,
            terminating: pod.terminating,
            ready_since: pod.ready_since,
            created: pod.created,
            failed_at: pod.failed_at,
            deletion_cost: pod.deletion_cost,
            restarts: pod.restarts,
            sidecar_restarts: pod.sidecar_restarts,
            fully_labeled: *fully_labeled,
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

/// The pods among `candidates` that the group controls or may adopt.
fn members(
    candidates: impl Iterator<Item = Arc<Pod>>,
    judge: impl Fn(&BTreeMap<String, String>) -> Judged,
) -> Vec<Member> {
    // Pods of one template share their labels, so that nearly all are judged by the first one's.
    let mut last: Option<(Labels, Judged)> = None;
    let mut judged = |labels: &Labels| match &last {
        Some((known, judged)) if Arc::ptr_eq(known, labels) => *judged,
        _ => last.insert((Arc::clone(labels), judge(labels))).1,
    };
    let member = |pod: Arc<Pod>| {
        let Judged { selected, fully_labeled } = judged(&pod.labels);
        let claim = match (pod.controller.is_some(), selected) {
            (true, true) => Claim::Mine,
            (true, false) => Claim::MineUnmatched,
            (false, true) => Claim::OrphanMatching,
            (false, false) => return None,
        };
        Some(Member { pod, claim, fully_labeled })
    };
    candidates.filter_map(member).collect()
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
