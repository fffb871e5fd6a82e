//! What a user rolls back by hand during a rollout stays as it is, and stops the rollout.

use super::{
    proof::{at_the_canary, once_more_at_the_canary},
    *,
};

/// A user rolls a target back to revision 1.
fn undo(world: &mut World, place: usize) {
    let target = &mut world.targets[place];
    target.pins.insert(0, 1);
    target.generation += 1;
    world.start_pods(place);
}

#[test]
fn a_canary_that_is_rolled_back_by_hand_stays_and_stops_the_rollout() {
    for passed in [false, true] {
        let mut world = if passed { at_the_canary(3) } else { settled(3) };
        if !passed {
            world.settings.stages[0].soak = Duration::from_secs(30);
            world.write(0, 2);
            world.run(10);
            world.news.clear();
        }
        undo(&mut world, 0);
        world.run(100);
        assert_eq!(world.news, [RolloutEvent::Held(target(0))]);
        assert_eq!(world.last.wait, Wait::Unproven(Unproven::Held(target(0))));
        assert!(all_have(&world, [1, 1]));
        world.settings.stages[0].pause = None;
        world.write(0, 3);
        world.run(60);
        assert!(all_have(&world, [3, 1]), "a change of a source is a new beginning");
    }
}

#[test]
fn what_was_rolled_back_by_hand_while_no_process_looked_stays_too() {
    for (canary, passed) in [(true, true), (true, false), (false, true)] {
        let mut world = if canary { at_the_canary(3) } else { settled(3) };
        if !passed {
            world.startup = Duration::from_secs(10_000);
            world.write(0, 3);
            world.run(5);
        } else if !canary {
            world.write(0, 2);
            world.run(30);
        }
        world.news.clear();
        world.restart();
        undo(&mut world, 0);
        world.startup = Duration::from_secs(3);
        world.run(30);
        assert_eq!(world.news, [RolloutEvent::Held(target(0))], "{canary} {passed}");
        assert_eq!(world.values(0)[0], Some(1));
    }
}

#[test]
fn a_target_that_is_held_and_applied_again_is_held_no_more() {
    for under_way in [false, true] {
        let mut world = if under_way { once_more_at_the_canary() } else { settled(3) };
        if !under_way {
            world.write(0, 2);
            world.run(30);
        }
        undo(&mut world, 2);
        world.run(5);
        assert!(world.state.targets[&target(2)].held);
        world.settings.paused = !under_way;
        world.write(0, if under_way { 3 } else { BAD });
        world.revert(2);
        world.run(10);
        assert_eq!(world.values(2)[0], Some(2), "it reads what no target has tested: {:?}", world.last);
        let remembered = &world.state.targets[&target(2)];
        assert_eq!((remembered.held, remembered.reverts), (false, 0), "its rollback by hand was reverted");
    }
}

#[test]
fn a_reference_to_what_has_no_copy_leaves_a_target_held() {
    let mut world = settled(3);
    world.write(0, 2);
    world.run(30);
    undo(&mut world, 2);
    world.run(5);
    world.sources.push(None);
    world.targets[2].pins.insert(2, 0);
    world.run(5);
    assert_eq!((world.state.targets[&target(2)].held, world.targets[2].pins[&0]), (true, 1));
}

#[test]
fn what_a_process_decided_and_did_not_do_was_not_rolled_back_by_hand() {
    let mut world = settled(3);
    world.write(0, 2);
    world.run(1);
    world.pass(true);
    world.restart();
    world.run(30);
    assert!(all_have(&world, [2, 1]), "{:?}", world.news);
    assert!(!world.news.contains(&RolloutEvent::Held(target(0))));
}

