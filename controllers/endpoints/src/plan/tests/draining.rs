//! Endpoints that leave.

use super::*;
use crate::settings::MAX_MEMBERS;

const SERVING: Conditions = Conditions { ready: true, serving: true, terminating: false };

#[test]
fn who_leaves_while_its_server_runs_is_drained_for_its_time() {
    let left = Endpoint { conditions: SERVING, ..outside(0, "10.0.0.2").endpoint };
    let mut case = Case::of(vec![outside(0, "10.0.0.1")]);
    case.slices = vec![slice(vec![left])];
    let stays = expect(&[("10.0.0.1", [true, true, false])]);
    assert_eq!(case.conditions(NOW), stays, "without a time it goes at once");

    case.drain = Duration::from_secs(10);
    let drains = expect(&[("10.0.0.1", [true, true, false]), ("10.0.0.2", [false, true, true])]);
    assert_eq!(case.conditions(NOW), drains);
    let plan = case.plan(NOW);
    assert_eq!(plan.due, Some(NOW + Duration::from_secs(10)));
    case.memory = plan.memory;
    assert_eq!(case.conditions(NOW + Duration::from_secs(9)), drains, "the time is not counted anew");
    assert_eq!(case.conditions(NOW + Duration::from_secs(10)), stays);

    case.memory = Memory::default();
    case.runs = false;
    assert_eq!(case.conditions(NOW), stays, "a server that is gone needs no draining");
}

#[test]
fn nobody_drains_beside_who_took_its_place_at_its_address() {
    let mut case = Case::of(vec![outside(0, "10.0.0.1"), pod("b", "10.0.0.2", true, false)]);
    let left = |member: Member| Endpoint { conditions: SERVING, ..member.endpoint };
    // It was selected and is an address now, it had another name, and another pod has its address now.
    let named = Endpoint { hostname: Some("first".into()), ..left(outside(0, "10.0.0.1")) };
    let old = [left(pod("a", "10.0.0.1", true, false)), named, left(pod("a", "10.0.0.2", true, false))];
    case.slices = vec![slice(old.to_vec())];
    case.drain = Duration::from_secs(10);
    let successors = expect(&[("10.0.0.1", [true, true, false]), ("10.0.0.2", [true, true, false])]);
    assert_eq!(case.conditions(NOW), successors);
}

#[test]
fn no_more_endpoints_drain_than_a_pool_may_have_members() {
    let mut case = Case::of(vec![]);
    let address = |index: usize| format!("10.{}.{}.{}", index / 62_500, index / 250 % 250, index % 250);
    let left = |index| Endpoint { conditions: SERVING, ..outside(0, &address(index)).endpoint };
    case.slices = vec![slice((0..MAX_MEMBERS + 2).map(left).collect())];
    case.drain = Duration::from_secs(10);
    assert_eq!(case.plan(NOW).memory.draining.len(), MAX_MEMBERS);
}
