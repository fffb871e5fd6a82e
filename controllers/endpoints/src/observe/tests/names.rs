//! What DNS names stand for, and what they stood for.

use super::*;

impl World {
    /// Has a slice of the pool hold these addresses, which came from these names of these sets.
    fn stands(&self, origins: &[(&str, &str, &str)], outside: &[&str]) {
        let mut notes = Notes::default();
        for (set, name, address) in origins {
            let names = notes.names.entry((*set).into()).or_default();
            names.entry((*name).into()).or_default().insert(address.parse().unwrap());
        }
        let addresses = origins.iter().map(|origin| origin.2).chain(outside.iter().copied());
        let endpoints: Vec<_> = addresses.map(|address| json!({"addresses": [address]})).collect();
        let slice = json!({
            "metadata": {
                "name": "web-a", "namespace": "ns", "uid": "s",
                "labels": {"mainstay.dev/pool": "pool"}, "annotations": {NOTES: notes.text()},
            },
            "addressType": "IPv4", "endpoints": endpoints, "ports": [{"name": "", "port": 5432, "protocol": "TCP"}],
        });
        let slice: WatchedSlice = serde_json::from_value(slice).unwrap();
        self.stores.slices.apply(Event::Apply(slice.into()), |_| {});
    }

    /// The addresses of members, and those that are kept beside them.
    fn addresses(&self, members: Value) -> (Vec<String>, Vec<String>) {
        let observed = self.observe(members);
        let members = observed.members.iter().map(|member| member.target.address.to_string());
        let kept = observed.kept.iter().map(|kept| kept.endpoint.address.to_string());
        (members.collect(), kept.collect())
    }
}

fn named(names: &[&str]) -> Value {
    json!([{"name": "names", "dnsNames": names, "ports": [{"port": 5432}]}])
}

fn strings(all: &[&str]) -> Vec<String> {
    all.iter().map(|text| (*text).to_owned()).collect()
}

#[test]
fn a_name_that_is_not_known_yet_is_no_member_and_no_failure_and_is_waited_for() {
    let world = World::v4();
    world.looks_up(&["db.example.com"]);
    assert_eq!(world.seen(named(&["db.example.com"])), (vec![], vec![]));
    let awaited = world.observe(named(&["db.example.com"])).awaited;
    assert_eq!(awaited.iter().map(|name| &*name.name).collect::<Vec<_>>(), ["db.example.com"]);
}

#[test]
fn a_name_that_nobody_has_answered_for_has_the_addresses_that_it_had() {
    let world = World::v4();
    world.looks_up(&["a.example", "b.example"]);
    world.stands(&[("names", "a.example", "10.9.0.1"), ("names", "b.example", "10.9.0.2")], &[]);
    let both = || world.addresses(named(&["a.example", "b.example"]));
    assert_eq!(both(), (strings(&["10.9.0.1", "10.9.0.2"]), vec![]));
    let observed = world.observe(named(&["a.example", "b.example"]));
    assert_eq!((observed.members[0].name.as_deref(), observed.awaited), (Some("a.example"), vec![]));
    world.answers("a.example", &["10.9.0.3"]);
    assert_eq!(both(), (strings(&["10.9.0.3", "10.9.0.2"]), vec![]), "one name's answer is no other's");
}

#[test]
fn addresses_of_a_name_stay_until_the_one_in_its_place_is_known() {
    let world = World::v4();
    world.looks_up(&["new.example"]);
    world.stands(&[("names", "old.example", "10.9.0.1")], &[]);
    assert_eq!(world.addresses(named(&["new.example"])), (strings(&["10.9.0.1"]), vec![]));
    let mut renamed = named(&["new.example"]);
    renamed[0]["name"] = json!("renamed");
    assert_eq!(world.addresses(renamed.clone()), (vec![], strings(&["10.9.0.1"])));
    world.answers("new.example", &["10.9.0.2"]);
    assert_eq!(world.addresses(named(&["new.example"])), (strings(&["10.9.0.2"]), vec![]));
    assert_eq!(world.addresses(renamed), (strings(&["10.9.0.2"]), vec![]));
}

