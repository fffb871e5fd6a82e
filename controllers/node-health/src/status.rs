//! The status of a policy; all its messages are written here.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use mainstay_crds::{BreakerStatus, NodeCounts, NodeHealthPolicy, NodeHealthPolicyStatus, UnhealthyNode};
use mainstay_runtime::{
    clock::{Clock, Moment},
    conditions::{self, NewCondition, number, second},
};

use crate::{
    plan::{Breaker, BreakerMemory, NodePlan, NodeView, Now, State, Step, place},
    settings::{SettingsError, TemplateRef},
};

/// At most this many nodes are listed.
const MOST_NODES: usize = 100;
/// At most this many breakers are.
const MOST_BREAKERS: usize = 64;

/// The reason of a policy that cannot be carried out.
const INVALID: &str = "SettingsInvalid";

/// A node and what is decided of it.
#[derive(Debug, Clone, Copy)]
pub struct Judged<'a> {
    /// Which of the nodes of the reconcile it is.
    pub index: usize,
    /// The node.
    pub view: &'a NodeView,
    /// What is decided.
    pub planned: &'a NodePlan,
}

/// A policy and all that a plan says of it.
pub struct Policy<'a> {
    /// The policy.
    pub policy: &'a NodeHealthPolicy,
    /// Its nodes.
    pub nodes: Vec<Judged<'a>>,
    /// Its breakers.
    pub breakers: Vec<&'a Breaker>,
    /// The other policies that select a node of its own too.
    pub overlaps: Vec<&'a str>,
    /// How many of them are stricter, and have these nodes.
    pub stricter: usize,
    /// What keeps its templates from being used.
    pub unusable: Vec<&'a str>,
    /// What keeps its remediations from being ended.
    pub unlisted: Vec<&'a str>,
    /// The kinds of which it may have remediations.
    pub kinds: Vec<TemplateRef>,
}

