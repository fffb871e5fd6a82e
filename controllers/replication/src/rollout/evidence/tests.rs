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
        node: Some(Node { name: "n", domains: Domains::default(), pods: 1, leaving: false }),
        phase: PodPhase::Running,
        terminating: false,
        ready_since: None,
        created: at(0),
        ended_at: None,
        deletion_cost: 0,
        restarts: 0,
        sidecar_restarts: 0,
        fully_labeled: true,
        revision: "b",
        crashes: 0,
        blocker: None,
        gate: None,
        changing: false,
        in_place: None,
        hook: None,
    }
}

/// Looks at a pod after so many seconds, and returns how that counts. Five restarts are allowed.
fn see<'a>(evidence: &mut Evidence, second: i64, pod: Pod<'a>) -> Pod<'a> {
    see_watched(evidence, second, second, pod)
}

/// As [`see`], where the watch has run for so many seconds.
fn see_watched<'a>(evidence: &mut Evidence, second: i64, watched: i64, pod: Pod<'a>) -> Pod<'a> {
    let [moment, watched] = [second, watched].map(|second| Duration::from_secs(second.unsigned_abs()));
    let mut pods = [pod];
    evidence.look(&Look { moment, wall: at(second), watched, sure: true }, 5, &mut pods);
    pods[0]
}

fn crashed(evidence: &mut Evidence, second: i64, crashes: i32) -> i32 {
    see(evidence, second, Pod { crashes, ..pod("a") }).crashes
}

fn troubled(evidence: &mut Evidence, second: i64, watched: i64, cause: Option<Cause>) -> Option<u64> {
    let blocker = cause.map(|cause| Trouble { cause, lasts: Duration::ZERO });
    let seen = see_watched(evidence, second, watched, Pod { blocker, ..pod("a") });
    seen.blocker.map(|blocker| blocker.lasts.as_secs())
}

#[test]
fn trouble_lasts_for_as_long_as_it_is_seen_without_a_break() {
    let mut evidence = Evidence::default();
    let mut see = |second, cause| troubled(&mut evidence, second, second, cause);
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
    assert_eq!(troubled(&mut evidence, 0, 7, image), Some(0));
    assert_eq!(troubled(&mut evidence, 100, 107, image), Some(100));
    assert_eq!(troubled(&mut evidence, 900, 112, image), Some(105), "what was seen before counts on");
    assert_eq!(troubled(&mut evidence, 950, 162, image), Some(155));
}

#[test]
fn time_that_was_counted_too_early_is_made_up_for() {
    let mut evidence = Evidence::default();
    let image = Some(Cause::Image);
    assert_eq!(troubled(&mut evidence, 0, 0, image), Some(0));
    assert_eq!(troubled(&mut evidence, 130, 130, image), Some(130));
    // The watch has been broken for the last 30 s, and is so for as long again.
    assert_eq!(troubled(&mut evidence, 160, 100, image), Some(130));
    assert_eq!(troubled(&mut evidence, 180, 120, image), Some(130));
    assert_eq!(troubled(&mut evidence, 200, 140, image), Some(140));
}

#[test]
fn time_in_which_the_server_carries_out_no_write_does_not_count() {
    let mut evidence = Evidence::default();
    let image = Some(Cause::Image);
    assert_eq!(troubled(&mut evidence, 0, 0, image), Some(0));
    assert_eq!(troubled(&mut evidence, 10, 10, image), Some(10));
    evidence.doubt(true);
    assert_eq!(troubled(&mut evidence, 40, 40, image), Some(10));
    assert_eq!(troubled(&mut evidence, 90, 90, image), Some(10));
    evidence.doubt(false);
    assert_eq!(troubled(&mut evidence, 100, 100, image), Some(20));
}

#[test]
fn restarts_of_an_older_pod_in_a_long_break_do_not_count() {
    let mut evidence = Evidence::default();
    assert_eq!(crashed(&mut evidence, 2 * HOUR, 0), 0);
    let after = |evidence: &mut Evidence, second, watched, crashes| {
        see_watched(evidence, second, watched, Pod { crashes, ..pod("a") }).crashes
    };
    let mut long = evidence.clone();
    assert_eq!(after(&mut long, 5 * HOUR, 2 * HOUR + 60, 9), 0);
    assert_eq!(after(&mut long, 5 * HOUR + 60, 2 * HOUR + 120, 10), 1);
    assert_eq!(after(&mut evidence, 2 * HOUR + 600, 2 * HOUR + 60, 9), 9, "within ten minutes it is a loop");
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
    assert_eq!(see(&mut evidence, 2 * HOUR + 70, other).crashes, 1);
}

#[test]
fn a_pod_that_is_ready_in_the_future_has_been_ready_since_it_was_seen_so() {
    let mut evidence = Evidence::default();
    let ahead = Pod { ready_since: Some(at(500)), ..pod("a") };
    for second in [10, 20, 900] {
        let seen = see(&mut evidence, second, ahead);
        assert_eq!(seen.ready_since, Some(at(10)), "{second}");
    }
    let again = Pod { ready_since: Some(at(905)), ..ahead };
    assert_eq!(see(&mut evidence, 910, again).ready_since, Some(at(905)));
}

#[test]
fn what_is_gone_is_forgotten() {
    let mut evidence = Evidence::default();
    crashed(&mut evidence, 0, 3);
    see(&mut evidence, 1, Pod { crashes: 1, ..pod("b") });
    assert_eq!(evidence.pods.keys().map(|uid| &**uid).collect::<Vec<_>>(), ["b"]);
}