#[test]
fn what_follows_after_it_was_held_is_not_held_again_by_another_process() {
    let mut world = settled(3);
    world.write(0, 2);
    world.run(30);
    undo(&mut world, 2);
    world.run(10);
    assert!(world.state.targets[&target(2)].held);
    world.settings.stages[0].pause = Some(PauseSettings::Continue);
    world.settings.stages[1].max_parallel = 1;
    world.settings.stages[1].soak = Duration::from_secs(10);
    world.write(0, 3);
    world.run(2);
    world.restart();
    world.run(20);
    world.settings.goes_on = order((3, "canary".into()), "3/canary");
    world.restart();
    world.run(60);
    assert!(all_have(&world, [3, 1]), "{:?}", world.last);
}

/// The first of the three targets of the last stage has the new value, and the next waits for its soak.
fn within_the_last_stage() -> World {
    let mut world = settled(4);
    world.settings.stages[1].max_parallel = 1;
    world.settings.stages[1].soak = Duration::from_secs(20);
    world.write(0, 2);
    world.run(15);
    world
}

#[test]
fn in_the_last_stage_no_further_target_gets_what_was_rolled_back_by_hand() {
    let mut world = within_the_last_stage();
    let has_new: Vec<_> = (0..4).map(|place| world.values(place)[0] == Some(2)).collect();
    assert_eq!(has_new, [true, true, false, false]);
    undo(&mut world, 1);
    world.run(100);
    assert_eq!(world.last.wait, Wait::Unproven(Unproven::Held(target(1))));
    assert_eq!(world.values(2)[0], Some(1));
}

#[test]
fn no_target_of_a_stage_that_was_stopped_by_hand_reads_the_sources() {
    let mut world = within_the_last_stage();
    undo(&mut world, 1);
    world.run(5);
    for place in [2, 3] {
        world.make(place);
        assert_eq!(world.values(place)[0], Some(2), "it reads what no target has shown");
    }
    world.run(10);
    assert_eq!([0, 1, 2, 3].map(|place| world.values(place)[0]), [Some(2), Some(1), Some(1), Some(1)]);
    assert_eq!(world.last.wait, Wait::Unproven(Unproven::Held(target(1))));
    let before = world.state.clone();
    world.run(3);
    assert_eq!((&world.state, world.last.moves.len()), (&before, 0));
}

#[test]
fn a_rollback_takes_what_it_leads_to_for_its_own() {
    let mut world = settled(2);
    world.startup = Duration::from_secs(10_000);
    world.write(0, 2);
    world.run(30);
    undo(&mut world, 0);
    world.settings.abort = order(2, "2");
    world.startup = Duration::from_secs(3);
    world.run(20);
    assert!(!world.state.targets[&target(0)].held);
    assert_eq!((world.state.rollout.clone(), world.last.wait.clone()), (None, Wait::Source));
}

#[test]
fn a_status_that_counts_as_many_reverts_as_it_can_stops_nothing() {
    let mut world = settled(2);
    let target_state = world.state.targets.get_mut(&target(0)).unwrap();
    (target_state.reverts, target_state.reverted) = (i32::MAX, Some(world.now));
    world.revert(0);
    world.pass(false);
    let target_state = &world.state.targets[&target(0)];
    assert_eq!((target_state.reverts, target_state.conflict.is_some()), (i32::MAX, true));
}

#[test]
fn a_target_that_has_what_a_rollback_gives_is_told_of_once_although_another_manager_was_in_the_way() {
    let mut world = settled(3);
    world.targets[2].unreadable = true;
    let first = world.objects[&(0, 1)];
    world.objects.insert((0, 2), first);
    world.state.newest = 2;
    let failed = Failed { reason: ABORTED, target: String::new(), message: String::new() };
    world.state.failed = Some((2, failed));
    let started = world.now;
    world.state.rollout = Some(Rollout { to: 1, back: true, started, stage: 0, passed: None });
    let generation = world.targets[0].generation;
    let remembered = world.state.targets.get_mut(&target(0)).unwrap();
    (remembered.given, remembered.seen) = (2, true);
    remembered.conflict = Some((generation, "another has it".to_owned()));
    world.run(5);
    let told = world.news.iter().filter(|news| **news == RolloutEvent::Held(target(0))).count();
    assert!(told <= 1, "{:?}", world.news);
}
