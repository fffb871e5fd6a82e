//! No target reads sources that are not proven, also where no rollout is in progress, or where it is paused.

use super::{proof::at_the_canary, *};

/// What a manifest that is applied again does: the template names the sources.
fn apply(world: &mut World, place: usize) {
    world.revert(place);
    world.run(5);
}

#[test]
fn after_a_failure_that_is_kept_a_target_that_is_applied_again_gets_the_current_revision() {
    let mut world = settled(3);
    world.settings.rolls_back = false;
    world.write(0, BAD);
    world.run(100);
    assert_eq!(world.state.failed.as_ref().map(|(number, _)| *number), Some(2));
    apply(&mut world, 2);
    assert_eq!([0, 1, 2].map(|place| world.values(place)[0]), [Some(BAD), Some(1), Some(1)]);
    assert_eq!((world.last.wait.clone(), world.last.moves.len()), (Wait::Source, 0));
    world.make(1);
    world.run(5);
    assert_eq!(world.values(1)[0], Some(1));
    world.write(0, 3);
    world.run(60);
    assert!(all_have(&world, [3, 1]));
}

#[test]
fn while_a_rollout_is_paused_no_target_that_is_applied_again_reads_what_is_not_proven() {
    let mut world = at_the_canary(3);
    world.settings.paused = true;
    for place in [2, 0] {
        apply(&mut world, place);
        assert_eq!(world.values(place)[0], Some(1));
    }
    assert_eq!((world.last.wait.clone(), world.last.moves.len()), (Wait::Paused, 0));
    let before = world.state.clone();
    world.run(3);
    assert_eq!(world.state, before);
    world.settings.paused = false;
    world.settings.stages[0].pause = None;
    world.run(60);
    assert!(all_have(&world, [2, 1]));
}

#[test]
fn what_is_paused_begins_nothing_else() {
    let mut world = at_the_canary(3);
    world.settings.paused = true;
    world.targets[0].pins.insert(0, 1);
    world.run(5);
    assert_eq!(world.values(0)[0], Some(1), "it names a revision");
    let mut first = World::new(2);
    first.settings.paused = true;
    first.run(10);
    assert!(first.last.moves.is_empty() && first.objects.is_empty());
}

#[test]
fn a_target_that_is_applied_again_before_a_rollout_may_begin_gets_the_current_revision() {
    for paused in [true, false] {
        let mut world = settled(3);
        world.settings.paused = paused;
        world.settings.min_interval = Duration::from_secs(10_000);
        world.write(0, 2);
        world.run(5);
        apply(&mut world, 2);
        assert_eq!(world.values(2)[0], Some(1), "{:?}", world.last);
        assert_eq!(world.state.rollout, None);
    }
}
