//! Whether one node is healthy.

use std::time::Duration;

use mainstay_runtime::clock::Moment;

use super::{
    rules::Rules,
    types::{Heartbeat, NodeView},
};

/// After how long a Lease is overdue that is renewed every `interval`. A kubelet moves its renewals by up to 4 % (kubelet,
/// `leaseControllerJitter`), and a write takes time. No less than this, or many nodes that live would be looked at again
/// and again for nothing.
pub fn late(interval: Duration) -> Duration {
    interval + interval / 5
}

/// When a node with this heartbeat is unreachable by these rules; `None`: its Lease is renewed too rarely for them.
pub fn unreachable_at(heartbeat: Heartbeat, rules: &Rules) -> Option<Moment> {
    let after = match heartbeat.interval {
        Some(interval) if rules.unreachable_after < least(interval) => return None,
        Some(_) => rules.unreachable_after,
        None => rules.startup_grace,
    };
    Some(heartbeat.silent_since().saturating_add(after))
}

/// The shortest time after which one late renewal makes no node unreachable.
fn least(interval: Duration) -> Duration {
    interval + interval / 2
}

/// What is seen of one node, judged.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    /// It is silent for too long.
    pub unreachable: bool,
    /// It is unreachable, or would be by the shortest time that a policy may name for it.
    pub silent: bool,
    /// One of the policy's conditions has held for too long.
    pub failing: bool,
    /// It should have renewed its Lease by now.
    pub overdue: bool,
    /// Its Lease is renewed too rarely for the policy.
    pub unjudged: bool,
    /// A renewal was seen, and it is not overdue. Of a node without a Lease, that it has posted its status.
    pub heard: bool,
    /// Whose it is cannot be read.
    pub unread: bool,
    /// When time alone changes this.
    pub due: Option<Moment>,
}

impl Verdict {
    pub(super) fn of(rules: &[Rules], node: &NodeView, now: Moment) -> Self {
        let heartbeat = node.heartbeat;
        // No policy judges the silence of a node that is another's.
        let judge = node.rules.filter(|_| !node.unread);
        let (since, rules) = (heartbeat.silent_since(), judge.map(|index| &rules[index]));
        let mut moments = [None; 3];
        let mut verdict = Self { failing: node.failing.is_some(), unread: node.unread, ..Self::default() };
        if let Some(interval) = heartbeat.interval {
            let overdue = since.saturating_add(late(interval));
            verdict.overdue = overdue < now;
            // The first moment at which it is.
            moments[0] = Some(overdue + Moment::from_nanos(1));
            verdict.heard = heartbeat.is_heard() && !verdict.overdue;
        }
        let unreachable = rules.and_then(|rules| unreachable_at(heartbeat, rules));
        verdict.unjudged = rules.is_some() && unreachable.is_none();
        let shortest = || Some(since.saturating_add(least(heartbeat.interval?)));
        let silent = unreachable.or_else(shortest);
        verdict.silent = silent.is_some_and(|silent| silent <= now);
        verdict.unreachable = verdict.silent && unreachable.is_some();
        // Without a Lease there is no time at which a sign of life is due.
        verdict.heard |= heartbeat.interval.is_none() && heartbeat.is_heard() && !verdict.silent;
        moments[1] = silent;
        moments[2] = node.failing_due;
        verdict.due = moments.into_iter().flatten().filter(|moment| *moment > now).min();
        verdict
    }

    /// Whether the node does not answer: neither by its Lease, nor to a live read, nor to a second opinion. For a node
    /// that no policy judges there is no second opinion; all Leases were read live before "no node answers" is
    /// concluded.
    pub(super) fn answers_nobody(&self, node: &NodeView) -> bool {
        self.silent && (!self.unreachable || node.confirmed && node.doubt.is_none())
    }

    /// Whether the node is unhealthy, as far as the watches show.
    pub(super) fn is_bad(&self) -> bool {
        self.unreachable || self.failing
    }

    /// Whether a breaker counts the node: many failures are seen before all of their verdicts are known. A node that
    /// was acted on and whose policy cannot be read counts as out of use.
    pub(super) fn counts(&self) -> bool {
        self.is_bad() || self.overdue || self.unread
    }

    /// Whether the node may be unhealthy, and has not been watched for long enough to decide: for a new leader this
    /// applies to all nodes while a breaker is open. It opens no breaker, and closes none.
    pub(super) fn is_uncertain(&self, node: &NodeView) -> bool {
        node.failing_due.is_some() || !node.heartbeat.is_heard()
    }

    /// Why the node is not simply well; empty when it is.
    pub(super) fn words(&self, rules: &Rules, node: &NodeView) -> String {
        if self.unreachable {
            return match node.heartbeat.interval {
                Some(_) => {
                    format!("its Lease has not been renewed for {:?} or more", rules.unreachable_after)
                }
                None => format!(
                    "it has no Lease, and has not posted its status for {:?} or more",
                    rules.startup_grace
                ),
            };
        }
        if let Some((words, _)) = &node.failing {
            return words.to_string();
        }
        if let Some(interval) = node.heartbeat.interval.filter(|_| self.unjudged) {
            return format!(
                "its Lease is renewed every {interval:?}, too rarely for spec.unreachableAfter of {:?}: \
                 set that to at least {:?}, or the kubelet's nodeLeaseDurationSeconds to a smaller number",
                rules.unreachable_after,
                least(interval)
            );
        }
        match (self.overdue, node.failing_due) {
            (true, _) => "its Lease is overdue".to_owned(),
            (false, Some(_)) => {
                "one of the policy's conditions is bad, but not yet for long enough".to_owned()
            }
            (false, None) => String::new(),
        }
    }
}
