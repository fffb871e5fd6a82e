//! Which nodes of the control plane are down, whoever acts on them.

use std::sync::Arc;

use super::{rules::Rules, types::NodeView, verdict::Verdict};

/// The nodes of the control plane that are down as those see it that act, and dry runs.
pub(super) struct ControlPlane([Vec<Arc<str>>; 2]);

impl ControlPlane {
    pub(super) fn of(rules: &[Rules], nodes: &[NodeView], verdicts: &[Verdict]) -> Self {
        Self([false, true].map(|dry_run| {
            let seen = nodes.iter().zip(verdicts).filter(|(node, _)| node.control_plane);
            let down = seen.filter(|(node, verdict)| {
                let is_of = node.rules.is_some_and(|index| rules[index].dry_run == dry_run);
                verdict.answers_nobody(node) || is_of && verdict.failing || node.unread || node.leaving
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
