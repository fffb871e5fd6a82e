//! A rollout whose status was lost, or that was recreated, goes on from what the templates name.

use super::{proof::at_the_canary, *};

#[test]
fn a_failed_revision_that_is_tried_again_is_rolled_back_to_what_the_targets_had() {
    let mut world = settled(3);
    world.write(0, 2);
    world.run(20);
    world.write(0, BAD);
    world.run(80);
    assert!(all_have(&world, [2, 1]));
    world.lose_status();
    world.run(100);
    assert!(all_have(&world, [2, 1]), "not the sources, which have the bad value");
    assert_eq!(world.state.stable, Some(2));
    assert_eq!(world.state.failed.as_ref().map(|(number, _)| *number), Some(3));
}

#[test]
fn a_canary_goes_on_being_one() {
    let mut world = at_the_canary(3);
    world.lose_status();
    world.run(20);
    assert_eq!((world.state.stable, world.last.wait.clone()), (Some(1), Wait::Stage(None)));
    assert_eq!([0, 1, 2].map(|place| world.values(place)[0]), [Some(2), Some(1), Some(1)]);
}

#[test]
fn what_a_canary_tests_is_not_adopted_where_no_other_target_names_a_revision() {
    for unreadable in [false, true] {
        let mut world = at_the_canary(3);
        (1..3).for_each(|place| world.revert(place));
        (1..3).for_each(|place| world.targets[place].unreadable = unreadable);
        world.lose_status();
        world.run(20);
        let wait = if unreadable { Wait::Unreadable(target(1)) } else { Wait::Stage(None) };
        assert_eq!((world.state.stable, world.last.wait.clone()), (None, wait));
    }
}

#[test]
fn what_names_the_sources_adopts_nothing() {
    let mut world = settled(2);
    (0..2).for_each(|place| world.revert(place));
    world.lose_status();
    world.pass(false);
    assert_eq!(world.state.stable, None);
    world.run(30);
    assert_eq!((world.state.stable, all_have(&world, [1, 1])), (Some(1), true));
}

#[test]
fn a_template_keeps_what_it_names_where_every_copy_is_gone() {
    let mut world = settled(2);
    world.objects.retain(|(place, _), _| *place == 1);
    world.sources[0] = None;
    for _ in 0..20 {
        let plan = world.plan();
        assert!(plan.moves.is_empty(), "{plan:?}");
        world.state = plan.state;
        world.advance(1);
    }
    world.write(0, 5);
    world.run(30);
    assert!(all_have(&world, [5, 1]), "a new copy is made under a new name");
    assert!(world.objects.contains_key(&(0, 2)));
}
