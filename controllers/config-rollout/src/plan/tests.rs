use std::time::Duration;

use mainstay_crds::SourceKind;

use super::world::{BAD, World, order, source, target};
use super::*;

/// A world in which all targets have revision 1, whose sources say 1 and 1.
fn settled(targets: usize) -> World {
    let mut world = World::new(targets);
    world.run(30);
    assert_eq!(world.state.stable, Some(1), "{:?}", world.last);
    world.news.clear();
    world
}

fn all_have(world: &World, values: [u8; 2]) -> bool {
    let wanted: Vec<_> = values.map(Some).into();
    (0..world.targets.len()).all(|place| world.values(place) == wanted)
}

#[test]
fn a_change_becomes_a_revision_and_reaches_stage_after_stage() {
    let mut world = settled(3);
    world.write(0, 2);
    world.pass(false);
    world.pass(false);
    assert_eq!(world.objects.keys().collect::<Vec<_>>(), [&(0, 1), &(0, 2), &(1, 1)]);
    assert_eq!(world.last.moves, [(target(0), 2)], "the canary alone");
    world.run(10);
    assert!(all_have(&world, [2, 1]));
    let expected = ["Started(2)", "StagePassed(\"canary\")", "StagePassed(\"rest\")"];
    let news: Vec<_> = world.news.iter().map(|news| format!("{news:?}")).collect();
    assert_eq!(news[..3], expected);
    assert!(matches!(world.news[3], RolloutEvent::Completed(2, _)), "{news:?}");
    let before = world.state.clone();
    world.run(3);
    assert_eq!((&world.state, world.last.moves.len(), world.last.examine), (&before, 0, false));
}

#[test]
fn a_bad_value_is_taken_back_and_not_tried_again_until_a_source_changes() {
    let mut world = settled(3);
    world.write(0, BAD);
    world.run(80);
    assert!(all_have(&world, [1, 1]));
    let (number, failed) = world.state.failed.clone().unwrap();
    assert_eq!(
        (number, failed.reason, failed.target.as_str()),
        (2, "DeadlineExceeded", "Deployment/target-0")
    );
    assert_eq!(world.last.wait, Wait::Source);
    assert!(world.news.iter().any(|news| matches!(news, RolloutEvent::RolledBack(1, _))), "{:?}", world.news);
    world.restart();
    world.run(80);
    assert!(all_have(&world, [1, 1]), "a restart does not try it again");
    world.write(0, 3);
    world.run(20);
    assert!(all_have(&world, [3, 1]));
    assert_eq!((world.state.failed.clone(), world.state.stable), (None, Some(3)));
}

#[test]
fn somebody_may_have_a_failed_revision_tried_again() {
    let mut world = settled(2);
    world.probe = Some(false);
    world.settings.stages.iter_mut().for_each(|stage| stage.probed = true);
    world.write(0, 2);
    world.run(80);
    assert_eq!(world.state.failed.as_ref().map(|(number, _)| *number), Some(2));
    world.probe = Some(true);
    world.settings.retry = order(2, "2");
    world.run(20);
    assert!(all_have(&world, [2, 1]));
    assert_eq!(world.state.stable, Some(2));
}

#[test]
fn without_a_way_back_what_has_failed_stays() {
    let mut world = settled(3);
    world.settings.rolls_back = false;
    world.write(0, BAD);
    world.run(80);
    assert_eq!(world.values(0)[0], Some(BAD));
    assert_eq!(world.values(1)[0], Some(1), "the next stage is not begun");
    assert_eq!((world.last.wait.clone(), world.state.rollout.clone()), (Wait::Source, None));
    world.settings.debounce = Duration::from_secs(5);
    world.write(0, 3);
    world.pass(false);
    assert!(world.last.moves.is_empty(), "a change that rests still moves nothing");
    world.run(30);
    assert!(all_have(&world, [3, 1]));
}

#[test]
fn restarts_beyond_those_before_fail_at_once() {
    let mut world = settled(2);
    world.write(0, 2);
    world.pass(false);
    world.pass(false);
    world.targets[0].restarts = 1;
    world.pass(false);
    assert_eq!(world.state.failed.as_ref().map(|(_, failed)| failed.reason), Some("MoreRestarts"));
}

