//! Which pods are deleted when there are too many.
//!
//! The rules up to deletion cost compare two pods independently of the others, so they sort the pods into classes, and
//! every class but one stays or is deleted as a whole. Only the class that is partly deleted needs the rules that
//! depend on the remaining pods; [`Board`] applies them.

use std::{cmp::Reverse, collections::HashSet};

use jiff::Timestamp;

use super::{
    answer::{How, Step, Victim},
    board::Board,
    time::{elapsed, until_available},
    types::{Gate, Phase, Pod, Policy},
    why::Why,
};

/// The `surplus` of the `active` pods that go, in order, all of them `eligible`; all of the active ones when there
/// are no more. The others count where balance does.
pub(super) fn victims(
    policy: &Policy,
    pods: &[Pod<'_>],
    active: &[usize],
    eligible: &dyn Fn(usize) -> bool,
    surplus: usize,
    now: Timestamp,
) -> Vec<Victim> {
    let mut ranked: Vec<_> =
        active.iter().map(|&index| Ranked::new(policy, index, &pods[index], !eligible(index), now)).collect();
    ranked.sort_unstable_by(|one, other| one.order().cmp(&other.order()));
    let Some(cut) = ranked.get(surplus).map(|first_to_stay| first_to_stay.class) else {
        return ranked
            .iter()
            .map(|pod| Victim { pod: pod.index, why: Why::ScaledToZero, how: How::Delete, step: Step::Go })
            .collect();
    };
    let start = ranked.partition_point(|pod| pod.class < cut);
    let end = ranked.partition_point(|pod| pod.class <= cut);
    let taken = if cut.scheduled {
        Board::new(policy.prefer, ranked.iter().map(|pod| pod.pod.node), start..end).take(surplus - start)
    } else {
        (start..surplus).map(|place| (place, None)).collect()
    };
    explain(&ranked, start, end, &taken)
}

/// Puts the classes that go as a whole before the pods `taken` from the class at `start..end`, and says of each
/// why it goes. `taken` carries the reason where it is one of [`Board`]'s.
fn explain(ranked: &[Ranked<'_>], start: usize, end: usize, taken: &[(usize, Option<Why>)]) -> Vec<Victim> {
    let gone: HashSet<usize> = taken.iter().map(|&(place, _)| place).collect();
    let senior = (start..end).rev().find(|place| !gone.contains(place));
    let senior = &ranked[senior.expect("the class of the cut has a pod that stays")];
    let longest = ranked[ranked.len() - 1].class;
    let whole = (0..start).map(|place| (place, None));
    whole
        .chain(taken.iter().copied())
        .map(|(place, placement)| {
            let pod = &ranked[place];
            let why = pod.class.difference(longest).or(placement);
            let why = why.unwrap_or_else(|| pod.seniority.difference(&senior.seniority));
            Victim { pod: pod.index, why, how: How::Delete, step: Step::Go }
        })
        .collect()
}

/// An active pod with all that places it.
struct Ranked<'a> {
    index: usize,
    pod: &'a Pod<'a>,
    class: Class,
    seniority: Seniority<'a>,
}

impl<'a> Ranked<'a> {
    fn new(policy: &Policy, index: usize, pod: &'a Pod<'a>, stays: bool, now: Timestamp) -> Self {
        Self { index, pod, class: Class::of(policy, pod, stays, now), seniority: Seniority::of(pod, now) }
    }

    fn order(&self) -> (Class, &Seniority<'a>) {
        (self.class, &self.seniority)
    }
}

/// The rules before placement. The order of the fields is the order of the rules; what is less goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Class {
    /// It is not up for choice.
    stays: bool,
    /// It serves, or could: it has not been taken out of service, and its hook has not completed.
    serves: bool,
    unnamed: bool,
    scheduled: bool,
    phase: Phase,
    ready: bool,
    available: bool,
    /// Its hook's owner has not been told that it is to go. Only a pod that serves less takes the place of one of which
    /// it has.
    untold: bool,
    /// Its node is not about to be emptied, by which it would go next.
    remains: bool,
    deletion_cost: i32,
}

