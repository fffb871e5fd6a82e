//! How many targets are on their way together: those that are put back, too.

use super::{
    proof::{at_the_canary, once_more_at_the_canary},
    *,
};

/// A world in which revision 2 waits after the canary, and somebody has put all targets after it to the sources.
fn taken_back(targets: usize) -> World {
    let mut world = at_the_canary(targets);
    (1..targets).for_each(|place| world.revert(place));
    world
}

fn moves(world: &World) -> Vec<usize> {
    world.last.moves.iter().map(|(key, _)| world.place(key)).collect()
}

#[test]
fn targets_that_are_put_back_are_as_many_together_as_their_stage_allows() {
    let mut world = taken_back(5);
    world.settings.stages[1].max_parallel = 2;
    world.pass(false);
    assert_eq!((moves(&world), world.state.in_progress()), (vec![1, 2], 2));
    world.advance(1);
    world.pass(false);
    assert_eq!(moves(&world), [0; 0], "their pods are not back yet");
    world.advance(2);
    world.pass(false);
    assert_eq!((moves(&world), world.state.in_progress()), (vec![3, 4], 2));
    world.run(4);
    assert_eq!((world.state.in_progress(), world.last.wait.clone()), (0, Wait::Stage(None)));
    assert!((1..5).all(|place| world.values(place)[0] == Some(1)));
    let before = world.state.clone();
    world.run(3);
    assert_eq!((&world.state, world.last.recheck_in), (&before, Some(WATCH)), "the canary alone is watched");
}

#[test]
fn a_target_that_does_not_come_back_makes_room_after_its_deadline() {
    let mut world = taken_back(3);
    world.settings.stages[1].max_parallel = 1;
    world.startup = Duration::from_secs(10_000);
    world.pass(false);
    assert_eq!(moves(&world), [1]);
    world.pass(false);
    assert!(world.last.recheck_in.is_some(), "no event says that its time is over");
    world.advance(59);
    world.restart();
    world.pass(false);
    assert_eq!((moves(&world), world.state.in_progress()), (vec![], 1), "a restart forgets nothing");
    world.advance(1);
    world.pass(false);
    assert_eq!((moves(&world), world.state.in_progress()), (vec![2], 1));
    assert_eq!(world.state.failed, None, "nobody judges them");
}

#[test]
fn what_reads_the_sources_is_put_back_before_the_stage_goes_on() {
    let mut world = settled(4);
    world.targets[1].stage = 0;
    world.settings.stages[0].max_parallel = 1;
    world.slots = 1;
    world.write(0, 2);
    world.run(2);
    assert_eq!(moves(&world), [0]);
    world.revert(2);
    world.revert(3);
    world.run(2);
    assert_eq!((moves(&world), world.state.in_progress()), (vec![], 1), "the shared places are taken");
    let mut order = Vec::new();
    for _ in 0..20 {
        world.pass(false);
        order.extend(moves(&world));
        world.advance(1);
    }
    assert_eq!(order[..3], [2, 3, 1]);
}

#[test]
fn targets_that_join_the_others_keep_to_the_places_too() {
    let mut world = settled(4);
    world.settings.stages[1].max_parallel = 1;
    (1..4).for_each(|place| world.revert(place));
    world.pass(false);
    assert_eq!((moves(&world), world.last.wait.clone()), (vec![1], Wait::Targets));
    world.advance(1);
    world.pass(false);
    assert_eq!(moves(&world), [0; 0]);
    world.run(7);
    let (rollout, count) = (world.state.rollout.clone(), world.state.in_progress());
    assert_eq!((rollout, count), (None, 1), "all have it, one of them only now");
    world.revert(1);
    world.pass(false);
    assert_eq!(moves(&world), [0; 0], "that one counts still");
    world.run(10);
    assert!(all_have(&world, [1, 1]));
    assert_eq!(world.state.in_progress(), 0);

    let mut world = settled(3);
    world.revert(1);
    world.slots = 0;
    world.pass(false);
    assert_eq!((moves(&world), world.last.wait.clone()), (vec![], Wait::Slots));
}

#[test]
fn targets_that_a_revision_does_not_concern_keep_to_them_in_their_stage() {
    let mut world = settled(4);
    for place in 1..4 {
        world.targets[place].pins = [(1, 1)].into();
        world.targets[place].stage = 0;
    }
    world.settings.stages[0].max_parallel = 1;
    world.settings.stages[0].soak = Duration::from_secs(30);
    world.write(0, 2);
    world.run(2);
    assert_eq!(moves(&world), [0]);
    (1..4).for_each(|place| world.revert(place));
    world.run(20);
    assert_eq!((world.values(0)[0], world.targets[1].pins[&1]), (Some(2), 0), "the first is on its way");
    let mut given = Vec::new();
    for second in 0..60 {
        world.pass(false);
        given.extend(moves(&world).into_iter().map(|place| (place, second)));
        world.advance(1);
    }
    let apart = given.windows(2).all(|two| two[1].1 >= two[0].1 + 3);
    assert!(given.len() == 3 && apart, "each when the one before is back: {given:?}");
}

#[test]
fn a_rollout_has_all_places_that_the_others_leave() {
    let mut world = settled(5);
    world.settings.stages[0].allow_empty = true;
    world.targets[0].stage = 1;
    world.slots = 2;
    world.write(0, 2);
    world.run(2);
    assert_eq!((moves(&world), world.last.wait.clone()), (vec![0, 1], Wait::Targets));
    world.run(3);
    assert_eq!(moves(&world), [2, 3], "as soon as these have passed");
    world.slots = 0;
    world.run(4);
    assert_eq!((moves(&world), world.last.wait.clone()), (vec![], Wait::Slots), "others have taken them");
}

#[test]
fn what_has_yet_to_be_proven_is_taken_back_at_once() {
    let mut world = settled(4);
    world.settings.stages[1].max_parallel = 2;
    world.settings.stages[1].soak = Duration::from_secs(5);
    world.write(0, 2);
    world.run(19);
    assert_eq!((1..4).filter(|place| world.values(*place)[0] == Some(2)).count(), 3);
    world.write(0, 1);
    world.run(2);
    assert_eq!((moves(&world), world.state.in_progress()), (vec![0, 1, 2, 3], 4));
    world.run(10);
    assert!(all_have(&world, [1, 1]));
    assert_eq!((world.state.rollout.clone(), world.state.in_progress()), (None, 0));
}

#[test]
fn a_target_that_somebody_takes_back_while_it_is_put_back_stays() {
    let mut world = once_more_at_the_canary();
    world.revert(2);
    world.run(2);
    assert_eq!((world.values(2)[0], world.state.in_progress()), (Some(2), 1));
    world.targets[2].pins.insert(0, 1);
    world.run(10);
    assert_eq!((world.values(2)[0], world.state.in_progress()), (Some(1), 0));
    assert!(world.state.targets[&target(2)].held);
}

#[test]
fn a_target_that_refuses_its_rollback_is_not_tried_again_with_every_reconcile() {
    let mut world = settled(3);
    world.write(0, BAD);
    let goes_back = |plan: &Plan| plan.state.rollout.as_ref().is_some_and(|rollout| rollout.back);
    while !goes_back(&world.plan()) {
        world.pass(false);
        world.advance(1);
    }
    let moves = world.plan().moves;
    assert_eq!(moves, [(target(0), 1)]);
    world.held = [target(0)].into();
    let plan = world.plan();
    assert_eq!((plan.moves, plan.held), (vec![], vec![target(0)]));
}
