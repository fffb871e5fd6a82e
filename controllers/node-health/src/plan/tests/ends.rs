//! How it ends with a node: proof that it is dead, and those who repair it.

use super::*;
use crate::record::Taken;

#[test]
fn out_of_service_needs_proof_and_stays_until_a_new_boot() {
    let mut world = three_zones();
    world.rules[0].steps.out_of_service = Some(Duration::ZERO);
    world.stop("a-3");
    world.until(seconds(30), |world| world.state("a-3") == State::Acting);
    assert!(world.of("a-3").waits_for.contains("/confirmed-dead=boot-1.never"));
    world.node("a-3").proof = Some(Proof::Person);
    let out =
        |world: &World| world.of("a-3").record.taken.as_ref().and_then(|taken| taken.out_of_service.clone());
    world.until(seconds(1), |world| out(world).as_deref() == Some("boot-1"));
    world.start("a-3");
    world.run(seconds(60));
    let taken = world.of("a-3").record.taken.clone().unwrap();
    assert!(!taken.cordon && taken.out_of_service.is_some(), "{taken:?}");
    assert_eq!((world.state("a-3"), world.taken()), (State::Recovering, vec![]));
    world.node("a-3").boot_id = "boot-2".into();
    world.pass();
    assert_eq!((world.state("a-3"), &world.of("a-3").record), (State::Healthy, &Record::default()));
}

#[test]
fn a_node_that_is_heard_keeps_its_volumes_whatever_is_said_of_it() {
    let mut world = three_zones();
    world.rules[0].steps.out_of_service = Some(Duration::ZERO);
    let now = world.now;
    world.node("a-3").failing = Some(("its condition KernelDeadlock is True".into(), now));
    world.node("a-3").proof = Some(Proof::Remediated);
    world.until(seconds(5), |world| world.state("a-3") == State::Acting);
    world.run(seconds(100));
    assert_eq!(world.of("a-3").record.out_of_service(), None);
    assert!(world.of("a-3").waits_for.contains("missing Lease renewals"), "{}", world.of("a-3").waits_for);
}

#[test]
fn what_is_decided_of_volumes_and_not_written_is_void_when_the_node_is_heard() {
    let mut world = three_zones();
    world.rules[0].steps.out_of_service = Some(Duration::ZERO);
    world.stop("a-3");
    world.node("a-3").proof = Some(Proof::Person);
    world.until(seconds(30), |world| world.of("a-3").record.out_of_service().is_some());
    // The write has failed, and the node comes back.
    world.node("a-3").out_of_service = false;
    world.start("a-3");
    world.pass();
    assert!(world.of("a-3").record.is_taken() && world.of("a-3").record.out_of_service().is_none());
}

#[test]
fn remediations_escalate_and_are_gone_before_the_node_is_handed_back() {
    let mut world = three_zones();
    world.rules[0].steps.remediation = vec![seconds(60), seconds(60)];
    world.stop("a-3");
    world.until(seconds(30), |world| world.of("a-3").remediation == Wanted::Template(0));
    let stands = |template, since, succeeded| Remediation::Stands { template, since, succeeded };
    world.node("a-3").remediation = stands(0, world.now, None);
    let took = world.until(seconds(70), |world| world.of("a-3").remediation == Wanted::Template(1));
    assert!(took >= seconds(59), "{took:?}");
    world.node("a-3").remediation = stands(1, world.now, Some(false));
    world.pass();
    assert_eq!(world.of("a-3").remediation, Wanted::Template(1));
    assert!(world.of("a-3").waits_for.contains("your action"), "{}", world.of("a-3").waits_for);
    world.start("a-3");
    world.run(seconds(60));
    assert_eq!((world.state("a-3"), world.of("a-3").remediation), (State::Recovering, Wanted::None));
    world.node("a-3").remediation = Remediation::None;
    world.pass();
    assert_eq!(world.state("a-3"), State::Healthy);
}

/// A cluster whose policy has a remediation, `after` so long.
fn with_repairs(after: Duration) -> World {
    let mut world = three_zones();
    world.repairs = Some(vec![None; world.nodes.len()]);
    world.rules[0].steps.remediation = vec![seconds(600)];
    world.rules[0].steps.remediate_after = after;
    world
}

/// Whether a remediation is to be made.
fn makes(planned: &NodePlan) -> bool {
    matches!(planned.remediation, Wanted::Template(_))
}

