//! The input of a plan: the nodes as they are observed, each under the policy that it belongs to.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use kube::core::SelectorExt;
use mainstay_runtime::clock::Moment;

use crate::{
    live::Answer,
    names::OUT_OF_SERVICE,
    observations::Observations,
    plan::{Heartbeat, NodeView, PodsPlan, Proof, Remediation, unreachable_at},
    record::{Record, confirmation},
    settings::{Settings, TemplateRef},
    watched::{Facts, Node},
};

/// What this process knows of a node besides what the watches show.
#[derive(Debug, Default)]
pub struct Known {
    /// Which of the nodes of this name it is about.
    pub uid: Box<str>,
    /// What the controller wants to set on the node. It is recorded there, and read from there once.
    pub record: Record,
    /// What the record on the node last said, for the case that others remove it.
    pub recorded: Record,
    /// The record that this process has removed from the node: a watch that is behind may still show it.
    pub emptied: Option<Record>,
    /// What the record said before a write whose answer was lost: what has come of it is still to be told.
    pub unanswered: Option<Record>,
    /// Whether nothing of that is carried out.
    pub dry_run: bool,
    /// What the last live read has shown.
    pub answer: Answer,
    /// How its remediation goes. `None`: it has not been looked for yet.
    pub remediation: Option<Remediation>,
    /// The remediations that have succeeded, by their templates, and the boot of the node for which each was made.
    pub succeeded: Vec<(TemplateRef, String)>,
    /// The templates of which none can be made.
    pub unreached: Vec<TemplateRef>,
    /// How many of its pods are to leave it.
    pub pods: usize,
    /// What is to be done with them.
    pub pods_plan: PodsPlan,
    /// The pod that a PodDisruptionBudget held at the last visit.
    pub blocked: Option<String>,
    /// How many visits in a row have moved no pod because of one.
    pub held_visits: u32,
}

impl Known {
    /// The node is seen like this: keeps what its record says, and forgets it only where nothing of it stands any more.
    pub fn see(&mut self, facts: &Facts) {
        if facts.record == Record::default() {
            if !facts.has_lost(&self.recorded) {
                self.recorded = Record::default();
            }
        } else if self.emptied.as_ref() != Some(&facts.record) {
            self.recorded.clone_from(&facts.record);
            self.emptied = None;
        }
    }

    /// This process has written `after` on the node in place of `before`: where nothing is left, a cordon that is seen from now
    /// on is another's.
    pub fn wrote(&mut self, before: &Record, after: &Record) {
        if *after == Record::default() {
            (self.recorded, self.emptied) = (Record::default(), Some(before.clone()));
        }
    }

    /// A live read has shown that the node is no longer unhealthy, which no watch has: it is to be confirmed anew.
    pub fn refute(&mut self, refuted: bool) {
        if refuted {
            self.answer = Answer::default();
        }
    }

    /// What is known of a node at first sight.
    pub fn first(node: &Node, dry_run: bool) -> Self {
        let record = if dry_run { Record::default() } else { node.facts.record.clone() };
        Self { uid: node.uid().into(), record, dry_run, ..Self::default() }
    }
}

/// Which policy each node belongs to.
#[derive(Debug, Default, PartialEq)]
pub struct Assigned {
    /// For each node the index of its policy.
    pub policies: Vec<Option<usize>>,
    /// For each policy the other policies that select one of its nodes too.
    pub overlaps: Vec<BTreeSet<usize>>,
}

/// Gives each node to the first of the policies that select it: they are in the order of their strictness.
pub fn assign(settings: &[Arc<Settings>], nodes: &[Arc<Node>]) -> Assigned {
    let mut assigned = Assigned {
        policies: Vec::with_capacity(nodes.len()),
        overlaps: vec![BTreeSet::new(); settings.len()],
    };
    for node in nodes {
        let facts = &node.facts;
        let selects = |settings: &Settings| !facts.excluded && settings.selector.matches(&facts.labels);
        let selecting: Vec<_> = (0..settings.len()).filter(|index| selects(&settings[*index])).collect();
        assigned.policies.push(selecting.first().copied());
        for (one, other) in selecting.iter().flat_map(|one| selecting.iter().map(move |other| (*one, *other)))
        {
            if one != other {
                assigned.overlaps[one].insert(other);
            }
        }
    }
    assigned
}