impl Class {
    fn of(policy: &Policy, pod: &Pod<'_>, stays: bool, now: Timestamp) -> Self {
        let wait = until_available(pod, policy.min_ready, now);
        Self {
            stays,
            serves: pod.gate != Some(Gate::Closed) && !pod.is_drained(),
            unnamed: !policy.pods_to_delete.contains(pod.name),
            scheduled: pod.node.is_some(),
            phase: pod.phase,
            ready: wait.is_some(),
            available: wait.is_some_and(|wait| wait.is_zero()),
            untold: pod.hook.is_none_or(|hook| hook.since.is_none()),
            remains: pod.node.is_none_or(|node| !node.leaving),
            deletion_cost: pod.deletion_cost,
        }
    }

    /// The first rule that tells the two apart.
    fn difference(self, other: Self) -> Option<Why> {
        let Self {
            stays: _,
            serves: _,
            unnamed,
            scheduled,
            phase,
            ready,
            available,
            untold: _,
            remains,
            deletion_cost,
        } = self;
        let rules = [
            (unnamed != other.unnamed, Why::Named),
            (scheduled != other.scheduled, Why::Unscheduled),
            (phase != other.phase, Why::NotRunning),
            (ready != other.ready, Why::NotReady),
            (available != other.available, Why::NotAvailable),
            (remains != other.remains, Why::LeavingNode),
            (deletion_cost != other.deletion_cost, Why::DeletionCost),
        ];
        rules.into_iter().find_map(|(differs, why)| differs.then_some(why))
    }
}

/// The rules after placement. The order of the fields is the order of the rules; what is less goes first.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Seniority<'a> {
    ready_for: Option<u32>,
    restarts: Reverse<i32>,
    sidecar_restarts: Reverse<i32>,
    age: Option<u32>,
    uid: &'a str,
}

impl<'a> Seniority<'a> {
    fn of(pod: &Pod<'a>, now: Timestamp) -> Self {
        // As upstream: by powers of two the difference between a week and eight days counts for nothing, and
        // chance, the UID, picks among pods of about the same age.
        let magnitude = |since| elapsed(since, now).as_nanos().checked_ilog2();
        Self {
            ready_for: pod.ready_since.and_then(magnitude),
            restarts: Reverse(pod.restarts),
            sidecar_restarts: Reverse(pod.sidecar_restarts),
            age: magnitude(pod.created),
            uid: pod.uid,
        }
    }

