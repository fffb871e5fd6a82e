//! Properties of every plan, checked on generated groups.

use std::{cmp::Reverse, collections::BTreeMap, sync::LazyLock, time::Duration};

use proptest::{prelude::*, sample::select, strategy::Strategy};

use super::{
    tests::{NOW, ago, pod},
    time::elapsed,
    *,
};

const MOST_PODS: usize = 40;

/// Names, which serve as UIDs too, in no order.
static NAMES: LazyLock<Vec<String>> = LazyLock::new(|| {
    (0..MOST_PODS as u32).map(|pod| format!("{:08x}", pod.wrapping_mul(2_654_435_761))).collect()
});

/// Nine nodes; one has no zone, and racks cross zones.
fn nodes() -> impl Strategy<Value = Node<'static>> {
    const NODES: [(&str, Option<&str>, &str, usize); 9] = [
        ("n1", Some("a"), "r1", 3),
        ("n2", Some("b"), "r1", 3),
        ("n3", Some("c"), "r2", 7),
        ("n4", Some("a"), "r2", 3),
        ("n5", Some("b"), "r3", 0),
        ("n6", Some("c"), "r3", 9),
        ("n7", Some("a"), "r1", 5),
        ("n8", Some("a"), "r3", 5),
        ("n9", None, "r1", 2),
    ];
    let node = |(name, zone, rack, pods)| Node {
        name,
        domains: [zone, Some(rack), None, None],
        pods,
        leaving: false,
    };
    select(&NODES).prop_map(node)
}

/// Around now and at the ends of time. Few values, so that rules tie and later ones are reached.
fn any_time() -> impl Strategy<Value = Timestamp> {
    prop_oneof![
        8 => past_time(),
        1 => (1i64..100).prop_map(|seconds| ago(-seconds)),
        1 => select(vec![Timestamp::MIN, Timestamp::MAX]),
    ]
}

fn past_time() -> impl Strategy<Value = Timestamp> {
    select(vec![0i64, 1, 2, 5, 9, 14, 20, 29, 30, 31, 45, 60, 90, 150, 600, 4000, 5000, 100_000])
        .prop_map(ago)
}

fn pods_with(
    time: impl Strategy<Value = Timestamp> + Clone + 'static,
) -> impl Strategy<Value = Vec<Pod<'static>>> {
    use Claim::{Foreign, Mine, MineUnmatched, OrphanMatching, OrphanRefused};
    use Phase::{Failed, Pending, Running, Succeeded, Unknown};
    let standing = (
        select(vec![Mine, Mine, Mine, Mine, MineUnmatched, OrphanMatching, OrphanRefused, Foreign]),
        select(vec![Running, Running, Running, Pending, Unknown, Succeeded, Failed, Failed]),
        prop::bool::weighted(0.15),
        any::<bool>(),
    );
    let times = (prop::option::weighted(0.8, time.clone()), time.clone(), prop::option::weighted(0.9, time));
    let weights = (select(vec![0, 0, 0, 5, i32::MIN]), 0i32..2, 0i32..2);
    let one = (standing, prop::option::weighted(0.85, nodes()), times, weights);
    prop::collection::vec(one, 0..MOST_PODS).prop_map(|pods| {
        let built = pods.into_iter().enumerate().map(|(index, (standing, node, times, weights))| {
            let (claim, phase, terminating, fully_labeled) = standing;
            let (ready_since, created, ended_at) = times;
            let (deletion_cost, restarts, sidecar_restarts) = weights;
            let (name, uid) = (NAMES[index].as_str(), NAMES[index].as_str());
            let pod = Pod {
                name,
                uid,
                claim,
                node,
                phase,
                terminating,
                ready_since,
                created,
                ended_at,
                ..pod(name)
            };
            Pod { deletion_cost, restarts, sidecar_restarts, fully_labeled, ..pod }
        });
        built.collect()
    })
}

fn any_pods() -> impl Strategy<Value = Vec<Pod<'static>>> {
    pods_with(any_time().boxed())
}

