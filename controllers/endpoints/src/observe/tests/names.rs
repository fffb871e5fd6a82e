//! What DNS names stand for, and what they stood for.

use super::*;

/// The addresses that were exchanged.
fn exchanged(world: &World, members: Value) -> Vec<String> {
    let exchanged = world.observe(members).exchanged;
    exchanged.iter().map(|kept| kept.endpoint.address.to_string()).collect()
}

#[test]
fn an_address_that_a_name_does_not_have_any_more_was_exchanged() {
    let world = World::v4();
    world.looks_up(&["a.example"]);
    world.stands(&[("names", "a.example", "10.9.0.1"), ("names", "b.example", "10.9.0.2")], &["10.9.0.3"]);
    let of = |set: &str| {
        let mut members = named(&["a.example"]);
        members[0]["name"] = json!(set);
        exchanged(&world, members)
    };
    assert_eq!(of("names"), strings(&[]), "it is not known what it stands for");
    world.answers("a.example", &["10.9.0.4"]);
    assert_eq!(of("names"), strings(&["10.9.0.1"]), "the other is no name of the pool");
    assert_eq!(of("renamed"), strings(&[]));
    world.answers("a.example", &["10.9.0.4", "10.9.0.1"]);
    assert_eq!(of("names"), strings(&[]));
}

#[test]
fn what_the_pool_may_not_use_is_not_kept_either() {
    let mut world = World::v4();
    world.looks_up(&["a.example"]);
    world.stands(&[("names", "a.example", "10.9.0.1"), ("names", "a.example", "10.9.0.2")], &[]);
    world.answers("a.example", &["10.9.0.4"]);
    world.forbidden = Forbidden(vec!["10.9.0.1/32".parse().unwrap()]);
    world.pod("other", "a", "10.9.0.2", http(8080));
    assert_eq!(exchanged(&world, named(&["a.example"])), strings(&[]));
    world.grant("other", json!({"namespace": "ns"}));
    assert_eq!(exchanged(&world, named(&["a.example"])), strings(&["10.9.0.2"]));
}
