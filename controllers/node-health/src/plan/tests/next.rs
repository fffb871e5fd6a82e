//! What comes next, and when, where time alone brings it.

use super::*;

fn next(world: &World, name: &str) -> (Option<Step>, Option<Duration>) {
    let next = world.of(name).next;
    (next.map(|(step, _)| step), next.map(|(_, at)| at.saturating_sub(world.now)))
}

#[test]
fn a_node_that_waits_for_time_alone_says_until_when() {
    let mut world = three_zones();
    world.stop("a-3");
    world.node("a-3").doubt = Some("its kubelet answers".into());
    world.until(seconds(20), |world| world.state("a-3") == State::Doubted);
    assert_eq!(next(&world, "a-3"), (Some(Step::Cordon), Some(seconds(32))));
    world.run(seconds(10));
    assert_eq!(next(&world, "a-3").1, Some(seconds(22)), "the moment stays, as it is written in a status");
    world.until(seconds(21), |world| world.state("a-3") == State::Waiting);
    assert_eq!(next(&world, "a-3"), (Some(Step::Cordon), Some(seconds(2))), "it settles");
    world.until(seconds(3), |world| world.state("a-3") == State::Acting);

    // The rate is one.
    world.rules[0].breakers.rate.count = 1;
    world.stop("b-1");
    world.until(seconds(30), |world| world.state("b-1") == State::Waiting);
    world.run(seconds(5));
    assert!(world.of("b-1").waits_for.contains("rate"), "{}", world.of("b-1").waits_for);
    let (step, left) = next(&world, "b-1");
    assert_eq!(step, Some(Step::Cordon));
    world.until(seconds(60), |world| world.state("b-1") == State::Acting);
    assert!(left.is_some_and(|left| left < seconds(60)));
}

#[test]
fn what_a_person_or_a_breaker_ends_has_no_time() {
    let mut world = three_zones();
    world.rules[0].pause_requests = vec!["an upgrade".into()];
    world.stop("a-3");
    world.until(seconds(30), |world| world.state("a-3") == State::Waiting);
    assert_eq!(next(&world, "a-3"), (None, None));
    world.rules[0].pause_requests.clear();
    world.stop("a");
    world.run(seconds(60));
    assert_eq!(next(&world, "a-1"), (None, None));
}
