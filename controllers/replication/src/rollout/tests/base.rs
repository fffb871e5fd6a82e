//! Changes of a group of which no revision was ever complete.

use super::*;

/// The state after one of ten pods of `a` could not be made.
fn short() -> Decision {
    let first = decide(&settings(10), &rev("a"), &State::default(), &Tallies::new(), at(0));
    decide(&settings(10), &rev("a"), &first, &by_revision(&[("a", 9)]), at(5))
}

#[test]
fn a_change_that_fails_goes_back_to_what_served() {
    let short = short();
    assert_eq!((&short.state.current, short.phase), (&None, Phase::Rolling));
    let begun = decide(&settings(10), &rev("b"), &short, &by_revision(&[("a", 9)]), at(10));
    assert_eq!((shares(&begun), keep(&begun)), (vec![("b", 10)], Some(("a", 9))));
    assert_eq!(
        (&begun.state.current, begun.news.as_slice()),
        (&Some(rev("a")), &[RolloutEvent::Started][..])
    );
    assert!(!begun.state.decides_as(&short.state), "it is written down before anything is done");
    let lost = decide(&settings(10), &rev("b"), &begun, &by_revision(&[("a", 4)]), at(15));
    assert_eq!(keep(&lost), Some(("a", 9)));
    let mut pods = by_revision(&[("a", 8)]);
    pods.insert("b", RevisionCounts { active: 1, restarts: 3, ..RevisionCounts::default() });
    let failed = decide(&settings(10), &rev("b"), &lost, &pods, at(20));
    assert_eq!((shares(&failed), failed.phase), (vec![("a", 10)], Phase::RollingBack));
}

#[test]
fn its_canaries_pause() {
    let steps = vec![Step { weight: 10, pause: Pause::Open }];
    let settings = Settings { steps, ..settings(10) };
    let begun = decide(&settings, &rev("b"), &short(), &by_revision(&[("a", 9)]), at(10));
    assert_eq!(shares(&begun), [("b", 1), ("a", 9)]);
    let reached = decide(&settings, &rev("b"), &begun, &by_revision(&[("a", 9), ("b", 1)]), at(20));
    assert_eq!(reached.phase, Phase::StepPaused { step: 1, of: 1, weight: 10, until: None });
}

#[test]
fn what_has_never_served_is_nothing_to_go_back_to() {
    let first = decide(&settings(3), &rev("a"), &State::default(), &Tallies::new(), at(0));
    let pods = Tallies::from([("a", RevisionCounts { active: 3, ..RevisionCounts::default() })]);
    let corrected = decide(&settings(3), &rev("b"), &first, &pods, at(10));
    assert_eq!(
        (shares(&corrected), keep(&corrected), &corrected.state.current),
        (vec![("b", 3)], None, &None)
    );
}

#[test]
fn the_shares_of_a_paused_group_begin_with_the_target_however_the_status_lists_them() {
    let paused = Settings { paused: true, ..settings(4) };
    let mut before = decide(&paused, &rev("b"), &at_a(), &by_revision(&[("a", 2), ("b", 2)]), at(0));
    before.state.rollout.as_mut().unwrap().held.reverse();
    let held = decide(&paused, &rev("b"), &before, &by_revision(&[("a", 2), ("b", 2)]), at(5));
    assert_eq!(shares(&held), [("b", 2), ("a", 2)]);
}
