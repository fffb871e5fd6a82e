//! What keeps pods from being replaced is no failure of a revision, and another change of a template restarts its gate.

use super::*;
use crate::watched::{Blocked, Fingerprint};

fn failed(world: &World) -> Option<Number> {
    world.state.failed.as_ref().map(|(number, _)| *number)
}

#[test]
fn a_target_that_is_paused_is_waited_for_also_in_the_last_stage() {
    for place in [0, 1] {
        let mut world = settled(2);
        world.targets[place].blocked = Some(Blocked::Paused);
        world.write(0, 2);
        world.run(200);
        assert_eq!(failed(&world), None);
        assert_eq!(world.last.wait, Wait::Unproven(Unproven::Blocked(target(place), Blocked::Paused)));
        assert_eq!(world.values(place)[0], Some(2), "it has it in its template");
        assert_eq!(world.values(1)[0], Some(if place == 0 { 1 } else { 2 }));
        let before = world.state.clone();
        world.run(3);
        assert_eq!(world.state, before, "nothing is written while it waits");
        world.targets[place].blocked = None;
        world.run(20);
        assert!(all_have(&world, [2, 1]));
        assert_eq!(world.state.stable, Some(2));
    }
}

#[test]
fn what_the_pods_of_a_paused_target_restarted_before_is_not_held_against_it() {
    let mut world = settled(2);
    (world.targets[0].blocked, world.targets[0].restarts) = (Some(Blocked::Paused), 3);
    world.write(0, 2);
    world.run(10);
    assert_eq!(world.values(0)[0], Some(2));
    world.targets[0].blocked = None;
    world.run(20);
    assert!(all_have(&world, [2, 1]), "{:?}", world.state.failed);
}

#[test]
fn another_change_of_the_template_restarts_the_gate() {
    let mut world = settled(2);
    world.startup = Duration::from_secs(10_000);
    world.write(0, 2);
    world.run(50);
    world.targets[0].template = Fingerprint { whole: 1, rest: 1 };
    world.run(50);
    assert_eq!(failed(&world), None, "the change is as old as the image");
    world.run(20);
    assert_eq!(failed(&world), Some(2));
}

#[test]
fn a_canary_is_watched_until_the_rollout_is_over() {
    let mut world = settled(2);
    world.settings.stages[0].pause = Some(PauseSettings::Continue);
    world.write(0, 2);
    world.run(20);
    world.startup = Duration::from_secs(10_000);
    world.run(30);
    world.startup = Duration::from_secs(3);
    world.run(40);
    assert_eq!(
        (failed(&world), world.last.wait.clone()),
        (None, Wait::Stage(None)),
        "it has come back in time"
    );
    world.startup = Duration::from_secs(10_000);
    world.run(70);
    assert_eq!(failed(&world), Some(2));
    world.startup = Duration::from_secs(3);
    world.run(20);
    assert!(all_have(&world, [1, 1]));
}

/// A rollout whose canary has passed, and that waits in the pause after it.
fn paused_after_the_canary(probed: bool) -> World {
    let mut world = settled(2);
    world.settings.stages[0].pause = Some(PauseSettings::Continue);
    world.settings.stages[0].probed = probed;
    world.probe = probed.then_some(true);
    world.write(0, 2);
    world.run(20);
    assert_eq!((failed(&world), world.last.wait.clone()), (None, Wait::Stage(None)));
    world
}

#[test]
fn a_canary_that_crashes_after_it_has_passed_fails() {
    let mut world = paused_after_the_canary(false);
    world.run(30);
    assert!(world.last.recheck_in.is_some(), "no watch shows that a pod restarts");
    world.targets[0].restarts += 1;
    world.run(20);
    assert_eq!(failed(&world), None, "one restart is no crash loop");
    world.restart();
    world.run(600);
    world.targets[0].restarts += 1;
    world.run(20);
    assert_eq!(failed(&world), Some(2));
    let (_, failed) = world.state.failed.clone().unwrap();
    assert_eq!(failed.reason, "MoreRestarts");
    assert_eq!(
        failed.message,
        "after it had passed, a container of a new pod has restarted 2 times within 1200 s"
    );
    world.run(20);
    assert!(all_have(&world, [1, 1]));
}

#[test]
fn restarts_far_apart_after_the_canary_has_passed_are_no_failure() {
    let mut world = paused_after_the_canary(false);
    world.settings.stages[0].pause = Some(PauseSettings::Continue);
    for _ in 0..3 {
        world.targets[0].restarts += 1;
        world.run(1230);
        world.restart();
        // The new process sees the templates again, which no status records.
        world.run(1);
        let before = world.state.clone();
        world.run(60);
        assert_eq!(
            (failed(&world), &world.state),
            (None, &before),
            "nothing is written while nothing restarts"
        );
    }
}

#[test]
fn what_restarts_more_than_that_after_it_has_passed_fails_as_the_spec_allows() {
    let mut world = settled(2);
    world.settings.stages[0].pause = Some(PauseSettings::Continue);
    world.settings.stages[0].more_restarts = 3;
    world.targets[0].restarts = 7;
    world.write(0, 2);
    world.pass(false);
    world.pass(false);
    // As many as a pod had before the change, and no more than are allowed.
    world.targets[0].restarts = 10;
    world.run(20);
    assert_eq!(world.last.wait, Wait::Stage(None));
    for expected in [None, None, None, Some(2)] {
        world.run(500);
        world.targets[0].restarts += 1;
        world.run(15);
        assert_eq!(failed(&world), expected);
    }
}

#[test]
fn a_canary_whose_probe_fails_after_it_has_passed_has_its_deadline_to_succeed_again() {
    let mut world = paused_after_the_canary(true);
    for (works, seconds) in [(Some(false), 50), (Some(true), 10), (Some(false), 50), (None, 100)] {
        world.probe = works;
        world.run(seconds);
        assert_eq!(failed(&world), None, "{works:?}");
    }
    world.probe = Some(false);
    world.run(75);
    assert_eq!(failed(&world), Some(2));
    let (_, failed) = world.state.failed.clone().unwrap();
    assert_eq!(failed.message, "after it had passed, its probe did not succeed within 60 s: 503");
}