fn any_policy() -> impl Strategy<Value = Policy> {
    use {NodePreference::*, Replacement::*};
    let replicas = prop_oneof![19 => 0..MOST_PODS / 2, 1 => Just(usize::MAX)];
    let min_ready =
        select(vec![Duration::ZERO, Duration::from_secs(30), Duration::from_secs(30), Duration::MAX]);
    let pods_to_delete = prop::collection::btree_set(select(&**NAMES), 0..4);
    let choices = (select(vec![WhenTerminating, WhenTerminated]), select(vec![CrowdedNode, EmptiestNode]));
    (replicas, min_ready, choices, pods_to_delete, prop::bool::weighted(0.1)).prop_map(
        |(replicas, min_ready, (replacement, prefer), pods_to_delete, deleting)| Policy {
            replicas,
            min_ready,
            replacement,
            prefer,
            pods_to_delete,
            ending: deleting.then_some(Ending::GarbageCollected),
            ..Policy::default()
        },
    )
}

/// A policy under which pods may change, and a group of at least that many equal pods on nodes.
fn equal_pods() -> impl Strategy<Value = (usize, Vec<Pod<'static>>)> {
    let build = |nodes: Vec<Node<'static>>| -> Vec<Pod<'static>> {
        let named = nodes.into_iter().zip(&*NAMES);
        named.map(|(node, name)| Pod { node: Some(node), ..pod(name) }).collect()
    };
    let pods = prop::collection::vec(nodes(), 1..MOST_PODS).prop_map(build);
    pods.prop_flat_map(|pods| (0..=pods.len(), Just(pods)))
}

/// The group after `plan` was carried out and nothing else happened.
fn carry_out<'a>(plan: &Plan, pods: &[Pod<'a>]) -> Vec<Pod<'a>> {
    let mut after = pods.to_vec();
    plan.adopt.iter().for_each(|&index| after[index].claim = Claim::Mine);
    let refused = plan.release.iter().chain(&plan.adopt_again);
    refused.for_each(|&index| after[index].claim = Claim::Foreign);
    plan.delete.iter().for_each(|victim| after[victim.pod].terminating = true);
    let new = Pod { phase: Phase::Pending, node: None, ready_since: None, created: NOW, ..pod("new") };
    after.extend(std::iter::repeat_n(new, plan.creations()));
    after
}

fn is_active(pod: &Pod<'_>) -> bool {
    matches!(pod.claim, Claim::Mine | Claim::OrphanMatching) && !pod.terminating && !pod.phase.is_terminal()
}

/// The rules before placement, told once more.
fn strength(policy: &Policy, pod: &Pod<'_>) -> impl Ord + use<> {
    let available_since = pod.ready_since.and_then(|since| since.checked_add(policy.min_ready).ok());
    let available = available_since.is_some_and(|at| at <= NOW)
        || (pod.ready_since.is_some() && policy.min_ready.is_zero());
    let named = policy.pods_to_delete.contains(pod.name);
    (!named, pod.node.is_some(), pod.phase, pod.ready_since.is_some(), available, pod.deletion_cost)
}

/// The victims, found the long way: all rules at each step, on all that is left.
fn victims_by_definition<'a>(policy: &Policy, pods: &[Pod<'a>]) -> Vec<&'a str> {
    let mut left: Vec<_> = pods.iter().filter(|pod| is_active(pod)).collect();
    let magnitude = |since| elapsed(since, NOW).as_nanos().checked_ilog2();
    let mut gone: BTreeMap<&str, usize> = BTreeMap::new();
    let mut victims = Vec::new();
    while left.len() > policy.replicas {
        let count = |same: &dyn Fn(&Node<'_>) -> bool| {
            left.iter().filter(|pod| pod.node.as_ref().is_some_and(same)).count()
        };
        let order = |pod: &Pod<'a>| {
            let placement = pod.node.map(|node| {
                let fullness =
                    [0, 1, 2, 3].map(|key| count(&|other| other.domains[key] == node.domains[key]));
                let preference = match policy.prefer {
                    NodePreference::CrowdedNode => -(count(&|other| other.name == node.name) as i64),
                    NodePreference::EmptiestNode => {
                        (node.pods - node.pods.min(gone.get(node.name).copied().unwrap_or(0))) as i64
                    }
                };
                (Reverse(fullness), preference)
            });
            let restarts = Reverse((pod.restarts, pod.sidecar_restarts));
            (
                strength(policy, pod),
                placement,
                pod.ready_since.and_then(magnitude),
                restarts,
                magnitude(pod.created),
                pod.uid,
            )
        };
        let next = (0..left.len()).min_by_key(|&index| order(left[index])).unwrap();
        let victim = left.swap_remove(next);
        *gone.entry(victim.node.map_or("", |node| node.name)).or_default() += 1;
        victims.push(victim.uid);
    }
    victims
}

