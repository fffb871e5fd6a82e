//! Nodes that post their status and have no Lease.

use super::*;

fn without_lease() -> World {
    let mut world = three_zones();
    world.node("a-3").heartbeat.interval = None;
    world
}

#[test]
fn one_that_posts_its_status_is_healthy() {
    let mut world = without_lease();
    world.run(seconds(200));
    assert_eq!(world.state("a-3"), State::Healthy);
}

#[test]
fn one_that_does_not_is_acted_on_and_restored_when_it_posts_again() {
    let mut world = without_lease();
    world.stop("a-3");
    let took = world.until(seconds(70), |world| world.state("a-3") == State::Acting);
    assert!(took >= seconds(50), "{took:?}");
    assert!(world.of("a-3").why.contains("has not posted its status"), "{}", world.of("a-3").why);
    world.start("a-3");
    world.until(seconds(12), |world| world.state("a-3") == State::Healthy);
    assert_eq!(world.node("a-3").record, Record::default());
}
