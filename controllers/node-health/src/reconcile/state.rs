//! What the loop works with, and what it has in mind.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use kube::{Client, ResourceExt, runtime::reflector::Store};
use mainstay_crds::{NodeHealthPolicy, NodeHealthPolicyStatus};
use mainstay_runtime::{
    clock::Clock, failure::RequestError, index::Index, metrics::LoopMetrics, reconcile::ReconcileError,
    report::StatusWriter, solo::Beat, undecoded::Undecoded,
};

use super::{jobs::Jobs, outcome::Found};
use crate::{
    announce::Announcer,
    apply::leftovers::{Flaw, Listed, Standing},
    metrics::Metrics,
    observations::Observations,
    observe::{Assigned, Known, KnownNodes},
    plan::{Memory, Now, State},
    settings::{Settings, SettingsError, TemplateRef},
    status,
    watched::Node,
};

/// The parts of the process that the loop works with.
pub struct NodeHealth {
    /// The connection to the API server.
    pub client: Client,
    /// The process's time.
    pub clock: Clock,
    /// What the watches have seen.
    pub observations: Arc<Observations>,
    /// The nodes.
    pub nodes: Index<Node>,
    /// The policies.
    pub policies: Store<NodeHealthPolicy>,
    /// The policies that cannot be decoded.
    pub undecoded: Undecoded<NodeHealthPolicy>,
    /// Writes the status of policies.
    pub status_writer: Arc<StatusWriter<NodeHealthPolicyStatus>>,
    /// Tells people.
    pub announcer: Announcer,
    /// The controller's series.
    pub metrics: Arc<Metrics>,
    /// The loop's series.
    pub loop_metrics: LoopMetrics,
    /// How many requests may be under way.
    pub max_in_flight: usize,
    /// Whether the loop makes progress.
    pub beat: Beat,
}

/// What a leading process has in mind. All of it may be lost: a restart reads what stands from the nodes, and which breakers
/// are open from the policies.
pub(super) struct LeaderState {
    pub(super) known: KnownNodes,
    pub(super) memory: Memory,
    pub(super) jobs: Jobs<Found>,
    pub(super) settings: HashMap<Arc<str>, ReadSettings>,
    /// The remediations of policies, as they were just listed.
    pub(super) standing: HashMap<Arc<str>, Vec<Standing>>,
    pub(super) told: Told,
    /// What the policies said when they were listed before the first reconcile, by UID. Each is used once, at first sight.
    pub(super) written: HashMap<String, NodeHealthPolicyStatus>,
}

impl LeaderState {
    /// Nothing yet.
    pub(super) fn new(max_in_flight: usize) -> Self {
        Self {
            known: KnownNodes::new(),
            memory: Memory::default(),
            jobs: Jobs::new(max_in_flight),
            settings: HashMap::new(),
            standing: HashMap::new(),
            told: Told::default(),
            written: HashMap::new(),
        }
    }
}

/// The settings of a policy at one generation.
pub(super) struct ReadSettings {
    pub(super) uid: Option<String>,
    pub(super) generation: Option<i64>,
    pub(super) settings: Result<Arc<Settings>, SettingsError>,
    /// All templates that the policy has named since this process leads.
    templates: Vec<TemplateRef>,
    /// The kinds of templates that it had before, as its status says, as long as there are remediations by them.
    pub(super) written: Vec<TemplateRef>,
    /// Those of `templates` that the policy names no more, and of which the last list has shown no remediation.
    unused: Vec<TemplateRef>,
    /// What keeps its templates from being used, as was found last.
    pub(super) unusable: Vec<Flaw>,
    /// What keeps remediations of a kind from being ended: it may not be listed.
    pub(super) unlisted: Vec<Flaw>,
}

impl ReadSettings {
    /// Reads a policy that was read `before` at another generation.
    pub(super) fn read(policy: &NodeHealthPolicy, before: Option<Self>) -> Self {
        let settings = Settings::read(policy).map(Arc::new);
        let (mut templates, written, mut unusable, unlisted) = match before {
            Some(before) => (before.templates, before.written, before.unusable, before.unlisted),
            None => {
                let kinds = policy.status.iter().flat_map(|status| &status.template_kinds);
                (Vec::new(), kinds.map(TemplateRef::of_kind).collect(), Vec::new(), Vec::new())
            }
        };
        if let Ok(settings) = &settings {
            unusable.retain(|flaw| settings.templates.contains(&flaw.template));
        }
        for template in settings.iter().flat_map(|settings| &settings.templates) {
            if !templates.contains(template) {
                templates.push(template.clone());
            }
        }
        let (uid, generation) = (policy.uid(), policy.metadata.generation);
        Self { uid, generation, settings, templates, written, unused: Vec::new(), unusable, unlisted }
    }

