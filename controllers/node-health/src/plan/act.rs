//! The actions on unhealthy nodes.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::SignedDuration;
use mainstay_runtime::clock::Moment;

use super::{
    breakers::BreakerStates,
    draft::{Draft, keep},
    due::Due,
    rules::{Rate, Rules, Steps},
    types::{Evict, Memory, NodeView, Now, Remediation, State, Step, Wanted},
    verdict::Verdict,
};
use crate::{
    names::CONFIRMED_DEAD,
    record::{TaintEffect, Taken, confirmation},
};

/// No node is taken by a live read that is older.
const FRESH: Duration = Duration::from_secs(4);

/// The nodes that are to be taken, in the order in which they are.
pub(super) struct Queue {
    now: Now,
    /// As in [`Memory::taken`].
    pub taken: BTreeMap<Arc<str>, Vec<SignedDuration>>,
    /// A node of the control plane that is out of use, by this controller or by anything else: as those that act see it,
    /// and dry runs.
    control_plane: [Option<Arc<str>>; 2],
    waiting: Vec<(Moment, usize)>,
    /// How many nodes of each policy are asked again before they are taken: each has a place in this plan, so that no more are
    /// asked than may be taken, and those that are unhealthy for longest have their turn.
    asked: BTreeMap<Arc<str>, usize>,
}

impl Queue {
    pub(super) fn new(
        rules: &[Rules],
        nodes: &[NodeView],
        memory: &Memory,
        breaker_states: &BreakerStates,
        now: Now,
    ) -> Self {
        let taken = rules.iter().enumerate().map(|(index, rules)| {
            let before = memory.taken.get(&rules.policy).cloned();
            let before =
                before.unwrap_or_else(|| written(nodes.iter().filter(|node| node.rules == Some(index)), now));
            (Arc::clone(&rules.policy), resume(rules, before, breaker_states, now.moment))
        });
        Self {
            now,
            taken: taken.collect(),
            control_plane: [None, None],
            waiting: Vec::new(),
            asked: BTreeMap::new(),
        }
    }

    /// Notes what has been decided of a node, all but whether it is taken now.
    pub(super) fn note(&mut self, index: usize, draft: &Draft<'_>, verdict: &Verdict) {
        if draft.is_candidate {
            let since = draft.memory.unhealthy_since.unwrap_or(self.now.moment);
            self.waiting.push((since, index));
        }
        if !draft.node.control_plane {
            return;
        }
        for (place, dry_run) in self.control_plane.iter_mut().zip([false, true]) {
            if draft.is_out_of_use(verdict, dry_run) {
                place.get_or_insert_with(|| Arc::clone(&draft.node.name));
            }
        }
    }

