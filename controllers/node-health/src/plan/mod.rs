//! What each node is to carry: pure, no client and no clock.
//!
//! A plan is level-triggered: it says what is wanted now, from what is seen and what the last plan left. It promises:
//!
//! - No node is taken that a live read has not confirmed, that a second opinion doubts, or whose Lease is renewed too
//!   rarely to tell anything.
//! - No remediation is made but as a step with a node that is acted on, and none before it was looked whether one stands.
//! - Nothing new is done where more nodes are unhealthy than may be, and no more nodes are taken in any window than the
//!   policy allows, also after a storm.
//! - Volumes detach only from a node that is silent, and with proof that it is dead.
//! - At most one node of the control plane is out of use by this controller.
//! - While nothing can be seen nothing changes, nor does a node whose policy cannot be read: it counts as one that is out of
//!   use.
//! - When no node of the cluster answers, nor anybody who is asked about one, what was taken is handed back.
//! - What was taken is handed back when the node is well again, none of its conditions being bad, and nothing else is.
//! - Nothing is done with a node that is removed on purpose, and no breaker counts it.
//! - A second plan at the same moment changes nothing.

mod act;
mod breakers;
#[cfg(test)]
mod properties;
mod recover;
mod rules;
#[cfg(test)]
mod tests;
mod types;
mod verdict;
#[cfg(test)]
mod world;

use std::sync::Arc;

pub use self::{rules::*, types::*, verdict::late};
use mainstay_runtime::clock::Moment;

use self::{
    act::Queue,
    breakers::{Storm, Weather},
    verdict::Verdict,
};
use crate::record::{Record, Taken};

/// What each node is to carry. Who is `blind` cannot say anything of any node, and changes nothing.
pub fn plan(rules: &[Rules], nodes: &[NodeView], memory: &Memory, now: Now, blind: bool) -> Plan {
    let verdicts: Vec<_> = nodes.iter().map(|node| Verdict::of(rules, node, now.moment)).collect();
    let mut due = Due::after(now.moment);
    verdicts.iter().for_each(|verdict| due.at(verdict.due));
    let weather = breakers::weather(rules, nodes, &verdicts, memory, now.moment, blind, &mut due);
    let mut queue = Queue::new(rules, nodes, memory, &weather, now);
    let mut next = Memory { breakers: weather.memory.clone(), ..Memory::default() };
    let mut planned = Vec::with_capacity(nodes.len());
    for (node, verdict) in nodes.iter().zip(&verdicts) {
        let mut draft = Draft::new(rules, node, memory, &weather, now);
        if blind || node.unread {
            draft.hold(verdict, blind);
        } else {
            draft.take_back_unwritten(verdict);
            draft.decide(verdict, &mut due);
        }
        queue.note(planned.len(), &draft);
        planned.push(draft);
    }
    queue.serve(&mut planned, &verdicts, &mut due);
    next.taken = queue.taken;
    let nodes = planned.into_iter().zip(nodes).map(|(draft, node)| {
        if draft.memory != NodeMemory::default() {
            next.nodes.insert(Arc::clone(&node.name), draft.memory);
        }
        draft.plan
    });
    let nodes = nodes.collect();
    Plan { nodes, breakers: weather.breakers, memory: next, due: due.next }
}

/// Keeps the remediation that stands, and looks for that of a node that was taken before this process looked. Nothing is
/// made by it and nothing ended: to make one is a step like others, and to end it is for a node that is well.
fn keep(node: &NodeView, is_taken: bool) -> Wanted {
    match node.remediation {
        Remediation::None => Wanted::None,
        Remediation::Unknown if !is_taken => Wanted::None,
        Remediation::Unknown | Remediation::Stands { .. } => Wanted::Look,
    }
}

/// The earliest moment at which a plan may change by time alone.
struct Due {
    now: Moment,
    next: Option<Moment>,
}

impl Due {
    fn after(now: Moment) -> Self {
        Self { now, next: None }
    }

    fn at(&mut self, moment: Option<Moment>) {
        let later = moment.filter(|moment| *moment > self.now);
        self.next = [self.next, later].into_iter().flatten().min();
    }
}

/// The plan of one node, as it comes about.
struct Draft<'a> {
    node: &'a NodeView,
    rules: Option<&'a Rules>,
    storm: Option<&'a Storm>,
    now: Now,
    memory: NodeMemory,
    plan: NodePlan,
    /// Whether the node is to be taken, as soon as the rate and the control plane allow it.
    is_candidate: bool,
}

impl<'a> Draft<'a> {
    fn new(rules: &'a [Rules], node: &'a NodeView, memory: &Memory, weather: &'a Weather, now: Now) -> Self {
        let plan = NodePlan {
            state: State::Healthy,
            why: String::new(),
            waits_for: String::new(),
            next: None,
            record: node.record.clone().at_boot(&node.boot_id),
            pods: PodsPlan::default(),
            remediation: keep(node, node.record.is_taken()),
        };
        Self {
            node,
            rules: node.rules.map(|index| &rules[index]),
            storm: weather.storm(node),
            now,
            memory: memory.nodes.get(&node.name).cloned().unwrap_or_default(),
            plan,
            is_candidate: false,
        }
    }

