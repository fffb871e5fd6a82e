//! When a change has failed, and what runs against it.

use super::*;
use crate::plan::{Cause, Trouble, Wait};

#[test]
fn crashing_pods_are_a_failure_that_leads_back_and_stays_so() {
    let begun = decide(&settings(3), &rev("b"), &at_a(), &by_revision(&[("a", 3)]), at(10));
    let mut pods = by_revision(&[("a", 3)]);
    pods.insert("b", RevisionCounts { active: 1, restarts: 3, ..RevisionCounts::default() });
    let failed = decide(&settings(3), &rev("b"), &begun, &pods, at(20));
    assert_eq!((shares(&failed), failed.phase), (vec![("a", 3)], Phase::RollingBack));
    assert_eq!(failed.state.failed.as_ref().map(|failed| failed.reason), Some(Reason::CrashLoop));
    let back = decide(&settings(3), &rev("b"), &failed, &by_revision(&[("a", 3)]), at(25));
    assert_eq!(back.news, [RolloutEvent::RolledBack { took: Duration::from_secs(5) }]);
    let later = decide(&settings(5), &rev("b"), &back, &by_revision(&[("a", 3)]), at(9999));
    assert_eq!((shares(&later), later.news.as_slice()), (vec![("a", 5)], &[][..]), "not tried again");
    let corrected = decide(&settings(3), &rev("c"), &back, &by_revision(&[("a", 3)]), at(9999));
    assert_eq!((shares(&corrected), &corrected.state.failed), (vec![("c", 3)], &None));
}

#[test]
fn trouble_fails_after_its_patience_and_no_earlier() {
    let begun = decide(&settings(3), &rev("b"), &at_a(), &by_revision(&[("a", 3)]), at(10));
    for (cause, reason) in [
        (Cause::Image, Reason::ImagePullFailed),
        (Cause::Config, Reason::ConfigError),
        (Cause::Unschedulable, Reason::Unschedulable),
    ] {
        let mut pods = by_revision(&[("a", 3)]);
        let mut lasts = |seconds| {
            let blocker = Some(Trouble { cause, lasts: Duration::from_secs(seconds) });
            pods.insert("b", RevisionCounts { active: 1, blocker, ..RevisionCounts::default() });
            pods.clone()
        };
        let early = decide(&settings(3), &rev("b"), &begun, &lasts(59), at(74));
        assert_eq!((early.state.failed.is_some(), early.due), (false, Some(Duration::from_secs(1))));
        let pods = lasts(60);
        let late = decide(&settings(3), &rev("b"), &begun, &pods, at(75));
        assert_eq!(late.state.failed.map(|failed| failed.reason), Some(reason));
    }
}

#[test]
fn a_scheduling_gate_or_want_of_room_is_no_failure_of_the_revision() {
    let b = RevisionCounts { active: 1, ..RevisionCounts::default() };
    let unschedulable =
        RevisionCounts { unschedulable: 1, unschedulable_for: Duration::from_secs(90_000), ..b };
    let gated = by_revision(&[("a", 3)]).into_iter().chain([("b", RevisionCounts { gated: 1, ..b })]);
    let a = RevisionCounts { active: 3, available: 2, unschedulable: 1, ..RevisionCounts::default() };
    let full = Tallies::from([("a", a), ("b", unschedulable)]);
    for pods in [gated.collect(), full] {
        let look = |known: Known, second| {
            look(&settings(3), &rev("b"), known, (&pods, 0), at(second), |_| Plan::default())
        };
        let begun = look(Known::from(&at_a()), 10);
        let late = look(Known::from(&begun), 90_000);
        assert_eq!((late.state.failed.as_ref(), late.waiting, late.due), (None, 1, None));
    }
    let alone = Tallies::from([("a", by_revision(&[("a", 3)])["a"]), ("b", unschedulable)]);
    let begun = decide(&settings(3), &rev("b"), &at_a(), &alone, at(10));
    let late = decide(&settings(3), &rev("b"), &begun, &alone, at(90_000));
    assert_eq!(late.state.failed.map(|failed| failed.reason), Some(Reason::Unschedulable));
}

/// This many pods that find no node, and for how many seconds those have waited that are not excused.
fn unscheduled(count: usize, seconds: u64) -> RevisionCounts {
    let unschedulable_for = Duration::from_secs(seconds);
    RevisionCounts { active: count, unschedulable: count, unschedulable_for, ..RevisionCounts::default() }
}

