//! Endpoints of DNS names.

use super::*;

fn awaited(tier: u8) -> Awaited {
    Awaited { set: "names".into(), tier, name: "db.example".into() }
}

#[test]
fn what_a_name_that_is_still_unknown_may_have_stays_as_it_stands() {
    let conditions = Conditions { ready: true, serving: true, terminating: false };
    let endpoint = Endpoint { conditions, ..outside(0, "10.0.0.9").endpoint };
    let group = Group { family: Family::V4, ports: ports() };
    let mut case = Case::of(vec![outside(1, "10.0.0.1")]);
    case.slices = vec![slice(vec![endpoint.clone()])];
    case.drain = Duration::from_secs(10);
    case.kept = vec![Kept { group, endpoint, origin: Default::default(), tier: None }];
    case.awaited = vec![awaited(0)];
    case.memory.choice.tier = Some(0);
    let stands = expect(&[("10.0.0.1", [false, true, false]), ("10.0.0.9", [true, true, false])]);
    assert_eq!(case.conditions(NOW), stands);
    // After the time for a first verdict the next tier takes over, and two are never used at once.
    case.memory = case.plan(NOW).memory;
    let moved = expect(&[("10.0.0.1", [true, true, false]), ("10.0.0.9", [false, true, false])]);
    let later = NOW + Duration::from_secs(2);
    assert_eq!(case.conditions(later), moved);
    // It once was ready again when the plan was not carried out.
    case.memory = case.plan(later).memory;
    assert_eq!(case.conditions(later), moved, "the slice still says that it is ready");
}

#[test]
fn what_stays_gets_traffic_while_its_tier_is_in_use_whoever_leads() {
    let named = Member { name: Some("old.example".into()), ..outside(0, "10.0.0.9") };
    let before = Case::of(vec![named, outside(1, "10.0.0.1")]).plan(NOW);
    let slice = written(&before);
    let tier = slice.notes.as_ref().and_then(|notes| notes.tiers.get("set").copied());
    assert_eq!(tier, Some(0));
    let conditions = |tier_in_use: u8, ready: bool| {
        let stands = Conditions { ready, serving: true, terminating: false };
        let endpoint = Endpoint { conditions: stands, ..outside(0, "10.0.0.9").endpoint };
        let mut case = Case::of(vec![outside(tier_in_use, "10.0.0.1")]);
        case.slices = vec![noted_slice(vec![endpoint.clone()], &before.noted)];
        let origin = ("set".into(), "old.example".into());
        case.kept = vec![Kept { group: slice.group.clone(), endpoint, origin, tier }];
        // What a new leader finds in the status.
        case.memory.choice.tier = Some(tier_in_use);
        let plan = case.plan(NOW);
        assert_eq!(plan.noted.tiers.get("set"), Some(&0), "it is noted on");
        case.conditions(NOW).pop().unwrap().1[0]
    };
    let all = [(1, true), (1, false), (0, true), (0, false)].map(|(tier, ready)| conditions(tier, ready));
    assert_eq!(all, [false, false, true, true]);
}

#[test]
fn a_new_pool_waits_for_the_names_of_its_best_tier() {
    let mut case = Case::of(vec![outside(1, "10.0.0.1")]);
    case.awaited = vec![awaited(0)];
    let plan = case.plan(NOW);
    assert_eq!((plan.choice.tier, plan.choice.uses.len()), (None, 1));
    assert_eq!(plan.due, Some(NOW + Duration::from_secs(2)));
    case.memory = plan.memory;
    assert_eq!(case.plan(NOW + Duration::from_secs(2)).choice.tier, Some(1), "not for ever");
}

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
