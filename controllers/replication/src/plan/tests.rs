//! What tests of this module share, and the tests of claims, counts, creation and time.

use std::time::Duration;

use super::*;

/// The moment at which tests plan.
pub(super) const NOW: Timestamp = Timestamp::UNIX_EPOCH;

/// So many seconds before [`NOW`].
pub(super) fn ago(seconds: i64) -> Timestamp {
    Timestamp::from_second(-seconds).unwrap()
}

/// A pod of the group as they should all be: running on `node-1`, ready, made two hours ago.
pub(super) fn pod(name: &str) -> Pod<'_> {
    Pod {
        name,
        uid: name,
        claim: Claim::Mine,
        node: Some(node("node-1")),
        phase: Phase::Running,
        terminating: false,
        ready_since: Some(ago(7100)),
        created: ago(7200),
        ended_at: None,
        deletion_cost: 0,
        restarts: 0,
        sidecar_restarts: 0,
        fully_labeled: true,
        revision: "",
        crashes: 0,
        blocker: None,
        gate: None,
        changing: false,
        in_place: None,
        hook: None,
    }
}

/// The creation of so many pods of a group that knows no revisions.
fn new(count: usize) -> Vec<Creation> {
    vec![Creation { revision: "".into(), count }]
}

/// A node without domains and without other pods.
pub(super) fn node(name: &str) -> Node<'_> {
    Node { name, domains: Domains::default(), pods: 1, leaving: false }
}

/// A pod that has not been scheduled.
pub(super) fn pending(name: &str) -> Pod<'_> {
    Pod { phase: Phase::Pending, node: None, ready_since: None, ..pod(name) }
}

/// A pod that lived between two moments, in seconds before [`NOW`], and failed.
pub(super) fn failed(name: &str, created: i64, ended_at: i64) -> Pod<'_> {
    let ended_at = Some(ago(ended_at));
    Pod { phase: Phase::Failed, created: ago(created), ended_at, ready_since: None, ..pod(name) }
}

/// A policy that wants so many pods and nothing special.
pub(super) fn replicas(replicas: usize) -> Policy {
    Policy { replicas, ..Policy::default() }
}

/// The names of the victims of `plan`, and why each goes.
pub(super) fn victims<'a>(policy: &Policy, pods: &[Pod<'a>]) -> Vec<(&'a str, Why)> {
    plan(policy, pods, NOW).delete.iter().map(|victim| (pods[victim.pod].name, victim.why)).collect()
}

#[test]
fn a_settled_group_needs_nothing() {
    let plan = plan(&replicas(2), &[pod("a"), pod("b")], NOW);
    let counts = Counts { active: 2, ready: 2, available: 2, terminating: 0, fully_labeled: 2 };
    assert_eq!(plan, Plan { counts, ..Plan::default() });
    assert!(plan.is_empty());
}

#[test]
fn an_empty_group_is_filled() {
    let plan = plan(&replicas(3), &[], NOW);
    assert_eq!(plan, Plan { create: new(3), ..Plan::default() });
}

#[test]
fn a_matching_orphan_is_adopted_and_counts() {
    let orphan = Pod { claim: Claim::OrphanMatching, ..pod("b") };
    let plan = plan(&replicas(2), &[pod("a"), orphan], NOW);
    assert_eq!((plan.adopt.clone(), plan.creations(), plan.counts.active), (vec![1], 0, 2));
}

#[test]
fn an_orphan_whose_adoption_was_refused_is_asked_for_and_does_not_count() {
    let orphan = Pod { claim: Claim::OrphanRefused, ..pod("b") };
    let plan = plan(&replicas(2), &[pod("a"), orphan], NOW);
    assert!(plan.adopt.is_empty());
    assert_eq!((plan.adopt_again.clone(), plan.creations(), plan.counts.active), (vec![1], 1, 1));
}

