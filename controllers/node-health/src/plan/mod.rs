//! What each node should have: pure, no client and no clock.
//!
//! A plan is level-triggered: it says what is wanted now, from what is observed and what the last plan left. It
//! promises:
//!
//! - The controller acts on no node that a live read has not confirmed, that a second opinion reports alive, or whose
//!   Lease is renewed too rarely for a verdict.
//! - A remediation is created only as a step for a node that is acted on, and not before it was checked whether one
//!   exists.
//! - No new actions are taken where more nodes are unhealthy than the limit, and the controller acts on no more nodes
//!   in any window than the policy allows, also after a breaker has closed.
//! - Volumes detach only from a node that does not renew its Lease, and with proof that it is dead.
//! - At most one control plane node is out of use because of this controller, and it acts on none while another is out
//!   of use for any other reason: what it has begun with one before goes no further while another is not known to be well.
//! - While nothing can be observed nothing changes. Neither does a node whose policy cannot be read: it counts as out
//!   of use.
//! - When no node of the cluster answers, neither by its Lease nor to a second opinion, cordons and taints are
//!   removed.
//! - What the policy has set is removed when the node is healthy again and none of its conditions is bad, and nothing
//!   else is removed.
//! - Nothing is done with a node that is being removed on purpose, and no breaker counts it.
//! - A second plan at the same moment changes nothing.

mod act;
mod breakers;
mod control_plane;
mod draft;
mod due;
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

use self::{act::Queue, control_plane::ControlPlane, draft::Draft, due::Due, verdict::Verdict};
pub use self::{
    rules::*,
    types::*,
    verdict::{late, unreachable_at},
};

/// What each node is to carry. Who is `blind` cannot say anything of any node, and changes nothing.
pub fn plan(rules: &[Rules], nodes: &[NodeView], memory: &Memory, now: Now, blind: bool) -> Plan {
    let verdicts: Vec<_> = nodes.iter().map(|node| Verdict::of(rules, node, now.moment)).collect();
    let mut due = Due::after(now.moment);
    verdicts.iter().for_each(|verdict| due.at(verdict.due));
    let breaker_states =
        breakers::breaker_states(rules, nodes, &verdicts, memory, now.moment, blind, &mut due);
    let control_plane = ControlPlane::of(rules, nodes, &verdicts);
    let mut queue = Queue::new(rules, nodes, memory, &breaker_states, now);
    let mut next = Memory { breakers: breaker_states.memory.clone(), ..Memory::default() };
    let mut planned = Vec::with_capacity(nodes.len());
    for (node, verdict) in nodes.iter().zip(&verdicts) {
        let mut draft = Draft::new(rules, node, memory, &breaker_states, now);
        draft.other_down = control_plane.other_down(rules, node);
        if blind || node.unread {
            draft.hold(verdict, blind);
        } else {
            draft.take_back_unwritten(verdict);
            draft.decide(verdict, &mut due);
        }
        queue.note(planned.len(), &draft, verdict);
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
    Plan { nodes, breakers: breaker_states.breakers, memory: next, due: due.next }
}