#[test]
fn as_many_new_pods_may_lack_room_as_old_ones_did_though_these_are_gone() {
    let a = RevisionCounts { active: 4, available: 3, unschedulable: 1, ..RevisionCounts::default() };
    let full = Tallies::from([("a", a)]);
    let known = Known::from(&at_a());
    let begun = look(&settings(4), &rev("b"), known, (&full, 0), at(10), |_| Plan::default());
    let later = |b, second| {
        // The pod that waited was deleted first.
        let pods = Tallies::from([("a", by_revision(&[("a", 3)])["a"]), ("b", b)]);
        look(&settings(4), &rev("b"), Known::from(&begun), (&pods, 0), at(second), |_| Plan::default())
    };
    let waits = later(unscheduled(1, 0), 90_000);
    assert_eq!((&waits.state.failed, waits.waiting, waits.due), (&None, 1, None));
    let reason = |failed: Decision| failed.state.failed.map(|failed| failed.reason);
    assert_eq!(reason(later(unscheduled(3, 60), 90_000)), Some(Reason::Unschedulable), "more than lacked it");
    let blocker = Some(Trouble { cause: Cause::Image, lasts: Duration::from_secs(60) });
    let other = RevisionCounts { active: 2, blocker, ..unscheduled(1, 0) };
    assert_eq!(reason(later(other, 90_000)), Some(Reason::ImagePullFailed), "it hides no other trouble");
}

#[test]
fn a_revision_that_was_given_up_excuses_no_pod_of_the_next() {
    let begun = decide(&settings(3), &rev("b"), &at_a(), &by_revision(&[("a", 3)]), at(10));
    let mut pods = by_revision(&[("a", 2)]);
    pods.insert("b", unscheduled(2, 30));
    let next = decide(&settings(3), &rev("c"), &begun, &pods, at(40));
    assert_eq!(next.state.rollout.map(|rollout| rollout.unschedulable), Some(0));
}

#[test]
fn the_deadline_counts_from_the_last_progress() {
    let begun = decide(&settings(3), &rev("b"), &at_a(), &by_revision(&[("a", 3)]), at(0));
    let one = decide(&settings(3), &rev("b"), &begun, &by_revision(&[("a", 3), ("b", 1)]), at(500));
    let fewer = decide(&settings(3), &rev("b"), &one, &by_revision(&[("a", 3)]), at(700));
    assert_eq!(fewer.due, Some(Duration::from_secs(400)), "500 + 600 - 700");
    let again = decide(&settings(3), &rev("b"), &fewer, &by_revision(&[("a", 3), ("b", 1)]), at(1099));
    assert_eq!(again.state.failed, None);
    let late = decide(&settings(3), &rev("b"), &again, &by_revision(&[("a", 3), ("b", 1)]), at(1100));
    let reason = late.state.failed.map(|failed| failed.reason);
    assert_eq!(reason, Some(Reason::ProgressDeadlineExceeded), "a pod that comes and goes is no progress");
}

#[test]
fn a_failure_may_pause_instead() {
    let settings = Settings { roll_back: false, ..settings(10) };
    let begun = decide(&settings, &rev("b"), &at_a(), &by_revision(&[("a", 10)]), at(0));
    let mut pods = by_revision(&[("a", 8)]);
    pods.insert("b", RevisionCounts { active: 2, restarts: 3, ..RevisionCounts::default() });
    let failed = decide(&settings, &rev("b"), &begun, &pods, at(10));
    assert_eq!((shares(&failed), failed.phase), (vec![("b", 2), ("a", 8)], Phase::Failed));
    let scaled = decide(&Settings { replicas: 20, ..settings }, &rev("b"), &failed, &pods, at(20));
    assert_eq!(shares(&scaled), [("b", 2), ("a", 18)], "it does not grow: no pod of it has been available");
}

#[test]
fn an_abort_leads_back_whatever_the_policy() {
    let settings = Settings { roll_back: false, ..settings(3) };
    let aborting = Settings { abort: command("b", None), ..settings.clone() };
    let (all, some) = (by_revision(&[("a", 3)]), by_revision(&[("a", 2), ("b", 1)]));
    let begun = decide(&settings, &rev("b"), &at_a(), &all, at(0));
    let aborted = decide(&aborting, &rev("b"), &begun, &some, at(0));
    assert_eq!((shares(&aborted), aborted.phase), (vec![("a", 3)], Phase::RollingBack));
    let other = decide(&aborting, &rev("c"), &aborted, &all, at(0));
    assert_eq!(shares(&other), [("c", 3)], "what was said of b is not meant for c");
    let again = decide(&aborting, &rev("b"), &other, &all, at(0));
    assert_eq!(shares(&again), [("b", 3)], "nor for the next rollout of b");
    let again = decide(&aborting, &rev("b"), &again, &some, at(0));
    assert_eq!(again.state.failed, None);
}

