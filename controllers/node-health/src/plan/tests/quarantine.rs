//! What a quarantine that was written down is worth.

use super::*;

/// A node that was acted on and is to stay in quarantine until then.
fn quarantined(until: Duration) -> World {
    let mut world = three_zones();
    let flapping =
        Flapping { count: 1, window: seconds(60), quarantine: seconds(300), max_quarantine: seconds(300) };
    world.rules[0].flapping = Some(flapping);
    world.stop("a-3");
    world.until(seconds(30), |world| world.state("a-3") == State::Acting);
    world.start("a-3");
    world.until(seconds(30), |world| world.state("a-3") == State::Quarantined);
    let until = world.now().wall + until;
    world.node("a-3").record.quarantined_until = Some(until);
    world
}

#[test]
fn one_that_was_written_under_a_clock_that_was_ahead_is_no_longer_than_any() {
    let mut world = quarantined(seconds(86_400));
    let took = world.until(seconds(400), |world| world.state("a-3") == State::Healthy);
    assert!((seconds(299)..=seconds(302)).contains(&took), "{took:?}");
    let mut world = quarantined(seconds(100));
    let took = world.until(seconds(400), |world| world.state("a-3") == State::Healthy);
    assert!((seconds(99)..=seconds(102)).contains(&took), "{took:?}");
}

#[test]
fn none_is_left_when_no_node_answers() {
    let mut world = quarantined(seconds(300));
    world.stop("");
    world.until(seconds(60), |world| world.open().get("all") == Some(&true));
    assert_eq!(world.taken().len(), 0);
    assert_eq!(world.node("a-3").record.quarantined_until, None);
}

#[test]
fn nothing_is_kept_of_a_quarantine_that_ends_after_the_last_flap_is_forgotten() {
    let mut world = quarantined(seconds(300));
    assert_eq!(world.node("a-3").record.quarantines, 1);
    world.until(seconds(310), |world| world.state("a-3") == State::Healthy);
    let record = &world.node("a-3").record;
    assert_eq!((record.quarantined_until, record.quarantines), (None, 0), "{record:?}");
}