#[test]
fn a_new_leader_makes_no_remediation_for_a_node_that_is_well() {
    let mut world = with_repairs(Duration::ZERO);
    world.rules[0].flapping = Some(Flapping {
        count: 1,
        window: seconds(3600),
        quarantine: seconds(300),
        max_quarantine: seconds(300),
    });
    world.stop("a-3");
    world.until(seconds(30), |world| makes(world.of("a-3")));
    world.start("a-3");
    let nothing_new = |world: &World| assert!(!makes(world.of("a-3")), "{:?}", world.of("a-3"));
    world.until(seconds(60), |world| world.state("a-3") == State::Quarantined);
    world.restart();
    world.until(seconds(60), |world| {
        nothing_new(world);
        world.state("a-3") == State::Quarantined
    });
    // And the same in the seconds before it is given back.
    world.rules[0].flapping = None;
    world.rules[0].healthy_for = seconds(30);
    world.restart();
    world.until(seconds(60), |world| {
        nothing_new(world);
        world.state("a-3") == State::Recovering
    });
    world.until(seconds(60), |world| {
        nothing_new(world);
        world.state("a-3") == State::Healthy
    });
}

#[test]
fn a_remediation_comes_no_sooner_than_the_policy_says() {
    let mut world = with_repairs(seconds(600));
    world.stop("a-3");
    world.until(seconds(30), |world| world.state("a-3") == State::Acting);
    let took = world.until(seconds(700), |world| makes(world.of("a-3")));
    assert!(took >= seconds(599), "{took:?}");
    let mut world = with_repairs(seconds(600));
    world.stop("a-3");
    world.until(seconds(30), |world| world.state("a-3") == State::Acting);
    world.restart();
    world.until(seconds(30), |world| world.state("a-3") == State::Acting);
    let took = world.until(seconds(700), |world| makes(world.of("a-3")));
    assert!(took >= seconds(599), "its time begins anew: {took:?}");
}

#[test]
fn no_remediation_begins_while_a_breaker_is_open() {
    let mut world = with_repairs(Duration::ZERO);
    world.rules[0].steps.remediation = Vec::new();
    world.stop("a-0");
    world.until(seconds(30), |world| world.state("a-0") == State::Acting);
    for index in 1..5 {
        world.stop(&format!("a-{index}"));
    }
    world.until(seconds(20), |world| world.open().contains_key("a"));
    // The policy gets a remediation only now, and then its controller starts anew.
    world.rules[0].steps.remediation = vec![seconds(600)];
    let unknown =
        |world: &mut World| world.nodes.iter_mut().for_each(|node| node.remediation = Remediation::Unknown);
    for restart in [false, true] {
        unknown(&mut world);
        if restart {
            world.restart();
        }
        for _ in 0..100 {
            world.now += TICK;
            world.pass();
            assert!(!world.plan.nodes.iter().any(makes), "restart: {restart}");
        }
        assert_eq!((world.taken(), world.open().contains_key("a")), (vec!["a-0"], true));
    }
}

#[test]
fn one_remediation_stands_at_a_time_also_under_a_new_leader() {
    let mut world = with_repairs(Duration::ZERO);
    world.rules[0].steps.remediation = vec![seconds(60), seconds(600)];
    world.stop("a-3");
    world.until(seconds(100), |world| world.of("a-3").remediation == Wanted::Template(1));
    world.restart();
    world.until(seconds(30), |world| world.state("a-3") == State::Acting);
    for _ in 0..100 {
        world.now += TICK;
        world.pass();
        assert_ne!(world.of("a-3").remediation, Wanted::Template(0));
    }
}

#[test]
fn a_node_is_kept_until_it_is_known_whether_a_remediation_stands() {
    let mut world = with_repairs(Duration::ZERO);
    world.stop("a-3");
    world.until(seconds(30), |world| makes(world.of("a-3")));
    world.restart();
    // Nobody answers who is asked for it.
    world.repairs = None;
    world.start("a-3");
    world.run(seconds(100));
    let planned = world.of("a-3");
    assert_eq!((planned.state, planned.remediation), (State::Recovering, Wanted::Look));
    assert!(planned.waits_for.contains("a check whether a remediation"), "{}", planned.waits_for);
    world.node("a-3").remediation = Remediation::None;
    world.until(seconds(1), |world| world.state("a-3") == State::Healthy);
}

#[test]
fn a_failed_remediation_does_not_wait_for_its_time() {
    let mut world = three_zones();
    world.rules[0].steps.remediation = vec![seconds(600), seconds(600)];
    world.stop("a-3");
    world.until(seconds(30), |world| world.of("a-3").remediation == Wanted::Template(0));
    let now = world.now;
    world.node("a-3").remediation = Remediation::Stands { template: 0, since: now, succeeded: Some(false) };
    world.pass();
    assert_eq!(world.of("a-3").remediation, Wanted::Template(1));
}