#[test]
fn a_stage_is_left_after_its_pause_and_goes_on_when_somebody_says_so() {
    let mut world = settled(2);
    world.settings.stages[0].pause = Some(PauseSettings::For(Duration::from_secs(20)));
    world.write(0, 2);
    world.run(15);
    assert!(matches!(world.last.wait, Wait::Stage(Some(_))), "{:?}", world.last.wait);
    world.run(20);
    assert!(all_have(&world, [2, 1]));

    world.settings.stages[0].pause = Some(PauseSettings::Continue);
    world.write(0, 3);
    world.run(100);
    assert_eq!((world.last.wait.clone(), world.values(1)[0]), (Wait::Stage(None), Some(2)));
    world.settings.goes_on = order((2, "canary".into()), "2/canary");
    world.run(10);
    assert_eq!(world.values(1)[0], Some(2), "that was the leave for another revision");
    world.settings.goes_on = order((3, "canary".into()), "3/canary");
    world.run(10);
    assert!(all_have(&world, [3, 1]));
}

#[test]
fn a_target_soaks_without_a_break() {
    let mut world = settled(2);
    world.settings.stages[0].soak = Duration::from_secs(30);
    world.write(0, 2);
    world.run(20);
    world.startup = Duration::from_secs(10_000);
    world.run(2);
    world.startup = Duration::from_secs(3);
    world.run(25);
    assert_eq!(world.values(1)[0], Some(1), "the break began the time anew");
    world.run(20);
    assert!(all_have(&world, [2, 1]));
}

#[test]
fn a_change_that_is_taken_back_under_way_goes_back_without_a_new_revision() {
    let mut world = settled(2);
    world.settings.stages[0].pause = Some(PauseSettings::Continue);
    world.write(0, 2);
    world.run(20);
    assert_eq!((world.values(0)[0], world.values(1)[0]), (Some(2), Some(1)));
    world.write(0, 1);
    world.run(20);
    assert!(all_have(&world, [1, 1]));
    assert_eq!((world.state.newest, world.state.stable, world.state.failed.clone()), (2, Some(1), None));
}

#[test]
fn a_target_that_somebody_takes_back_stays_until_a_source_changes() {
    let mut world = settled(2);
    world.write(0, 2);
    world.run(20);
    world.targets[1].pins.insert(0, 1);
    world.run(20);
    assert_eq!(world.values(1)[0], Some(1));
    assert!(world.state.targets[&target(1)].held);
    assert_eq!(world.news.last(), Some(&RolloutEvent::Held(target(1))));
    world.restart();
    world.run(20);
    assert_eq!(world.values(1)[0], Some(1), "a restart does not forget it");
    world.write(0, 3);
    world.run(20);
    assert!(all_have(&world, [3, 1]));
}

#[test]
fn a_target_that_another_keeps_reverting_is_left_to_it() {
    let mut world = settled(2);
    let mut moves = 0;
    for _ in 0..20 {
        world.targets[1].pins = [(0, 0), (1, 0)].into();
        world.targets[1].generation += 1;
        world.pass(false);
        moves += world.last.moves.len();
        if world.last.moves.is_empty() {
            break;
        }
        world.advance(1);
        world.pass(false);
        world.advance(1);
    }
    assert_eq!(moves, 2, "the third revert is the last");
    assert_eq!(world.last.wait, Wait::Conflict);
    world.run(20);
    assert_eq!(world.targets[1].pins[&0], 0);
    world.targets[1].generation += 1;
    world.run(20);
    assert_eq!(world.targets[1].pins[&0], 0, "it was scaled: its template is as it was");
    world.write(0, 2);
    world.run(20);
    assert!(all_have(&world, [2, 1]), "a change of a source is a new beginning");
}

#[test]
fn a_new_target_joins_the_others_at_once() {
    let mut world = settled(2);
    world.settings.stages[0].pause = Some(PauseSettings::Continue);
    let mut another = world.targets[1].clone();
    another.pins = [(1, 0)].into();
    world.targets.push(another);
    world.pass(false);
    assert_eq!(world.last.moves, [(target(2), 1)]);
    world.run(3);
    assert_eq!((world.state.rollout.clone(), world.news.clone()), (None, vec![]));
}

#[test]
fn targets_that_use_nothing_of_a_change_are_not_touched() {
    let mut world = World::new(2);
    world.targets[1].pins = [(1, 0)].into();
    world.run(30);
    let generation = world.targets[1].generation;
    world.write(0, 2);
    world.run(30);
    assert_eq!((world.values(0)[0], world.targets[1].generation), (Some(2), generation));
    assert_eq!(world.state.stable, Some(2));
}