    /// The first rule that tells the two apart.
    fn difference(&self, other: &Self) -> Why {
        let Self { ready_for, restarts, sidecar_restarts, age, uid: _ } = self;
        if *ready_for != other.ready_for {
            Why::Younger
        } else if (*restarts, *sidecar_restarts) != (other.restarts, other.sidecar_restarts) {
            Why::Restarts
        } else if *age != other.age {
            Why::Younger
        } else {
            Why::Uid
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{
        super::tests::{NOW, ago, node, pending, pod, replicas, victims},
        *,
    };

    /// Asserts that of `first` and `other`, in either order of input, `first` goes, because of `why`.
    #[track_caller]
    fn goes_first(policy: &Policy, first: Pod<'_>, other: Pod<'_>, why: Why) {
        assert_eq!(victims(policy, &[first, other]), [(first.name, why)]);
        assert_eq!(victims(policy, &[other, first]), [(first.name, why)]);
    }

    fn policy() -> Policy {
        Policy { min_ready: Duration::from_secs(60), ..replicas(1) }
    }

    #[test]
    fn each_rule_outranks_those_after_it() {
        type Change = fn(&mut Pod<'_>);
        // One change a rule, from the weakest to the strongest: what makes a pod go first.
        let changes: [(Why, Change); 10] = [
            (Why::Younger, |pod| pod.created = ago(7100)),
            (Why::Restarts, |pod| pod.sidecar_restarts = 1),
            (Why::Restarts, |pod| pod.restarts = 1),
            (Why::Younger, |pod| pod.ready_since = Some(ago(3000))),
            (Why::DeletionCost, |pod| pod.deletion_cost = -1),
            (Why::LeavingNode, |pod| {
                pod.node = pod.node.map(|node| super::super::Node { leaving: true, ..node })
            }),
            (Why::NotAvailable, |pod| pod.ready_since = Some(ago(59))),
            (Why::NotReady, |pod| pod.ready_since = None),
            (Why::NotRunning, |pod| pod.phase = Phase::Unknown),
            (Why::Unscheduled, |pod| pod.node = None),
        ];
        let base = |name| Pod { created: ago(40_000), ready_since: Some(ago(7000)), ..pod(name) };
        for (rule, (why, change)) in changes.iter().enumerate() {
            let (mut first, mut other) = (base("z"), base("a"));
            change(&mut first);
            // The other pod loses by every weaker rule and is named to lose by UID too.
            changes[..rule].iter().for_each(|(_, weaker)| weaker(&mut other));
            goes_first(&policy(), first, other, *why);
        }
    }

    #[test]
    fn named_pods_outrank_everything() {
        let named = Policy { pods_to_delete: ["z".to_owned(), "absent".to_owned()].into(), ..policy() };
        goes_first(&named, Pod { deletion_cost: i32::MAX, ..pod("z") }, pending("a"), Why::Named);
    }

    #[test]
    fn a_named_pod_is_kept_when_nothing_is_too_many() {
        let named = Policy { pods_to_delete: ["a".to_owned()].into(), ..replicas(2) };
        assert_eq!(victims(&named, &[pod("a"), pod("b")]), []);
    }

    #[test]
    fn among_named_pods_the_other_rules_decide() {
        let named = Policy { pods_to_delete: ["a".to_owned(), "b".to_owned()].into(), ..replicas(1) };
        goes_first(&named, pending("b"), pod("a"), Why::Unscheduled);
    }

    #[test]
    fn pending_goes_before_unknown_before_running() {
        let phase = |name, phase| Pod { phase, ready_since: None, ..pod(name) };
        let pods = [phase("r", Phase::Running), phase("p", Phase::Pending), phase("u", Phase::Unknown)];
        assert_eq!(victims(&replicas(1), &pods), [("p", Why::NotRunning), ("u", Why::NotRunning)]);
    }

    #[test]
    fn times_count_by_powers_of_two() {
        let old = Pod { ready_since: Some(ago(7000)), ..pod("b") };
        let as_old = Pod { ready_since: Some(ago(5000)), ..pod("a") };
        let newer = Pod { ready_since: Some(ago(3000)), ..pod("c") };
        goes_first(&policy(), as_old, old, Why::Uid);
        goes_first(&policy(), newer, as_old, Why::Younger);
    }

    #[test]
    fn a_time_to_come_is_the_youngest() {
        let now = Pod { ready_since: Some(NOW), ..pod("b") };
        let ahead = Pod { ready_since: Some(ago(-60)), ..pod("a") };
        goes_first(&replicas(1), ahead, now, Why::Uid);
        goes_first(&replicas(1), ahead, Pod { ready_since: Some(ago(1)), ..pod("0") }, Why::Younger);
    }

    #[test]
    fn a_weak_class_goes_whole_before_a_strong_one_is_touched() {
        let costly = |name, deletion_cost| Pod { deletion_cost, ..pod(name) };
        let pods = [costly("a", 5), costly("b", 1), pending("c"), costly("d", 5), costly("e", 1)];
        let expected =
            [("c", Why::Unscheduled), ("b", Why::DeletionCost), ("e", Why::DeletionCost), ("a", Why::Uid)];
        assert_eq!(victims(&replicas(1), &pods), expected);
    }

    #[test]
    fn the_reason_is_what_tells_a_victim_from_the_pod_that_stays_longest() {
        // Unready pods stay as well, but a ready one stays longer.
        let pods = [
            Pod { ready_since: None, ..pod("a") },
            Pod { ready_since: None, ..pod("b") },
            Pod { node: Some(node("node-2")), ..pod("c") },
        ];
        assert_eq!(victims(&replicas(2), &pods), [("a", Why::NotReady)]);
    }

    #[test]
    fn the_reason_among_equals_is_what_tells_a_victim_from_the_most_senior() {
        let pods = [pod("a"), pod("b"), Pod { ready_since: Some(ago(30_000)), ..pod("c") }];
        assert_eq!(victims(&replicas(2), &pods), [("a", Why::Younger)]);
    }

    #[test]
    fn unscheduled_pods_need_no_domain() {
        let pods = [pending("c"), pending("a"), pending("b"), pod("d")];
        let expected = [("a", Why::Unscheduled), ("b", Why::Unscheduled)];
        assert_eq!(victims(&replicas(2), &pods), expected);
    }

    #[test]
    fn at_zero_replicas_all_go() {
        let expected = [("b", Why::ScaledToZero), ("a", Why::ScaledToZero)];
        assert_eq!(victims(&replicas(0), &[pod("a"), pending("b")]), expected);
    }
}
