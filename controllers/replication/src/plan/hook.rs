//! Hooks that must complete before a pod is deleted.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::{
    answer::{How, Plan, Step, Victim},
    time::{elapsed, sooner},
    types::{Claim, Hook, Pod, Policy},
    why::Why,
};

/// Fills in which hooks are waited for, which have taken too long, and which pods need not go after all.
pub(super) fn follow(plan: &mut Plan, policy: &Policy, pods: &[Pod<'_>], exchanges: bool, now: Timestamp) {
    if pods.iter().all(|pod| pod.hook.is_none()) {
        return;
    }
    let victims: BTreeSet<_> = plan.delete.iter().map(|victim| victim.pod).collect();
    let excess = if exchanges { in_excess(policy, pods) } else { BTreeSet::new() };
    for (index, pod) in pods.iter().enumerate() {
        let (Some(Hook { held, since: Some(since) }), Claim::Mine | Claim::MineUnmatched) =
            (pod.hook, pod.claim)
        else {
            continue;
        };
        // Which pods of a revision may go just now changes with every pod that becomes ready or unready. Their hooks'
        // owners are not told to and fro: what is asked stands for as long as some pods of the revision have to go.
        let may_go = pod.terminating || victims.contains(&index);
        if !may_go && !excess.contains(pod.revision) && pod.claim == Claim::Mine && !pod.phase.is_terminal() {
            plan.cancel.push(index);
        } else if held {
            let until = since.saturating_add(policy.hook_timeout).unwrap_or(Timestamp::MAX);
            if until <= now {
                // To give a hook up is to take the pod out of service.
                plan.time_out.extend(may_go.then_some(index));
                continue;
            }
            let (count, first) = plan.hooks.unwrap_or((0, until));
            plan.hooks = Some((count + 1, first.min(until)));
            plan.recheck_in = sooner(plan.recheck_in, Some(elapsed(now, until)));
        }
    }
}

/// The pods that have ended and still have a hook. A group that is being deleted waits for it as for others: its owner
/// is notified, and has time until the timeout.
pub(super) fn of_ended(pods: &[Pod<'_>]) -> impl Iterator<Item = Victim> {
    let is_due = |pod: &Pod<'_>| {
        let held = pod.hook.is_some_and(|hook| hook.held);
        held && pod.claim == Claim::Mine && pod.phase.is_terminal() && !pod.terminating
    };
    let ended = pods.iter().enumerate().filter(move |(_, pod)| is_due(pod));
    ended.map(|(pod, _)| Victim { pod, why: Why::ScaledToZero, how: How::Delete, step: Step::Go })
}

/// The revisions of which there are more active pods than are wanted.
fn in_excess<'a>(policy: &Policy, pods: &[Pod<'a>]) -> BTreeSet<&'a str> {
    let mut active = BTreeMap::new();
    for pod in pods.iter().filter(|pod| pod.lives() && !pod.terminating) {
        *active.entry(pod.revision).or_insert(0) += 1;
    }
    let wanted = |revision: &str| {
        policy.shares.iter().find(|share| &*share.revision == revision).map_or(0, |share| share.replicas)
    };
    active
        .into_iter()
        .filter(|(revision, count)| *count > wanted(revision))
        .map(|(revision, _)| revision)
        .collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{
        super::tests::{NOW, ago, pod, replicas},
        *,
    };
    use crate::plan::{Ending, Phase, Share, plan};

    const TIMEOUT: Duration = Duration::from_secs(60);

    fn policy(wanted: usize) -> Policy {
        Policy { hook_timeout: TIMEOUT, ..replicas(wanted) }
    }

    fn hooked(name: &str, held: bool, since: Option<i64>) -> Pod<'_> {
        Pod { hook: Some(Hook { held, since: since.map(ago) }), ..pod(name) }
    }

    #[test]
    fn who_was_told_to_go_stays_the_victim_and_is_waited_for() {
        let pods = [pod("a"), hooked("b", true, Some(10)), hooked("c", true, None)];
        let plan = plan(&policy(2), &pods, NOW);
        assert_eq!(plan.delete.iter().map(|victim| victim.pod).collect::<Vec<_>>(), [1]);
        assert_eq!((plan.hooks, plan.recheck_in), (Some((1, ago(-50))), Some(Duration::from_secs(50))));
        assert!(plan.cancel.is_empty() && plan.time_out.is_empty());
    }

    #[test]
    fn a_hook_that_takes_too_long_is_given_up() {
        let pods = [pod("a"), hooked("b", true, Some(60))];
        assert_eq!(plan(&policy(1), &pods, NOW).time_out, [1]);
        // One that somebody else has deleted, and whose containers have ended.
        let ended = Pod { terminating: true, phase: Phase::Failed, ..pods[1] };
        assert_eq!(plan(&policy(1), &[pod("a"), ended], NOW).time_out, [1]);
    }

    #[test]
    fn who_need_not_go_is_told_so_whether_the_hook_is_done_or_not() {
        let pods = [hooked("a", true, Some(90)), hooked("b", false, Some(10)), hooked("c", true, None)];
        let plan = plan(&policy(3), &pods, NOW);
        assert_eq!((plan.cancel, plan.time_out.len(), plan.hooks), (vec![0, 1], 0, None));
    }

    #[test]
    fn while_pods_are_exchanged_the_old_ones_are_not_told_to_and_fro() {
        let share = |revision: &str, replicas| Share { revision: revision.into(), replicas };
        let policy = Policy { shares: vec![share("new", 2)], ..policy(2) };
        // Neither may go now: the other one and the new one are not ready.
        let old = Pod { revision: "old", ..hooked("a", true, Some(10)) };
        let pods = [old, Pod { revision: "new", ready_since: None, ..pod("b") }];
        let plan = plan(&policy, &pods, NOW);
        assert_eq!((plan.delete.len(), plan.cancel.len()), (0, 0));
        let back = Policy { shares: vec![share("old", 2)], ..policy };
        assert_eq!(super::super::plan(&back, &pods, NOW).cancel, [0]);
    }

    #[test]
    fn a_group_on_its_way_out_lets_its_pods_go_first() {
        let policy = Policy { ending: Some(Ending::DrainFirst), ..policy(2) };
        let plan = plan(&policy, &[hooked("a", true, Some(10)), pod("b")], NOW);
        assert_eq!((plan.delete.len(), plan.creations(), plan.hooks.is_some()), (2, 0, true));
    }

    #[test]
    fn a_group_on_its_way_out_asks_for_the_hooks_of_pods_that_have_ended_too_and_does_not_wait_without_end() {
        let policy = Policy { ending: Some(Ending::DrainFirst), ..policy(2) };
        let ended =
            |name, held, since| Pod { phase: Phase::Failed, ready_since: None, ..hooked(name, held, since) };
        let pods = [
            ended("untold", true, None),
            ended("told", true, Some(10)),
            ended("late", true, Some(60)),
            ended("done", false, Some(10)),
            Pod { claim: Claim::Foreign, ..ended("foreign", true, None) },
        ];
        let plan = plan(&policy, &pods, NOW);
        assert_eq!(plan.delete.iter().map(|victim| victim.pod).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!((plan.time_out, plan.hooks, plan.cancel.len()), (vec![2], Some((1, ago(-50))), 0));
    }

    #[test]
    fn a_group_on_its_way_out_lets_go_of_pods_that_are_not_its_own_any_more() {
        let policy = Policy { ending: Some(Ending::DrainFirst), ..policy(2) };
        let unmatched = Pod { claim: Claim::MineUnmatched, ..hooked("a", true, None) };
        let pods = [
            unmatched,
            Pod { phase: Phase::Failed, ..unmatched },
            // Somebody has deleted this one: its hook has its time.
            Pod { terminating: true, ..hooked("b", true, Some(10)) },
            Pod { claim: Claim::OrphanMatching, ..hooked("c", true, None) },
            Pod { claim: Claim::OrphanMatching, ..pod("d") },
            Pod { claim: Claim::OrphanHooked, ..hooked("e", true, None) },
        ];
        let plan = plan(&policy, &pods, NOW);
        assert_eq!((plan.release, plan.delete.len(), plan.adopt.len()), (vec![0, 1, 3, 5], 0, 0));
    }

    #[test]
    fn a_group_that_leaves_its_pods_takes_their_hooks_off() {
        let policy = Policy { ending: Some(Ending::OrphanPods), ..policy(2) };
        let ended = Pod { phase: Phase::Succeeded, ..hooked("b", true, None) };
        let unmatched = Pod { claim: Claim::MineUnmatched, ..hooked("c", true, None) };
        let terminating = Pod { terminating: true, ..hooked("d", true, Some(10)) };
        let gone = Pod { claim: Claim::OrphanMatching, ..hooked("e", true, None) };
        let relabelled = Pod { claim: Claim::OrphanHooked, ..gone };
        let pods = [hooked("a", true, Some(10)), ended, unmatched, terminating, gone, pod("f"), relabelled];
        let plan = plan(&policy, &pods, NOW);
        assert_eq!(plan.release, [0, 1, 2, 3, 4, 5, 6]);
        assert_eq!((plan.delete.len(), plan.time_out.len(), plan.hooks), (0, 0, None));
    }
}
