//! Which revision becomes the current one: one that a target has shown to work.

use super::*;

#[test]
fn nothing_is_proven_where_only_a_target_that_cannot_be_read_is_concerned() {
    let mut world = settled(3);
    for place in 1..3 {
        world.targets[place].pins = [(1, 1)].into();
    }
    world.write(0, 2);
    world.pass(false);
    // The revision is made; nothing else uses what it changes.
    world.targets[0].unreadable = true;
    world.targets[1].stage = 0;
    world.targets[1].pins = [(0, 2)].into();
    world.run(10);
    assert_eq!((world.state.stable, world.last.wait.clone()), (Some(1), Wait::Unreadable(target(0))));
}

#[test]
fn nothing_is_proven_where_only_a_missing_target_is_concerned() {
    let mut world = settled(2);
    world.targets[1].pins = [(1, 1)].into();
    world.write(0, BAD);
    world.pass(false);
    assert_eq!(world.state.newest, 1, "the revision is made, and nothing has it yet");
    world.delete(0);
    world.run(10);
    assert_eq!((world.state.newest, world.state.stable), (2, Some(1)));
    world.make(0);
    world.pass(false);
    assert_eq!(world.last.moves, [(target(0), 2)]);
    assert_eq!(world.state.in_progress(), 1, "it is judged");
    world.run(100);
    assert_eq!(world.state.failed.as_ref().map(|(number, _)| *number), Some(2));
    assert_eq!((world.values(0)[0], world.state.stable), (Some(1), Some(1)));
}

#[test]
fn nothing_is_proven_by_a_target_that_is_deleted_before_it_has_passed() {
    for is_named in [true, false] {
        let mut world = settled(3);
        world.targets[0].stage = 1;
        world.targets[1].pins = [(1, 1)].into();
        world.targets[2].pins = [(1, 1)].into();
        world.targets[1].stage = 0;
        world.write(0, BAD);
        world.run(5);
        assert_eq!((world.state.in_progress(), world.values(0)[0]), (1, Some(BAD)));
        if is_named {
            world.delete(0);
        } else {
            world.targets.remove(0);
        }
        world.run(10);
        assert_eq!((world.state.rollout.clone(), world.state.stable), (None, Some(1)), "{is_named}");
        let before = world.state.clone();
        world.run(3);
        assert_eq!((&world.state, world.last.moves.len()), (&before, 0));
        assert!(
            !world.news.iter().any(|news| matches!(news, RolloutEvent::Completed(..))),
            "{:?}",
            world.news
        );
    }
}

#[test]
fn a_revision_that_all_have_by_another_hand_has_yet_to_show_that_it_works() {
    let mut world = settled(2);
    world.settings.rolls_back = false;
    world.targets[1].pins = [(1, 1)].into();
    world.write(0, BAD);
    world.run(80);
    assert_eq!((world.values(0)[0], world.state.failed.is_some()), (Some(BAD), true));
    world.try_again(2);
    assert_eq!((world.state.in_progress(), world.state.stable), (1, Some(1)), "it is judged again");
    world.run(100);
    assert!(world.state.failed.is_some());
}
