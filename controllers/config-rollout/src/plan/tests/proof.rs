//! Later stages have what has been proven, until a stage has shown that something else works.

use super::*;

/// A world in which revision 2 waits after the canary for somebody to let it go on.
pub(super) fn at_the_canary(targets: usize) -> World {
    let mut world = settled(targets);
    world.settings.stages[0].pause = Some(PauseSettings::Continue);
    world.write(0, 2);
    world.run(20);
    assert_eq!((world.last.wait.clone(), world.values(0)[0]), (Wait::Stage(None), Some(2)));
    world.news.clear();
    world
}

/// A world of three targets in which all have had revision 2, and revision 3 waits after the canary.
pub(super) fn once_more_at_the_canary() -> World {
    let mut world = settled(3);
    world.write(0, 2);
    world.run(20);
    world.settings.stages[0].pause = Some(PauseSettings::Continue);
    world.write(0, 3);
    world.run(20);
    world
}

#[test]
fn a_target_that_waits_for_its_stage_is_put_back_to_the_current_revision_at_once() {
    let mut world = at_the_canary(3);
    world.revert(2);
    assert_eq!(world.values(2)[0], Some(2), "it reads the source, which has yet to be proven");
    world.pass(false);
    assert_eq!(world.last.moves, [(target(2), 1)]);
    assert_eq!(world.last.wait, Wait::Stage(None), "the canary is not held up");
    assert_eq!(world.news, [RolloutEvent::Reverted(target(2))]);
    world.run(5);
    assert_eq!((world.values(2)[0], world.last.moves.len()), (Some(1), 0));
    assert_eq!(world.state.in_progress(), 0, "its pods are back");
    world.settings.goes_on = order((2, "canary".into()), "2/canary");
    world.run(10);
    assert!(all_have(&world, [2, 1]));
}

#[test]
fn a_target_that_is_made_anew_gets_what_its_stage_has() {
    let mut world = at_the_canary(2);
    world.make(1);
    world.pass(false);
    assert_eq!(world.last.moves, [(target(1), 1)]);
    world.make(0);
    world.pass(false);
    assert_eq!(world.last.moves, [(target(0), 2)]);
    assert_eq!(world.last.wait, Wait::Targets, "another canary has to show it again");
    world.run(20);
    assert_eq!(world.last.wait, Wait::Stage(None));
}

#[test]
fn a_target_whose_stage_is_over_is_put_back_to_the_current_revision() {
    let mut world = settled(3);
    world.settings.stages[1].soak = Duration::from_secs(30);
    world.write(0, 2);
    world.run(15);
    assert_eq!(world.state.rollout.as_ref().map(|rollout| rollout.stage), Some(1));
    world.revert(0);
    world.pass(false);
    assert_eq!(world.last.moves, [(target(0), 1)]);
    world.run(60);
    assert!(all_have(&world, [2, 1]), "it joins the others in the end");
}

#[test]
fn a_third_value_leaves_no_later_stage_at_the_second() {
    let mut world = settled(3);
    world.settings.stages[1].soak = Duration::from_secs(30);
    world.write(0, 2);
    world.run(15);
    assert_eq!((world.values(1)[0], world.state.stable), (Some(2), Some(1)));
    world.settings.stages[0].pause = Some(PauseSettings::Continue);
    world.write(0, 3);
    world.run(20);
    let values: Vec<_> = (0..3).map(|place| world.values(place)[0]).collect();
    assert_eq!(values, [Some(3), Some(1), Some(1)]);
}

#[test]
fn a_target_that_somebody_takes_back_while_it_waits_for_its_stage_stays() {
    let mut world = once_more_at_the_canary();
    world.targets[2].pins.insert(0, 1);
    world.run(10);
    assert_eq!((world.values(2)[0], world.values(0)[0]), (Some(1), Some(3)));
    assert!(world.state.targets[&target(2)].held);
}

#[test]
fn a_target_of_a_later_stage_that_another_keeps_reverting_is_left_to_it() {
    let mut world = at_the_canary(2);
    let mut moves = 0;
    for _ in 0..3 {
        world.revert(1);
        world.pass(false);
        moves += world.last.moves.len();
        world.run(2);
    }
    assert_eq!(moves, 2, "the third revert is the last");
    assert!(world.state.targets[&target(1)].conflict.is_some());
    world.run(10);
    assert!(world.last.moves.is_empty());
}

