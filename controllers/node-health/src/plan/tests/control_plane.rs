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
fn what_was_begun_with_one_goes_no_further_while_another_is_down() {
    let mut world = with_control_plane();
    world.rules[0].steps.remediation = vec![seconds(60), seconds(60)];
    world.rules[0].steps.remediate_after = seconds(30);
    world.rules[0].steps.out_of_service = Some(seconds(30));
    world.repairs = Some(vec![None; world.nodes.len()]);
    // Its etcd may well live.
    let now = world.now;
    world.node("a-0").failing = Some(("its condition Ready is False".into(), now));
    world.until(seconds(5), |world| world.node_is_taken("a-0"));
    world.stop("b-0");
    world.until(seconds(30), |world| world.state("b-0") == State::Waiting);
    world.run(seconds(100));
    let planned = world.of("a-0").clone();
    assert_eq!((planned.state, planned.remediation), (State::Waiting, Wanted::None), "{planned:?}");
    assert_eq!(planned.pods, PodsPlan::default());
    assert!(planned.record.taken.as_ref().is_some_and(|taken| taken.cordon), "what stands is kept");
    assert!(planned.waits_for.contains("control plane node b-0"), "{}", planned.waits_for);
    world.start("b-0");
    world.until(seconds(30), |world| world.of("a-0").remediation == Wanted::Template(0));
    // One that stands is kept, and is followed by no other.
    world.stop("c-0");
    world.until(seconds(30), |world| world.state("c-0") == State::Waiting);
    world.run(seconds(100));
    assert_eq!(world.of("a-0").remediation, Wanted::Look);
    world.start("c-0");
    world.until(seconds(30), |world| world.of("a-0").remediation == Wanted::Template(1));
}

#[test]
fn what_was_begun_with_one_goes_no_further_before_it_is_known_how_another_is() {
    for has_bad_condition in [false, true] {
        let mut world = with_control_plane();
        world.rules[0].steps.remediation = vec![seconds(60)];
        world.rules[0].steps.remediate_after = seconds(30);
        world.repairs = Some(vec![None; world.nodes.len()]);
        world.stop("a-0");
        world.until(seconds(30), |world| world.node_is_taken("a-0"));
        let now = world.now;
        if has_bad_condition {
            world.node("b-0").failing = Some(("its condition Ready is False".into(), now));
        } else {
            world.stop("b-0");
        }
        world.until(seconds(30), |world| world.state("b-0") == State::Waiting);
        // All timers begin anew, also that of the condition.
        world.blind = true;
        world.run(seconds(60));
        world.see();
        if has_bad_condition {
            let due = world.now + seconds(300);
            (world.node("b-0").failing, world.node("b-0").failing_due) = (None, Some(due));
        }
        for _ in 0..100 {
            world.now += TICK;
            world.pass();
            // The other refuses the connection, and this one does not answer at all.
            world.node("b-0").confirmed = false;
            let planned = world.of("a-0");
            assert_eq!(planned.pods.evict, None, "{has_bad_condition}: {planned:?}");
            assert!(!matches!(planned.remediation, Wanted::Template(_)), "{has_bad_condition}: {planned:?}");
        }
        world.node("b-0").failing_due = None;
        world.start("b-0");
        world.until(seconds(30), |world| world.of("a-0").remediation == Wanted::Template(0));
    }
}

#[test]
fn nothing_that_evicts_begins_with_one_while_another_is_down() {
    let mut world = with_control_plane();
    let now = world.now;
    world.rules[0].steps.taint = Some((TaintEffect::NoExecute, seconds(60)));
    world.node("a-0").failing = Some(("its condition Ready is False".into(), now));
    world.until(seconds(5), |world| world.node_is_taken("a-0"));
    world.stop("b-0");
    world.run(seconds(100));
    let taint = |world: &World| world.of("a-0").record.taken.as_ref().and_then(|taken| taken.taint);
    assert_eq!(taint(&world), None);
    world.start("b-0");
    world.until(seconds(30), |world| taint(world) == Some(TaintEffect::NoExecute));
    // What stands is kept, and a taint that evicts nobody may begin.
    world.stop("b-0");
    world.run(seconds(100));
    assert_eq!(taint(&world), Some(TaintEffect::NoExecute));
    world.rules[0].steps.taint = Some((TaintEffect::NoSchedule, seconds(60)));
    world.pass();
    assert_eq!(taint(&world), Some(TaintEffect::NoSchedule));
    world.rules[0].steps.taint = Some((TaintEffect::NoExecute, seconds(60)));
    world.pass();
    assert_eq!(taint(&world), Some(TaintEffect::NoSchedule));
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
    // It may be wrong: what cannot be undone waits.
    world.run(seconds(60));
    assert_eq!((world.state("b-0"), world.of("b-0").pods.evict), (State::Waiting, None));
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
