//! That there is no room for a pod is no failure of a revision.

use super::*;

fn failed(world: &World) -> Option<&'static str> {
    world.state.failed.as_ref().map(|(_, failed)| failed.reason)
}

/// A canary of two pods has a new revision, and there is no room for the second.
fn without_room() -> World {
    let mut world = settled(2);
    world.targets[0].replicas = 2;
    world.run(5);
    world.write(0, 2);
    world.pass(false);
    world.pass(false);
    (world.targets[0].lost, world.targets[0].waits) = (1, true);
    world
}

#[test]
fn a_revision_waits_for_room_and_its_deadline_begins_with_it() {
    let mut world = without_room();
    world.run(600);
    assert_eq!((failed(&world), world.values(1)[0]), (None, Some(1)), "{:?}", world.last.wait);
    world.targets[0].waits = false;
    world.run(130);
    assert_eq!(failed(&world), Some("DeadlineExceeded"), "it has a node, and does not become available");
}

#[test]
fn a_revision_whose_pods_have_found_room_goes_on() {
    let mut world = without_room();
    world.run(600);
    world.restart();
    (world.targets[0].lost, world.targets[0].waits) = (0, false);
    world.run(20);
    assert!(all_have(&world, [2, 1]), "{:?}", world.last.wait);
}

#[test]
fn nothing_is_written_while_a_pod_waits_for_room_but_once_in_a_deadline() {
    let mut world = without_room();
    world.run(100);
    let mut writes = 0;
    for _ in 0..300 {
        let before = world.state.clone();
        world.run(1);
        writes += usize::from(world.state != before);
    }
    assert!((4..=5).contains(&writes), "{writes} in 300 s, of which a deadline has 60");
}

#[test]
fn a_target_that_has_passed_and_finds_no_room_again_has_not_failed() {
    let mut world = settled(2);
    world.targets[0].replicas = 2;
    world.settings.stages[0].pause = Some(PauseSettings::Continue);
    world.write(0, 2);
    world.run(20);
    assert_eq!(world.last.wait, Wait::Stage(None));
    (world.targets[0].lost, world.targets[0].waits) = (1, true);
    world.run(300);
    assert_eq!(failed(&world), None);
    world.targets[0].waits = false;
    world.run(150);
    assert_eq!(failed(&world), Some("DeadlineExceeded"));
}
