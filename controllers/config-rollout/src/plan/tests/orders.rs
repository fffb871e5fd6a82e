//! Requests by annotations: each is carried out once.

use super::*;

/// How often a rollout to this revision has begun.
fn begun(world: &World, number: Number) -> usize {
    world.news.iter().filter(|news| **news == RolloutEvent::Started(number)).count()
}

#[test]
fn a_retry_that_fails_again_is_not_repeated_until_another_is_requested() {
    let mut world = settled(2);
    world.write(0, BAD);
    world.run(80);
    world.settings.retry = order(2, "2");
    world.run(400);
    assert_eq!(begun(&world, 2), 2, "the first time, and the retry");
    assert!(all_have(&world, [1, 1]), "everything is back");
    assert_eq!(world.last.wait, Wait::Source);
    world.restart();
    world.run(100);
    assert_eq!(begun(&world, 2), 2, "a restart does not forget that it was carried out");
    world.settings.retry = order(2, "2/2");
    world.run(100);
    assert_eq!(begun(&world, 2), 3);
    world.settings.retry = None;
    world.run(5);
    world.settings.retry = order(2, "2/2");
    world.run(100);
    assert_eq!(begun(&world, 2), 4, "an annotation that was removed and set again is another request");
}

#[test]
fn a_stage_of_a_revision_that_is_tried_again_pauses_again() {
    let mut world = settled(2);
    world.settings.stages[0].pause = Some(PauseSettings::Continue);
    world.write(0, 2);
    world.run(6);
    world.settings.goes_on = order((2, "canary".into()), "2/canary");
    world.run(2);
    world.startup = Duration::from_secs(10_000);
    world.run(80);
    assert_eq!(world.state.failed.as_ref().map(|(number, _)| *number), Some(2), "in the second stage");
    world.startup = Duration::from_secs(3);
    world.try_again(2);
    world.run(30);
    assert_eq!((world.last.wait.clone(), world.values(1)[0]), (Wait::Stage(None), Some(1)));
    world.settings.goes_on = order((2, "canary".into()), "2/canary/2");
    world.run(10);
    assert!(all_have(&world, [2, 1]));
}

#[test]
fn an_aborted_revision_is_rolled_back_and_another_is_not() {
    let mut world = settled(2);
    world.settings.stages[0].pause = Some(PauseSettings::Continue);
    world.write(0, 2);
    world.run(20);
    world.settings.abort = order(2, "2");
    world.run(20);
    let (number, failed) = world.state.failed.clone().unwrap();
    assert_eq!((number, failed.reason), (2, ABORTED));
    assert!(all_have(&world, [1, 1]));
    world.settings.stages[0].pause = None;
    world.write(0, 3);
    world.run(20);
    assert!(all_have(&world, [3, 1]));
}

#[test]
fn a_request_that_is_older_than_what_it_is_about_is_not_carried_out() {
    let mut world = settled(2);
    world.settings.stages[0].pause = Some(PauseSettings::Continue);
    world.settings.goes_on = order((2, "canary".into()), "2/canary");
    world.settings.abort = order(2, "2");
    world.settings.retry = order(2, "2");
    world.write(0, 2);
    world.run(20);
    assert_eq!((world.last.wait.clone(), world.state.failed.clone()), (Wait::Stage(None), None));
    // A ConfigRollout that is recreated has the annotations of the one before.
    world.lose_status();
    world.run(20);
    assert_eq!((world.last.wait.clone(), world.state.failed.clone()), (Wait::Stage(None), None));
    world.settings.abort = order(2, "2/2");
    world.run(20);
    assert!(world.state.failed.is_some() && all_have(&world, [1, 1]), "retry is as old: {:?}", world.last);
    world.settings.retry = order(2, "2/2");
    world.run(20);
    assert_eq!((world.last.wait.clone(), world.values(0)[0]), (Wait::Stage(None), Some(2)));
    world.settings.goes_on = order((2, "canary".into()), "2/canary/2");
    world.run(20);
    assert!(all_have(&world, [2, 1]));
}
