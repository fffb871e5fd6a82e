//! What one group of pods needs: whom to adopt and release, how many to create, whom to delete and why.
//!
//! [`plan`] is pure and total. It knows no client, no clock and no kind of owner, so that the same rules can
//! drive any owner of equal pods. It promises:
//!
//! - While all pods are of the revision that is wanted, a plan creates or deletes, never both, and once it is carried
//!   out the next one writes nothing.
//! - While pods are exchanged, the bounds of [`Strategy`] hold at every instant.
//! - Foreign pods never change it.
//! - The same pods in any order give the same victims in the same order.
//!
//! The rules start from kube-controller-manager's replication controllers; [`Why`] lists the order of victims
//! and says where it goes past theirs.

mod backoff;
mod board;
mod hook;
#[cfg(test)]
mod properties;
mod rank;
mod tally;
#[cfg(test)]
mod tests;
mod types;
mod update;
mod volumes;
mod why;

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;

pub use tally::{Tallies, Tally, tally};
pub use types::{
    Cause, Claim, Counts, Creation, Domains, Ending, Gate, Hook, How, MAX_SPREAD_KEYS, Node, NodePreference,
    Phase, Plan, Pod, Policy, Replacement, Share, Strategy, Trouble, Victim, Volumes, Wait,
};
pub use why::Why;

/// Plans one pass over a group. `pods` are all pods the group owns or could adopt; others do no harm.
///
/// A group that is being deleted still counts its pods, so that its status stays true, but makes none.
pub fn plan(policy: &Policy, pods: &[Pod<'_>], now: Timestamp) -> Plan {
    let (mut plan, active) = take_stock(policy, pods, now);
    let exchanges = policy.ending.is_none() && update::is_under_way(policy, pods, &active);
    match policy.ending {
        Some(Ending::HandsOff) => return plan,
        Some(Ending::LetGo) => {
            plan.release = who_stays(pods, |_| true);
            return plan;
        }
        Some(Ending::PodsFirst) => {
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
    plan
}

/// The pods that outlive a group on its way out: those of its own that `is_let_go`, and those that nobody controls and that
/// have a hook, since they may have been its own a moment ago, whatever their labels say by now. If they were another's,
/// whoever adopts them gives them its own.
fn who_stays(pods: &[Pod<'_>], is_let_go: impl Fn(&Pod<'_>) -> bool) -> Vec<usize> {
    let stays = |pod: &Pod<'_>| match pod.claim {
        Claim::Mine | Claim::MineUnmatched => is_let_go(pod),
        Claim::OrphanMatching | Claim::OrphanHooked => pod.hook.is_some(),
        Claim::Foreign => false,
    };
    pods.iter().enumerate().filter(|(_, pod)| stays(pod)).map(|(index, _)| index).collect()
}

/// Fills in the creations or deletions of a group whose pods are all of the revision that is wanted.
fn scale(plan: &mut Plan, policy: &Policy, pods: &[Pod<'_>], active: &[usize], now: Timestamp) {
    match active.len().checked_sub(policy.replicas) {
        Some(0) => {}
        Some(surplus) => plan.delete = rank::victims(policy, pods, active, &|_| true, surplus, now),
        None => replace(plan, policy, pods, now),
    }
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
            (Claim::MineUnmatched, false) if policy.ending.is_none() => plan.release.push(index),
            (Claim::MineUnmatched | Claim::OrphanMatching | Claim::OrphanHooked | Claim::Foreign, _) => {}
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

/// Fills in the creations of a group that has too few pods, or what they wait for.
fn replace(plan: &mut Plan, policy: &Policy, pods: &[Pod<'_>], now: Timestamp) {
    let missing = policy.replicas - plan.counts.active;
    let held = match policy.replacement {
        Replacement::WhenTerminating => 0,
        Replacement::WhenTerminated => plan.counts.terminating.min(missing),
    };
    if held > 0 {
        plan.wait = Some(Wait::Terminating(held));
    }
    if held == missing {
        return;
    }
    let revision = policy.shares.first().map(|share| Arc::clone(&share.revision)).unwrap_or_default();
    match backoff::until(pods, &revision, now) {
        None => plan.create.push(Creation { revision, count: missing - held }),
        Some(until) => {
            plan.wait = Some(Wait::Backoff { revision, until });
            plan.recheck_in = sooner(plan.recheck_in, Some(elapsed(now, until)));
        }
    }
}

/// Whether `pod` has been ready for long enough.
fn is_available(pod: &Pod<'_>, min_ready: Duration, now: Timestamp) -> bool {
    until_available(pod, min_ready, now).is_some_and(|wait| wait.is_zero())
}

/// How long until `pod` counts as available, given that it stays ready; zero when it is, `None` when it is
/// not even ready.
fn until_available(pod: &Pod<'_>, min_ready: Duration, now: Timestamp) -> Option<Duration> {
    let ready_since = pod.ready_since.filter(|_| !pod.is_drained())?;
    if min_ready.is_zero() {
        return Some(Duration::ZERO);
    }
    // Of the two spans one is zero: a time in the future, from a clock that is ahead, lengthens the wait.
    Some(min_ready.saturating_add(elapsed(now, ready_since)).saturating_sub(elapsed(ready_since, now)))
}

/// The time from `start` to `end`; zero when `end` comes first.
fn elapsed(start: Timestamp, end: Timestamp) -> Duration {
    Duration::try_from(end.duration_since(start)).unwrap_or_default()
}

/// The shorter of two waits, either of which may not be.
fn sooner(one: Option<Duration>, other: Option<Duration>) -> Option<Duration> {
    one.into_iter().chain(other).min()
}
