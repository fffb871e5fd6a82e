//! How long a target may take, and what a break in its soak costs it.

use super::*;

/// A world in which the canary soaks for longer than its deadline, and has done so for a while.
fn soaking(soak: u64) -> World {
    let mut world = settled(2);
    world.settings.stages[0].soak = Duration::from_secs(soak);
    world.write(0, 2);
    world.run(soak / 2);
    assert!(world.state.targets[&target(0)].available.is_some(), "{:?}", world.state);
    world
}

/// No pod is available for so long.
fn break_off(world: &mut World, seconds: u64) {
    let startup = std::mem::replace(&mut world.startup, Duration::from_secs(1_000_000));
    world.run(seconds);
    world.startup = startup;
}

#[test]
fn a_break_after_the_deadline_begins_the_soak_anew_and_is_no_failure() {
    let mut world = soaking(300);
    break_off(&mut world, 2);
    world.restart();
    break_off(&mut world, 50);
    assert_eq!(world.state.failed, None);
    world.run(290);
    assert_eq!(world.values(1)[0], Some(1), "it soaks from the break on");
    world.run(30);
    assert_eq!((world.state.failed.clone(), world.state.stable), (None, Some(2)));
}

#[test]
fn a_target_that_does_not_come_back_after_a_break_has_failed() {
    let mut world = soaking(300);
    break_off(&mut world, 60);
    assert_eq!(world.state.failed, None, "it has its deadline from the break on");
    break_off(&mut world, 5);
    let (number, failed) = world.state.failed.clone().unwrap();
    assert_eq!((number, failed.reason), (2, "DeadlineExceeded"));
    assert!(failed.message.starts_with("after 60 s 1 of 1 pods"), "{}", failed.message);
}

#[test]
fn a_target_that_breaks_off_again_and_again_is_given_up() {
    let mut world = soaking(40);
    for _ in 0..13 {
        break_off(&mut world, 1);
        world.run(20);
    }
    assert_eq!(world.state.failed, None, "{:?}", world.last);
    for _ in 0..3 {
        break_off(&mut world, 1);
        world.run(20);
    }
    let (_, failed) = world.state.failed.clone().unwrap();
    assert_eq!(failed.reason, "DeadlineExceeded");
    assert_eq!(failed.message, "it was not available for 40 s without interruption within 300 s");
}

#[test]
fn a_target_that_became_available_while_nobody_looked_soaks() {
    let mut world = settled(2);
    world.settings.stages[0].soak = Duration::from_secs(30);
    world.write(0, 2);
    world.run(2);
    world.restart();
    world.advance(1000);
    world.run(60);
    assert_eq!((world.state.failed.clone(), world.state.stable), (None, Some(2)));
}
