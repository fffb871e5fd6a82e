//! Targets that lack pods before a change: what was missing before is not held against it.

use super::*;

/// A world whose canary has so many pods, of which so many cannot be available.
fn lacking(replicas: i32, lost: i32) -> World {
    let mut world = settled(2);
    (world.targets[0].replicas, world.targets[0].lost) = (replicas, lost);
    world
}

fn failed(world: &World) -> Option<Number> {
    world.state.failed.as_ref().map(|(number, _)| *number)
}

#[test]
fn a_pod_that_had_no_room_before_is_not_held_against_a_change() {
    let mut world = lacking(4, 1);
    world.write(0, 2);
    world.pass(false);
    world.pass(false);
    world.restart();
    world.run(20);
    assert!(all_have(&world, [2, 1]), "{:?}", world.last);
    assert_eq!((failed(&world), world.state.stable), (None, Some(2)));
}

#[test]
fn a_pod_on_a_node_that_was_dead_before_may_stay_of_the_old_template() {
    let mut world = lacking(3, 1);
    world.targets[0].keeps_lost = true;
    for value in 2..4 {
        world.write(0, value);
        world.run(20);
        assert!(all_have(&world, [value, 1]), "{:?}", world.last);
    }
}

#[test]
fn a_change_that_costs_more_pods_than_were_missing_fails() {
    let mut world = lacking(4, 1);
    world.write(0, 2);
    world.pass(false);
    world.pass(false);
    world.targets[0].lost = 2;
    world.run(70);
    assert_eq!(failed(&world), Some(2));
    let message = &world.state.failed.as_ref().unwrap().1.message;
    assert!(message.ends_with("2 are available; before the change 1 were not available"), "{message}");
}

#[test]
fn a_target_that_grows_may_lack_no_more_pods_than_before() {
    let mut world = lacking(4, 1);
    world.write(0, 2);
    world.pass(false);
    world.pass(false);
    (world.targets[0].replicas, world.targets[0].lost) = (8, 4);
    world.run(70);
    assert_eq!(failed(&world), Some(2), "4 of 8 are fewer than all but one");
}

#[test]
fn where_no_pod_was_available_before_all_have_to_be() {
    let mut world = lacking(2, 2);
    world.write(0, 2);
    world.run(70);
    assert_eq!(failed(&world), Some(2));
}

#[test]
fn a_bad_change_does_not_lower_what_the_next_one_has_to_show() {
    let mut world = lacking(4, 0);
    world.write(0, 2);
    world.pass(false);
    world.pass(false);
    world.targets[0].lost = 3;
    world.run(10);
    world.write(0, 3);
    world.run(20);
    assert_eq!((world.values(0)[0], world.values(1)[0]), (Some(3), Some(1)), "3 of 4 pods are broken");
    world.run(60);
    assert_eq!(failed(&world), Some(3));
}

#[test]
fn the_way_back_is_over_when_as_many_pods_are_available_as_before() {
    let mut world = lacking(3, 1);
    world.write(0, BAD);
    world.run(80);
    assert!(all_have(&world, [1, 1]));
    assert!(world.news.iter().any(|news| matches!(news, RolloutEvent::RolledBack(1, _))), "{:?}", world.news);
    assert_eq!((world.state.rollout.clone(), world.last.wait.clone()), (None, Wait::Source));
}

#[test]
fn the_way_back_does_not_wait_for_ever_and_the_next_change_has_its_chance() {
    let mut world = lacking(2, 0);
    world.write(0, BAD);
    world.run(30);
    world.targets[0].lost = 1;
    world.run(60);
    assert_eq!(world.state.rollout.as_ref().map(|rollout| rollout.back), Some(true), "its pods may come yet");
    world.run(60);
    assert_eq!((world.state.rollout.clone(), world.last.wait.clone()), (None, Wait::Source));
    world.write(0, 3);
    world.run(20);
    assert!(all_have(&world, [3, 1]), "{:?}", world.last);
}