    /// Takes nodes as far as the rates and the control plane allow it, those first that are unhealthy for longest.
    pub(super) fn serve(&mut self, drafts: &mut [Draft<'_>], verdicts: &[Verdict], due: &mut Due) {
        let mut waiting = std::mem::take(&mut self.waiting);
        waiting.sort_by(|(one_since, one), (other_since, other)| {
            let name = |index: &usize| &drafts[*index].node.name;
            one_since.cmp(other_since).then_with(|| name(one).cmp(name(other)))
        });
        for (_, index) in waiting {
            let draft = &mut drafts[index];
            let Some(rules) = draft.rules else { continue };
            match self.refusal(draft.node, rules, due) {
                Some((words, until)) => {
                    draft.plan.waits_for = words;
                    if let Some(until) = until {
                        draft.begins_at(rules, until);
                    }
                }
                // It may have waited for long.
                None if !draft.is_answer_fresh() => {
                    draft.ask_again();
                    *self.asked.entry(Arc::clone(&rules.policy)).or_default() += 1;
                    self.occupy(draft.node, rules);
                }
                None => {
                    self.taken.entry(Arc::clone(&rules.policy)).or_default().push(signed(self.now.moment));
                    self.occupy(draft.node, rules);
                    draft.take(rules, &verdicts[index], due);
                }
            }
        }
    }

    /// No other control plane node has its turn.
    fn occupy(&mut self, node: &NodeView, rules: &Rules) {
        if node.control_plane {
            self.control_plane[usize::from(rules.dry_run)] = Some(Arc::clone(&node.name));
        }
    }

    /// What keeps the node from being taken, and until when, where time alone ends it.
    fn refusal(&self, node: &NodeView, rules: &Rules, due: &mut Due) -> Option<(String, Option<Moment>)> {
        let other = self.control_plane[usize::from(rules.dry_run)].as_ref();
        if let Some(other) = other.filter(|other| node.control_plane && **other != node.name) {
            return Some((format!("control plane node {other}: only one may be out of use at a time"), None));
        }
        let rate = rules.breakers.rate;
        let taken = self.taken.get(&rules.policy).map_or(&[][..], |taken| taken);
        let asked = self.asked.get(&rules.policy).copied().unwrap_or_default();
        if taken.len() + asked < rate.count {
            return None;
        }
        let mut moments: Vec<_> = taken.iter().filter_map(|taken| free(*taken, rate.window)).collect();
        moments.sort_unstable();
        due.at(moments.first().copied());
        // Of more than the rate allows, as after it was lowered, several leave the window first.
        // The place of one who is asked has no time: his answer decides.
        let until = moments.get((moments.len() + asked).saturating_sub(rate.count)).copied();
        Some((format!("the rate limit: at most {} nodes per {:?}", rate.count, rate.window), until))
    }
}

/// When nodes were taken by another process, as their records say. One from the future was written under a clock that was
/// wrong, and counts from now on.
fn written<'a>(nodes: impl Iterator<Item = &'a NodeView>, now: Now) -> Vec<SignedDuration> {
    let times = nodes.flat_map(|NodeView { record, .. }| {
        let since = record.taken.as_ref().and_then(|taken| taken.since);
        let is_flap = since.is_some_and(|since| record.flaps.contains(&since));
        record.flaps.iter().copied().chain(since.filter(|_| !is_flap))
    });
    let age = |time| now.wall.duration_since(time).max(SignedDuration::ZERO);
    times.map(|time| signed(now.moment).saturating_sub(age(time))).collect()
}

/// When the controller began to act on nodes of the policy, within its window. After a breaker has closed what is left of the
/// rate is given out evenly: pending nodes are handled one by one, and not all at once.
fn resume(
    rules: &Rules,
    mut taken: Vec<SignedDuration>,
    breaker_states: &BreakerStates,
    now: Moment,
) -> Vec<SignedDuration> {
    let Rate { count, window } = rules.breakers.rate;
    taken.retain(|at| free(*at, window).is_some_and(|free| free > now));
    if breaker_states.cleared.contains(&rules.policy) {
        let left = count.saturating_sub(taken.len());
        let share = window / u32::try_from(count.max(1)).unwrap_or(u32::MAX);
        let leave = (1..=left).map(|index| share * u32::try_from(index).unwrap_or(u32::MAX));
        taken.extend(leave.map(|leave| signed(now + leave).saturating_sub(signed(window))));
    }
    taken
}

/// When a node that was taken then leaves the window. `None`: before the process began.
fn free(taken: SignedDuration, window: Duration) -> Option<Moment> {
    Moment::try_from(taken.saturating_add(signed(window))).ok()
}

fn signed(length: Duration) -> SignedDuration {
    SignedDuration::try_from(length).unwrap_or(SignedDuration::MAX)
}

