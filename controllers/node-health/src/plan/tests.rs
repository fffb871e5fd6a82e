//! What becomes of nodes, in small clusters.

use std::time::Duration;

use super::{world::*, *};
use crate::record::{Record, TaintEffect};

mod control_plane;
mod ends;
mod next;
mod quarantine;
mod rates;
mod unread;
mod without_lease;

fn three_zones() -> World {
    World::new(rules("p"), &["a", "b", "c"], 10)
}

#[test]
fn a_dead_node_is_taken_in_seconds_step_by_step_and_handed_back() {
    let mut world = three_zones();
    world.stop("a-3");
    let took = world.until(seconds(30), |world| world.state("a-3") == State::Waiting);
    assert!(took <= seconds(16), "{took:?} after the last renewal");
    world.until(seconds(3), |world| world.state("a-3") == State::Acting);
    let acting = world.of("a-3").clone();
    let taken = acting.record.taken.clone().unwrap();
    assert_eq!((taken.cordon, taken.taint), (true, Some(TaintEffect::NoSchedule)));
    assert_eq!(acting.pods, PodsPlan { not_ready: true, evict: None });
    assert_eq!(acting.next.map(|(step, _)| step), Some(Step::Drain));
    world.until(seconds(11), |world| world.of("a-3").pods.evict == Some(Evict::Politely));
    world.until(seconds(61), |world| world.of("a-3").pods.evict == Some(Evict::Force));
    assert_eq!(world.taken(), ["a-3"]);

    world.start("a-3");
    world.until(seconds(1), |world| world.state("a-3") == State::Recovering);
    assert!(world.of("a-3").record.is_taken(), "not before it has been well for a while");
    assert_eq!(world.of("a-3").pods, PodsPlan::default());
    let took = world.until(seconds(20), |world| world.state("a-3") == State::Healthy);
    assert!(took >= seconds(9), "{took:?}");
    assert_eq!(world.node("a-3").record, Record::default());
    assert_eq!(world.memory.nodes.len(), 0);
}

#[test]
fn a_node_that_comes_back_for_a_moment_is_not_handed_back() {
    let mut world = three_zones();
    world.stop("a-3");
    world.until(seconds(30), |world| world.state("a-3") == State::Acting);
    world.start("a-3");
    world.run(seconds(5));
    world.stop("a-3");
    world.run(seconds(8));
    assert_eq!(world.state("a-3"), State::Suspect, "overdue: neither well nor unhealthy");
    world.until(seconds(10), |world| world.state("a-3") == State::Acting);
    assert_eq!(world.taken(), ["a-3"]);
}

#[test]
fn nothing_is_done_without_a_live_read() {
    let mut world = three_zones();
    world.stop("a-3");
    for _ in 0..200 {
        world.now += TICK;
        world.pass();
        world.node("a-3").confirmed = false;
    }
    assert_eq!(world.state("a-3"), State::Unconfirmed);
    assert_eq!(world.taken(), Vec::<&str>::new());
}

#[test]
fn a_second_opinion_delays_and_is_shown() {
    let mut world = three_zones();
    world.stop("a-3");
    world.node("a-3").doubt = Some("its kubelet answers".into());
    world.until(seconds(20), |world| world.state("a-3") == State::Doubted);
    assert!(world.of("a-3").waits_for.contains("its kubelet answers"));
    let took = world.until(seconds(40), |world| world.state("a-3") == State::Acting);
    assert!(took >= seconds(30), "{took:?}");

    let mut world = three_zones();
    world.stop("a-3");
    world.node("a-3").doubt = Some("its kubelet answers".into());
    world.until(seconds(20), |world| world.state("a-3") == State::Doubted);
    world.node("a-3").doubt = None;
    world.until(seconds(3), |world| world.state("a-3") == State::Acting);
}

