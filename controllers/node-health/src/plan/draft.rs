//! The plan of one node.

use std::sync::Arc;

use mainstay_runtime::clock::Moment;

use super::{
    breakers::{BreakerStates, OpenBreaker},
    due::Due,
    rules::{Rules, Steps},
    types::{Memory, NodeMemory, NodePlan, NodeView, Now, PodsPlan, Remediation, State, Step, Wanted},
    verdict::Verdict,
};
use crate::record::{Record, Taken};

/// The plan of one node, as it comes about.
pub(super) struct Draft<'a> {
    pub(super) node: &'a NodeView,
    pub(super) rules: Option<&'a Rules>,
    open_breaker: Option<&'a OpenBreaker>,
    /// If it runs the control plane: another node of it that is down, or not known to be well.
    pub(super) other_down: Option<Arc<str>>,
    pub(super) now: Now,
    pub(super) memory: NodeMemory,
    pub(super) plan: NodePlan,
    /// Whether the node is to be taken, as soon as the rate and the control plane allow it.
    pub(super) is_candidate: bool,
}

impl<'a> Draft<'a> {
    pub(super) fn new(
        rules: &'a [Rules],
        node: &'a NodeView,
        memory: &Memory,
        breaker_states: &'a BreakerStates,
        now: Now,
    ) -> Self {
        let mut record = node.record.clone().at_boot(&node.boot_id);
        if node.remediated {
            record = record.remediated(Some(&node.boot_id));
        }
        let plan = NodePlan {
            state: State::Healthy,
            why: String::new(),
            waits_for: String::new(),
            next: None,
            ask: false,
            record,
            pods: PodsPlan::default(),
            remediation: keep(node, node.record.is_taken()),
        };
        Self {
            node,
            rules: node.rules.map(|index| &rules[index]),
            open_breaker: breaker_states.open_breaker(node),
            other_down: None,
            now,
            memory: memory.nodes.get(&node.name).cloned().unwrap_or_default(),
            plan,
            is_candidate: false,
        }
    }

    /// A taint out-of-service that is decided but not written yet is decided again: the node may have renewed its
    /// Lease since. So is one that was removed by hand. For a node that is not acted on there is none.
    pub(super) fn take_back_unwritten(&mut self, verdict: &Verdict) {
        let still_dead = verdict.unreachable && self.node.proof.is_some() && self.node.record.is_taken();
        if !self.node.out_of_service && !still_dead {
            self.plan.record = std::mem::take(&mut self.plan.record).in_service();
        }
    }