/// The node as a plan is to see it, with its record where that names a policy that cannot be read. `None`: no watch has
/// shown it yet.
pub fn view(
    node: &Node,
    policy: Option<(usize, &Settings)>,
    known: &Known,
    unread: Option<&Record>,
    observations: &Observations,
    now: Moment,
) -> Option<NodeView> {
    let facts = &node.facts;
    let heartbeat = observations.heartbeat(node.name())?;
    let failing = policy.and_then(|(_, settings)| failing(node, settings, observations, heartbeat.listening));
    let silent_since = heartbeat.silent_since();
    let unreachable = policy.and_then(|(_, settings)| unreachable_at(heartbeat, &settings.rules));
    let silent = unreachable.is_some_and(|at| at <= now);
    let failing_since = failing.as_ref().filter(|(_, due)| *due <= now).map(|(held, _)| held.since);
    let answer = &known.answer;
    let silence_stands = answer.silence == Some(silent_since);
    let failing_stands = failing_since.is_some() && answer.failing == failing_since;
    let confirmed = if silent { silence_stands } else { failing_stands };
    let fails = failing.as_ref().filter(|_| failing_since.is_some());
    Some(NodeView {
        name: Arc::clone(node.name()),
        zone: Arc::clone(&facts.zone),
        control_plane: facts.control_plane,
        rules: policy.map(|(index, _)| index),
        leaving: facts.leaving,
        heartbeat,
        failing: fails.map(|(held, _)| (held.words(), held.since)),
        failing_due: failing.as_ref().map(|(_, due)| *due).filter(|due| *due > now),
        confirmed,
        answered: answer.at.filter(|_| confirmed),
        doubt: answer.doubt.clone().filter(|_| silence_stands),
        record: unread.map_or_else(|| record(node, known), Record::clone),
        unread: unread.is_some(),
        boot_id: Arc::clone(&facts.boot_id),
        out_of_service: known.dry_run || stands_out_of_service(node),
        proof: proof(node, policy, known, heartbeat),
        remediation: remediation(known, policy),
        remediated: known.succeeded.iter().any(|(_, boot)| **boot == *facts.boot_id),
        out_of_reach: out_of_reach(known, policy),
        pods: known.pods,
    })
}

/// A condition that holds.
pub struct Held<'a> {
    /// Its type.
    pub kind: &'a Arc<str>,
    /// Its status.
    pub status: &'a Arc<str>,
    /// Since when, and no longer than the node is listened to.
    pub since: Moment,
}

impl Held<'_> {
    fn words(&self) -> Arc<str> {
        format!("its condition {} is {}", self.kind, self.status).into()
    }
}

/// The condition of the policy that holds and is due first, and when it is.
pub fn failing<'a>(
    node: &Node,
    settings: &'a Settings,
    observations: &Observations,
    listening: Moment,
) -> Option<(Held<'a>, Moment)> {
    let held = settings.conditions.iter().filter_map(|watched| {
        if !node.facts.has(&watched.kind, &watched.status) {
            return None;
        }
        let since = observations.held_since(node.name(), &watched.kind, &watched.status, listening)?;
        let held = Held { kind: &watched.kind, status: &watched.status, since };
        Some((held, since.saturating_add(watched.lasts)))
    });
    held.min_by_key(|(_, due)| *due)
}

/// What the controller wants to set on the node, and the existing taint out-of-service.
fn record(node: &Node, known: &Known) -> Record {
    let record = known.record.clone();
    if known.dry_run || !stands_out_of_service(node) { record } else { record.keeping(&node.facts.record) }
}

/// Whether the taint out-of-service that the record names is set on the node. A kubelet may write the record, and a
/// person may remove the taint.
fn stands_out_of_service(node: &Node) -> bool {
    node.facts.record.out_of_service().is_some() && node.facts.has_taint(OUT_OF_SERVICE)
}

/// Only statements about this boot and this failure count, from a source that the policy accepts.
fn proof(
    node: &Node,
    policy: Option<(usize, &Settings)>,
    known: &Known,
    heartbeat: Heartbeat,
) -> Option<Proof> {
    let facts = &node.facts;
    let is_confirmed = |value: &str| *value == *confirmation(&facts.boot_id, heartbeat.renewed);
    let is_proof = |(template, boot): &(TemplateRef, String)| {
        let proves = policy.is_some_and(|(_, settings)| settings.proofs.contains(template));
        proves && !boot.is_empty() && **boot == *facts.boot_id
    };
    if facts.is_shut_down() {
        Some(Proof::ShutDown)
    } else if facts.confirmed_dead.as_deref().is_some_and(is_confirmed) {
        Some(Proof::Person)
    } else {
        known.succeeded.iter().any(is_proof).then_some(Proof::Remediated)
    }
}

/// Without a template, and under a dry run, none is ever looked for.
fn remediation(known: &Known, policy: Option<(usize, &Settings)>) -> Remediation {
    let may_have = !known.dry_run && policy.is_some_and(|(_, settings)| !settings.templates.is_empty());
    known.remediation.unwrap_or(if may_have { Remediation::Unknown } else { Remediation::None })
}

fn out_of_reach(known: &Known, policy: Option<(usize, &Settings)>) -> Vec<usize> {
    let templates = policy.map_or(&[][..], |(_, settings)| &settings.templates);
    (0..templates.len()).filter(|index| known.unreached.contains(&templates[*index])).collect()
}

/// What is known of every node, by name.
pub type KnownNodes = HashMap<Arc<str>, Known>;

/// The time between two renewals of a node whose Lease does not say: a kubelet's default.
pub const DEFAULT_INTERVAL: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests;
