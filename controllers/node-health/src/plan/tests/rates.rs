//! How many nodes are taken, and what a new leader knows of that and of storms.

use super::*;

#[test]
fn no_more_nodes_are_taken_than_the_rate_allows() {
    let mut world = three_zones();
    world.stop("a-1");
    world.stop("b-1");
    world.stop("c-1");
    world.run(seconds(30));
    assert_eq!(world.taken().len(), 2);
    let waiting = world.plan.nodes.iter().find(|node| node.state == State::Waiting).unwrap();
    assert!(waiting.waits_for.contains("at most 2 nodes per 60s"), "{}", waiting.waits_for);
    world.until(seconds(60), |world| world.taken().len() == 3);
}

#[test]
fn no_more_nodes_are_asked_again_than_may_be_taken() {
    let mut world = three_zones();
    ["b-1", "c-1"].iter().for_each(|name| world.node(name).control_plane = true);
    world.rules[0].pause_requests = vec!["upgrade".into()];
    for name in ["a-1", "b-1", "c-1", "a-2"] {
        world.stop(name);
        world.run(seconds(30));
    }
    world.rules[0].pause_requests.clear();
    world.pass();
    // One place is left for each, and of the control plane there is one.
    assert_eq!(asked(&world), ["a-1", "b-1"]);
    assert!(world.of("a-2").waits_for.contains("at most 2 nodes per 60s"), "{}", world.of("a-2").waits_for);
    assert!(world.of("c-1").waits_for.contains("control plane node b-1"), "{}", world.of("c-1").waits_for);
    world.pass();
    assert_eq!((world.taken(), asked(&world)), (vec!["a-1", "b-1"], vec![]));

    // Who was asked and lives leaves the place to the next one.
    let mut world = three_zones();
    world.rules[0].breakers.rate.count = 1;
    world.rules[0].pause_requests = vec!["upgrade".into()];
    for name in ["a-1", "b-1"] {
        world.stop(name);
        world.run(seconds(30));
    }
    world.rules[0].pause_requests.clear();
    world.pass();
    assert_eq!(asked(&world), ["a-1"]);
    world.node("a-1").doubt = Some("its kubelet answers".into());
    world.until(seconds(2), |world| world.taken() == ["b-1"]);
}

/// Those that are asked.
fn asked(world: &World) -> Vec<&str> {
    let asked = world.nodes.iter().zip(&world.plan.nodes).filter(|(_, planned)| planned.ask);
    asked.map(|(node, _)| &*node.name).collect()
}

#[test]
fn nothing_begins_while_somebody_asks_for_a_pause_and_what_was_begun_goes_on() {
    let mut world = three_zones();
    world.stop("b-1");
    world.until(seconds(60), |world| world.state("b-1") == State::Acting);
    world.rules[0].pause_requests = vec!["upgrade".into()];
    world.stop("a-1");
    world.run(seconds(60));
    assert_eq!((world.state("a-1"), world.taken()), (State::Waiting, vec!["b-1"]));
    assert!(world.of("a-1").waits_for.contains("upgrade"), "{}", world.of("a-1").waits_for);
    assert!(world.of("b-1").pods.evict.is_some());
    world.rules[0].pause_requests.clear();
    world.until(seconds(5), |world| world.state("a-1") == State::Acting);
}

#[test]
fn a_new_leader_keeps_to_the_rate_of_the_one_before() {
    let mut world = three_zones();
    world.rules[0].breakers.rate.window = seconds(600);
    world.stop("a-1");
    world.stop("b-1");
    world.stop("c-1");
    world.run(seconds(30));
    assert_eq!(world.taken().len(), 2);
    world.restart();
    world.run(seconds(500));
    assert_eq!(world.taken().len(), 2);
    world.until(seconds(100), |world| world.taken().len() == 3);
}