#[test]
fn a_node_is_asked_again_before_it_is_taken() {
    let mut world = three_zones();
    world.rules[0].breakers.settle = seconds(4);
    world.stop("a-3");
    world.until(seconds(30), |world| world.state("a-3") == State::Waiting);
    assert!(world.of("a-3").ask, "while the verdict settles");
    world.rules[0].pause_requests = vec!["an upgrade".into()];
    world.run(seconds(600));
    assert!(!world.of("a-3").ask, "it is not asked for hours for nothing");
    world.rules[0].pause_requests.clear();
    world.pass();
    assert_eq!((world.state("a-3"), world.of("a-3").ask), (State::Waiting, true), "what it said is old");
    assert_eq!(world.taken(), Vec::<&str>::new());
    world.node("a-3").doubt = Some("its kubelet answers".into());
    world.pass();
    assert_eq!((world.state("a-3"), world.taken()), (State::Doubted, vec![]));
    world.node("a-3").doubt = None;
    world.until(seconds(2), |world| world.state("a-3") == State::Acting);
}

#[test]
fn a_lease_that_is_renewed_too_rarely_says_nothing_and_conditions_still_do() {
    let mut world = three_zones();
    world.rules[0].unreachable_after = seconds(12);
    world.stop("a-3");
    world.run(seconds(100));
    assert_eq!(world.state("b-1"), State::Unjudged);
    assert!(world.of("b-1").why.contains("at least 15s"), "{}", world.of("b-1").why);
    assert_eq!(world.taken(), Vec::<&str>::new());
    let since = world.now;
    world.node("b-1").failing = Some(("its condition KernelDeadlock is True".into(), since));
    world.until(seconds(5), |world| world.state("b-1") == State::Acting);
    assert_eq!(
        world.of("b-1").pods,
        PodsPlan::default(),
        "its kubelet lives and would set the condition again"
    );
    assert_eq!(world.of("b-1").why, "its condition KernelDeadlock is True");
}

#[test]
fn a_node_without_a_lease_has_its_time() {
    let mut world = three_zones();
    let now = world.now;
    world.stop("a-3");
    world.node("a-3").heartbeat = Heartbeat { heard: None, listening: now, interval: None, renewed: None };
    let took = world.until(seconds(70), |world| world.state("a-3") == State::Acting);
    assert!(took >= seconds(60), "{took:?}");
}

#[test]
fn a_node_whose_condition_is_bad_is_not_well_however_lately() {
    let mut world = three_zones();
    world.stop("a-3");
    world.until(seconds(30), |world| world.state("a-3") == State::Acting);
    // It comes back, and its condition is bad and not for long enough to make it unhealthy by itself.
    world.start("a-3");
    let bad_from = world.now + seconds(300);
    world.node("a-3").failing_due = Some(bad_from);
    world.run(seconds(200));
    assert_eq!((world.state("a-3"), world.taken()), (State::Suspect, vec!["a-3"]));
    assert!(world.of("a-3").waits_for.contains("conditions"), "{}", world.of("a-3").waits_for);
    world.node("a-3").failing_due = None;
    let took = world.until(seconds(30), |world| world.state("a-3") == State::Healthy);
    assert!(took >= seconds(9), "{took:?}");
}

#[test]
fn a_node_that_goes_from_one_bad_status_to_another_is_kept() {
    let mut world = three_zones();
    let now = world.now;
    world.node("a-3").failing = Some(("its condition Disk is True".into(), now));
    world.until(seconds(5), |world| world.state("a-3") == State::Acting);
    world.node("a-3").failing = None;
    world.node("a-3").failing_due = Some(now + seconds(60));
    world.run(seconds(40));
    assert_eq!(world.taken(), ["a-3"]);
    world.until(seconds(30), |world| world.state("a-3") == State::Acting);
}

#[test]
fn a_new_leader_keeps_a_node_whose_condition_it_has_only_begun_to_watch() {
    let mut world = three_zones();
    let now = world.now;
    world.node("a-3").failing = Some(("its condition Ready is False".into(), now));
    world.until(seconds(5), |world| world.state("a-3") == State::Acting);
    world.restart();
    let due = world.now + seconds(300);
    world.node("a-3").failing = None;
    world.node("a-3").failing_due = Some(due);
    world.run(seconds(299));
    assert_eq!(world.taken(), ["a-3"]);
}

