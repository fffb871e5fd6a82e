//! Nodes that were taken by a policy which is there and cannot be read.

use super::*;
use crate::record::Taken;

/// Of another policy, which cannot be read.
fn unread(world: &mut World, name: &str) {
    let since = Some(world.now().wall);
    let node = world.node(name);
    node.record.taken = Some(Taken { policy: "other".into(), since, cordon: true, ..Taken::default() });
    node.unread = true;
}

#[test]
fn they_are_kept_as_they_are_and_say_why() {
    let mut world = three_zones();
    unread(&mut world, "a-0");
    let stands = world.node("a-0").record.clone();
    world.run(seconds(300));
    let planned = world.of("a-0");
    assert_eq!(
        (&planned.record, planned.state, planned.pods),
        (&stands, State::Suspect, PodsPlan::default())
    );
    assert!(planned.waits_for.contains("NodeHealthPolicy other"), "{}", planned.waits_for);
    assert_eq!(world.open().len(), 0, "one is no storm");
}

#[test]
fn breakers_count_them_as_out_of_use() {
    for are_unread in [false, true] {
        let mut world = three_zones();
        for index in 0..4 {
            if are_unread {
                unread(&mut world, &format!("a-{index}"));
            }
        }
        world.pass();
        world.stop("a-4");
        world.run(seconds(60));
        assert_eq!(world.open().contains_key("a"), are_unread);
        assert_eq!(world.state("a-4") == State::Acting, !are_unread);
    }
}

#[test]
fn one_of_the_control_plane_is_the_one_that_may_be_taken() {
    for (dry_run, selected) in [(false, Some(0)), (false, None), (true, None)] {
        let mut world = three_zones();
        world.rules[0].dry_run = dry_run;
        ["a-0", "b-0"].iter().for_each(|name| world.node(name).control_plane = true);
        unread(&mut world, "a-0");
        world.node("a-0").rules = selected;
        world.stop("b-0");
        world.run(seconds(60));
        assert_eq!(world.state("b-0"), State::Waiting);
        assert!(
            world.of("b-0").waits_for.contains("control plane node a-0"),
            "{}",
            world.of("b-0").waits_for
        );
    }
}

#[test]
fn one_that_answers_keeps_what_was_taken_when_no_other_does() {
    for answers in [true, false] {
        let mut world = three_zones();
        unread(&mut world, "a-0");
        world.node("a-0").rules = None;
        ["b", "c"].iter().for_each(|zone| world.stop(zone));
        (usize::from(answers)..10).for_each(|index| world.stop(&format!("a-{index}")));
        world.run(seconds(60));
        assert_eq!(world.open().get("all"), Some(&!answers));
    }
}
