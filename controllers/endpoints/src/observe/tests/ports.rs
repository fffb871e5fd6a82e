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
        let sets: Vec<_> = observed.members.iter().map(|member| &*member.target.0).collect();
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