#[test]
fn before_a_revision_has_been_proven_nothing_is_put_back() {
    let mut world = World::new(2);
    world.settings.stages[0].pause = Some(PauseSettings::Continue);
    world.run(20);
    world.targets[1].pins.insert(0, 1);
    world.run(5);
    assert_eq!((world.state.stable, world.targets[1].pins[&0]), (None, 1));
}

#[test]
fn a_named_target_that_does_not_exist_keeps_the_revision_from_later_stages() {
    let mut world = settled(3);
    world.targets[1].stage = 0;
    world.delete(0);
    for allow_empty in [false, true] {
        world.settings.stages[0].allow_empty = allow_empty;
        world.write(0, 2);
        world.run(30);
        assert_eq!(world.last.wait, Wait::Unproven(Unproven::Missing(target(0))));
        assert_eq!((world.values(1)[0], world.values(2)[0]), (Some(2), Some(1)));
    }
    assert_eq!(
        world.last.recheck_in,
        Some(WATCH),
        "the watch shows when it is there, but not how the other one is"
    );
    world.make(0);
    world.run(30);
    assert!(all_have(&world, [2, 1]));
}

#[test]
fn a_canary_that_is_deleted_on_its_way_or_after_it_has_passed_has_shown_nothing() {
    let mut world = settled(2);
    world.write(0, BAD);
    world.run(5);
    assert_eq!(world.state.in_progress(), 1);
    world.delete(0);
    world.run(100);
    assert_eq!(world.last.wait, Wait::Unproven(Unproven::Missing(target(0))));
    assert_eq!(world.values(1)[0], Some(1));

    let mut world = at_the_canary(2);
    world.delete(0);
    world.settings.goes_on = order((2, "canary".into()), "2/canary");
    world.run(10);
    assert_eq!(world.last.wait, Wait::Unproven(Unproven::Missing(target(0))));
}

#[test]
fn a_stage_without_targets_passes_only_where_the_spec_allows_it() {
    let mut world = settled(2);
    world.targets.remove(0);
    world.targets[0].pins = [(0, 1), (1, 1)].into();
    world.write(0, 2);
    world.run(30);
    assert_eq!((world.last.wait.clone(), world.values(0)[0]), (Wait::Unproven(Unproven::Empty), Some(1)));
    world.settings.stages[0].allow_empty = true;
    world.run(30);
    assert!(all_have(&world, [2, 1]));
}

#[test]
fn a_canary_that_uses_no_source_shows_nothing() {
    let mut world = settled(2);
    world.targets[0].pins.clear();
    world.write(0, 2);
    world.run(30);
    assert_eq!((world.last.wait.clone(), world.values(1)[0]), (Wait::Unproven(Unproven::Empty), Some(1)));
}

#[test]
fn a_canary_without_pods_shows_nothing_until_it_has_some() {
    let mut world = settled(2);
    world.targets[0].replicas = 0;
    world.write(0, BAD);
    world.run(1000);
    assert_eq!(world.last.wait, Wait::Unproven(Unproven::NoPods(target(0))));
    assert_eq!((world.values(1)[0], world.state.failed.clone()), (Some(1), None));
    let before = world.state.clone();
    world.run(3);
    assert_eq!((&world.state, world.last.recheck_in), (&before, None));
    // Its time begins when it has pods, and it is judged as any.
    world.targets[0].replicas = 1;
    world.run(20);
    assert_eq!((world.state.in_progress(), world.values(1)[0]), (1, Some(1)));
    world.run(80);
    assert!(all_have(&world, [1, 1]));
    assert_eq!(world.state.failed.as_ref().map(|(number, _)| *number), Some(2));

    world.targets[0].replicas = 0;
    world.settings.stages[0].allow_empty = true;
    world.write(0, 3);
    world.run(20);
    assert!(all_have(&world, [3, 1]));
}

#[test]
fn a_target_without_pods_holds_up_none_of_its_stage() {
    let mut world = settled(3);
    world.targets[1].stage = 0;
    world.targets[1].replicas = 0;
    world.write(0, 2);
    world.run(20);
    assert!(all_have(&world, [2, 1]), "the other has shown it");
    assert_eq!(world.state.stable, Some(2));
}

