//! What of pods counts, and for how long.

use super::*;
use crate::plan::{Domains, Node, Phase as PodPhase, Trouble};

const WALL: i64 = 1_000_000;
const HOUR: i64 = 3600;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(WALL + second).unwrap()
}

fn pod(name: &str) -> Pod<'_> {
    Pod {
        name,
        uid: name,
        claim: Claim::Mine,
        node: Some(Node { name: "n", domains: Domains::default(), pods: 1 }),
        phase: PodPhase::Running,
        terminating: false,
        ready_since: None,
        created: at(0),
        failed_at: None,
        deletion_cost: 0,
        restarts: 0,
        sidecar_restarts: 0,
        fully_labeled: true,
        revision: "b",
        crashes: 0,
        trouble: None,
        gate: None,
        changing: false,
        hook: None,
    }
}

/// Looks at a pod after so many seconds, and returns how that counts. Five restarts are allowed.
fn see<'a>(evidence: &mut Evidence, second: i64, steady: Duration, pod: Pod<'a>) -> Pod<'a> {
    let moment = Duration::from_secs(second.unsigned_abs());
    let mut pods = [pod];
    evidence.look(&Look { moment, wall: at(second), steady, sure: true }, 5, &mut pods);
    pods[0]
}

fn crashed(evidence: &mut Evidence, second: i64, crashes: i32) -> i32 {
    see(evidence, second, Duration::MAX, Pod { crashes, ..pod("a") }).crashes
}

fn troubled(evidence: &mut Evidence, second: i64, steady: Duration, cause: Option<Cause>) -> Option<u64> {
    let trouble = cause.map(|cause| Trouble { cause, lasts: Duration::ZERO });
    let seen = see(evidence, second, steady, Pod { trouble, ..pod("a") });
    seen.trouble.map(|trouble| trouble.lasts.as_secs())
}

#[test]
fn trouble_lasts_for_as_long_as_it_is_seen_without_a_break() {
    let mut evidence = Evidence::default();
    let mut see = |second, cause| troubled(&mut evidence, second, Duration::MAX, cause);
    // The pod has run for hours, and then its image cannot be had.
    assert_eq!(see(6 * HOUR, Some(Cause::Image)), Some(0));
    assert_eq!(see(6 * HOUR + 20, Some(Cause::Image)), Some(20));
    assert_eq!(see(6 * HOUR + 30, None), None);
    assert_eq!(see(6 * HOUR + 40, Some(Cause::Image)), Some(0));
    assert_eq!(see(6 * HOUR + 50, Some(Cause::Config)), Some(0), "another trouble");
}

#[test]
fn time_in_which_the_watch_was_broken_does_not_count() {
    let mut evidence = Evidence::default();
    let image = Some(Cause::Image);
    assert_eq!(troubled(&mut evidence, 0, Duration::MAX, image), Some(0));
    assert_eq!(troubled(&mut evidence, 100, Duration::from_secs(100), image), Some(100));
    assert_eq!(troubled(&mut evidence, 900, Duration::from_secs(5), image), Some(0));
    assert_eq!(troubled(&mut evidence, 950, Duration::from_secs(55), image), Some(50));
}

#[test]
fn restarts_count_while_they_are_close_together() {
    let mut evidence = Evidence::default();
    assert_eq!(crashed(&mut evidence, 100, 4), 4, "a pod that is new has had them just now");
    assert_eq!(crashed(&mut evidence, 200, 6), 6);
    // Weeks of a canary.
    assert_eq!(crashed(&mut evidence, 10 * HOUR, 7), 0);
    assert_eq!(crashed(&mut evidence, 10 * HOUR + 60, 9), 2);
    assert_eq!(crashed(&mut evidence, 11 * HOUR + 60, 13), 0);
}

#[test]
fn of_an_older_pod_only_those_restarts_count_that_were_seen() {
    let mut evidence = Evidence::default();
    assert_eq!(crashed(&mut evidence, 2 * HOUR, 40), 0);
    assert_eq!(crashed(&mut evidence, 2 * HOUR + 60, 46), 6);
    // One that had none at the last look.
    let mut evidence = Evidence::default();
    assert_eq!(crashed(&mut evidence, 2 * HOUR, 0), 0);
    assert_eq!(crashed(&mut evidence, 2 * HOUR + 60, 1), 1);
    // In place it becomes another revision's.
    let other = Pod { crashes: 1, revision: "c", ..pod("a") };
    assert_eq!(see(&mut evidence, 2 * HOUR + 70, Duration::MAX, other).crashes, 1);
}

#[test]
fn a_pod_that_is_ready_in_the_future_has_been_ready_since_it_was_seen_so() {
    let mut evidence = Evidence::default();
    let ahead = Pod { ready_since: Some(at(500)), ..pod("a") };
    for second in [10, 20, 900] {
        let seen = see(&mut evidence, second, Duration::MAX, ahead);
        assert_eq!(seen.ready_since, Some(at(10)), "{second}");
    }
    let again = Pod { ready_since: Some(at(905)), ..ahead };
    assert_eq!(see(&mut evidence, 910, Duration::MAX, again).ready_since, Some(at(905)));
}

#[test]
fn what_is_gone_is_forgotten() {
    let mut evidence = Evidence::default();
    crashed(&mut evidence, 0, 3);
    see(&mut evidence, 1, Duration::MAX, Pod { crashes: 1, ..pod("b") });
    assert_eq!(evidence.pods.keys().map(|uid| &**uid).collect::<Vec<_>>(), ["b"]);
}