impl Policy<'_> {
    /// The status. `now` is the time of what changes with it.
    pub fn status(&self, clock: &Clock, now: Timestamp) -> NodeHealthPolicyStatus {
        let mut listed: Vec<_> =
            self.nodes.iter().filter(|judged| judged.planned.state != State::Healthy).collect();
        listed.sort_by_key(|judged| (std::cmp::Reverse(importance(judged.planned.state)), &judged.view.name));
        let unlisted = listed.len().saturating_sub(MOST_NODES);
        let standing = self.policy.status.as_ref().map_or(&[][..], |status| &status.conditions);
        let generation = self.policy.metadata.generation;
        let mut breakers: Vec<_> = self.breakers.iter().map(|breaker| shown(breaker, clock)).collect();
        breakers.sort_by_key(|breaker| !breaker.open);
        breakers.truncate(MOST_BREAKERS);
        NodeHealthPolicyStatus {
            observed_generation: generation,
            conditions: conditions::merge(self.verdicts(), standing, generation, now),
            nodes: self.counts(),
            unhealthy_nodes: listed
                .iter()
                .take(MOST_NODES)
                .map(|judged| listed_node(judged, clock))
                .collect(),
            unlisted: number(unlisted),
            breakers,
            template_kinds: self.kinds.iter().map(TemplateRef::template_kind).collect(),
        }
    }

    fn counts(&self) -> NodeCounts {
        let of = |state| number(self.nodes.iter().filter(|judged| judged.planned.state == state).count());
        NodeCounts {
            total: number(self.nodes.len()),
            healthy: of(State::Healthy),
            unjudged: of(State::Unjudged),
            suspect: of(State::Suspect),
            unconfirmed: of(State::Unconfirmed),
            doubted: of(State::Doubted),
            waiting: of(State::Waiting),
            acting: of(State::Acting),
            recovering: of(State::Recovering),
            quarantined: of(State::Quarantined),
            leaving: of(State::Leaving),
        }
    }

    fn verdicts(&self) -> Vec<NewCondition> {
        vec![self.ready(), stalled(None), self.breaker_open(), self.overlap(), self.dry_run()]
    }

    fn ready(&self) -> NewCondition {
        let verdict = |status, reason, message| NewCondition { kind: "Ready", status, reason, message };
        let unjudged = self.nodes.iter().find(|judged| judged.planned.state == State::Unjudged);
        if let Some(judged) = unjudged {
            let message = format!("node {}: {}", judged.view.name, judged.planned.why);
            return verdict(false, "UnreachableAfterTooShort", message);
        }
        if self.nodes.is_empty() {
            let message = if self.stricter > 0 {
                "every node that it selects belongs to another policy that comes first".to_owned()
            } else {
                "it selects no node: see spec.nodeSelector".to_owned()
            };
            return verdict(false, "NoNodes", message);
        }
        if !self.unusable.is_empty() {
            return verdict(false, "TemplatesUnusable", self.unusable.join("; "));
        }
        if !self.unlisted.is_empty() {
            return verdict(false, "RemediationsNotListed", self.unlisted.join("; "));
        }
        let paused = &self.policy.spec.pause_requests;
        if !paused.is_empty() {
            let message = format!("no further nodes are acted on: spec.pauseRequests: {}", paused.join(", "));
            return verdict(true, "Paused", message);
        }
        verdict(true, "Watching", format!("{} nodes are watched", self.nodes.len()))
    }

    fn breaker_open(&self) -> NewCondition {
        let open: Vec<_> = self.breakers.iter().filter(|breaker| breaker.open_since.is_some()).collect();
        let (reason, message) = match open.iter().find(|breaker| breaker.everything).or(open.first()) {
            None => ("Closed", "the number of unhealthy nodes is within the limits".to_owned()),
            Some(breaker) if breaker.everything => (
                "NoNodeAnswers",
                "all nodes of the cluster are silent, so a network failure is assumed: no actions are \
                 taken, and the cordons and taints set by policies are removed"
                    .to_owned(),
            ),
            Some(_) => {
                let words = open.iter().take(5).map(|breaker| {
                    let place = breaker.zone.as_deref().map_or_else(|| "all zones".to_owned(), place);
                    format!(
                        "{place}: {} of {} nodes (limit {})",
                        breaker.unhealthy, breaker.nodes, breaker.limit
                    )
                });
                let words = words.collect::<Vec<_>>().join("; ");
                (
                    "TooManyUnhealthy",
                    format!(
                        "no new actions are taken where too many nodes are unhealthy \
                                              or overdue: {words}"
                    ),
                )
            }
        };
        NewCondition { kind: "BreakerOpen", status: !open.is_empty(), reason, message }
    }

    fn overlap(&self) -> NewCondition {
        let holds = !self.overlaps.is_empty();
        let message = match (holds, self.stricter) {
            (false, _) => "no other policy selects any of its nodes".to_owned(),
            (true, _) => format!(
                "some of its nodes are also selected by {}; each node belongs to one policy: those that \
                 act come before dry runs, then the shortest unreachableAfter, then the name",
                self.overlaps.join(", ")
            ),
        };
        let reason = if holds { "OtherPolicies" } else { "Alone" };
        NewCondition { kind: "Overlap", status: holds, reason, message }
    }

    fn dry_run(&self) -> NewCondition {
        let dry_run = self.policy.spec.dry_run;
        let (reason, message) = if dry_run {
            ("DryRun", "the policy decides and reports, and writes nothing to nodes or pods")
        } else {
            ("Acting", "decisions are carried out")
        };
        NewCondition { kind: "DryRun", status: dry_run, reason, message: message.to_owned() }
    }
}

/// Whether nothing is done until the policy is corrected. Another module sets it for a policy that cannot be decoded,
/// so it is also written here when it is false.
fn stalled(error: Option<&SettingsError>) -> NewCondition {
    let (reason, message) = error.map_or(("None", String::new()), |error| (INVALID, error.to_string()));
    NewCondition { kind: "Stalled", status: error.is_some(), reason, message }
}

/// The status of a policy that cannot be carried out. What is set on its nodes is kept until it is corrected.
pub fn unusable(policy: &NodeHealthPolicy, error: &SettingsError, now: Timestamp) -> NodeHealthPolicyStatus {
    let standing = policy.status.as_ref().map_or(&[][..], |status| &status.conditions);
    let generation = policy.metadata.generation;
    let ready = NewCondition { kind: "Ready", status: false, reason: INVALID, message: error.to_string() };
    NodeHealthPolicyStatus {
        observed_generation: generation,
        conditions: conditions::merge(vec![ready, stalled(Some(error))], standing, generation, now),
        // Those that are open are so still when it is put right.
        breakers: policy.status.as_ref().map_or_else(Vec::new, |status| status.breakers.clone()),
        template_kinds: policy.status.as_ref().map_or_else(Vec::new, |status| status.template_kinds.clone()),
        ..NodeHealthPolicyStatus::default()
    }
}

