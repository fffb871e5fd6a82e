//! Which nodes of the control plane are down, whoever acts on them.
//!
//! This only holds back, so what is not known yet counts as down: a node of which no renewal was seen since it is watched,
//! one that no live read has confirmed, one that a second opinion reports alive, and one whose condition is bad and not yet
//! for its time.

use std::sync::Arc;

use super::{rules::Rules, types::NodeView, verdict::Verdict};

/// The nodes of the control plane that are down, or not known to be well, as those see it that act, and dry runs.
pub(super) struct ControlPlane([Vec<Arc<str>>; 2]);

impl ControlPlane {
    pub(super) fn of(rules: &[Rules], nodes: &[NodeView], verdicts: &[Verdict]) -> Self {
        Self([false, true].map(|dry_run| {
            let seen = nodes.iter().zip(verdicts).filter(|(node, _)| node.control_plane);
            let down = seen.filter(|(node, verdict)| {
                let is_of = node.rules.is_some_and(|index| rules[index].dry_run == dry_run);
                let is_failing = is_of && (verdict.failing || node.failing_due.is_some());
                let is_silent = verdict.silent || !node.heartbeat.is_heard();
                is_silent || is_failing || node.unread || node.leaving
            });
            down.map(|(node, _)| Arc::clone(&node.name)).collect()
        }))
    }

    /// Another node of the control plane than this one that is down, if this is one.
    pub(super) fn other_down(&self, rules: &[Rules], node: &NodeView) -> Option<Arc<str>> {
        let dry_run = rules[node.rules.filter(|_| node.control_plane)?].dry_run;
        self.0[usize::from(dry_run)].iter().find(|other| **other != node.name).cloned()
    }
}