#[test]
fn the_last_stage_keeps_nobody_from_anything() {
    let mut world = settled(2);
    world.targets[1].replicas = 0;
    world.write(0, 2);
    world.run(20);
    assert_eq!((world.state.stable, world.values(1)[0]), (Some(2), Some(2)));
    world.delete(1);
    world.write(0, 3);
    world.run(20);
    assert_eq!(world.state.stable, Some(3));
}

#[test]
fn a_canary_that_has_the_revision_already_has_yet_to_show_that_it_works() {
    let mut world = settled(2);
    world.settings.rolls_back = false;
    world.write(0, BAD);
    world.run(80);
    assert_eq!((world.values(0)[0], world.state.failed.is_some()), (Some(BAD), true));
    world.try_again(2);
    world.run(100);
    assert_eq!(world.values(1)[0], Some(1), "tried again, it is judged again");
    assert!(world.state.failed.is_some());
}

#[test]
fn pods_that_read_the_sources_themselves_are_restarted_in_their_stage_alone() {
    let mut world = settled(3);
    world.restart_only();
    world.settings.stages[1].soak = Duration::from_secs(30);
    world.write(0, 2);
    world.run(15);
    assert_eq!((world.values(1)[0], world.state.stable), (Some(2), Some(1)));
    world.write(0, BAD);
    world.run(10);
    world.revert(2);
    world.targets[2].read.insert(0, 2);
    world.run(100);
    assert_eq!(world.state.failed.as_ref().map(|(number, _)| *number), Some(3));
    let values: Vec<_> = (0..3).map(|place| world.values(place)[0]).collect();
    assert_eq!(values, [Some(BAD), Some(2), Some(2)], "later stages keep what they have read");
}

#[test]
fn no_pod_is_restarted_to_read_what_has_yet_to_become_a_revision() {
    let mut world = settled(3);
    world.restart_only();
    world.settings.debounce = Duration::from_secs(5);
    world.write(0, BAD);
    world.targets[2].pins.insert(0, 0);
    world.run(20);
    assert_eq!((world.values(0)[0], world.values(2)[0]), (Some(BAD), Some(1)));

    let mut world = settled(3);
    world.restart_only();
    world.settings.debounce = Duration::from_secs(20);
    world.targets[1].stage = 0;
    world.settings.stages[0].max_parallel = 1;
    world.write(0, 2);
    world.run(22);
    world.write(0, BAD);
    world.run(15);
    assert_eq!((world.values(0)[0], world.values(1)[0]), (Some(2), Some(1)));
    assert_eq!(world.last.wait, Wait::Examine);
}

#[test]
fn a_target_that_cannot_be_read_keeps_the_revision_from_later_stages() {
    let mut world = settled(2);
    world.targets[0].unreadable = true;
    for allow_empty in [false, true] {
        world.settings.stages[0].allow_empty = allow_empty;
        world.write(0, BAD);
        world.run(30);
        assert_eq!((world.last.wait.clone(), world.values(1)[0]), (Wait::Unreadable(target(0)), Some(1)));
    }
    assert!(world.last.recheck_in.is_some(), "no event says that it is gone");
    world.targets[0].unreadable = false;
    world.run(100);
    assert_eq!(world.state.failed.as_ref().map(|(number, _)| *number), Some(2), "it is judged");
    assert_eq!(world.values(1)[0], Some(1));
}

#[test]
fn the_way_back_is_not_over_while_a_target_cannot_be_read() {
    let mut world = settled(3);
    world.targets[1].stage = 0;
    world.write(0, BAD);
    world.run(5);
    world.targets[0].unreadable = true;
    let before = world.state.targets[&target(0)].clone();
    world.run(2);
    assert_eq!(world.state.targets[&target(0)], before, "what is known of it is kept");
    world.run(80);
    assert_eq!(world.last.wait, Wait::Unreadable(target(0)));
    assert!(!world.news.iter().any(|news| matches!(news, RolloutEvent::RolledBack(..))), "{:?}", world.news);
    world.targets[0].unreadable = false;
    world.run(10);
    assert!(all_have(&world, [1, 1]));
}

#[test]
fn no_revision_is_collected_while_a_target_cannot_be_read() {
    let mut world = settled(2);
    for value in 2..7 {
        world.write(0, value);
        world.run(20);
    }
    assert!(!collect::unused(&world.observe(), &world.settings, &world.state).is_empty());
    world.targets[0].unreadable = true;
    assert_eq!(collect::unused(&world.observe(), &world.settings, &world.state), []);
}
