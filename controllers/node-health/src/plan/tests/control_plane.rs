//! At most one node of the control plane is out of use.

use super::*;

/// Three nodes of the control plane: `a-0`, `b-0` and `c-0`.
fn with_control_plane() -> World {
    let mut world = three_zones();
    ["a-0", "b-0", "c-0"].iter().for_each(|name| world.node(name).control_plane = true);
    world
}

fn waits_for(world: &World, name: &str, other: &str) {
    let planned = world.of(name);
    assert_eq!((planned.state, planned.record.is_taken()), (State::Waiting, false), "{planned:?}");
    assert!(planned.waits_for.contains(&format!("control plane node {other}")), "{}", planned.waits_for);
}

#[test]
fn one_node_of_the_control_plane_is_taken_at_a_time() {
    let mut world = with_control_plane();
    world.stop("a-0");
    world.stop("b-0");
    world.run(seconds(100));
    assert_eq!(world.taken(), ["a-0"]);
    waits_for(&world, "b-0", "a-0");
    world.start("a-0");
    world.until(seconds(30), |world| world.taken() == ["b-0"]);
}

#[test]
fn none_is_taken_while_another_is_being_removed() {
    let mut world = with_control_plane();
    world.node("a-0").leaving = true;
    world.stop("b-0");
    world.stop("b-1");
    world.run(seconds(100));
    assert_eq!(world.taken(), ["b-1"], "workers are");
    waits_for(&world, "b-0", "a-0");
    // It is gone, or stays after all.
    world.node("a-0").leaving = false;
    world.until(seconds(2), |world| world.taken() == ["b-0", "b-1"]);
}

#[test]
fn none_is_taken_while_another_is_silent_that_is_not_acted_on() {
    // Of no policy, of one that only says what it would do, and in a zone whose breaker is open.
    for (rules, open_breaker) in [(None, false), (Some(1), false), (Some(0), true)] {
        let mut world = with_control_plane();
        world.rules[0].breakers.cluster = Limit::Percent(100);
        world.rules.push(Rules { dry_run: true, ..super::rules("dry") });
        world.node("a-0").rules = rules;
        world.stop("a-0");
        (1..6).filter(|_| open_breaker).for_each(|index| world.stop(&format!("a-{index}")));
        world.run(seconds(100));
        assert_eq!(world.open().contains_key("a"), open_breaker);
        world.stop("b-0");
        world.run(seconds(60));
        waits_for(&world, "b-0", "a-0");
        world.start("a");
        world.until(seconds(100), |world| world.node_is_taken("b-0"));
    }
}

#[test]
fn one_that_somebody_says_is_alive_keeps_no_other_from_its_turn() {
    let mut world = with_control_plane();
    world.rules[0].max_doubt = seconds(600);
    world.node("a-0").doubt = Some("its kubelet answers".into());
    world.stop("a-0");
    world.stop("b-0");
    world.until(seconds(30), |world| world.taken() == ["b-0"]);
    assert_eq!(world.state("a-0"), State::Doubted);
}

#[test]
fn what_a_dry_run_takes_counts_for_no_other_policy() {
    let mut world = with_control_plane();
    world.rules.push(Rules { dry_run: true, ..rules("dry") });
    let now = world.now;
    for (name, rules) in [("a-0", 1), ("b-0", 0)] {
        let node = world.node(name);
        (node.rules, node.failing) = (Some(rules), Some(("its condition is bad".into(), now)));
    }
    world.until(seconds(30), |world| world.taken() == ["a-0", "b-0"]);
}