    /// A taint out-of-service that is decided and not written yet is decided anew: the node may have been heard since.
    /// So is one that somebody took off. Of a node that is not acted on, none is.
    fn take_back_unwritten(&mut self, verdict: &Verdict) {
        let still_dead = verdict.unreachable && self.node.proof.is_some() && self.node.record.is_taken();
        if !self.node.out_of_service && !still_dead {
            self.plan.record = std::mem::take(&mut self.plan.record).in_service();
        }
    }

    fn decide(&mut self, verdict: &Verdict, due: &mut Due) {
        let Some(rules) = self.rules else { return self.release() };
        if self.node.leaving {
            return self.let_go();
        }
        self.plan.why = verdict.words(rules, self.node);
        if let Some(storm) = self.storm.filter(|storm| storm.everything) {
            return self.give_up(verdict, storm);
        }
        if !verdict.is_bad() {
            return self.recover(rules, verdict, due);
        }
        self.memory.well_since = None;
        if self.keep_until_certain(rules, due) {
            return;
        }
        let since = *self.memory.unhealthy_since.get_or_insert(self.now.moment);
        self.plan.record.quarantined_until = None;
        if let Some(storm) = self.storm {
            self.plan.state = State::Waiting;
            self.plan.waits_for = storm.words();
        } else if self.plan.record.is_taken() {
            self.act(rules, verdict, due);
        } else {
            self.plan.state = State::Waiting;
            let settled = since.saturating_add(rules.breakers.settle);
            self.is_candidate = settled <= self.now.moment;
            "a moment, to see whether other nodes fail too".clone_into(&mut self.plan.waits_for);
            due.at(Some(settled));
        }
    }

    /// Nothing can be said of it: what stands and what is remembered is kept as it is.
    fn hold(&mut self, verdict: &Verdict, blind: bool) {
        self.plan.record.clone_from(&self.node.record);
        self.plan.state = if self.node.leaving {
            State::Leaving
        } else if verdict.is_bad() || self.node.unread || self.node.record.is_taken() {
            State::Suspect
        } else {
            self.state_of_well(verdict)
        };
        if self.plan.state != State::Healthy {
            self.plan.waits_for = if blind {
                "a word of the API server: it does not answer, or no Lease was heard of".to_owned()
            } else {
                let policy = self.plan.record.taken.as_ref().map(|taken| &*taken.policy);
                format!(
                    "NodeHealthPolicy {}, which has taken it and cannot be read: correct it",
                    policy.unwrap_or_default()
                )
            };
        }
    }

    /// What stays on a node that is handed back: only what stands there.
    fn remnant(&self) -> Option<Taken> {
        self.plan.record.remnant().filter(|_| self.node.out_of_service)
    }

    /// A node that no policy selects any more.
    fn release(&mut self) {
        self.memory = NodeMemory::default();
        self.plan.record = Record { taken: self.remnant(), ..Record::default() };
        if self.plan.record.taken.is_some() {
            self.wait_for_boot();
        }
    }

    /// A node that is removed on purpose: that it falls silent is no news. What stands on it is kept until it is gone, or
    /// stays after all.
    fn let_go(&mut self) {
        self.memory = NodeMemory { taken_since: self.memory.taken_since, ..NodeMemory::default() };
        self.plan.state = State::Leaving;
        "it is being deleted, or an autoscaler has marked it for its removal".clone_into(&mut self.plan.why);
    }

    /// No node of the cluster answers: that says more about this process than about the nodes. A remediation that has begun
    /// goes on: to end it half-way may leave the node in any state.
    fn give_up(&mut self, verdict: &Verdict, storm: &Storm) {
        self.memory = NodeMemory::default();
        self.plan.record.taken = self.remnant();
        self.plan.remediation = keep(self.node, false);
        self.plan.state = if verdict.is_bad() { State::Waiting } else { State::Suspect };
        self.plan.waits_for = storm.words();
    }

    /// Whether it is not certain yet that the node is unhealthy. What stands is kept as it is.
    fn keep_until_certain(&mut self, rules: &Rules, due: &mut Due) -> bool {
        if !self.node.confirmed {
            self.plan.state = State::Unconfirmed;
            "the API server's word on its Lease and conditions".clone_into(&mut self.plan.waits_for);
            return true;
        }
        let Some(doubt) = &self.node.doubt else {
            self.memory.doubted_since = None;
            return false;
        };
        let since = *self.memory.doubted_since.get_or_insert(self.now.moment);
        let over = since.saturating_add(rules.max_doubt);
        if over <= self.now.moment {
            return false;
        }
        self.plan.state = State::Doubted;
        self.plan.waits_for = format!("the second opinion: {doubt}");
        due.at(Some(over));
        true
    }

    fn wait_for_boot(&mut self) {
        self.plan.state = State::Recovering;
        "a new boot: the taint out-of-service stays until the node reports one"
            .clone_into(&mut self.plan.waits_for);
    }
}
