//! What one group of pods needs: which pods to adopt and release, how many to create, which to delete and why.
//!
//! [`plan`] is pure and total. It knows no client, no clock and no kind of owner, so that the same rules can
//! drive any owner of equal pods. It promises:
//!
//! - While all pods are of the wanted revision, a plan creates or deletes, never both, and once it is carried out the
//!   next one writes nothing.
//! - During an update the limits of [`Strategy`] hold at any time.
//! - Pods of others never change it.
//! - The same pods in any order give the same pods to delete in the same order.
//!
//! The rules start from kube-controller-manager's replication controllers; [`Why`] lists the order in which pods are
//! deleted and says where it goes beyond theirs.

mod answer;
mod backoff;
mod board;
mod counts;
mod history;
mod hook;
#[cfg(test)]
mod properties;
mod rank;
mod scale;
mod step;
#[cfg(test)]
mod tests;
mod time;
mod types;
mod update;
mod volumes;
mod why;

use jiff::Timestamp;

pub use self::{
    answer::{Counts, Creation, How, Plan, Step, Victim, Wait},
    counts::{RevisionCounts, Tallies, counts},
    history::superseded,
    types::{
        Cause, Claim, Domains, Ending, Gate, Hook, InPlace, Lost, MAX_SPREAD_KEYS, Node, NodePreference,
        Phase, Pod, Policy, Replacement, Share, Strategy, Trouble, Volumes,
    },
    why::Why,
};
use self::{
    scale::scale,
    time::{sooner, until_available},
};

/// Plans one reconcile over a group. `pods` are all pods the group owns or could adopt; others do no harm.
///
/// A group that is being deleted still counts its pods, so that its status stays true, but makes none.
pub fn plan(policy: &Policy, pods: &[Pod<'_>], now: Timestamp) -> Plan {
    let (mut plan, active) = take_stock(policy, pods, now);
    let exchanges = policy.ending.is_none() && update::is_under_way(policy, pods, &active);
    match policy.ending {
        Some(Ending::GarbageCollected) => return plan,
        Some(Ending::OrphanPods) => {
            plan.release = who_stays(pods, |_| true);
            return plan;
        }
        Some(Ending::DrainFirst) => {
            plan.delete = rank::victims(policy, pods, &active, &|_| true, active.len(), now);
            plan.delete.extend(hook::of_ended(pods));
            plan.release = who_stays(pods, |pod| pod.claim == Claim::MineUnmatched && !pod.terminating);
        }
        None if exchanges => update::exchange(&mut plan, policy, pods, &active, now),
        None => scale(&mut plan, policy, pods, &active, now),
    }
    if policy.ending.is_none() {
        volumes::fit(&mut plan, policy, exchanges);
        plan.open = update::to_open(&plan, pods, &active);
    }
    hook::follow(&mut plan, policy, pods, exchanges, now);
    step::fill(&mut plan, pods);
    plan
}

/// The pods that outlive a deleted group: those of its own that are `is_let_go`, and those without a controller that
/// have a hook, since they may have belonged to the group a moment ago, whatever their labels are now. If they
/// belonged to another group, the hook is added again when they are adopted.
fn who_stays(pods: &[Pod<'_>], is_let_go: impl Fn(&Pod<'_>) -> bool) -> Vec<usize> {
    let stays = |pod: &Pod<'_>| match pod.claim {
        Claim::Mine | Claim::MineUnmatched => is_let_go(pod),
        Claim::OrphanMatching | Claim::OrphanRefused | Claim::OrphanHooked => pod.hook.is_some(),
        Claim::Foreign => false,
    };
    pods.iter().enumerate().filter(|(_, pod)| stays(pod)).map(|(index, _)| index).collect()
}

/// Claims and counts: everything about the pods that is there already. Returns the active ones' indices too.
fn take_stock(policy: &Policy, pods: &[Pod<'_>], now: Timestamp) -> (Plan, Vec<usize>) {
    let mut plan = Plan::default();
    let mut active = Vec::with_capacity(pods.len());
    for (index, pod) in pods.iter().enumerate().filter(|(_, pod)| !pod.phase.is_terminal()) {
        match (pod.claim, pod.terminating) {
            (Claim::Mine, false) => active.push(index),
            (Claim::Mine, true) => plan.counts.terminating += 1,
            (Claim::OrphanMatching, false) if policy.ending.is_none() => {
                plan.adopt.push(index);
                active.push(index);
            }
            (Claim::OrphanRefused, false) if policy.ending.is_none() => plan.adopt_again.push(index),
            (Claim::MineUnmatched, false) if policy.ending.is_none() => plan.release.push(index),
            (Claim::MineUnmatched | Claim::OrphanMatching | Claim::OrphanRefused, _) => {}
            (Claim::OrphanHooked | Claim::Foreign, _) => {}
        }
    }
    for pod in active.iter().map(|&index| &pods[index]) {
        let wait = until_available(pod, policy.min_ready, now);
        plan.counts.active += 1;
        plan.counts.fully_labeled += usize::from(pod.fully_labeled);
        plan.counts.ready += usize::from(wait.is_some());
        plan.counts.available += usize::from(wait.is_some_and(|wait| wait.is_zero()));
        plan.recheck_in = sooner(plan.recheck_in, wait.filter(|wait| !wait.is_zero()));
    }
    (plan, active)
}
