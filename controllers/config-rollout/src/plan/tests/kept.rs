//! With `rollbackPolicy: Never` what has failed stays, also where another manager applies a target again: the content of
//! the revision before may work no more.

use super::*;

/// A world of three targets in which revision 2 has failed at the first one, and is kept there.
fn kept() -> World {
    let mut world = settled(3);
    world.settings.rolls_back = false;
    world.settings.stages[0].pause = Some(PauseSettings::Continue);
    world.write(0, 2);
    world.run(20);
    world.settings.abort = order(2, "2");
    world.run(2);
    assert_eq!(world.state.failed.as_ref().map(|(number, _)| *number), Some(2));
    assert_eq!([0, 1, 2].map(|place| world.values(place)[0]), [Some(2), Some(1), Some(1)]);
    world
}

#[test]
fn a_target_that_had_it_and_is_applied_again_has_it_again_and_no_other() {
    let mut world = kept();
    world.revert(0);
    world.revert(2);
    world.pass(false);
    assert_eq!(world.last.moves, [(target(0), 2), (target(2), 1)]);
    world.run(100);
    assert_eq!([0, 2].map(|place| world.targets[place].pins[&0]), [2, 1]);
    assert_eq!((world.last.moves.len(), world.state.in_progress()), (0, 0));
}

#[test]
fn it_has_it_again_also_where_it_is_refused_for_long_and_another_process_goes_on() {
    let mut world = kept();
    world.revert(0);
    world.pass(true);
    world.held.insert(target(0));
    world.run(100);
    world.restart();
    world.run(5);
    assert_eq!(world.targets[0].pins[&0], 0, "it is refused");
    world.held.clear();
    world.run(5);
    assert_eq!(world.targets[0].pins[&0], 2);
    assert_eq!(world.state.targets[&target(0)].reverts, 1, "it was reverted once");
}

#[test]
fn it_has_it_again_also_where_another_manager_was_in_the_way() {
    let mut world = kept();
    for _ in 0..3 {
        world.revert(0);
        world.run(5);
    }
    assert_eq!((world.targets[0].pins[&0], world.last.wait.clone()), (0, Wait::Source), "it is left alone");
    world.targets[0].template.whole += 1;
    world.targets[0].generation += 1;
    world.run(5);
    assert_eq!(world.targets[0].pins[&0], 2);
}

#[test]
fn a_target_that_had_it_gets_what_follows() {
    let mut world = kept();
    world.revert(0);
    world.run(5);
    world.settings.stages[0].pause = None;
    world.write(0, 3);
    world.run(30);
    assert!(all_have(&world, [3, 1]), "{:?}", world.last);
    world.revert(0);
    world.run(5);
    assert_eq!(world.targets[0].pins[&0], 3);
}