#[test]
fn after_a_remediation_has_succeeded_none_is_made_for_the_same_boot() {
    let mut world = three_zones();
    world.rules[0].steps.remediation = vec![seconds(60), seconds(60)];
    world.stop("a-3");
    world.until(seconds(30), |world| world.of("a-3").remediation == Wanted::Template(0));
    let now = world.now;
    let node = world.node("a-3");
    node.remediation = Remediation::Stands { template: 0, since: now, succeeded: Some(true) };
    node.remediated = true;
    world.pass();
    // Its remediator deletes it while the node boots, which only the record still tells to a new leader.
    let node = world.node("a-3");
    (node.remediation, node.remediated) = (Remediation::None, false);
    for restart in [false, true] {
        if restart {
            world.restart();
            world.node("a-3").remediation = Remediation::None;
        }
        for _ in 0..200 {
            world.now += TICK;
            world.pass();
            assert!(!makes(world.of("a-3")), "restart: {restart}");
        }
        assert_eq!(world.state("a-3"), State::Acting);
        assert!(world.of("a-3").waits_for.contains("succeeded"), "{}", world.of("a-3").waits_for);
    }
    world.node("a-3").boot_id = "boot-2".into();
    world.until(seconds(1), |world| makes(world.of("a-3")));
}

#[test]
fn a_node_that_fails_anew_after_a_remediation_gets_another() {
    let mut world = three_zones();
    world.rules[0].steps.remediation = vec![seconds(60)];
    world.stop("a-3");
    world.until(seconds(30), |world| world.state("a-3") == State::Acting);
    world.node("a-3").remediated = true;
    world.pass();
    world.node("a-3").remediated = false;
    world.run(seconds(10));
    assert!(!makes(world.of("a-3")));
    // Back for a moment, at the same boot.
    world.start("a-3");
    world.until(seconds(1), |world| world.state("a-3") == State::Recovering);
    world.stop("a-3");
    world.until(seconds(30), |world| makes(world.of("a-3")));
}

#[test]
fn who_is_blind_changes_nothing() {
    let mut world = with_repairs(Duration::ZERO);
    world.stop("a-0");
    world.until(seconds(30), |world| makes(world.of("a-0")));
    world.stop("");
    world.blind = true;
    for _ in 0..200 {
        world.now += TICK;
        world.pass();
        let planned = world.of("a-0");
        assert_eq!((planned.state, planned.remediation), (State::Suspect, Wanted::Look));
        assert!(planned.waits_for.contains("API server"), "{}", planned.waits_for);
        assert_eq!((world.taken(), world.open().len()), (vec!["a-0"], 0));
    }
    world.see();
    world.start("b");
    world.start("c");
    world.run(seconds(10));
    assert_eq!((world.taken(), world.open().len()), (vec!["a-0"], 0), "all silences begin anew");
}

#[test]
fn a_remediation_that_has_begun_goes_on_when_no_node_answers() {
    let mut world = with_repairs(Duration::ZERO);
    world.stop("a-0");
    world.until(seconds(30), |world| makes(world.of("a-0")));
    world.stop("");
    world.until(seconds(20), |world| world.open().get("all") == Some(&true));
    world.run(seconds(10));
    assert_eq!((world.taken(), world.of("a-0").remediation), (vec![], Wanted::Look));
    world.start("");
    world.until(seconds(30), |world| world.state("a-0") == State::Healthy);
    world.run(seconds(1));
    assert_eq!(world.repairs.as_ref().map(|repairs| repairs[0]), Some(None), "it ends when the node is well");
}

#[test]
fn what_is_said_of_volumes_and_does_not_stand_is_not_kept_of_a_node_that_is_handed_back() {
    let mut world = three_zones();
    for (name, rules) in [("a-1", Some(0)), ("a-2", None)] {
        let node = world.node(name);
        node.rules = rules;
        node.record.taken = Some(Taken { out_of_service: Some("boot-1".into()), ..Taken::default() });
        node.out_of_service = false;
        world.pass();
        assert_eq!(
            (world.state(name), &world.of(name).record),
            (State::Healthy, &Record::default()),
            "{name}"
        );
    }
    // Silent and dead by what is said, and not taken.
    world.stop("a-1");
    world.run(seconds(14));
    let node = world.node("a-1");
    node.record.taken = Some(Taken { out_of_service: Some("boot-1".into()), ..Taken::default() });
    (node.out_of_service, node.proof) = (false, Some(Proof::Person));
    node.heartbeat.listening = node.heartbeat.silent_since();
    world.now += seconds(5);
    world.pass();
    assert_ne!(world.state("a-1"), State::Acting);
    assert_eq!(world.of("a-1").record.out_of_service(), None);
}

#[test]
fn a_template_that_is_out_of_reach_loses_its_turn() {
    let mut world = three_zones();
    world.rules[0].steps.remediation = vec![seconds(60); 4];
    world.node("a-3").out_of_reach = vec![0, 2];
    world.stop("a-3");
    world.until(seconds(30), |world| world.of("a-3").remediation == Wanted::Template(1));
    let now = world.now;
    world.node("a-3").remediation = Remediation::Stands { template: 1, since: now, succeeded: Some(false) };
    world.pass();
    assert_eq!(world.of("a-3").remediation, Wanted::Template(3));
    world.node("a-3").out_of_reach.push(3);
    world.pass();
    assert_eq!(world.of("a-3").remediation, Wanted::Template(3), "a person may put it right");
    assert!(world.of("a-3").waits_for.contains("your action"), "{}", world.of("a-3").waits_for);
}
