//! Endpoints of DNS names.

use super::*;

/// A name that stood for 10.0.0.9, which serves, and stands for 10.0.0.1 now, of which the check says this.
fn exchanged(verdict: Verdict) -> Case {
    let named = |address| Member { name: Some("db.example".into()), ..outside(0, address) };
    let before = Case::of(vec![named("10.0.0.9")]).checked(&[Verdict::Passing]).plan(NOW);
    let slice = written(&before);
    let mut case = Case::of(vec![named("10.0.0.1")]).checked(&[verdict]);
    case.states.iter_mut().flat_map(HashMap::values_mut).for_each(|state| state.since = NOW);
    let (endpoint, origin) = (slice.endpoints[0].clone(), ("set".into(), "db.example".into()));
    case.exchanged = vec![Kept { group: slice.group.clone(), endpoint, origin, tier: Some(0) }];
    case.slices = vec![slice];
    case.memory = before.memory;
    case
}

#[test]
fn an_address_that_was_exchanged_stays_until_the_new_one_has_its_verdict() {
    let serves = [true, true, false];
    let stays = expect(&[("10.0.0.9", serves)]);
    let waiting = exchanged(Verdict::Unknown);
    assert_eq!(waiting.conditions(NOW), stays);
    assert_eq!(waiting.plan(NOW).exchanged, 1);
    assert_eq!(exchanged(Verdict::Passing).conditions(NOW), expect(&[("10.0.0.1", serves)]));
    assert_eq!(exchanged(Verdict::Failing).conditions(NOW), expect(&[("10.0.0.1", [true, false, false])]));
    let mut unchecked = exchanged(Verdict::Unknown);
    unchecked.states = None;
    assert_eq!(unchecked.conditions(NOW), expect(&[("10.0.0.1", serves)]), "there is no verdict to wait for");
}

#[test]
fn an_address_that_was_exchanged_waits_for_no_longer_than_some_seconds() {
    let mut case = exchanged(Verdict::Unknown);
    let plan = case.plan(NOW);
    assert!(plan.due.is_some_and(|due| due <= NOW + SUCCESSION));
    case.memory = plan.memory;
    assert_eq!(case.conditions(NOW + SUCCESSION - Duration::from_millis(1)).len(), 1);
    assert_eq!(case.conditions(NOW + SUCCESSION), []);
}

#[test]
fn an_address_that_another_name_has_lost_waits_for_nothing() {
    let mut case = exchanged(Verdict::Unknown);
    case.members[0].name = Some("other.example".into());
    assert_eq!(case.conditions(NOW), []);
    // Nor does one of a name that has an endpoint already: it serves.
    let mut case = exchanged(Verdict::Unknown);
    let new =
        Endpoint { conditions: case.exchanged[0].endpoint.conditions, ..outside(0, "10.0.0.1").endpoint };
    case.slices = vec![slice(vec![case.exchanged[0].endpoint.clone(), new])];
    assert!(case.conditions(NOW).iter().all(|(address, _)| address == "10.0.0.1"));
}