    /// What a list of its remediations has shown. A kind that the policy names no more is forgotten when none of it is left. One
    /// that this process has named itself may still be made from when the first list begins, and not when the second one does.
    pub(super) fn listed(&mut self, listed: &Listed, unusable: Vec<Flaw>) {
        let named = self.settings.as_ref().map(|settings| &*settings.templates);
        self.unusable = unusable;
        self.unusable.retain(|flaw| named.is_ok_and(|named| named.contains(&flaw.template)));
        self.written.retain(|kind| listed.may_have(kind));
        let is_unused = |template: &TemplateRef| {
            named.is_ok_and(|named| !named.contains(template)) && !listed.may_have(template)
        };
        let before = std::mem::take(&mut self.unused);
        self.templates.retain(|template| !(is_unused(template) && before.contains(template)));
        self.unused = self.templates.iter().filter(|template| is_unused(template)).cloned().collect();
        let before = std::mem::take(&mut self.unlisted);
        let unlisted = listed.refused.iter().filter_map(|(template, error)| {
            if !matches!(error.request(), RequestError::Forbidden(_)) {
                return Flaw::find(&before, template).cloned();
            }
            let words = format!(
                "{} objects in {} may not be listed, so that those that are no longer needed stay: {}; give the controller \
                 the permission to get, list and delete them",
                template.remediation_kind(),
                template.namespace,
                error.request()
            );
            Some(Flaw { template: template.clone(), words })
        });
        self.unlisted = unlisted.collect();
    }

    /// One template of each kind and namespace in which there may be remediations of the policy.
    pub(super) fn kinds(&self) -> Vec<TemplateRef> {
        let mut kinds: Vec<TemplateRef> = Vec::new();
        for template in self.templates.iter().chain(&self.written) {
            if !kinds.iter().any(|kind| kind.is_beside(template)) {
                kinds.push(template.clone());
            }
        }
        kinds
    }
}

/// What one reconcile looks at.
pub(super) struct Pass {
    pub(super) now: Now,
    /// Policies that can be carried out, the strictest first.
    pub(super) settings: Vec<Arc<Settings>>,
    pub(super) policies: HashMap<Arc<str>, Arc<NodeHealthPolicy>>,
    /// Nodes by name, and the policy of each.
    pub(super) nodes: Vec<Arc<Node>>,
    pub(super) assigned: Assigned,
}

impl Pass {
    pub(super) fn policy_of(&self, node: usize) -> Option<(usize, &Settings)> {
        self.assigned.policies[node].map(|index| (index, &*self.settings[index]))
    }

    /// At first sight of a policy: which breakers another process has left open, or this one before the policy could not be
    /// read. What was taken lately is in the records of the nodes.
    pub(super) fn restore_breakers(&self, state: &mut LeaderState) {
        for settings in &self.settings {
            let name = &settings.name;
            let Some(policy) = self.policies.get(name).filter(|_| !state.memory.knows(name)) else {
                continue;
            };
            let written = policy.uid().and_then(|uid| state.written.remove(&uid));
            let status = written.as_ref().or(policy.status.as_ref());
            let open = status.into_iter().flat_map(|status| status::open_breakers(status, self.now));
            state.memory.breakers.extend(open.map(|(zone, breaker)| ((Arc::clone(name), zone), breaker)));
        }
    }

    /// Forgets nodes that are gone, and knows those that are new. Returns the names of those that are gone or were recreated.
    pub(super) fn keep_up(&self, known: &mut KnownNodes) -> Vec<Arc<str>> {
        let mut gone = Vec::new();
        for (index, node) in self.nodes.iter().enumerate() {
            let dry_run = self.policy_of(index).is_some_and(|(_, settings)| settings.rules.dry_run);
            let first = || Known::first(node, dry_run);
            let standing = known.entry(Arc::clone(node.name())).or_insert_with(first);
            // What was only decided before is no base for what is carried out, and the other way round.
            let is_another = *standing.uid != *node.uid();
            if is_another {
                gone.push(Arc::clone(node.name()));
            }
            if is_another || standing.dry_run != dry_run {
                *standing = first();
            }
            standing.see(&node.facts);
        }
        if known.len() > self.nodes.len() {
            let names: HashSet<_> = self.nodes.iter().map(|node| node.name()).collect();
            gone.extend(known.extract_if(|name, _| !names.contains(name)).map(|(name, _)| name));
        }
        gone
    }
}

/// What was told last.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// Of each node that is not simply well.
    pub(super) nodes: HashMap<Arc<str>, AnnouncedNode>,
    /// Which breakers are open.
    pub(super) breakers: BTreeMap<BreakerKey, bool>,
}

/// A policy and a zone; `None`: all of the policy's nodes.
pub(super) type BreakerKey = (Arc<str>, Option<Arc<str>>);

/// What was told last of one node.
#[derive(Debug)]
pub(super) struct AnnouncedNode {
    pub(super) state: State,
    /// Whether the verdict that stands has been told.
    pub(super) unhealthy: bool,
}
