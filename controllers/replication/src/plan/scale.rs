//! A group whose pods are all of the wanted revision, and that has too many or too few of them.

use std::sync::Arc;

use jiff::Timestamp;

use super::{
    answer::{Creation, Plan, Wait},
    backoff, rank,
    time::{elapsed, sooner},
    types::{Pod, Policy, Replacement},
};

/// Fills in the creations or deletions of a group whose pods are all of the revision that is wanted.
pub(super) fn scale(plan: &mut Plan, policy: &Policy, pods: &[Pod<'_>], active: &[usize], now: Timestamp) {
    match active.len().checked_sub(policy.replicas) {
        Some(0) => {}
        Some(surplus) => plan.delete = rank::victims(policy, pods, active, &|_| true, surplus, now),
        None => replace(plan, policy, pods, now),
    }
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
    match backoff::until(policy, pods, &revision, now) {
        None => plan.create.push(Creation { revision, count: missing - held }),
        Some(until) => {
            plan.wait = Some(Wait::Backoff { revision, until });
            plan.recheck_in = sooner(plan.recheck_in, Some(elapsed(now, until)));
        }
    }
}
