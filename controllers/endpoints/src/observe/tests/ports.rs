//! Ports that do not exist, and members that are one.

use super::*;

/// A Service with an address of its own, whose target port has a name.
fn world() -> World {
    World::new(json!({
        "clusterIP": "10.96.0.9", "clusterIPs": ["10.96.0.9"], "ipFamilies": ["IPv4"],
        "ports": [{"name": "http", "port": 80, "targetPort": "http"}],
    }))
}

/// Whether each member can be reached, and what is told, as reason and message.
fn reachable(observed: &Observed) -> (Vec<bool>, Vec<(&'static str, String)>) {
    let members = observed.members.iter().map(Member::is_ready).collect();
    (members, observed.refused.iter().map(|refused| (refused.reason, refused.message.clone())).collect())
}

#[test]
fn who_has_none_of_the_services_ports_is_not_reached_and_told() {
    let world = world();
    world.pod("ns", "a", "10.0.0.1", http(8080)).pod("ns", "b", "10.0.0.2", json!({"nodeName": "node"}));
    let (members, told) = reachable(&world.observe(selecting(None)));
    assert_eq!((members, told.len(), told[0].0), (vec![true, false], 1, "PortNotFound"));

    let outside = json!([{"name": "outside", "addresses": [{"ip": "192.0.2.1"}, {"ip": "192.0.2.2"}]}]);
    let (members, told) = reachable(&world.observe(outside));
    assert_eq!((members, told.len(), told[0].0), (vec![false, false], 1, "PortNotFound"));
    assert!(told[0].1.contains("\"http\""), "{told:?}");

    let numbered = json!([{"name": "outside", "addresses": [{"ip": "192.0.2.1"}], "ports": [{"name": "http", "port": 8080}]}]);
    assert_eq!(reachable(&world.observe(numbered)), (vec![true], vec![]));
    // Clients of a headless Service choose the port.
    let headless = World::v4();
    headless.pod("ns", "b", "10.0.0.2", json!({"nodeName": "node"}));
    assert_eq!(reachable(&headless.observe(selecting(None))).0, [true]);
}

#[test]
fn a_port_of_a_set_that_the_service_does_not_have_is_told() {
    let world = world();
    let set = json!([{"name": "outside", "addresses": [{"ip": "192.0.2.1"}],
        "ports": [{"name": "http", "port": 8080}, {"name": "htpp", "port": 8081}]}]);
    let (members, told) = reachable(&world.observe(set));
    assert_eq!((members, told.len(), told[0].0), (vec![true], 1, "PortNotFound"));
    assert!(told[0].1.contains("htpp"), "{told:?}");
}

#[test]
fn a_name_without_an_address_of_the_services_family_is_told() {
    let world = world();
    world.looks_up(&["db.example"]).answers("db.example", &["2001:db8::1"]);
    let set = json!([{"name": "names", "dnsNames": ["db.example"], "ports": [{"name": "http", "port": 1}]}]);
    let observed = world.observe(set);
    assert!(observed.members.is_empty());
    assert_eq!(observed.refused[0].reason, "FamilyNotServed");
}

#[test]
fn a_pod_that_is_selected_and_named_by_its_address_is_one_member() {
    let world = World::new(json!({"ipFamilies": ["IPv4"], "ports": [{"port": 80, "targetPort": 8080}]}));
    world.pod("ns", "a", "10.0.0.1", http(8080));
    let by_address = |tier| json!({"name": "by-address", "tier": tier, "addresses": [{"ip": "10.0.0.1"}]});
    let by_label =
        |tier| json!({"name": "by-label", "tier": tier, "podSelector": {"matchLabels": {"app": "web"}}});
    for (one, other, expected) in [(1, 0, "by-label"), (0, 0, "by-label"), (0, 1, "by-address")] {
        let observed = world.observe(json!([by_address(one), by_label(other)]));
        let sets: Vec<_> = observed.members.iter().map(|member| &*member.target.set).collect();
        assert_eq!(sets, [expected]);
    }
}

#[test]
fn a_pod_whose_node_is_gone_is_no_member_unless_all_pods_are_published() {
    for (publishes, members) in [(false, 0), (true, 1)] {
        let world = World::new(json!({
            "ipFamilies": ["IPv4"], "publishNotReadyAddresses": publishes, "ports": [{"port": 80, "targetPort": 8080}],
        }));
        world.pod("ns", "a", "10.0.0.1", json!({"nodeName": "gone"}));
        assert_eq!(world.observe(selecting(None)).members.len(), members);
    }
}

/// A pool of 21,600 addresses of names, all of which the DNS table keeps.
fn crowd(world: &World) -> Value {
    let large = (0..20).map(|name| (format!("a{name}.example"), 1000));
    let names: Vec<_> = large.chain((0..100).map(|name| (format!("b{name}.example"), 16))).collect();
    let all: Vec<_> = names.iter().map(|(name, _)| name.as_str()).collect();
    world.looks_up(&all);
    for (index, (name, count)) in names.iter().enumerate() {
        let addresses: Vec<_> =
            (0..*count).map(|host| format!("11.{index}.{}.{}", host / 250, host % 250)).collect();
        world.answers(name, &addresses.iter().map(String::as_str).collect::<Vec<_>>());
    }
    json!([{"name": "names", "dnsNames": all, "ports": [{"port": 80}]}])
}

#[test]
fn no_more_addresses_are_judged_than_a_pool_may_have_members() {
    let mut world = World::new(json!({"ipFamilies": ["IPv4"], "ports": [{"port": 80, "targetPort": 8080}]}));
    let members = crowd(&world);
    let observed = world.observe(members.clone());
    assert_eq!((observed.members.len(), observed.refused.len()), (20_000, 1));
    assert!(observed.refused[0].message.contains("21600"), "{:?}", observed.refused);
    world.forbidden = Forbidden(vec!["11.0.0.0/8".parse().unwrap()]);
    let observed = world.observe(members);
    assert_eq!((observed.members.len(), observed.refused.len()), (0, 20_001));
    assert_eq!(observed.refused[0].reason, "TooManyMembers", "what explains the rest is told first");
}

#[test]
fn where_there_are_too_many_members_those_that_stand_stay() {
    let world = World::new(json!({"ipFamilies": ["IPv4"], "ports": [{"port": 80, "targetPort": 8080}]}));
    let members = crowd(&world);
    let last = ["11.119.0.14", "11.119.0.15"];
    let is_member = |observed: &Observed, address: &str| {
        observed.members.iter().any(|member| member.target.address.to_string() == address)
    };
    assert!(last.iter().all(|address| !is_member(&world.observe(members.clone()), address)));
    let endpoints: Vec<_> = last.iter().map(|address| json!({"addresses": [address]})).collect();
    let slice: WatchedSlice = serde_json::from_value(json!({
        "metadata": {"name": "web-a", "namespace": "ns", "uid": "s", "labels": {"mainstay.dev/pool": "pool"}},
        "addressType": "IPv4", "ports": [], "endpoints": endpoints,
    }))
    .unwrap();
    world.stores.slices.apply(Event::Apply(slice.into()), |_| {});
    let observed = world.observe(members);
    assert!(last.iter().all(|address| is_member(&observed, address)));
    assert_eq!(observed.members.len(), 20_000);
}

#[test]
fn no_pool_has_more_members_than_it_may_have() {
    let world = World::new(json!({"ipFamilies": ["IPv4"], "ports": [{"port": 80, "targetPort": 8080}]}));
    let names: Vec<_> = (0..41).map(|name| format!("{name}.example")).collect();
    world.looks_up(&names.iter().map(String::as_str).collect::<Vec<_>>());
    for (index, name) in names.iter().enumerate() {
        let addresses: Vec<_> =
            (0..500).map(|host| format!("11.{index}.{}.{}", host / 250, host % 250)).collect();
        world.answers(name, &addresses.iter().map(String::as_str).collect::<Vec<_>>());
    }
    let observed = world.observe(json!([{"name": "names", "dnsNames": names}]));
    assert_eq!((observed.members.len(), observed.refused[0].reason), (20_000, "TooManyMembers"));
}