#[test]
fn nodes_that_are_removed_on_purpose_are_left_alone_and_not_counted() {
    let mut world = three_zones();
    for index in 0..6 {
        world.node(&format!("a-{index}")).leaving = true;
    }
    world.stop("a-3");
    world.run(seconds(100));
    assert_eq!((world.state("a-3"), world.taken()), (State::Leaving, vec![]));
    (0..6).for_each(|index| world.stop(&format!("a-{index}")));
    world.run(seconds(100));
    assert!(world.open().is_empty(), "a scale-down is no storm: {:?}", world.open());
    world.stop("a-7");
    world.until(seconds(30), |world| world.state("a-7") == State::Acting);
    // What stands on a node is kept when its removal begins, and it is judged anew when it stays after all.
    world.node("a-7").leaving = true;
    world.run(seconds(30));
    assert_eq!((world.state("a-7"), world.taken()), (State::Leaving, vec!["a-7"]));
    world.node("a-7").leaving = false;
    world.until(seconds(5), |world| world.state("a-7") == State::Acting);
}

#[test]
fn a_zone_that_stops_is_a_storm_and_the_others_go_on() {
    let mut world = three_zones();
    world.rules[0].breakers.cluster = Limit::Percent(50);
    world.stop("b");
    world.run(seconds(120));
    assert_eq!(world.open().keys().collect::<Vec<_>>(), ["b"]);
    assert_eq!(world.taken(), Vec::<&str>::new(), "all of it was seen before anything was done");
    assert_eq!(world.state("b-1"), State::Waiting);
    assert!(world.of("b-1").waits_for.contains("zone b"), "{}", world.of("b-1").waits_for);
    world.stop("c-1");
    world.until(seconds(30), |world| world.state("c-1") == State::Acting);
}

#[test]
fn after_a_storm_what_is_left_is_done_one_by_one() {
    let mut world = three_zones();
    world.rules[0].breakers.cluster = Limit::Percent(50);
    world.stop("b");
    world.run(seconds(60));
    // Two of ten stay away: no more than half of the limit, so that the breaker closes.
    for index in 2..10 {
        world.start(&format!("b-{index}"));
    }
    let took = world.until(seconds(100), |world| world.open().is_empty());
    assert!(took >= seconds(60), "{took:?}");
    assert_eq!(world.taken(), Vec::<&str>::new());
    let first = world.until(seconds(40), |world| world.taken().len() == 1);
    let second = world.until(seconds(40), |world| world.taken().len() == 2);
    assert!(first >= seconds(28) && second >= seconds(28), "2 a minute: {first:?}, {second:?}");
}

#[test]
fn a_storm_that_grows_stops_what_was_begun_and_keeps_what_stands() {
    let mut world = three_zones();
    world.stop("a-0");
    world.until(seconds(30), |world| world.state("a-0") == State::Acting);
    for index in 1..5 {
        world.stop(&format!("a-{index}"));
    }
    world.until(seconds(20), |world| world.open().contains_key("a"));
    assert_eq!(world.state("a-0"), State::Waiting);
    assert_eq!((world.taken(), world.of("a-0").pods), (vec!["a-0"], PodsPlan::default()));
}

#[test]
fn when_no_node_answers_everything_is_handed_back() {
    let mut world = three_zones();
    world.stop("a-0");
    world.until(seconds(30), |world| world.state("a-0") == State::Acting);
    world.stop("");
    world.until(seconds(20), |world| world.open().get("all") == Some(&true));
    assert_eq!(world.taken(), Vec::<&str>::new());
    assert!(world.of("a-0").waits_for.contains("all nodes are silent"));
    // Some return; the storm is not over for the others.
    world.start("b");
    world.run(seconds(50));
    assert_eq!(world.open().get("all"), Some(&false));
    assert_eq!(world.taken(), Vec::<&str>::new());
    world.start("a-1");
    for zone in ["a", "c"] {
        (2..10).for_each(|index| world.start(&format!("{zone}-{index}")));
    }
    world.until(seconds(150), |world| !world.taken().is_empty());
}