impl Draft<'_> {
    /// Whether the node is out of use, for any reason, and is not itself the next candidate. Decisions of a dry run
    /// count only for other dry runs, but missing renewals count for all.
    fn is_out_of_use(&self, verdict: &Verdict, dry_run: bool) -> bool {
        let is_of = self.rules.is_some_and(|rules| rules.dry_run == dry_run);
        let is_taken = is_of && self.plan.record.is_taken();
        let is_down = verdict.answers_nobody(self.node) || is_of && verdict.failing;
        let is_next = is_of && self.is_candidate;
        self.node.unread || self.node.leaving || is_taken || is_down && !is_next
    }

    /// Whether what a live read has shown of the node is new enough to begin to act on it.
    fn is_answer_fresh(&self) -> bool {
        self.node.answered.is_some_and(|at| self.now.moment.saturating_sub(at) <= FRESH)
    }

    fn ask_again(&mut self) {
        self.plan.ask = true;
        "another live read before anything is done: the last one is some time ago"
            .clone_into(&mut self.plan.waits_for);
    }

    /// The node is acted on from now on.
    fn take(&mut self, rules: &Rules, verdict: &Verdict, due: &mut Due) {
        let standing = self.plan.record.taken.take().unwrap_or_default();
        self.plan.record.taken =
            Some(Taken { policy: Arc::clone(&rules.policy), since: Some(self.now.wall), ..standing });
        if rules.flapping.is_some() {
            self.plan.record.flaps.push(self.now.wall);
            self.prune_flaps(rules, due);
        }
        self.memory.taken_since = Some(self.now.moment);
        self.plan.remediation = keep(self.node, true);
        self.act(rules, verdict, due);
    }

    /// What is done with a node that was taken.
    pub(super) fn act(&mut self, rules: &Rules, verdict: &Verdict, due: &mut Due) {
        self.plan.state = State::Acting;
        self.plan.waits_for.clear();
        let steps = &rules.steps;
        let mut clock = Clock {
            since: *self.memory.taken_since.get_or_insert(self.now.moment),
            now: self.now.moment,
            next: None,
        };
        let mut taken = self.plan.record.taken.clone().unwrap_or_default();
        taken.policy = Arc::clone(&rules.policy);
        // What stands of an earlier process stays, although its time begins anew.
        taken.cordon = steps.cordon.is_some_and(|after| clock.is_due(Step::Cordon, after) || taken.cordon);
        let stands = taken.taint;
        let taint = steps.taint.filter(|(_, after)| clock.is_due(Step::Taint, *after) || stands.is_some());
        let taint = taint.map(|(effect, _)| effect);
        // Kubernetes evicts by it at once.
        let evicts = taint == Some(TaintEffect::NoExecute) && stands != taint;
        taken.taint = if evicts && self.other_down.is_some() { stands } else { taint };
        let not_ready = steps.pods_not_ready.is_some_and(|after| clock.is_due(Step::PodsNotReady, after));
        self.plan.pods.not_ready = not_ready && verdict.unreachable;
        if let Some(other) = self.other_down.clone() {
            self.plan.record.taken = Some(taken);
            due.at(clock.next.map(|(_, at)| at));
            return self.go_no_further(&other);
        }
        self.plan.pods.evict = evict(steps, &mut clock);
        if self.plan.pods.evict.is_some() && self.node.pods > 0 {
            self.wait_for(format!("pods to be evicted: {}", self.node.pods));
        }
        self.remediate(steps, &mut clock, due);
        if let Some(after) = steps.out_of_service
            && taken.out_of_service.is_none()
            && clock.is_due(Step::OutOfService, after)
        {
            taken.out_of_service = self.proven_dead(verdict);
        }
        self.plan.record.taken = Some(taken);
        self.plan.next = clock.next;
        due.at(clock.next.map(|(_, at)| at));
    }

    /// While another node of the control plane is down, what stands is kept. Its etcd may live although a condition is bad: to cut
    /// the power of a second node could take the quorum of all.
    fn go_no_further(&mut self, other: &str) {
        self.plan.state = State::Waiting;
        self.plan.remediation = keep(self.node, true);
        self.plan.waits_for = format!(
            "control plane node {other}, which is down too or not known to be well: no eviction, remediation or \
             taint out-of-service begins meanwhile, since etcd may lose its quorum"
        );
    }

    /// The boot that is dead. A node that renews its Lease is not dead, whatever is claimed. Without proof, says what
    /// would be one.
    fn proven_dead(&mut self, verdict: &Verdict) -> Option<Arc<str>> {
        if !verdict.unreachable {
            self.wait_for(
                "missing Lease renewals, before the taint out-of-service: it still renews its Lease"
                    .to_owned(),
            );
            return None;
        }
        if self.node.proof.is_some() && !self.node.boot_id.is_empty() {
            return Some(Arc::clone(&self.node.boot_id));
        }
        self.wait_for(format!(
            "proof that it is dead, before the taint out-of-service: the cloud provider says that it is \
             shut down, a remediation with provesDeath succeeds, or you confirm it with kubectl label node \
             {} --overwrite {CONFIRMED_DEAD}={}",
            self.node.name,
            confirmation(&self.node.boot_id, self.node.heartbeat.renewed)
        ));
        None
    }

    fn remediate(&mut self, steps: &Steps, clock: &mut Clock, due: &mut Due) {
        if steps.remediation.is_empty() || !clock.is_due(Step::Remediate, steps.remediate_after) {
            return;
        }
        let (template, since, succeeded) = match self.node.remediation {
            Remediation::Unknown => {
                self.plan.remediation = Wanted::Look;
                return self.wait_for("a check whether a remediation of it exists".to_owned());
            }
            // Its remediator has deleted it, and the node may yet need minutes to be back.
            Remediation::None if self.is_remediated() => return self.wait_for_remediated(),
            Remediation::None => return self.remediate_from(0, steps),
            Remediation::Stands { template, since, succeeded } => (template, since, succeeded),
        };
        self.plan.remediation = Wanted::Template(template);
        let over = steps.remediation.get(template).map(|timeout| since.saturating_add(*timeout));
        let is_over = over.is_none_or(|over| over <= self.now.moment);
        match succeeded {
            Some(true) => return self.wait_for_remediated(),
            None if !is_over => {
                due.at(over);
                return self.wait_for(format!("remediation {} of {}", template + 1, steps.remediation.len()));
            }
            Some(false) | None => {}
        }
        if template + 1 < steps.remediation.len() {
            self.remediate_from(template + 1, steps);
        } else {
            self.wait_for("your action: the last remediation has not succeeded".to_owned());
        }
    }

    fn is_remediated(&self) -> bool {
        self.plan.record.taken.as_ref().is_some_and(|taken| taken.remediated.is_some())
    }

    fn wait_for_remediated(&mut self) {
        self.wait_for("the node to renew its Lease, as its remediation has succeeded".to_owned());
    }

    /// The next template has its turn of which one can be made. Where there is none, the last of them is looked for: a person
    /// may put it right.
    fn remediate_from(&mut self, first: usize, steps: &Steps) {
        let last = steps.remediation.len() - 1;
        let next = (first..=last).find(|index| !self.node.out_of_reach.contains(index));
        self.plan.remediation = Wanted::Template(next.unwrap_or(last));
        if next.is_none() {
            self.wait_for(
                "your action: no remediation can be created from the remaining templates".to_owned(),
            );
        }
    }

    fn wait_for(&mut self, words: String) {
        if !self.plan.waits_for.is_empty() {
            self.plan.waits_for.push_str("; ");
        }
        self.plan.waits_for.push_str(&words);
    }
}

/// When the steps of a node are due.
struct Clock {
    since: Moment,
    now: Moment,
    /// The first step that is not.
    next: Option<(Step, Moment)>,
}

impl Clock {
    fn is_due(&mut self, step: Step, after: Moment) -> bool {
        let at = self.since.saturating_add(after);
        if at <= self.now {
            return true;
        }
        if self.next.is_none_or(|(_, first)| at < first) {
            self.next = Some((step, at));
        }
        false
    }
}

fn evict(steps: &Steps, clock: &mut Clock) -> Option<Evict> {
    let drain = steps.drain.as_ref()?;
    if !clock.is_due(Step::Drain, drain.after) {
        return None;
    }
    let deadline = drain.after.saturating_add(drain.deadline);
    let is_over = drain.delete_after && clock.is_due(Step::Delete, deadline);
    Some(if is_over { Evict::Force } else { Evict::Politely })
}
