//! Nodes that are healthy, or healthy again.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use mainstay_runtime::clock::Moment;

use super::{
    draft::Draft,
    due::Due,
    rules::{Flapping, Rules},
    types::{NodeMemory, Remediation, State, Step, Wanted},
    verdict::Verdict,
};

impl Draft<'_> {
    /// A node that is not unhealthy. It is restored when it has been healthy for long enough.
    pub(super) fn recover(&mut self, rules: &Rules, verdict: &Verdict, due: &mut Due) {
        self.prune_flaps(rules, due);
        if !self.plan.record.is_taken() {
            self.memory = NodeMemory::default();
            return self.be_well(verdict);
        }
        // What was not heard since this process listens may be dead or alive, and one whose condition is bad is not well,
        // however lately it became so. What stands is kept as it is.
        let is_ailing = self.node.failing_due.is_some();
        if !verdict.heard || is_ailing {
            self.memory.well_since = None;
            self.plan.state = State::Suspect;
            let words = if is_ailing { "its conditions to become good" } else { "its next Lease renewal" };
            words.clone_into(&mut self.plan.waits_for);
            return;
        }
        self.memory = NodeMemory { well_since: self.memory.well_since, ..NodeMemory::default() };
        let since = *self.memory.well_since.get_or_insert(self.now.moment);
        self.plan.state = State::Recovering;
        self.end_remediation();
        // Should it fail once more, that is another failure.
        self.plan.record = std::mem::take(&mut self.plan.record).remediated(None);
        let back = since.saturating_add(rules.healthy_for);
        if back > self.now.moment {
            due.at(Some(back));
            self.plan.next = Some((Step::Restore, back));
            self.plan.waits_for = format!(
                "spec.healthyFor: it must stay healthy for {:?} without \
                                           interruption",
                rules.healthy_for
            );
        } else if self.node.remediation != Remediation::None {
            let words = match self.node.remediation {
                Remediation::Unknown => "a check whether a remediation of it exists",
                _ => "its remediation to be deleted",
            };
            words.clone_into(&mut self.plan.waits_for);
        } else if !self.quarantine(rules, due) {
            self.restore(verdict);
        }
    }

    /// The state of a node that is not unhealthy.
    pub(super) fn state_of_well(&self, verdict: &Verdict) -> State {
        if verdict.unjudged {
            State::Unjudged
        } else if verdict.overdue || self.node.failing_due.is_some() {
            State::Suspect
        } else {
            State::Healthy
        }
    }

    fn be_well(&mut self, verdict: &Verdict) {
        self.plan.state = self.state_of_well(verdict);
        if self.plan.state != State::Healthy {
            return;
        }
        self.end_remediation();
        if self.plan.record.taken.is_some() {
            self.wait_for_boot();
        }
    }

    /// A node that is healthy needs none, once it is known whether one exists.
    fn end_remediation(&mut self) {
        if self.node.remediation != Remediation::Unknown {
            self.plan.remediation = Wanted::None;
        }
    }

    fn restore(&mut self, verdict: &Verdict) {
        self.plan.record.taken = self.remnant();
        self.plan.record.quarantined_until = None;
        self.forget_quarantines();
        self.memory = NodeMemory::default();
        self.plan.waits_for.clear();
        self.be_well(verdict);
    }

    /// Whether a node that has come and gone too often is kept for now.
    fn quarantine(&mut self, rules: &Rules, due: &mut Due) -> bool {
        let record = &mut self.plan.record;
        let is_kept =
            |rules: &&Flapping| record.quarantined_until.is_some() || record.flaps.len() >= rules.count;
        let Some(flapping) = rules.flapping.as_ref().filter(is_kept) else { return false };
        let until = *record.quarantined_until.get_or_insert_with(|| {
            let length = length(flapping, record.quarantines);
            record.quarantines += 1;
            after(self.now.wall, length)
        });
        // It may have been written down under a clock that was ahead.
        let until = until.min(after(self.now.wall, longest(flapping)));
        record.quarantined_until = Some(until);
        let Some(left) = remaining(until.duration_since(self.now.wall)) else { return false };
        self.plan.state = State::Quarantined;
        self.plan.waits_for = format!(
            "{until}: it failed {} times within {:?}, and stays in quarantine until then",
            flapping.count, flapping.window
        );
        let until = self.now.moment.saturating_add(left);
        self.plan.next = Some((Step::Restore, until));
        due.at(Some(until));
        true
    }

    /// Forgets flaps that are out of the window, and with the last of them how often the node was kept.
    pub(super) fn prune_flaps(&mut self, rules: &Rules, due: &mut Due) {
        let record = &mut self.plan.record;
        let Some(flapping) = &rules.flapping else {
            record.flaps.clear();
            record.quarantines = 0;
            return;
        };
        let now = self.now.wall;
        let left = |flap: &Timestamp| {
            let age = now.duration_since(*flap);
            // One from the future was written under a clock that was wrong; it counts from now on.
            let age = if age.is_negative() { Duration::ZERO } else { age.unsigned_abs() };
            flapping.window.checked_sub(age).filter(|left| !left.is_zero())
        };
        record.flaps.retain(|flap| left(flap).is_some());
        // More are as good as many: the record stays short.
        let surplus = record.flaps.len().saturating_sub(flapping.count.max(1));
        record.flaps.drain(..surplus);
        let first = record.flaps.iter().filter_map(left).min();
        due.at(first.map(|left| self.now.moment.saturating_add(left)));
        self.forget_quarantines();
    }

    /// A node is a new one when neither a flap nor a quarantine is left.
    fn forget_quarantines(&mut self) {
        let record = &mut self.plan.record;
        if record.flaps.is_empty() && record.quarantined_until.is_none() {
            record.quarantines = 0;
        }
    }
}

/// Twice as long each further time.
fn length(flapping: &Flapping, before: u32) -> SignedDuration {
    let length = flapping.quarantine.saturating_mul(1_u32.checked_shl(before).unwrap_or(u32::MAX));
    SignedDuration::try_from(length).unwrap_or(SignedDuration::MAX).min(longest(flapping))
}

fn longest(flapping: &Flapping) -> SignedDuration {
    SignedDuration::try_from(flapping.max_quarantine).unwrap_or(SignedDuration::MAX)
}

fn after(now: Timestamp, length: SignedDuration) -> Timestamp {
    now.saturating_add(length).unwrap_or(Timestamp::MAX)
}

fn remaining(left: SignedDuration) -> Option<Moment> {
    (left.is_positive()).then(|| left.unsigned_abs())
}