#[test]
fn an_adopted_orphan_may_be_a_victim_at_once() {
    let orphan = Pod { claim: Claim::OrphanMatching, ready_since: None, ..pod("b") };
    let plan = plan(&replicas(1), &[pod("a"), orphan], NOW);
    assert_eq!(
        (plan.adopt, plan.delete),
        (vec![1], vec![Victim { pod: 1, why: Why::NotReady, how: How::Delete, step: Step::Go }])
    );
}

#[test]
fn orphans_that_end_are_left_alone() {
    let orphan = Pod { claim: Claim::OrphanMatching, ..pod("a") };
    let leaving = Pod { terminating: true, ..orphan };
    let succeeded = Pod { phase: Phase::Succeeded, ..orphan };
    let failed = Pod { phase: Phase::Failed, ..orphan };
    let plan = plan(&replicas(1), &[leaving, succeeded, failed], NOW);
    assert_eq!(plan, Plan { create: new(1), ..Plan::default() });
}

#[test]
fn a_pod_that_no_longer_matches_is_released_and_replaced() {
    let stray = Pod { claim: Claim::MineUnmatched, ..pod("a") };
    let plan = plan(&replicas(1), &[stray], NOW);
    assert_eq!((plan.release.clone(), plan.creations(), plan.counts), (vec![0], 1, Counts::default()));
}

#[test]
fn a_pod_that_no_longer_matches_is_kept_when_it_ends_anyway() {
    let stray = Pod { claim: Claim::MineUnmatched, ..pod("a") };
    let leaving = Pod { terminating: true, ..stray };
    let failed = Pod { phase: Phase::Failed, ..stray };
    let plan = plan(&replicas(0), &[leaving, failed], NOW);
    assert_eq!(plan, Plan::default());
}

#[test]
fn foreign_pods_are_ignored() {
    let foreign = Pod { claim: Claim::Foreign, ..pod("a") };
    assert_eq!(plan(&replicas(0), &[foreign], NOW), Plan::default());
}

#[test]
fn a_group_being_deleted_counts_and_changes_nothing() {
    let policy = Policy { ending: Some(Ending::GarbageCollected), ..replicas(1) };
    let orphan = Pod { claim: Claim::OrphanMatching, ..pod("orphan") };
    let stray = Pod { claim: Claim::MineUnmatched, ..pod("stray") };
    for pods in [vec![pod("a"), pod("b"), orphan, stray], vec![orphan, stray]] {
        let plan = plan(&policy, &pods, NOW);
        assert!(plan.is_empty(), "{plan:?}");
        assert_eq!(plan.wait, None);
        assert_eq!(plan.counts.active, pods.len() - 2);
    }
}

#[test]
fn counts_tell_the_stages_of_a_pod_apart() {
    let policy = Policy { min_ready: Duration::from_secs(30), ..replicas(4) };
    let pods = [
        pending("pending"),
        Pod { ready_since: None, fully_labeled: false, ..pod("unready") },
        Pod { ready_since: Some(ago(29)), ..pod("fresh") },
        Pod { ready_since: Some(ago(30)), ..pod("available") },
        Pod { terminating: true, ..pod("leaving") },
        Pod { terminating: true, phase: Phase::Succeeded, ..pod("left") },
        Pod { phase: Phase::Succeeded, ..pod("done") },
        failed("failed", 60, 50),
    ];
    let plan = plan(&policy, &pods, NOW);
    assert_eq!(plan.counts, Counts { active: 4, ready: 2, available: 1, terminating: 1, fully_labeled: 3 });
    assert!(plan.is_empty(), "{plan:?}");
    assert_eq!(plan.recheck_in, Some(Duration::from_secs(1)));
}

#[test]
fn terminating_pods_are_replaced_at_once_by_default() {
    let plan = plan(&replicas(2), &[pod("a"), Pod { terminating: true, ..pod("b") }], NOW);
    assert_eq!((plan.creations(), plan.wait), (1, None));
}