// It once was so that any unknown name of the pool kept what any set had before.
#[test]
fn a_name_that_was_taken_out_does_not_wait_for_a_name_that_stood_beside_it() {
    let world = World::v4();
    world.looks_up(&["a.example", "other.example"]);
    world.stands(&[("names", "a.example", "10.9.0.1"), ("names", "old.example", "10.9.0.2")], &[]);
    let mut members = named(&["a.example"]);
    assert_eq!(world.addresses(members.clone()), (strings(&["10.9.0.1"]), vec![]), "nothing took its place");
    let mut other = named(&["other.example"])[0].clone();
    other["name"] = json!("others");
    members.as_array_mut().unwrap().push(other);
    assert_eq!(world.addresses(members), (strings(&["10.9.0.1"]), vec![]), "nor does a name of another set");
}

#[test]
fn a_name_that_was_taken_out_waits_for_a_limited_time() {
    let world = World::v4();
    world.looks_up(&["new.example", "a.example"]);
    world.stands(&[("names", "old.example", "10.9.0.1"), ("names", "a.example", "10.9.0.2")], &[]);
    let spec = named(&["new.example", "a.example"]);
    let mut renamed = spec.clone();
    renamed[0]["name"] = json!("renamed");
    for name in ["new.example", "a.example"] {
        world.lookups.fail(name, GIVEN_UP - 1);
    }
    let both = strings(&["10.9.0.2", "10.9.0.1"]);
    assert_eq!(world.addresses(spec.clone()), (both, vec![]));
    let replaced: Vec<_> = world.observe(spec.clone()).replaced.into_iter().collect();
    assert_eq!(replaced, [("names".into(), "old.example".into())]);
    assert_eq!(world.addresses(renamed.clone()), (strings(&["10.9.0.2"]), strings(&["10.9.0.1"])));
    for name in ["new.example", "a.example"] {
        world.lookups.fail(name, 1);
    }
    let stays = (strings(&["10.9.0.2"]), vec![]);
    assert_eq!(world.addresses(spec), stays, "what the spec has is kept without a limit");
    assert_eq!(world.addresses(renamed), stays);
}

#[test]
fn what_the_spec_takes_out_goes_although_a_name_is_unknown() {
    let world = World::v4();
    world.looks_up(&["a.example"]);
    world.stands(&[("names", "a.example", "10.9.0.1")], &["10.9.0.2"]);
    let kept = (strings(&["10.9.0.1"]), vec![]);
    assert_eq!(world.addresses(named(&["a.example"])), kept, "it was in a list of addresses");
    assert_eq!(
        world.addresses(addresses(&["10.9.0.3"])),
        (strings(&["10.9.0.3"]), vec![]),
        "no name is left"
    );
    world.answers("a.example", &["10.9.0.1"]);
    world.stands(&[("names", "a.example", "10.9.0.1"), ("names", "b.example", "10.9.0.2")], &[]);
    assert_eq!(world.addresses(named(&["a.example"])), kept, "no name is pending");
}

#[test]
fn addresses_that_stand_are_judged_like_others() {
    let world = World::v4();
    world.looks_up(&["a.example", "new.example"]);
    world.stands(&[("names", "a.example", "169.254.0.1"), ("gone", "b.example", "10.9.0.1")], &[]);
    let observed = world.observe(named(&["a.example", "new.example"]));
    assert_eq!((observed.members.len(), observed.refused[0].reason), (0, "RangeForbidden"));
    assert_eq!(observed.kept.len(), 0, "the set is gone, and no new one took its place");
}

#[test]
fn without_notes_everything_that_may_be_a_names_is_kept() {
    let world = World::v4();
    world.looks_up(&["a.example"]);
    world.stands(&[], &["10.9.0.1", "10.9.0.2"]);
    let slice = world.stores.slices.bucket(&ObjectKey::new("ns", "pool")).remove(0);
    let stripped = json!({
        "metadata": {"name": "web-a", "namespace": "ns", "uid": "s", "labels": slice.labels},
        "addressType": "IPv4", "ports": [],
        "endpoints": [{"addresses": ["10.9.0.1"]}, {"addresses": ["10.9.0.2"]}],
    });
    let stripped: WatchedSlice = serde_json::from_value(stripped).unwrap();
    world.stores.slices.apply(Event::Apply(stripped.into()), |_| {});
    let mut members = addresses(&["10.9.0.2"]);
    members.as_array_mut().unwrap().extend(named(&["a.example"]).as_array().unwrap().clone());
    assert_eq!(world.addresses(members.clone()), (strings(&["10.9.0.2"]), strings(&["10.9.0.1"])));
    world.answers("a.example", &["10.9.0.3"]);
    assert_eq!(world.addresses(members), (strings(&["10.9.0.2", "10.9.0.3"]), vec![]));
}

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
