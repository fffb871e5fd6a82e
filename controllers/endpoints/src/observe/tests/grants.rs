//! Grants that cannot be decoded: what they allow is not known to who has never read them.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use mainstay_runtime::decode::Undecodable;

use super::*;

/// Two pods of another namespace, whose grant nobody can read.
fn world() -> World {
    let world = World::v4();
    world.pod("other", "a", "10.0.0.1", http(8080)).pod("other", "b", "10.0.0.2", http(8080));
    let metadata =
        ObjectMeta { name: Some("grant".into()), namespace: Some("other".into()), ..ObjectMeta::default() };
    let (field, error) = ("spec.from".to_owned(), "too much".to_owned());
    let undecodable = Undecodable { metadata, field, error, conditions: vec![] };
    world.stores.undecoded_grants.put(undecodable, None);
    world
}

/// Has a slice of the pool hold the address of pod `a`, as that of the pod of this UID or of nobody.
fn stands(world: &World, uid: Option<&str>, terminating: bool) {
    let conditions = json!({"ready": !terminating, "serving": true, "terminating": terminating});
    let mut endpoint = json!({"addresses": ["10.0.0.1"], "conditions": conditions});
    if let Some(uid) = uid {
        endpoint["targetRef"] = json!({"kind": "Pod", "namespace": "other", "name": "a", "uid": uid});
    }
    let slice = json!({
        "metadata": {
            "name": "web-a", "namespace": "ns", "uid": "s", "labels": {"mainstay.dev/pool": "pool"},
        },
        "addressType": "IPv4", "ports": [], "endpoints": [endpoint],
    });
    let slice: WatchedSlice = serde_json::from_value(slice).unwrap();
    world.stores.slices.apply(Event::Apply(slice.into()), |_| {});
}

#[test]
fn what_stands_stays_while_a_grant_cannot_be_read_and_nothing_is_added() {
    let world = world();
    let selected = || world.seen(selecting(Some("other")));
    let named = || world.seen(addresses(&["10.0.0.1", "10.0.0.2"]));
    let unread = vec!["GrantUnreadable"; 2];
    assert_eq!((selected(), named()), ((vec![], unread.clone()), (vec![], unread.clone())));
    stands(&world, Some("a"), false);
    let kept = (vec![member("10.0.0.1", 8080)], unread.clone());
    assert_eq!(selected(), kept);
    let observed = world.observe(selecting(Some("other")));
    assert_eq!(observed.refused.iter().map(|refused| refused.left_out).collect::<Vec<_>>(), [false, true]);
    stands(&world, None, false);
    assert_eq!(named(), kept);
    // One that drains was refused before, and one of another UID was another pod.
    for (uid, terminating) in [(Some("a"), true), (Some("b"), false)] {
        stands(&world, uid, terminating);
        assert_eq!(selected(), (vec![], unread.clone()));
    }
}

#[test]
fn a_grant_that_was_read_before_counts_as_it_was() {
    let world = world();
    stands(&world, Some("a"), false);
    world.grant("other", json!({"namespace": "elsewhere"}));
    assert_eq!(world.seen(selecting(Some("other"))), (vec![], vec!["NotGranted"; 2]));
    world.grant("other", json!({"namespace": "ns"}));
    assert_eq!(world.seen(selecting(Some("other"))).0.len(), 2);
}

#[test]
fn what_is_forbidden_does_not_drain() {
    let world = World::v4();
    world.pod("other", "a", "10.0.0.1", http(8080)).grant("other", json!({"namespace": "ns"}));
    let by_label = world.observe(selecting(Some("other"))).members.remove(0).endpoint;
    let by_address = world.observe(addresses(&["10.0.0.1"])).members.remove(0).endpoint;
    let outside = Endpoint { address: "192.0.2.1".parse().unwrap(), ..by_address.clone() };
    let may_drain = |world: &World, endpoint: &Endpoint| {
        may_drain(&ObjectKey::new("ns", "pool"), endpoint, &world.view())
    };
    for endpoint in [&by_label, &by_address, &outside] {
        assert!(may_drain(&world, endpoint), "{endpoint:?}");
    }
    let mut world = World { forbidden: Forbidden(vec!["192.0.2.0/24".parse().unwrap()]), ..world };
    assert!(!may_drain(&world, &outside), "the operator forbids it now");
    world.grant("other", json!({"namespace": "elsewhere"}));
    assert!(!may_drain(&world, &by_label) && !may_drain(&world, &by_address), "the grant is withdrawn");
    world.forbidden = Forbidden::default();
    assert!(may_drain(&world, &outside));
}