#[test]
fn a_first_revision_that_fails_has_nowhere_to_go_back_to() {
    let pods = Tallies::from([("a", RevisionCounts { active: 3, restarts: 9, ..RevisionCounts::default() })]);
    let failed = decide(&settings(3), &rev("a"), &State::default(), &pods, at(0));
    assert_eq!((shares(&failed), failed.news.len()), (vec![("a", 3)], 1));
    let again = decide(&settings(3), &rev("a"), &failed, &pods, at(5));
    assert_eq!(again.news, []);
    let well = decide(&settings(3), &rev("a"), &again, &by_revision(&[("a", 3)]), at(9));
    assert_eq!(well.state, at_a(), "it came right after all");
}

#[test]
fn old_pods_that_may_not_go_yet_are_no_failure_of_the_new_ones() {
    // Four pods, surge 1: the new one is there, and nothing can be made: a budget or a hook holds the old ones, or they
    // terminate, and new ones wait for that or for their volumes.
    let pods = by_revision(&[("a", 4), ("b", 1)]);
    let mut known = decide(&settings(4), &rev("b"), &at_a(), &by_revision(&[("a", 4)]), at(0));
    for second in [10, 500, 1090, 90_000] {
        let held =
            look(&settings(4), &rev("b"), Known::from(&known), (&pods, 0), at(second), |_| Plan::default());
        assert_eq!((held.phase, &held.state.failed, held.due), (Phase::Rolling, &None, None), "{second}");
        known = held;
    }
    // A new pod that is made when they have gone has all of the time.
    let mut starting = by_revision(&[("a", 3), ("b", 1)]);
    starting.insert("b", RevisionCounts { active: 2, available: 1, ..RevisionCounts::default() });
    let gone = decide(&settings(4), &rev("b"), &known, &starting, at(90_100));
    assert_eq!((&gone.state.failed, gone.due), (&None, Some(Duration::from_secs(600))));
    let failed = decide(&settings(4), &rev("b"), &gone, &starting, at(90_700)).state.failed;
    assert_eq!(failed.map(|failed| failed.reason), Some(Reason::ProgressDeadlineExceeded));
}

#[test]
fn only_a_pause_of_the_new_revision_runs_against_it() {
    let pods = by_revision(&[("a", 4), ("b", 1)]);
    let paused = |name: &str| {
        let begun = decide(&settings(4), &rev("b"), &at_a(), &by_revision(&[("a", 4)]), at(0));
        let plan =
            Plan { wait: Some(Wait::Backoff { revision: rev(name), until: at(300) }), ..Plan::default() };
        look(&settings(4), &rev("b"), Known::from(&begun), (&pods, 0), at(10), |_| plan).due
    };
    // Old pods that were lost fail again and again; all new ones are available, and no other can be made.
    assert_eq!(paused("a"), None);
    assert_eq!(paused("b"), Some(Duration::from_secs(600)));
}

#[test]
fn old_pods_that_become_fewer_are_progress() {
    let recreate = Settings { strategy: Strategy::Recreate, ..settings(3) };
    let (all, none) = (by_revision(&[("a", 3)]), Tallies::new());
    let mut known = decide(&recreate, &rev("b"), &at_a(), &all, at(0));
    // They terminate, one after the other.
    for (second, terminating) in [(500, 3), (1000, 2), (1500, 1), (2000, 0)] {
        let looked =
            look(&recreate, &rev("b"), Known::from(&known), (&none, terminating), at(second), |_| {
                Plan::default()
            });
        assert_eq!(looked.state.failed, None, "{second}");
        let progressed = looked.state.rollout.as_ref().map(|rollout| rollout.progressed);
        assert_eq!(progressed, Some(at(if terminating == 3 { 0 } else { second })), "{terminating}");
        known = looked;
    }
    let last = decide(&recreate, &rev("b"), &known, &none, at(2010));
    assert_eq!(last.due, Some(Duration::from_secs(600)), "the new ones have all of the time");
}

#[test]
fn a_process_that_begins_gives_a_change_its_whole_time_and_keeps_what_was_decided() {
    let begun = decide(&settings(3), &rev("b"), &at_a(), &by_revision(&[("a", 3)]), at(0));
    let one = decide(&settings(3), &rev("b"), &begun, &by_revision(&[("a", 3), ("b", 1)]), at(100));
    // Nobody has looked for long, and the new pod is unavailable when somebody does.
    let mut pods = by_revision(&[("a", 3)]);
    pods.insert("b", RevisionCounts { active: 1, ..RevisionCounts::default() });
    let anew = decide(&settings(3), &rev("b"), &one.state, &pods, at(90_000));
    assert_eq!((&anew.state.failed, anew.due), (&None, Some(Duration::from_secs(600))));
    // That it comes back is no progress: the predecessor has seen as many.
    let back = decide(&settings(3), &rev("b"), &anew, &by_revision(&[("a", 3), ("b", 1)]), at(90_100));
    assert_eq!(back.due, Some(Duration::from_secs(500)));
    let failed = decide(&settings(3), &rev("b"), &back, &pods, at(90_600));
    assert!(failed.state.failed.is_some());
    let successor = decide(&settings(3), &rev("b"), &failed.state, &pods, at(90_601));
    assert_eq!((shares(&successor), &successor.state), (vec![("a", 3)], &failed.state));
}