fn uids<'a>(pods: &[Pod<'a>], indices: impl IntoIterator<Item = usize>) -> Vec<&'a str> {
    indices.into_iter().map(|index| pods[index].uid).collect()
}

/// How many more pods the fullest of the zones has than the emptiest, of those that have one in `pods`.
fn skew<'a>(pods: &[Pod<'a>], gone: &[&str]) -> usize {
    let mut zones: BTreeMap<Option<&str>, usize> = BTreeMap::new();
    for pod in pods {
        *zones.entry(pod.node.unwrap().domains[0]).or_default() += usize::from(!gone.contains(&pod.uid));
    }
    zones.values().max().unwrap() - zones.values().min().unwrap()
}

proptest! {
    #[test]
    fn the_number_of_pods_moves_towards_replicas_and_never_past_them(policy in any_policy(), pods in any_pods()) {
        let plan = plan(&policy, &pods, NOW);
        prop_assert!(plan.create.is_empty() || plan.delete.is_empty());
        let active = plan.counts.active;
        let after = active.saturating_add(plan.creations()) - plan.delete.len();
        prop_assert!(after >= active.min(policy.replicas), "{plan:?}");
        prop_assert!(policy.ending.is_some() || after <= policy.replicas, "{plan:?}");
        let settled = after == policy.replicas || plan.wait.is_some() || policy.ending.is_some();
        prop_assert!(settled, "pods are missing and nothing says why: {plan:?}");
    }

    #[test]
    fn a_strict_group_creates_no_pod_that_would_be_too_many(policy in any_policy(), pods in any_pods()) {
        let policy = Policy { replacement: Replacement::WhenTerminated, ..policy };
        let plan = plan(&policy, &pods, NOW);
        let live = plan.counts.active + plan.counts.terminating;
        prop_assert!(plan.create.is_empty() || live.saturating_add(plan.creations()) <= policy.replicas, "{plan:?}");
    }

    #[test]
    fn a_plan_carried_out_leaves_nothing_to_do(policy in any_policy(), pods in any_pods()) {
        prop_assume!(policy.replicas < usize::MAX);
        let first = plan(&policy, &pods, NOW);
        let second = plan(&policy, &carry_out(&first, &pods), NOW);
        prop_assert!(second.is_empty(), "{first:?} was followed by {second:?}");
    }

    #[test]
    fn a_deletion_stopped_half_way_ends_the_same(policy in any_policy(), pods in any_pods(), part in 0..MOST_PODS) {
        let whole = plan(&policy, &pods, NOW);
        let (done, rest) = whole.delete.split_at(part.min(whole.delete.len()));
        // Pods on their way out no longer count for their node.
        let mut after = carry_out(&Plan { delete: done.to_vec(), ..Plan::default() }, &pods);
        for victim in done {
            let gone = after[victim.pod].node.map(|node| node.name);
            let node = after.iter_mut().filter_map(|pod| pod.node.as_mut()).filter(|node| Some(node.name) == gone);
            node.for_each(|node| node.pods = node.pods.saturating_sub(1));
        }
        let again = plan(&policy, &after, NOW);
        let indices = |victims: &[Victim]| victims.iter().map(|victim| victim.pod).collect::<Vec<_>>();
        prop_assert_eq!(indices(&again.delete), indices(rest));
    }

    #[test]
    fn the_order_of_the_pods_changes_nothing(
        policy in any_policy(),
        (pods, shuffled) in any_pods().prop_flat_map(|pods| (Just(pods.clone()), Just(pods).prop_shuffle())),
    ) {
        let (one, other) = (plan(&policy, &pods, NOW), plan(&policy, &shuffled, NOW));
        let deleted = |plan: &Plan, pods: &[Pod<'static>]| -> Vec<_> {
            plan.delete.iter().map(|victim| (pods[victim.pod].uid, victim.why)).collect()
        };
        let sorted = |pods: &[Pod<'static>], indices: &[usize]| {
            let mut uids = uids(pods, indices.iter().copied());
            uids.sort_unstable();
            uids
        };
        prop_assert_eq!(deleted(&one, &pods), deleted(&other, &shuffled));
        prop_assert_eq!(sorted(&pods, &one.adopt), sorted(&shuffled, &other.adopt));
        prop_assert_eq!(sorted(&pods, &one.release), sorted(&shuffled, &other.release));
        let rest = |plan: Plan| (plan.creations(), plan.counts, plan.wait, plan.recheck_in);
        prop_assert_eq!(rest(one), rest(other));
    }

    #[test]
    fn foreign_pods_change_nothing(policy in any_policy(), pods in any_pods()) {
        let own: Vec<_> = pods.iter().copied().filter(|pod| pod.claim != Claim::Foreign).collect();
        let (all, alone) = (plan(&policy, &pods, NOW), plan(&policy, &own, NOW));
        let deleted = |plan: &Plan| plan.delete.iter().map(|victim| victim.pod).collect::<Vec<_>>();
        prop_assert_eq!(uids(&pods, deleted(&all)), uids(&own, deleted(&alone)));
        prop_assert_eq!(uids(&pods, all.adopt), uids(&own, alone.adopt));
        prop_assert_eq!(uids(&pods, all.release), uids(&own, alone.release));
        prop_assert_eq!((all.create, all.counts, all.wait), (alone.create, alone.counts, alone.wait));
    }

    #[test]
    fn counts_add_up(policy in any_policy(), pods in any_pods()) {
        let policy = Policy { ending: None, ..policy };
        let plan = plan(&policy, &pods, NOW);
        let Counts { active, ready, available, fully_labeled, .. } = plan.counts;
        prop_assert_eq!(active, pods.iter().filter(|pod| is_active(pod)).count());
        prop_assert!(available <= ready && ready <= active && fully_labeled <= active, "{plan:?}");
        let mut deleted: Vec<_> = plan.delete.iter().map(|victim| victim.pod).collect();
        prop_assert!(deleted.iter().all(|&index| is_active(&pods[index])));
        deleted.sort_unstable();
        deleted.dedup();
        prop_assert_eq!(deleted.len(), plan.delete.len(), "one pod is deleted twice");
    }

    #[test]
    fn the_weak_go_before_the_strong(policy in any_policy(), pods in any_pods()) {
        let plan = plan(&policy, &pods, NOW);
        let is_victim = |index| plan.delete.iter().any(|victim| victim.pod == index);
        let stays = pods.iter().enumerate().filter(|&(index, pod)| is_active(pod) && !is_victim(index));
        let weakest = stays.map(|(_, pod)| strength(&policy, pod)).min();
        let strongest = plan.delete.iter().map(|victim| strength(&policy, &pods[victim.pod])).max();
        prop_assert!(weakest.is_none() || strongest <= weakest);
    }

    #[test]
    fn victims_are_those_of_the_definition(policy in any_policy(), pods in any_pods()) {
        let policy = Policy { ending: None, ..policy };
        let mut found = uids(&pods, plan(&policy, &pods, NOW).delete.iter().map(|victim| victim.pod));
        let mut expected = victims_by_definition(&policy, &pods);
        found.sort_unstable();
        expected.sort_unstable();
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn equal_pods_go_in_the_order_of_the_definition((replicas, pods) in equal_pods(), policy in any_policy()) {
        let policy = Policy { replicas, ending: None, pods_to_delete: [].into(), ..policy };
        prop_assume!(replicas > 0);
        let found = uids(&pods, plan(&policy, &pods, NOW).delete.iter().map(|victim| victim.pod));
        prop_assert_eq!(found, victims_by_definition(&policy, &pods));
    }

    #[test]
    fn no_other_choice_of_victims_is_better_balanced(
        ((replicas, pods), shuffled) in
            equal_pods().prop_flat_map(|group| (Just(group.clone()), Just(group.1).prop_shuffle())),
    ) {
        let policy = Policy { replicas, ..Policy::default() };
        let victims = uids(&pods, plan(&policy, &pods, NOW).delete.iter().map(|victim| victim.pod));
        let others: Vec<_> = shuffled[replicas..].iter().map(|pod| pod.uid).collect();
        let balanced = skew(&pods, &victims);
        prop_assert!(balanced <= skew(&pods, &others));
        // A skew above one is unavoidable when the emptiest zone has lost nothing: it only could lose more.
        let untouched = |zone| !pods.iter().any(|pod| victims.contains(&pod.uid) && pod.node.unwrap().domains[0] == zone);
        let mut zones: BTreeMap<_, usize> = BTreeMap::new();
        pods.iter().for_each(|pod| *zones.entry(pod.node.unwrap().domains[0]).or_default() += 1);
        let emptiest = zones.iter().min_by_key(|&(_, count)| *count).unwrap().0;
        prop_assert!(balanced <= 1 || untouched(*emptiest), "skew {balanced}");
    }

    #[test]
    fn of_two_pods_upstream_s_rules_pick_the_same(pods in any_pods()) {
        let two: Vec<_> = pods.into_iter().filter(is_active).take(2).collect();
        prop_assume!(two.len() == 2);
        let policy = Policy { replicas: 1, ..Policy::default() };
        let upstream = |pod: &Pod<'_>| (pod.node.is_some(), pod.phase, pod.ready_since.is_some(), pod.deletion_cost);
        let victim = plan(&policy, &two, NOW).delete[0].pod;
        prop_assert!(upstream(&two[victim]) <= upstream(&two[1 - victim]));
    }

    #[test]
    fn until_the_recheck_nothing_changes_and_then_something_does(
        policy in any_policy(),
        pods in pods_with(past_time().boxed()),
    ) {
        let active = pods.iter().filter(|pod| is_active(pod)).count();
        let policy = Policy { replicas: policy.replicas.saturating_add(active), ..policy };
        let before = plan(&policy, &pods, NOW);
        let what = |plan: &Plan| (plan.adopt.clone(), plan.creations(), plan.counts, plan.wait.clone());
        let at = |wait: Duration| NOW.checked_add(wait).map(|then| plan(&policy, &pods, then));
        match before.recheck_in {
            None => prop_assert_eq!(what(&at(Duration::from_secs(86_400)).unwrap()), what(&before)),
            Some(wait) => {
                prop_assert!(!wait.is_zero());
                let Ok(after) = at(wait) else { return Ok(()) };
                prop_assert_ne!(what(&after), what(&before));
                let just_before = at(wait - Duration::from_nanos(1)).unwrap();
                prop_assert_eq!(what(&just_before), what(&before));
            }
        }
    }

    #[test]
    fn no_pause_is_longer_than_five_minutes(policy in any_policy(), pods in any_pods()) {
        if let Some(Wait::Backoff { until, .. }) = plan(&policy, &pods, NOW).wait {
            prop_assert!(until > NOW && elapsed(NOW, until) <= Duration::from_secs(300), "{until}");
        }
    }

    // But for those it makes the group forget: no time lies just beyond the hour.
    #[test]
    fn one_more_failure_never_shortens_the_pause(pods in pods_with(past_time().boxed()), lived in 0i64..10_000) {
        let until = |pods: &[Pod<'_>]| backoff::until(&Policy::default(), pods, "", NOW);
        let mut more = pods.clone();
        let ended_at = Some(NOW);
        more.push(Pod { phase: Phase::Failed, created: ago(lived), ended_at, ready_since: None, ..pod("more") });
        prop_assert!(until(&more) >= until(&pods), "{:?} became {:?}", until(&pods), until(&more));
    }

    #[test]
    fn no_time_is_too_much(policy in any_policy(), pods in any_pods(), now in any_time()) {
        let plan = plan(&policy, &pods, now);
        prop_assert!(plan.counts.active <= pods.len());
    }
}
