//! Replaces pods of one revision by pods of another.
//!
//! Two limits hold at any time, whatever else changes: no more than `replicas + surge` pods are active, and no pod is
//! deleted if fewer than `replicas - unavailable` would be left available. They are the Deployment controller's
//! (pkg/controller/deployment/rolling.go, `reconcileOldReplicaSets`), here applied to the pods themselves, so that
//! several revisions may be wanted side by side.

use std::{collections::BTreeSet, sync::Arc};

use jiff::Timestamp;

use super::{
    answer::{Creation, How, Plan, Victim, Wait},
    backoff, rank,
    scale::scale,
    step,
    time::{elapsed, is_available, sooner},
    types::{Claim, Gate, Pod, Policy, Replacement, Share, Strategy},
    why::Why,
};

/// Whether pods of a revision are there that is not the only one wanted, or several are wanted, or others kept up.
pub(super) fn is_under_way(policy: &Policy, pods: &[Pod<'_>], active: &[usize]) -> bool {
    let [only] = policy.shares.as_slice() else { return policy.shares.len() > 1 };
    if policy.keep.is_some() {
        return true;
    }
    let is_other = |pod: &Pod<'_>| pod.revision != &*only.revision || policy.is_replaced(pod);
    match policy.strategy {
        Strategy::OnDelete => false,
        Strategy::Rolling { .. } => active.iter().any(|&index| is_other(&pods[index])),
        Strategy::Recreate => pods.iter().any(|pod| pod.lives() && pod.revision != &*only.revision),
    }
}

impl Policy {
    /// Whether another pod of the same revision is wanted in the place of this one.
    fn is_replaced(&self, pod: &Pod<'_>) -> bool {
        self.replace_named && self.pods_to_delete.contains(pod.name)
    }
}

/// Fills in the creations and deletions of a group with pods of several revisions, or with pods that are replaced.
pub(super) fn exchange(plan: &mut Plan, policy: &Policy, pods: &[Pod<'_>], active: &[usize], now: Timestamp) {
    match policy.strategy {
        Strategy::Rolling { surge, unavailable } => {
            let floor = policy.replicas.saturating_sub(unavailable);
            let groups = Group::all(policy, pods, active, now);
            create(plan, policy, pods, &groups, surge, now);
            let target = groups.last().map_or(0, Group::missing);
            plan.target = policy.shares.first().map(|share| Arc::clone(&share.revision));
            let room = target.saturating_sub(plan.creations());
            let surplus = active.len().saturating_sub(policy.replicas.saturating_add(surge));
            Cut { policy, pods, now, groups, left: active.to_vec(), floor, surplus }.fill(plan, surge);
            step::in_place(plan, pods, room);
        }
        Strategy::Recreate => recreate(plan, policy, pods, active, now),
        Strategy::OnDelete => scale(plan, policy, pods, active, now),
    }
}

/// The pods whose readiness gate is to be opened: new ones, and those of which nothing more is wanted that would need
/// it closed.
pub(super) fn to_open(plan: &Plan, pods: &[Pod<'_>], active: &[usize]) -> Vec<usize> {
    let goes = |index| plan.delete.iter().any(|victim| victim.pod == index);
    let is_due = |&index: &usize| match pods[index].gate {
        Some(Gate::Unset) => pods[index].claim == Claim::Mine,
        Some(Gate::Closed) => !pods[index].changing && !goes(index),
        Some(Gate::Open) | None => false,
    };
    active.iter().copied().filter(is_due).collect()
}

/// Has a pod go for another revision.
///
/// A budget guards the pods that are ready: to take one that is not leaves no fewer of these. Were it asked all the same,
/// it would refuse for as long as too few pods are ready, and keep out the very revision that puts this right.
fn make_way(victim: &mut Victim, policy: &Policy, pods: &[Pod<'_>]) {
    victim.why = if policy.is_replaced(&pods[victim.pod]) { Why::Named } else { Why::Outdated };
    if policy.budgets && pods[victim.pod].ready_since.is_some() {
        victim.how = How::Evict;
    }
}

/// All old pods end before the first new one is made.
fn recreate(plan: &mut Plan, policy: &Policy, pods: &[Pod<'_>], active: &[usize], now: Timestamp) {
    let target = policy.shares.first().map(|share| &*share.revision).unwrap_or_default();
    let is_old = |pod: &Pod<'_>| pod.revision != target;
    let old = active.iter().filter(|&&index| is_old(&pods[index])).count();
    if old > 0 {
        plan.delete = rank::victims(policy, pods, active, &|index| is_old(&pods[index]), old, now);
        plan.delete.iter_mut().for_each(|victim| make_way(victim, policy, pods));
    } else {
        plan.wait = Some(Wait::OldPods(pods.iter().filter(|pod| pod.lives() && is_old(pod)).count()));
    }
}

/// The active pods that count for one share, or for none.
struct Group<'a> {
    /// `None` for the pods of revisions of which none is wanted.
    revision: Option<&'a str>,
    wanted: usize,
    /// The current number of pods, where it is higher.
    kept: usize,
    available: BTreeSet<usize>,
    unavailable: BTreeSet<usize>,
}

impl<'a> Group<'a> {
    /// In the order in which they lose pods: what is not wanted at all, what is kept for now, then the shares from the
    /// last to the first, which is that of the target revision.
    fn all(policy: &'a Policy, pods: &[Pod<'_>], active: &[usize], now: Timestamp) -> Vec<Self> {
        let shares = policy.shares.iter().rev().map(|share| (Some(&*share.revision), share.replicas));
        let is_share = |keep: &&Share| policy.shares.iter().any(|share| share.revision == keep.revision);
        let keep = policy.keep.iter().filter(|keep| !is_share(keep)).map(|keep| (Some(&*keep.revision), 0));
        let kept = |revision| policy.keep.as_ref().filter(|keep| Some(&*keep.revision) == revision);
        let empty = |(revision, wanted)| Self {
            revision,
            wanted,
            kept: kept(revision).map_or(0, |keep| keep.replicas),
            available: BTreeSet::new(),
            unavailable: BTreeSet::new(),
        };
        let mut groups: Vec<_> = [(None, 0)].into_iter().chain(keep).chain(shares).map(empty).collect();
        for &index in active {
            let of = |group: &Self| group.revision == Some(pods[index].revision);
            let share = groups.iter().position(of).filter(|_| !policy.is_replaced(&pods[index]));
            let group = share.unwrap_or_default();
            let pods_of = &mut groups[group];
            let kind = if is_available(&pods[index], policy.min_ready, now) {
                &mut pods_of.available
            } else {
                &mut pods_of.unavailable
            };
            kind.insert(index);
        }
        groups
    }

    fn size(&self) -> usize {
        self.available.len() + self.unavailable.len()
    }
    fn missing(&self) -> usize {
        self.wanted.max(self.kept).saturating_sub(self.size())
    }
    fn excess(&self) -> usize {
        self.size().saturating_sub(self.wanted.max(self.kept))
    }
    /// How many pods there are beyond the final number once those that are kept exist: a surge allows as many.
    fn passing(&self) -> usize {
        self.size().max(self.kept).saturating_sub(self.wanted)
    }
}

/// Fills in the creations: what the shares lack and what is kept up, that of the revision which has proved itself first.
fn create(
    plan: &mut Plan,
    policy: &Policy,
    pods: &[Pod<'_>],
    groups: &[Group<'_>],
    surge: usize,
    now: Timestamp,
) {
    let terminating = match policy.replacement {
        Replacement::WhenTerminating => 0,
        Replacement::WhenTerminated => plan.counts.terminating,
    };
    let passing: usize = groups.iter().map(Group::passing).sum();
    let most = policy.replicas.saturating_add(surge.min(passing));
    let mut room = most.saturating_sub(plan.counts.active.saturating_add(terminating));
    let mut held = 0;
    for group in groups {
        let Some(revision) = group.revision.filter(|_| group.missing() > 0) else { continue };
        let count = group.missing().min(room);
        held += group.missing() - count;
        if count == 0 {
            continue;
        }
        match backoff::until(policy, pods, revision, now) {
            None => plan.create.push(Creation { revision: revision.into(), count }),
            Some(until) => {
                plan.wait = Some(Wait::Backoff { revision: revision.into(), until });
                plan.recheck_in = sooner(plan.recheck_in, Some(elapsed(now, until)));
            }
        }
        room -= count;
    }
    if terminating > 0 && held > 0 && plan.wait.is_none() {
        plan.wait = Some(Wait::Terminating(held.min(terminating)));
    }
}

/// Chooses the pods that go.
struct Cut<'a> {
    policy: &'a Policy,
    pods: &'a [Pod<'a>],
    now: Timestamp,
    groups: Vec<Group<'a>>,
    /// The active pods that are not chosen.
    left: Vec<usize>,
    /// The number of pods that must stay available.
    floor: usize,
    /// How many pods there are beyond the surge: the first of these are deleted by a scale-down, for which no budget
    /// is asked, whatever their revision.
    surplus: usize,
}

impl Cut<'_> {
    fn fill(mut self, plan: &mut Plan, surge: usize) {
        // An unavailable pod serves nobody, but it may yet come to: so many are kept as would, with those of the
        // revisions that stay, make up the floor.
        let staying = self.groups.iter().filter(|group| group.size() <= group.wanted);
        let hopeful: usize = staying.map(|group| group.unavailable.len()).sum();
        let mut idle = self.left.len().saturating_sub(self.floor).saturating_sub(hopeful);
        let mut spare = plan.counts.available.saturating_sub(self.floor);
        let mut still: Vec<_> = self.groups.iter().map(Group::excess).collect();
        for (group, still) in still.iter_mut().enumerate() {
            let set = self.groups[group].unavailable.clone();
            let taken = self.take(plan, group, &set, (*still).min(idle));
            (*still, idle) = (*still - taken, idle - taken);
        }
        for (group, still) in still.iter_mut().enumerate() {
            let set = self.groups[group].available.clone();
            let taken = self.take(plan, group, &set, (*still).min(spare));
            (*still, spare) = (*still - taken, spare - taken);
        }
        // After a scale-down more pods may be there than even a surge allows.
        let most = self.policy.replicas.saturating_add(surge);
        let target = self.groups.len() - 1;
        let unavailable = self.groups.iter().flat_map(|group| group.unavailable.clone()).collect();
        self.take(plan, target, &unavailable, self.left.len().saturating_sub(most));
        let available = self.groups.iter().flat_map(|group| group.available.clone()).collect();
        self.take(plan, target, &available, self.left.len().saturating_sub(most).min(spare));
    }

    /// Deletes up to `count` of `set`, on behalf of a group, and returns how many.
    fn take(&mut self, plan: &mut Plan, group: usize, set: &BTreeSet<usize>, count: usize) -> usize {
        let there = self.left.iter().filter(|index| set.contains(index)).count();
        let count = count.min(there);
        if count == 0 {
            return 0;
        }
        let eligible = |index: usize| set.contains(&index);
        let victims = rank::victims(self.policy, self.pods, &self.left, &eligible, count, self.now);
        let is_target = group == self.groups.len() - 1;
        let gone: BTreeSet<_> = victims.iter().map(|victim| victim.pod).collect();
        self.left.retain(|index| !gone.contains(index));
        let scaled = self.surplus.min(victims.len());
        self.surplus -= scaled;
        plan.delete.extend(victims.into_iter().enumerate().map(|(place, mut victim)| {
            if !is_target && place >= scaled {
                make_way(&mut victim, self.policy, self.pods);
            }
            victim
        }));
        count
    }
}

#[cfg(test)]
mod tests;