#[test]
fn a_break_of_the_watch_puts_the_deadline_off_by_as_long() {
    let pods = mixed(3, 1, 0);
    let begun = decide(&settings(3), &rev("b"), &at_a(), &pods, at(0));
    let after = |second: i64, watched: u64| {
        let Known(state, mut evidence) = Known::from(&begun);
        let moment = Duration::from_secs(second.unsigned_abs());
        let look = Look { moment, wall: at(second), watched: Duration::from_secs(watched), sure: true };
        evidence.look(&look, 2, &mut []);
        evidence.living = 4;
        super::super::decide(&settings(3), &rev("b"), &state, evidence, &pods, at(second)).state.failed
    };
    assert_eq!(after(690, 590), None);
    assert_eq!(after(700, 600).map(|failed| failed.reason), Some(Reason::ProgressDeadlineExceeded));
}

#[test]
fn nothing_is_given_up_that_is_not_certain() {
    let begun = decide(&settings(3), &rev("b"), &at_a(), &by_revision(&[("a", 3)]), at(0));
    let Known(state, mut evidence) = Known::from(&begun);
    let moment = Duration::from_secs(90_000);
    let unsure = Look { moment, wall: at(90_000), watched: moment, sure: false };
    evidence.look(&unsure, 2, &mut []);
    evidence.living = 3;
    let decision = super::super::decide(
        &settings(3),
        &rev("b"),
        &state,
        evidence,
        &by_revision(&[("a", 3)]),
        at(90_000),
    );
    assert_eq!((decision.overdue, &decision.state.failed), (true, &None));
    assert_eq!((decision.news.len(), decision.due), (0, None));
}

#[test]
fn pods_beside_available_ones_of_their_revision_wait_for_room_without_a_failure() {
    // The group has grown, or a node was lost: that a node takes the template is known.
    let calm = |known: &Decision, pods: &Tallies<'_>, second| {
        look(&settings(3), &rev("b"), Known::from(known), (pods, 0), at(second), |_| Plan::default())
    };
    let begun = decide(&settings(3), &rev("b"), &at_a(), &by_revision(&[("a", 3)]), at(0));
    let one = calm(&begun, &by_revision(&[("a", 2), ("b", 1)]), 10);
    for available in [1, 0] {
        let b = RevisionCounts { active: 2 + available, available, ..unscheduled(2, 89_000) };
        let pods = Tallies::from([("a", by_revision(&[("a", 1)])["a"]), ("b", b)]);
        let late = calm(&one, &pods, 90_000);
        assert_eq!((&late.state.failed, late.waiting, late.due), (&None, 2, None), "{available}");
    }
}

#[test]
fn a_refusal_that_the_template_cannot_be_blamed_for_is_no_failure_and_any_other_is_named() {
    let pods = by_revision(&[("a", 3), ("b", 1)]);
    let after = |revision: &str, blamed| {
        let begun = decide(&settings(4), &rev("b"), &at_a(), &pods, at(0));
        let Known(state, mut evidence) = Known::from(&begun);
        let text = "could not create a pod: exceeded quota: q".to_owned();
        evidence.refuse(vec![Refusal { revision: rev(revision), blamed, text }]);
        let refused = decide(&settings(4), &rev("b"), Known(state, evidence), &pods, at(1));
        decide(&settings(4), &rev("b"), &refused, &pods, at(90_000))
    };
    let waits = after("b", false);
    assert_eq!((&waits.state.failed, waits.due), (&None, None));
    let failed = after("b", true).state.failed.unwrap();
    assert_eq!(failed.reason, Reason::ProgressDeadlineExceeded);
    assert!(failed.message.ends_with("; could not create a pod: exceeded quota: q"), "{}", failed.message);
    assert!(after("a", false).state.failed.is_some(), "that is of another revision");
}

#[test]
fn a_change_whose_pods_are_not_prepared_says_so_when_its_time_is_over() {
    let mut pods = by_revision(&[("a", 3)]);
    pods.insert("b", RevisionCounts { active: 1, unprepared: 1, ..RevisionCounts::default() });
    let begun = decide(&settings(3), &rev("b"), &at_a(), &pods, at(0));
    let early = decide(&settings(3), &rev("b"), &begun, &pods, at(599));
    assert_eq!(early.state.failed, None);
    let failed = decide(&settings(3), &rev("b"), &early, &pods, at(600)).state.failed.unwrap();
    assert_eq!(failed.reason, Reason::ProgressDeadlineExceeded);
    assert!(failed.message.contains("; 1 pod waits for volumes"), "{}", failed.message);
}