#[test]
fn what_was_taken_before_the_process_began_counts_for_its_time_and_no_longer() {
    let hour = seconds(3600);
    for (age, least, most) in [(2 * hour, 0, 30), (hour - seconds(300), 280, 310)] {
        let mut world = three_zones();
        world.rules[0].breakers.rate.window = hour;
        let taken = world.now().wall - age;
        assert!(age > world.now, "the process is younger");
        world.node("b-1").record.flaps = vec![taken; 2];
        world.restart();
        world.stop("a-3");
        let took = world.until(seconds(2 * 3600), |world| world.state("a-3") == State::Acting);
        assert!((seconds(least)..=seconds(most)).contains(&took), "{age:?}: {took:?}");
    }
}

#[test]
fn after_a_storm_the_rate_is_kept_by_a_process_that_is_younger_than_its_window() {
    let mut world = three_zones();
    world.rules[0].breakers.cluster = Limit::Percent(50);
    world.rules[0].breakers.rate.window = seconds(7200);
    world.stop("b");
    world.run(seconds(60));
    (2..10).for_each(|index| world.start(&format!("b-{index}")));
    world.until(seconds(100), |world| world.open().is_empty());
    for count in 1..=2 {
        let took = world.until(seconds(7200), |world| world.taken().len() == count);
        assert!((seconds(3590)..=seconds(3601)).contains(&took), "{count}: {took:?}");
    }
}

#[test]
fn what_was_taken_during_a_storm_counts_after_it() {
    let mut world = three_zones();
    world.rules[0].breakers.rate = Rate { count: 3, window: seconds(600) };
    (0..5).for_each(|index| world.stop(&format!("a-{index}")));
    world.until(seconds(30), |world| world.open().contains_key("a"));
    world.stop("b-1");
    world.stop("c-1");
    world.until(seconds(60), |world| world.taken().len() == 2);
    (2..5).for_each(|index| world.start(&format!("a-{index}")));
    world.until(seconds(200), |world| world.open().is_empty());
    let before = world.now;
    world.until(seconds(220), |world| world.taken().len() == 3);
    world.run(seconds(420) - (world.now - before));
    assert_eq!(world.taken().len(), 3, "{:?}", world.memory.taken);
}

#[test]
fn a_new_leader_does_not_forget_an_open_breaker() {
    let mut world = three_zones();
    world.rules[0].breakers.close_after = seconds(600);
    (0..5).for_each(|index| world.stop(&format!("a-{index}")));
    world.until(seconds(30), |world| world.open().contains_key("a"));
    (1..5).for_each(|index| world.start(&format!("a-{index}")));
    world.run(seconds(60));
    // What a reconcile reads from the status.
    let breakers = world.memory.breakers.clone();
    world.restart();
    world.memory.breakers = breakers
        .into_iter()
        .map(|(key, breaker)| (key, BreakerMemory { calm_since: None, ..breaker }))
        .collect();
    world.run(seconds(590));
    assert_eq!((world.taken(), world.open().contains_key("a")), (vec![], true));
    world.until(seconds(60), |world| world.taken() == ["a-0"]);
}

#[test]
fn a_breaker_stays_open_while_a_new_leader_cannot_tell_that_it_is_calm() {
    let mut world = three_zones();
    for index in 0..5 {
        let now = world.now;
        world.node(&format!("a-{index}")).failing = Some(("its condition Ready is False".into(), now));
    }
    world.until(seconds(5), |world| world.open().contains_key("a"));
    let breakers = world.memory.breakers.clone();
    world.restart();
    world.memory.breakers = breakers;
    // Their conditions are bad as before, and it begins to watch them anew.
    for index in 0..5 {
        let due = world.now + seconds(300);
        let node = world.node(&format!("a-{index}"));
        (node.failing, node.failing_due) = (None, Some(due + seconds(20) * index));
    }
    world.run(seconds(500));
    assert_eq!((world.taken(), world.open().contains_key("a")), (vec![], true));
    (0..5).for_each(|index| world.node(&format!("a-{index}")).failing = None);
    let took = world.until(seconds(70), |world| world.open().is_empty());
    assert!(took >= seconds(59), "{took:?}");
}
