//! Properties that hold in every run.

use std::time::Duration;

use proptest::prelude::*;

use super::world::{BAD, World, source};
use super::*;

#[derive(Debug, Clone)]
enum Step {
    Write(usize, u8),
    Lose(usize),
    Wait(u64),
    Die,
    Restart,
    TakeBack(usize),
    Revert(usize),
    Make(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let value = prop_oneof![4 => 1..4_u8, 1 => Just(BAD)];
    prop_oneof![
        3 => (0..2_usize, value).prop_map(|(place, value)| Step::Write(place, value)),
        1 => (0..2_usize).prop_map(Step::Lose),
        6 => (1..20_u64).prop_map(Step::Wait),
        2 => Just(Step::Die),
        1 => Just(Step::Restart),
        1 => (0..4_usize).prop_map(Step::TakeBack),
        1 => (0..4_usize).prop_map(Step::Revert),
        1 => (0..4_usize).prop_map(Step::Make),
    ]
}

fn take(world: &mut World, step: &Step) {
    match step {
        Step::Write(place, value) => world.write(*place, *value),
        Step::Lose(place) => world.sources[*place] = None,
        Step::Wait(seconds) => {
            for _ in 0..*seconds {
                world.pass(false);
                check(world);
                world.advance(1);
            }
        }
        Step::Die => world.pass(true),
        Step::Restart => world.restart(),
        Step::TakeBack(place) => {
            let observed = world.observe();
            let target = &mut world.targets[*place];
            for (place, pin) in &mut target.pins {
                *pin = (*pin).min(observed.object(&source(*place), 1));
            }
            target.generation += 1;
            world.start_pods(*place);
        }
        Step::Revert(place) => world.revert(*place),
        Step::Make(place) => world.make(*place),
    }
}

fn in_progress(world: &World, stage: usize) -> usize {
    let of_stage =
        world.state.targets.iter().filter(|(key, _)| world.targets[world.place(key)].stage == stage);
    of_stage.filter(|(_, remembered)| remembered.is_on_its_way()).count()
}

/// What holds after every reconcile.
fn check(world: &World) {
    let state = &world.state;
    let observed = world.observe();
    for (key, number) in &world.last.moves {
        let target = observed.targets.iter().find(|target| target.key == *key).unwrap();
        let Some(rollout) = &state.rollout else {
            assert_eq!(state.stable, Some(*number), "{key} was moved without a rollout");
            continue;
        };
        assert!(
            state.is_ungated(rollout)
                || target.stage == rollout.stage
                || state.stable == Some(*number) && !world.settings.restarts_only,
            "{key} of stage {} was given {number} in stage {}",
            target.stage,
            rollout.stage
        );
        // What its pods have read is what the revision says.
        let moved = &world.targets[world.place(key)];
        for place in moved.pins.keys().filter(|place| world.sources[**place].is_some()) {
            let object = world.objects.get(&(*place, observed.object(&source(*place), *number)));
            if let Some((says, _)) = object {
                assert_eq!(world.value_of(*place, moved), Some(*says), "{key} was given {number}");
            }
        }
    }
    if let (Some(rollout), Some(stable), false) = (&state.rollout, state.stable, world.settings.restarts_only)
    {
        for target in observed.targets.iter().filter(|target| target.stage > rollout.stage) {
            let remembered = &state.targets[&target.key];
            let is_left_alone = remembered.held || remembered.is_stopped(target);
            let waits = in_progress(world, target.stage) >= 2;
            assert!(
                state.is_ungated(rollout) || is_left_alone || waits || observed.is_at(target, stable),
                "{} names {:?} in stage {} of {}",
                target.key,
                target.pins,
                rollout.stage,
                rollout.to
            );
        }
    }
    for (key, number) in &world.last.moves {
        let given = &world.targets[world.place(key)];
        // A revision that has failed, or that somebody has taken back, goes from all at once.
        let rolls_back = state.rollout.as_ref().is_some_and(|rollout| state.is_ungated(rollout));
        let count = in_progress(world, given.stage);
        assert!(rolls_back || count <= 2, "{key} is given {number}, as one of {count} in its stage");
    }
    let failed = state.failed.as_ref().map(|(number, _)| *number);
    assert!(failed.is_none() || state.stable != failed, "a failed revision is the current one");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happened_good_sources_reach_all_targets(
        steps in prop::collection::vec(step(), 1..40),
        debounce in 0..5_u64,
        restarts_only: bool,
    ) {
        let mut world = World::new(4);
        if restarts_only {
            world.restart_only();
        }
        world.settings.debounce = Duration::from_secs(debounce);
        world.settings.stages.iter_mut().for_each(|stage| stage.max_parallel = 2);
        for step in &steps {
            take(&mut world, step);
        }
        world.write(0, 50);
        world.write(1, 51);
        world.run(300);
        for place in 0..4 {
            prop_assert_eq!(world.values(place), vec![Some(50), Some(51)], "{:?}", world.last);
        }
        prop_assert_eq!(world.state.rollout.clone(), None);
        let (before, plan) = (world.state.clone(), world.plan());
        prop_assert!(plan.moves.is_empty() && !plan.examine && plan.state == before, "{:?}", plan);
    }

    #[test]
    fn whatever_happened_a_bad_value_is_nowhere_in_the_end(steps in prop::collection::vec(step(), 1..40)) {
        let mut world = World::new(4);
        world.settings.stages.iter_mut().for_each(|stage| stage.max_parallel = 2);
        world.run(60);
        for step in &steps {
            take(&mut world, step);
        }
        world.write(0, 50);
        world.write(1, 51);
        world.run(300);
        world.write(0, BAD);
        world.run(300);
        for place in 0..4 {
            prop_assert_eq!(world.values(place), vec![Some(50), Some(51)], "{:?}", world.last);
        }
        prop_assert_eq!(world.last.wait.clone(), Wait::Source);
    }
}
