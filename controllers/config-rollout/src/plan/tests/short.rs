//! Targets that lack pods.

use super::*;

/// A world whose canary has so many pods, of which so many cannot be available.
fn lacking(replicas: i32, lost: i32) -> World {
    let mut world = settled(2);
    (world.targets[0].replicas, world.targets[0].lost) = (replicas, lost);
    world
}

#[test]
fn the_way_back_does_not_wait_for_ever() {
    let mut world = lacking(2, 0);
    world.write(0, BAD);
    world.run(30);
    world.targets[0].lost = 1;
    world.run(60);
    assert_eq!(world.state.rollout.as_ref().map(|rollout| rollout.back), Some(true), "its pods may come yet");
    world.run(60);
    assert_eq!((world.state.rollout.clone(), world.last.wait.clone()), (None, Wait::Source));
}