#[test]
fn a_strict_group_replaces_pods_when_they_are_gone() {
    let policy = Policy { replacement: Replacement::WhenTerminated, ..replicas(3) };
    let leaving = Pod { terminating: true, ..pod("leaving") };
    let ended = Pod { phase: Phase::Failed, ..leaving };
    let create = |pods: &[Pod<'_>]| {
        let plan = plan(&policy, pods, NOW);
        (plan.creations(), plan.wait)
    };
    assert_eq!(create(&[pod("a"), pod("b"), leaving]), (0, Some(Wait::Terminating(1))));
    assert_eq!(create(&[pod("a"), pod("b"), ended]), (1, None));
    assert_eq!(create(&[pod("a"), leaving]), (1, Some(Wait::Terminating(1))));
    assert_eq!(create(&[leaving; 5]), (0, Some(Wait::Terminating(3))));
    assert_eq!(create(&[pod("a"), pod("b"), pod("c"), leaving]), (0, None));
}

#[test]
fn backoff_holds_creation_and_says_until_when() {
    let pods = [failed("a", 20, 15), failed("b", 12, 4)];
    let plan = plan(&replicas(3), &pods, NOW);
    assert_eq!(plan.creations(), 0);
    assert_eq!(plan.wait, Some(Wait::Backoff { revision: "".into(), until: ago(-6) }));
    assert_eq!(plan.recheck_in, Some(Duration::from_secs(6)));
}

#[test]
fn backoff_is_silent_when_nothing_is_missing() {
    let pods = [failed("a", 20, 15), failed("b", 12, 4), pod("c")];
    let plan = plan(&replicas(1), &pods, NOW);
    assert_eq!((plan.wait, plan.recheck_in), (None, None));
}

#[test]
fn what_terminating_pods_hold_does_not_wait_for_backoff() {
    let policy = Policy { replacement: Replacement::WhenTerminated, ..replicas(1) };
    let leaving = Pod { terminating: true, ..pod("c") };
    let plan = plan(&policy, &[failed("a", 20, 15), failed("b", 12, 4), leaving], NOW);
    assert_eq!((plan.wait, plan.recheck_in), (Some(Wait::Terminating(1)), None));
}

#[test]
fn recheck_comes_with_the_first_pod_to_become_available() {
    let policy = Policy { min_ready: Duration::from_secs(10), ..replicas(4) };
    let ready = |name, seconds| Pod { ready_since: Some(ago(seconds)), ..pod(name) };
    let pods = [ready("a", 3), ready("b", 8), ready("c", 60), ready("clock-ahead", -5)];
    let plan = plan(&policy, &pods, NOW);
    assert_eq!(plan.recheck_in, Some(Duration::from_secs(2)));
    assert_eq!(plan.counts.available, 1);
    let ahead = super::plan(&policy, &pods[3..], NOW);
    assert_eq!(ahead.recheck_in, Some(Duration::from_secs(15)));
}

#[test]
fn without_min_ready_a_ready_pod_is_available_whatever_the_clocks_say() {
    let plan = plan(&replicas(1), &[Pod { ready_since: Some(ago(-60)), ..pod("a") }], NOW);
    assert_eq!((plan.counts.available, plan.recheck_in), (1, None));
}

#[test]
fn pods_that_no_node_takes_are_counted_apart_from_other_trouble() {
    let troubled = |name, cause, seconds| {
        let lasts = Duration::from_secs(seconds);
        Pod { blocker: Some(Trouble { cause, lasts }), ..pending(name) }
    };
    let no_node = Cause::Unschedulable;
    let pods = [
        troubled("a", no_node, 90),
        troubled("b", no_node, 30),
        troubled("c", Cause::Image, 5),
        troubled("d", Cause::Gated, 99),
    ];
    for (excused, waits) in [(0, 90), (1, 30), (2, 0)] {
        let counts = counts(&pods, Duration::ZERO, NOW, excused)[""];
        assert_eq!((counts.active, counts.gated, counts.unschedulable), (4, 1, 2));
        assert_eq!(counts.unschedulable_for, Duration::from_secs(waits), "{excused}");
        assert_eq!(counts.blocker.map(|blocker| blocker.cause), Some(Cause::Image));
    }
}