/// The breakers that a status says are open, as the next process remembers them. How long it is calm is not written down.
pub fn open_breakers(
    status: &NodeHealthPolicyStatus,
    now: Now,
) -> impl Iterator<Item = (Option<Arc<str>>, BreakerMemory)> {
    status.breakers.iter().filter(|breaker| breaker.open).map(move |breaker| {
        let since = breaker.open_since.as_ref().map_or(now.wall, |since| since.0);
        let age = Moment::try_from(now.wall.duration_since(since)).unwrap_or_default();
        let open_since = Some(now.moment.saturating_sub(age));
        (breaker.zone.as_deref().map(Into::into), BreakerMemory { open_since, calm_since: None })
    })
}

/// Whether a change must not wait for the pace: a condition or the state of a node, but for one that is only overdue,
/// which at a busy hour many are for a moment.
pub fn is_urgent(old: &NodeHealthPolicyStatus, new: &NodeHealthPolicyStatus) -> bool {
    let states = |status: &NodeHealthPolicyStatus| -> Vec<_> {
        let nodes = status.unhealthy_nodes.iter().filter(|node| node.state != State::Suspect.name());
        nodes.map(|node| (node.name.clone(), node.state.clone())).collect()
    };
    old.observed_generation != new.observed_generation
        || !conditions::same_heads(&old.conditions, &new.conditions)
        || states(old) != states(new)
}

/// The higher, the sooner a node is listed.
fn importance(state: State) -> usize {
    match state {
        State::Waiting => 9,
        State::Acting => 8,
        State::Doubted => 7,
        State::Unconfirmed => 6,
        State::Quarantined => 5,
        State::Recovering => 4,
        State::Suspect => 3,
        State::Unjudged => 2,
        State::Leaving => 1,
        State::Healthy => 0,
    }
}

fn listed_node(judged: &Judged<'_>, clock: &Clock) -> UnhealthyNode {
    let Judged { view, planned, .. } = judged;
    let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    UnhealthyNode {
        name: view.name.to_string(),
        zone: text(&view.zone),
        state: planned.state.name().to_owned(),
        since: since(judged).map(|since| time(clock, since)),
        reason: text(&planned.why),
        waiting_for: text(&planned.waits_for),
        next_step: planned.next.map(|(step, _)| step_name(step).to_owned()),
        next_step_time: planned.next.map(|(_, at)| time(clock, at)),
    }
}

/// Since when a node has not renewed its Lease or its condition is bad. A node that renews it, or may, has no such
/// time except its last renewal, which would change the status every few seconds.
fn since(judged: &Judged<'_>) -> Option<Moment> {
    match judged.planned.state {
        State::Healthy | State::Unjudged | State::Recovering | State::Quarantined | State::Leaving => None,
        State::Suspect if judged.view.unread => None,
        _ => Some(judged.view.unwell_since()),
    }
}

fn shown(breaker: &Breaker, clock: &Clock) -> BreakerStatus {
    BreakerStatus {
        zone: breaker.zone.as_deref().map(str::to_owned),
        nodes: number(breaker.nodes),
        unhealthy: number(breaker.unhealthy),
        limit: number(breaker.limit),
        open: breaker.open_since.is_some(),
        open_since: breaker.open_since.map(|since| time(clock, since)),
    }
}

/// As the field of the spec that it comes from.
fn step_name(step: Step) -> &'static str {
    match step {
        Step::Cordon => "Cordon",
        Step::Taint => "Taint",
        Step::PodsNotReady => "PodsNotReady",
        Step::Drain => "Drain",
        Step::Delete => "Delete",
        Step::Remediate => "Remediate",
        Step::OutOfService => "OutOfService",
        Step::Restore => "HandBack",
    }
}

/// In whole seconds: that is all that the API keeps, and an equal status must be found equal.
fn time(clock: &Clock, moment: Moment) -> Time {
    Time(second(clock.timestamp(moment)))
}

#[cfg(test)]
pub(crate) mod tests;
