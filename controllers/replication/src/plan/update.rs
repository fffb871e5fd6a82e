//! Exchanging pods of one revision for pods of another.
//!
//! Two bounds hold at every instant, whatever else changes meanwhile: no more than `replicas + surge` pods are
//! active, and no pod is taken while fewer than `replicas - unavailable` would be left available. They are the
//! Deployment controller's (pkg/controller/deployment/rolling.go, `reconcileOldReplicaSets`), here over the pods
//! themselves, so that several revisions may be wanted side by side.

use std::{collections::BTreeSet, sync::Arc};

use jiff::Timestamp;

use super::{
    Claim, Creation, Gate, Plan, Pod, Policy, Replacement, Strategy, Wait, Why, backoff, elapsed,
    is_available, rank, scale, sooner,
};

/// Whether pods of a revision are there that is not the only one wanted, or several are wanted.
pub(super) fn is_under_way(policy: &Policy, pods: &[Pod<'_>], active: &[usize]) -> bool {
    let [only] = policy.shares.as_slice() else { return policy.shares.len() > 1 };
    match policy.strategy {
        Strategy::OnDelete => false,
        Strategy::Rolling { .. } => active.iter().any(|&index| pods[index].revision != &*only.revision),
        Strategy::Recreate => pods.iter().any(|pod| pod.lives() && pod.revision != &*only.revision),
    }
}

/// Fills in the creations and deletions of a group with pods of several revisions.
pub(super) fn exchange(plan: &mut Plan, policy: &Policy, pods: &[Pod<'_>], active: &[usize], now: Timestamp) {
    match policy.strategy {
        Strategy::Rolling { surge, unavailable } => {
            let floor = policy.replicas.saturating_sub(unavailable);
            let groups = Group::all(policy, pods, active, now);
            create(plan, policy, pods, &groups, surge, now);
            let target = groups.last().map_or(0, Group::missing);
            plan.target = policy.shares.first().map(|share| Arc::clone(&share.revision));
            plan.exchange = target.saturating_sub(plan.creations());
            let surplus = active.len().saturating_sub(policy.replicas.saturating_add(surge));
            Cut { policy, pods, now, groups, left: active.to_vec(), floor, surplus }.fill(plan, surge);
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

/// All old pods end before the first new one is made.
fn recreate(plan: &mut Plan, policy: &Policy, pods: &[Pod<'_>], active: &[usize], now: Timestamp) {
    let target = policy.shares.first().map(|share| &*share.revision).unwrap_or_default();
    let is_old = |pod: &Pod<'_>| pod.revision != target;
    let old = active.iter().filter(|&&index| is_old(&pods[index])).count();
    if old > 0 {
        plan.delete = rank::victims(policy, pods, active, &|index| is_old(&pods[index]), old, now);
        plan.delete.iter_mut().for_each(|victim| victim.why = Why::Outdated);
    } else {
        plan.wait = Some(Wait::OldPods(pods.iter().filter(|pod| pod.lives() && is_old(pod)).count()));
    }
}

/// The active pods that count for one share, or for none.
struct Group<'a> {
    /// `None` for the pods of revisions of which none is wanted.
    revision: Option<&'a str>,
    wanted: usize,
    available: BTreeSet<usize>,
    unavailable: BTreeSet<usize>,
}

impl<'a> Group<'a> {
    /// In the order in which they give up pods: what is not wanted at all, then the shares from the last to the
    /// first, which is the one that the group is on its way to.
    fn all(policy: &'a Policy, pods: &[Pod<'_>], active: &[usize], now: Timestamp) -> Vec<Self> {
        let shares = policy.shares.iter().rev().map(|share| (Some(&*share.revision), share.replicas));
        let empty = |(revision, wanted)| Self {
            revision,
            wanted,
            available: BTreeSet::new(),
            unavailable: BTreeSet::new(),
        };
        let mut groups: Vec<_> = [(None, 0)].into_iter().chain(shares).map(empty).collect();
        for &index in active {
            let of = |group: &Self| group.revision == Some(pods[index].revision);
            let group = groups.iter().position(of).unwrap_or_default();
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
        self.wanted.saturating_sub(self.size())
    }
    fn excess(&self) -> usize {
        self.size().saturating_sub(self.wanted)
    }
}

/// Fills in the creations: what the shares lack, the last share first, since its revision has proved itself.
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
    let excess: usize = groups.iter().map(Group::excess).sum();
    let most = policy.replicas.saturating_add(surge.min(excess));
    let mut room = most.saturating_sub(plan.counts.active.saturating_add(terminating));
    let mut held = 0;
    for group in groups {
        let Some(revision) = group.revision.filter(|_| group.missing() > 0) else { continue };
        let count = group.missing().min(room);
        held += group.missing() - count;
        if count == 0 {
            continue;
        }
        match backoff::until(pods, revision, now) {
            None => plan.create.push(Creation { revision: revision.into(), count }),
            Some(until) => {
                plan.wait = Some(Wait::Backoff { until });
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
    /// So many must be left available.
    floor: usize,
    /// So many more there are than even a surge allows: who is among the first of these goes for a scale-down, of which
    /// no budget is asked, whatever its revision.
    surplus: usize,
}

impl Cut<'_> {
    fn fill(mut self, plan: &mut Plan, surge: usize) {
        // An unavailable pod serves nobody, but it may yet come to: so many are kept as would, with those of the
        // revisions that stay, make up the floor.
        let staying = self.groups.iter().filter(|group| group.excess() == 0);
        let hopeful: usize = staying.map(|group| group.unavailable.len()).sum();
        let mut idle = self.left.len().saturating_sub(self.floor).saturating_sub(hopeful);
        let mut spare = plan.counts.available.saturating_sub(self.floor);
        let excess: Vec<_> = self.groups.iter().map(Group::excess).collect();
        let mut still = excess.clone();
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

    /// Takes up to `count` of `set`, on behalf of a group, and returns how many.
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
                victim.why = Why::Outdated;
            }
            victim
        }));
        count
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            Share, plan,
            tests::{NOW, pod, replicas},
        },
        *,
    };

    const FULL: Strategy = Strategy::Rolling { surge: 2, unavailable: 1 };

    fn policy(strategy: Strategy, shares: &[(&str, usize)]) -> Policy {
        let sum = shares.iter().map(|(_, replicas)| replicas).sum();
        let share = |&(revision, replicas): &(&str, usize)| Share { revision: revision.into(), replicas };
        Policy { strategy, shares: shares.iter().map(share).collect(), ..replicas(sum) }
    }

    /// Pods named by their revision and a letter: `b1` is of revision `b`; capitals are not ready.
    fn pods<'a>(names: &[&'a str]) -> Vec<Pod<'a>> {
        let made = |&name: &&'a str| {
            let revision = if name.starts_with(['a', 'A']) { "a" } else { "b" };
            let ready = name.starts_with(char::is_lowercase);
            Pod { revision, ready_since: pod(name).ready_since.filter(|_| ready), ..pod(name) }
        };
        names.iter().map(made).collect()
    }

    /// How many of which revision are created, and who goes.
    type Exchanged<'a> = (Vec<(String, usize)>, Vec<(&'a str, Why)>);

    fn exchanged<'a>(policy: &Policy, pods: &[Pod<'a>]) -> Exchanged<'a> {
        let plan = plan(policy, pods, NOW);
        let created = plan.create.iter().map(|creation| (creation.revision.to_string(), creation.count));
        let deleted = plan.delete.iter().map(|victim| (pods[victim.pod].name, victim.why));
        (created.collect(), deleted.collect())
    }

    fn created(revision: &str, count: usize) -> Vec<(String, usize)> {
        vec![(revision.to_owned(), count)]
    }

    #[test]
    fn a_change_begins_with_the_surge_and_what_may_be_unavailable() {
        let (made, gone) = exchanged(&policy(FULL, &[("b", 4)]), &pods(&["a1", "a2", "a3", "a4"]));
        assert_eq!((made, gone), (created("b", 2), vec![("a1", Why::Outdated)]));
    }

    #[test]
    fn new_pods_that_are_not_ready_keep_the_old_ones() {
        let (made, gone) =
            exchanged(&policy(FULL, &[("b", 4)]), &pods(&["a1", "a2", "a3", "B1", "B2", "B3"]));
        assert_eq!((made, gone), (vec![], vec![]));
    }

    #[test]
    fn old_pods_that_are_not_ready_go_first_but_not_for_new_ones_that_are_not_either() {
        let policy = policy(FULL, &[("b", 4)]);
        let (_, gone) = exchanged(&policy, &pods(&["a1", "a2", "a3", "A4", "B1", "B2"]));
        assert_eq!(gone, [("A4", Why::Outdated)]);
        let (_, gone) = exchanged(&policy, &pods(&["a1", "A2", "A3", "A4", "B1", "B2"]));
        assert_eq!(gone, [("A2", Why::Outdated)], "three must be left that may come to serve");
    }

    #[test]
    fn revisions_of_which_none_is_wanted_go_before_the_one_that_stays_for_a_while() {
        let mut all = pods(&["a1", "a2", "b1", "b2", "b3"]);
        all.push(Pod { revision: "x", ..pod("x1") });
        let (made, gone) = exchanged(&policy(FULL, &[("b", 3), ("a", 2)]), &all);
        assert_eq!((made, gone), (vec![], vec![("x1", Why::Outdated)]));
    }

    #[test]
    fn each_share_is_replaced_by_its_own() {
        let policy = policy(FULL, &[("b", 2), ("a", 2)]);
        assert_eq!(exchanged(&policy, &pods(&["a1", "b1", "b2"])).0, created("a", 1));
        assert_eq!(exchanged(&policy, &pods(&["a1", "a2", "b1"])).0, created("b", 1));
        assert_eq!(exchanged(&policy, &pods(&["a1", "a2", "b1", "b2"])), (vec![], vec![]));
    }

    #[test]
    fn what_is_beyond_the_surge_goes_for_a_scale_down_whatever_its_revision() {
        let (_, gone) = exchanged(&policy(FULL, &[("b", 1)]), &pods(&["a1", "a2", "a3", "b1", "b2"]));
        let outdated: Vec<_> = gone.iter().map(|(_, why)| *why == Why::Outdated).collect();
        assert_eq!(outdated, [false, false, true, false], "five, where three may be: {gone:?}");
    }

    #[test]
    fn a_scale_down_in_a_change_takes_what_serves_nobody_first() {
        let strict = Strategy::Rolling { surge: 2, unavailable: 0 };
        let all = pods(&["a1", "a2", "B1", "B2", "B3", "B4"]);
        let (made, gone) = exchanged(&policy(strict, &[("b", 1)]), &all);
        let names: Vec<_> = gone.iter().map(|(name, _)| *name).collect();
        assert_eq!((made, names), (vec![], vec!["B1", "B2", "B3", "a1"]));
    }

    #[test]
    fn a_pod_taken_out_of_service_goes_on_to_the_other_revision_and_comes_back() {
        let in_place = policy(Strategy::Rolling { surge: 0, unavailable: 1 }, &[("b", 3)]);
        let mut all = pods(&["a1", "a2", "a3"]);
        let look = |pods: &[Pod<'_>]| {
            let plan = plan(&in_place, pods, NOW);
            let gone: Vec<_> = plan.delete.iter().map(|victim| victim.pod).collect();
            (gone, plan.exchange, plan.creations(), plan.open)
        };
        all.iter_mut().for_each(|pod| pod.gate = Some(Gate::Open));
        assert_eq!(look(&all), (vec![0], 3, 0, vec![]));
        // Taken out of service: it goes on to be the one, also where another stops being ready.
        (all[2].gate, all[2].ready_since) = (Some(Gate::Closed), None);
        assert_eq!(look(&all), (vec![2], 3, 0, vec![]));
        all[0].ready_since = None;
        assert_eq!(look(&all).0, [2]);
        all[0].ready_since = all[1].ready_since;
        (all[2].revision, all[2].changing) = ("b", true);
        assert_eq!(look(&all), (vec![], 2, 0, vec![]), "its containers are being replaced");
        all[2].changing = false;
        assert_eq!(look(&all).3, [2]);
    }

    #[test]
    fn gates_are_opened_for_new_pods_and_when_a_change_is_called_off() {
        let mut all = pods(&["b1", "b2", "b3"]);
        all[0].gate = Some(Gate::Unset);
        all[1].gate = Some(Gate::Closed);
        all[2].gate = Some(Gate::Open);
        assert_eq!(plan(&policy(FULL, &[("b", 3)]), &all, NOW).open, [0, 1]);
    }

    #[test]
    fn recreate_waits_for_the_last_old_pod_to_end() {
        let policy = policy(Strategy::Recreate, &[("b", 2)]);
        let mut all = pods(&["a1", "b1"]);
        assert_eq!(exchanged(&policy, &all), (vec![], vec![("a1", Why::Outdated)]));
        all[0].terminating = true;
        assert_eq!(exchanged(&policy, &all), (vec![], vec![]));
        assert_eq!(plan(&policy, &all, NOW).wait, Some(Wait::OldPods(1)));
        assert_eq!(exchanged(&policy, &all[1..]).0, created("b", 1));
    }

    #[test]
    fn on_delete_exchanges_nothing_and_makes_what_is_new() {
        let policy = policy(Strategy::OnDelete, &[("b", 3)]);
        assert_eq!(exchanged(&policy, &pods(&["a1", "a2", "a3"])), (vec![], vec![]));
        assert_eq!(exchanged(&policy, &pods(&["a1", "a2"])), (created("b", 1), vec![]));
    }

    #[test]
    fn a_strict_group_counts_pods_on_their_way_out() {
        let policy = Policy { replacement: Replacement::WhenTerminated, ..policy(FULL, &[("b", 3)]) };
        let mut all = pods(&["a1", "a2", "a3", "a4", "a5"]);
        all[3].terminating = true;
        all[4].terminating = true;
        assert_eq!(exchanged(&policy, &all).0, []);
        assert_eq!(exchanged(&policy, &all[..4]).0, created("b", 1));
    }
}