#[test]
fn a_missing_source_keeps_nothing_else() {
    let mut world = settled(2);
    world.sources[1] = None;
    world.write(0, 2);
    world.run(20);
    assert!(all_have(&world, [2, 1]), "the last revision of what is missing stays in use");
}

#[test]
fn a_missing_source_keeps_the_others_where_a_revision_is_to_be_complete() {
    let mut world = settled(2);
    world.settings.holds_incomplete = true;
    world.sources[1] = None;
    world.write(0, 2);
    world.run(20);
    assert!(all_have(&world, [1, 1]), "no half of a change");
    assert!(!world.last.unsettled && world.state.rollout.is_none());
    world.write(1, 5);
    world.run(20);
    assert!(all_have(&world, [2, 5]));
    assert_eq!(world.state.newest, 2, "both are of one revision");
}

#[test]
fn a_copy_that_is_refused_keeps_the_others_of_its_revision_where_that_is_to_be_complete() {
    for holds in [true, false] {
        let mut world = settled(2);
        world.settings.holds_incomplete = holds;
        world.write(0, 2);
        world.write(1, 5);
        world.pass(false);
        // The server has stored one copy, and refuses the other.
        world.objects.remove(&(1, 2)).unwrap();
        let finding = world.findings.get_mut(&source(1)).unwrap();
        finding.equals.remove(&2);
        finding.problem = Some(Problem::Refused("it is too large".into()));
        world.run(20);
        assert!(all_have(&world, if holds { [1, 1] } else { [2, 1] }), "{:?}", world.last);
        world.write(1, 6);
        world.run(20);
        assert!(all_have(&world, [2, 6]), "{:?}", world.last);
    }
}

#[test]
fn what_has_begun_goes_on_where_a_source_is_deleted_meanwhile() {
    let mut world = proof::at_the_canary(3);
    world.settings.holds_incomplete = true;
    world.sources[1] = None;
    world.settings.goes_on = order((2, "canary".into()), "2/canary");
    world.run(20);
    assert!(all_have(&world, [2, 1]), "{:?}", world.last);
}

#[test]
fn sources_rest_before_they_are_read_but_not_for_ever() {
    let mut world = settled(2);
    world.settings.debounce = Duration::from_secs(4);
    let mut made = None;
    for second in 0..60 {
        world.write(0, 10 + second);
        world.pass(false);
        made = made.or(world.last.examine.then_some(second));
        world.advance(1);
    }
    assert_eq!(made, Some(40), "ten times the debounce time");
}

#[test]
fn rollouts_keep_their_distance() {
    let mut world = settled(1);
    world.settings.min_interval = Duration::from_secs(100);
    world.write(0, 2);
    world.run(10);
    assert!(matches!(world.last.wait, Wait::Interval(_)), "{:?}", world.last.wait);
    world.run(100);
    assert!(all_have(&world, [2, 1]));
}

#[test]
fn paused_nothing_begins() {
    let mut world = settled(2);
    world.settings.paused = true;
    world.write(0, 2);
    world.run(30);
    assert_eq!((world.state.newest, world.last.wait.clone()), (1, Wait::Paused));
    world.settings.paused = false;
    world.run(30);
    assert!(all_have(&world, [2, 1]));
}

#[test]
fn what_is_used_or_in_the_history_is_not_collected() {
    let mut world = settled(1);
    for value in 2..7 {
        world.write(0, value);
        world.run(20);
    }
    let unused = collect::unused(&world.observe(), &world.settings, &world.state);
    let unused: Vec<_> = unused.into_iter().map(|(key, number)| (key == source(0), number)).collect();
    // 6 is in use, as is the only object of the other source; 5 and 4 are the history.
    assert_eq!(unused, [(true, 1), (true, 2), (true, 3)]);
}

#[test]
fn what_the_spec_names_as_a_source_is_never_collected() {
    let mut world = settled(1);
    for value in 2..7 {
        world.write(0, value);
        world.run(20);
    }
    let mut observed = world.observe();
    let second = SourceKey { kind: SourceKind::ConfigMap, name: "source-0-2".into() };
    observed.sources.insert(second, SourceVersion { uid: "u".into(), version: "1".into() });
    let unused = collect::unused(&observed, &world.settings, &world.state);
    assert!(!unused.contains(&(source(0), 2)), "{unused:?}");
    assert!(unused.contains(&(source(0), 1)), "{unused:?}");
}

mod adopt;
mod blocked;
mod breaks;
mod kept;
mod orders;
mod places;
mod proof;
mod room;
mod short;
mod sources;
mod stable;
mod undo;
