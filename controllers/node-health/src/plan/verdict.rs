//! Whether one node is well.

use mainstay_runtime::clock::Moment;

use super::{NodeView, Rules};

/// What is seen of one node, judged.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    /// It is silent for too long.
    pub unreachable: bool,
    /// One of the policy's conditions has held for too long.
    pub failing: bool,
    /// It should have renewed its Lease by now.
    pub overdue: bool,
    /// Its Lease is renewed too rarely for the policy.
    pub unjudged: bool,
    /// It was heard of, and is not overdue.
    pub heard: bool,
    /// When time alone changes this.
    pub due: Option<Moment>,
}

impl Verdict {
    pub(super) fn of(rules: &[Rules], node: &NodeView, now: Moment) -> Self {
        let heartbeat = node.heartbeat;
        let (since, rules) = (heartbeat.silent_since(), node.rules.map(|index| &rules[index]));
        let mut moments = [None; 3];
        let mut verdict = Self { failing: node.failing.is_some(), ..Self::default() };
        match (heartbeat.interval, rules) {
            (Some(interval), rules) => {
                // A kubelet moves its renewals by up to 4 % (kubelet, `leaseControllerJitter`), and a write takes time.
                // No less than this, or many nodes that live would be looked at again and again for nothing.
                let overdue = since.saturating_add(interval + interval / 5);
                verdict.overdue = overdue < now;
                // The first moment at which it is.
                moments[0] = Some(overdue + Moment::from_nanos(1));
                verdict.heard = heartbeat.is_heard() && !verdict.overdue;
                if let Some(rules) = rules {
                    verdict.unjudged = rules.unreachable_after < interval + interval / 2;
                    let silent = since.saturating_add(rules.unreachable_after);
                    verdict.unreachable = !verdict.unjudged && silent <= now;
                    moments[1] = Some(silent);
                }
            }
            (None, Some(rules)) => {
                let late = since.saturating_add(rules.startup_grace);
                verdict.unreachable = late <= now;
                moments[1] = Some(late);
            }
            (None, None) => {}
        }
        moments[2] = node.failing_due;
        verdict.due = moments.into_iter().flatten().filter(|moment| *moment > now).min();
        verdict
    }

    /// Whether the node is unhealthy, as far as the watches show.
    pub(super) fn is_bad(&self) -> bool {
        self.unreachable || self.failing
    }

    /// Whether a breaker counts the node: a storm is seen before all of its verdicts are in.
    pub(super) fn counts(&self) -> bool {
        self.is_bad() || self.overdue
    }

    /// Why the node is not simply well; empty when it is.
    pub(super) fn words(&self, rules: &Rules, node: &NodeView) -> String {
        if self.unreachable {
            return match node.heartbeat.interval {
                Some(_) => {
                    format!("its Lease has not been renewed for {:?} or more", rules.unreachable_after)
                }
                None => format!("it has had no Lease for {:?} or more", rules.startup_grace),
            };
        }
        if let Some((words, _)) = &node.failing {
            return words.to_string();
        }
        if let Some(interval) = node.heartbeat.interval.filter(|_| self.unjudged) {
            return format!(
                "its Lease is renewed every {interval:?}, which says nothing within spec.unreachableAfter of {:?}: set \
                 that to at least {:?}, or the kubelet's nodeLeaseDurationSeconds to a smaller number",
                rules.unreachable_after,
                interval + interval / 2
            );
        }
        match (self.overdue, node.failing_due) {
            (true, _) => "its Lease is overdue".to_owned(),
            (false, Some(_)) => {
                "one of the policy's conditions holds, and not for long enough yet".to_owned()
            }
            (false, None) => String::new(),
        }
    }
}