    pub(super) fn decide(&mut self, verdict: &Verdict, due: &mut Due) {
        let Some(rules) = self.rules else { return self.release() };
        if self.node.leaving {
            return self.let_go();
        }
        self.plan.why = verdict.words(rules, self.node);
        if let Some(open_breaker) = self.open_breaker.filter(|open_breaker| open_breaker.everything) {
            return self.give_up(verdict, open_breaker);
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
        if let Some(open_breaker) = self.open_breaker {
            self.plan.state = State::Waiting;
            self.plan.waits_for = open_breaker.words();
        } else if self.plan.record.is_taken() {
            self.act(rules, verdict, due);
        } else if !rules.pause_requests.is_empty() {
            self.plan.state = State::Waiting;
            self.plan.waits_for =
                format!("spec.pauseRequests to be removed: {}", rules.pause_requests.join(", "));
        } else {
            self.plan.state = State::Waiting;
            let settled = since.saturating_add(rules.breakers.settle);
            self.is_candidate = settled <= self.now.moment;
            if !self.is_candidate {
                self.plan.ask = true;
                self.begins_at(rules, settled);
            }
            "spec.breakers.settle, to see whether other nodes fail too".clone_into(&mut self.plan.waits_for);
            due.at(Some(settled));
        }
    }

    /// Nothing is known about it: what is set on it and what is remembered is kept as it is.
    pub(super) fn hold(&mut self, verdict: &Verdict, blind: bool) {
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
                "the API server: it does not answer, or no Lease renewal was seen".to_owned()
            } else {
                let policy = self.plan.record.taken.as_ref().map(|taken| &*taken.policy);
                format!(
                    "NodeHealthPolicy {}, which acts on it and cannot be read: correct it",
                    policy.unwrap_or_default()
                )
            };
        }
    }

    /// What stays on a node that is restored: only what is set there.
    pub(super) fn remnant(&self) -> Option<Taken> {
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

    /// A node that is being removed on purpose: missing renewals are expected. What is set on it is kept until it is
    /// gone, or stays after all.
    fn let_go(&mut self) {
        self.memory = NodeMemory { taken_since: self.memory.taken_since, ..NodeMemory::default() };
        self.plan.state = State::Leaving;
        "it is being deleted, or an autoscaler has marked it for removal".clone_into(&mut self.plan.why);
    }

    /// No node of the cluster answers: that says more about this process than about the nodes. A remediation that has begun
    /// goes on: to end it half-way may leave the node in any state.
    fn give_up(&mut self, verdict: &Verdict, open_breaker: &OpenBreaker) {
        self.memory = NodeMemory::default();
        self.plan.record.taken = self.remnant();
        self.plan.record.quarantined_until = None;
        self.plan.remediation = keep(self.node, false);
        self.plan.state = if verdict.is_bad() { State::Waiting } else { State::Suspect };
        self.plan.waits_for = open_breaker.words();
    }

    /// Whether it is not certain yet that the node is unhealthy. What is set on it is kept as it is.
    fn keep_until_certain(&mut self, rules: &Rules, due: &mut Due) -> bool {
        if !self.node.confirmed {
            (self.plan.state, self.plan.ask) = (State::Unconfirmed, true);
            "a live read of its Lease and conditions from the API server"
                .clone_into(&mut self.plan.waits_for);
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
        (self.plan.state, self.plan.ask) = (State::Doubted, true);
        self.plan.waits_for = format!("the second opinion: {doubt}");
        due.at(Some(over));
        let settle = rules.breakers.settle;
        let since = self.memory.unhealthy_since.unwrap_or(over);
        self.begins_at(rules, over.max(since.saturating_add(settle)));
        true
    }

    /// Says which step comes first, for a node that waits for nothing but this moment before it is acted on.
    pub(super) fn begins_at(&mut self, rules: &Rules, moment: Moment) {
        let waits_for_more = self.open_breaker.is_some() || !rules.pause_requests.is_empty();
        if waits_for_more || self.other_down.is_some() || self.plan.record.is_taken() {
            return;
        }
        let Steps { cordon, taint, pods_not_ready, drain, out_of_service, remediation, remediate_after } =
            &rules.steps;
        let steps = [
            (Step::Cordon, *cordon),
            (Step::Taint, taint.map(|(_, after)| after)),
            (Step::PodsNotReady, *pods_not_ready),
            (Step::Drain, drain.as_ref().map(|drain| drain.after)),
            (Step::Remediate, (!remediation.is_empty()).then_some(*remediate_after)),
            (Step::OutOfService, *out_of_service),
        ];
        let steps = steps.into_iter().filter_map(|(step, after)| Some((step, after?)));
        let first = steps.min_by_key(|(_, after)| *after);
        self.plan.next = first.map(|(step, after)| (step, moment.saturating_add(after)));
    }

    pub(super) fn wait_for_boot(&mut self) {
        self.plan.state = State::Recovering;
        "a reboot: the taint out-of-service stays until the node reports one"
            .clone_into(&mut self.plan.waits_for);
    }
}

/// Keeps the existing remediation, and looks for that of a node that was acted on before this process started. It
/// creates and ends nothing: creating one is a step like others, and ending one is for a node that is healthy.
pub(super) fn keep(node: &NodeView, is_taken: bool) -> Wanted {
    match node.remediation {
        Remediation::None => Wanted::None,
        Remediation::Unknown if !is_taken => Wanted::None,
        Remediation::Unknown | Remediation::Stands { .. } => Wanted::Look,
    }
}