#[test]
fn that_a_renewal_is_late_is_no_sign_that_no_node_answers() {
    let mut world = World::new(rules("p"), &["a", "b"], 1);
    world.stop("b");
    world.until(seconds(30), |world| world.state("b-0") == State::Acting);
    world.stop("a");
    world.until(seconds(20), |world| world.state("a-0") == State::Suspect);
    world.run(seconds(2));
    assert_eq!(world.taken(), ["b-0"]);
    world.start("a");
    world.run(seconds(100));
    assert_eq!(world.taken(), ["b-0"]);
}

#[test]
fn that_no_node_answers_is_believed_of_live_reads_alone() {
    let mut world = three_zones();
    world.stop("a-0");
    world.until(seconds(30), |world| world.state("a-0") == State::Acting);
    world.stop("");
    for _ in 0..100 {
        world.now += TICK;
        // Of this one the live read has no answer, and of this one its kubelet answers.
        world.node("b-1").confirmed = false;
        world.node("b-2").doubt = Some("its kubelet answers".into());
        world.pass();
        assert_eq!(world.taken(), ["a-0"]);
    }
    assert_eq!(world.open().get("all"), Some(&false));
    world.run(seconds(1));
    assert_eq!(world.taken(), ["a-0"], "one node answers");
    world.node("b-2").doubt = None;
    world.until(seconds(5), |world| world.open().get("all") == Some(&true));
    assert_eq!(world.taken(), Vec::<&str>::new());
}

#[test]
fn a_restart_keeps_what_stands_and_begins_no_silence_earlier() {
    let mut world = three_zones();
    world.stop("a-3");
    world.until(seconds(60), |world| world.of("a-3").pods.evict.is_some());
    world.restart();
    world.pass();
    assert_eq!(world.state("a-3"), State::Suspect);
    assert_eq!((world.taken(), world.of("a-3").pods), (vec!["a-3"], PodsPlan::default()));
    let took = world.until(seconds(20), |world| world.state("a-3") == State::Acting);
    assert!(took >= seconds(14), "{took:?}");
    assert_eq!(world.taken(), ["a-3"]);
}

#[test]
fn a_node_that_flaps_is_kept_for_longer_each_time() {
    let mut world = three_zones();
    world.rules[0].flapping = Some(Flapping {
        count: 2,
        window: seconds(3600),
        quarantine: seconds(300),
        max_quarantine: seconds(500),
    });
    let mut flap = |kept: u64| {
        world.stop("a-3");
        world.until(seconds(100), |world| world.state("a-3") == State::Acting);
        world.start("a-3");
        let took = world.until(seconds(700), |world| world.state("a-3") == State::Healthy);
        let expected = seconds(kept)..seconds(kept + 25);
        assert!(expected.contains(&took), "{took:?}, not {expected:?}");
    };
    flap(9);
    flap(300);
    flap(500);
    world.run(seconds(3700));
    assert_eq!(world.node("a-3").record, Record::default(), "it is forgotten in the end");
}

#[test]
fn a_quarantined_node_waits_with_its_cordon() {
    let mut world = three_zones();
    let flapping =
        Flapping { count: 1, window: seconds(60), quarantine: seconds(300), max_quarantine: seconds(300) };
    world.rules[0].flapping = Some(flapping);
    world.stop("a-3");
    world.until(seconds(30), |world| world.state("a-3") == State::Acting);
    world.start("a-3");
    world.until(seconds(30), |world| world.state("a-3") == State::Quarantined);
    assert!(world.of("a-3").record.taken.as_ref().unwrap().cordon);
    world.run(seconds(200));
    assert_eq!(world.state("a-3"), State::Quarantined, "also when the flap is out of its window");
}

#[test]
fn a_node_that_no_policy_selects_any_more_is_handed_back_at_once() {
    let mut world = three_zones();
    world.stop("a-3");
    world.until(seconds(30), |world| world.state("a-3") == State::Acting);
    world.node("a-3").rules = None;
    world.pass();
    assert_eq!((world.state("a-3"), world.taken()), (State::Healthy, vec![]));
}

#[test]
fn limits_are_rounded_up() {
    assert_eq!(Limit::Percent(40).of(3), 2);
    assert_eq!(Limit::Percent(40).of(1), 1);
    assert_eq!(Limit::Percent(0).of(10), 0);
    assert_eq!(Limit::Nodes(4).of(2), 4);
}
