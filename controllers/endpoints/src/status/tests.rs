//! What a pool's status says.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use mainstay_runtime::outcome::Failures;
use serde_json::json;

use super::*;
use crate::{
    checker::{State, Target},
    choose::{self, Choice},
    health,
    observe::{Awaited, CHECK_PORT_NOT_FOUND, Member, Observed, Refused},
    plan::{Memory, Noted, Plan},
    watched::{Conditions, Endpoint, WatchedService},
};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn pool(status: Option<EndpointPoolStatus>) -> EndpointPool {
    let mut pool: EndpointPool = serde_json::from_value(json!({
        "apiVersion": "mainstay.dev/v1alpha1", "kind": "EndpointPool",
        "metadata": {"name": "web", "namespace": "ns", "generation": 3},
        "spec": {"serviceRef": {"name": "web"}, "members": [{"name": "set", "addresses": [{"ip": "10.0.0.1"}]}]},
    }))
    .unwrap();
    pool.status = status;
    pool
}

fn member(tier: u8, index: usize) -> Member {
    let address = format!("10.0.{tier}.{index}").parse().unwrap();
    let endpoint = Endpoint {
        address,
        conditions: Conditions::default(),
        hostname: None,
        node: None,
        zone: None,
        target: None,
        hint_zone: None,
        hint_node: None,
    };
    Member {
        target: Target { set: "set".into(), address, pod: None },
        tier,
        pod: None,
        name: None,
        ports: Arc::default(),
        is_reachable: true,
        check_port: None,
        endpoint,
    }
}

fn tier(tier: u8, serving: usize, healthy: usize) -> TierState {
    TierState { tier, members: serving, serving, healthy, ..TierState::default() }
}

/// The status of a pool whose members are used so.
fn status_of(
    pool: &EndpointPool,
    tiers: Vec<TierState>,
    uses: &[(u8, Use)],
    refused: Vec<Refused>,
) -> EndpointPoolStatus {
    status_with(pool, tiers, uses, refused, vec![], &[])
}

fn status_with(
    pool: &EndpointPool,
    tiers: Vec<TierState>,
    uses: &[(u8, Use)],
    refused: Vec<Refused>,
    awaited: Vec<Awaited>,
    replaced: &[(&str, &str)],
) -> EndpointPoolStatus {
    let service = serde_json::from_value::<WatchedService>(json!({"metadata": {"name": "web"}})).unwrap();
    let members = uses.iter().enumerate().map(|(index, (tier, _))| member(*tier, index)).collect();
    let observed = Observed {
        service: Ok(Arc::new(service.into())),
        members,
        refused,
        awaited,
        replaced: replaced.iter().map(|(set, name)| ((*set).into(), (*name).into())).collect(),
        kept: vec![],
        exchanged: vec![],
        slices: vec![],
    };
    let used = uses.iter().find(|(_, used)| used.is_used()).map(|(tier, _)| *tier);
    let uses: Vec<_> = uses.iter().map(|(_, used)| *used).collect();
    let panic = uses.contains(&Use::KeptDespiteFailing);
    let choice = Choice { uses, tier: used, panic, memory: choose::Memory::default(), due: None, tiers };
    let noted = Noted::default();
    let plan =
        Plan { wanted: BTreeMap::new(), noted, choice, memory: Memory::default(), exchanged: 0, due: None };
    let failure = mainstay_probe::Failure::Status(503);
    let state = State { verdict: health::Verdict::Failing, since: Duration::ZERO, failure: Some(failure) };
    let states = observed.members.iter().map(|member| (member.target.clone(), state.clone())).collect();
    let seen = Seen {
        pool,
        observed: &observed,
        plan: &plan,
        states: Some(&states),
        failures: &Failures::default(),
        slices: 1,
    };
    super::observed(&seen, at(1000))
}

fn head<'a>(status: &'a EndpointPoolStatus, kind: &str) -> (&'a str, &'a str, &'a str) {
    let condition = status.conditions.iter().find(|condition| condition.type_ == kind).unwrap();
    (&condition.status, &condition.reason, &condition.message)
}

#[test]
fn a_pool_that_serves_says_who_is_missing_and_why() {
    let uses = [(0, Use::InUse), (0, Use::Failing), (0, Use::NotReady), (1, Use::Standby)];
    let status = status_of(&pool(None), vec![tier(0, 3, 1), tier(1, 1, 1)], &uses, vec![]);
    let (ready, reason, message) = head(&status, "Ready");
    assert_eq!((ready, reason), ("True", "Serving"));
    assert!(message.starts_with("1 of 4 members are in use; failing: 1, pods not ready: 1"), "{message}");
    assert_eq!((status.tier, status.tier_since), (Some(0), Some(Time(at(1000)))));
    let out: Vec<_> = status.out.iter().map(|out| (out.reason.as_str(), out.address.as_str())).collect();
    assert_eq!(out, [("CheckFailed", "10.0.0.1"), ("PodNotReady", "10.0.0.2")]);
    assert!(status.out[0].message.as_deref().is_some_and(|text| text.contains("503")));
    assert_eq!(status.out[1].message, None, "a pod that is not ready is not judged by an old check");
    assert_eq!((status.observed_generation, status.slices), (3, 1));
}

#[test]
fn nothing_to_use_is_told_apart() {
    let reason =
        |uses: &[(u8, Use)]| head(&status_of(&pool(None), vec![], uses, vec![]), "Ready").1.to_owned();
    assert_eq!(reason(&[]), "NoMembers");
    assert_eq!(reason(&[(0, Use::Unchecked), (0, Use::Failing)]), "AwaitingChecks");
    assert_eq!(reason(&[(0, Use::Failing)]), "NoneHealthy");
}

#[test]
fn names_and_ports_that_are_not_there_are_named() {
    let awaited = Awaited { set: "set".into(), tier: 0, name: "db.example".into() };
    let status = status_with(&pool(None), vec![], &[], vec![], vec![awaited], &[]);
    let (ready, reason, message) = head(&status, "Ready");
    assert_eq!((ready, reason), ("False", "AwaitingLookups"));
    assert!(message.contains("db.example"), "{message}");
    let failed = Refused {
        set: "set".into(),
        address: None,
        name: Some("db.example".into()),
        reason: "LookupFailed",
        message: "db.example could not be looked up: it timed out".into(),
        left_out: true,
    };
    let awaited = Awaited { set: "set".into(), tier: 0, name: "db.example".into() };
    let status = status_with(&pool(None), vec![], &[], vec![failed], vec![awaited], &[]);
    let message = head(&status, "Ready").2;
    assert!(message.ends_with("it timed out"), "{message}");

    let refused = Refused {
        set: "set".into(),
        address: None,
        name: None,
        reason: CHECK_PORT_NOT_FOUND,
        message: "the Service has no port named \"http\"".into(),
        left_out: false,
    };
    let status = status_of(&pool(None), vec![], &[(0, Use::Unchecked)], vec![refused.clone()]);
    let (ready, reason, message) = head(&status, "Ready");
    assert_eq!((ready, reason), ("False", CHECK_PORT_NOT_FOUND));
    assert!(message.contains("no port named"), "{message}");
    let status = status_of(&pool(None), vec![tier(0, 1, 1)], &[(0, Use::InUse)], vec![refused]);
    assert_eq!(
        (head(&status, "Ready").1, head(&status, "MembersAccepted").1),
        ("Serving", CHECK_PORT_NOT_FOUND)
    );
}

#[test]
fn the_next_leader_finds_the_choice_in_the_status() {
    let uses = [(0, Use::InUse), (0, Use::NotReady), (1, Use::Standby)];
    let tiers = vec![TierState { members: 5, expected: 2, ..tier(0, 2, 2) }, tier(1, 1, 1)];
    let status = status_of(&pool(None), tiers, &uses, vec![]);
    let expected: Vec<_> = status.tiers.iter().map(|health| health.expected).collect();
    assert_eq!(expected, [Some(2), None]);
    let choice = choice_of(&pool(Some(status)));
    assert_eq!((choice.tier, choice.expected), (Some(0), Some((0, 2))));
    assert_eq!(choice_of(&pool(None)), choose::Memory::default());
}

#[test]
fn panic_that_lasts_at_its_threshold_does_not_say_that_it_is_below() {
    let mut pool = pool(None);
    pool.spec.panic_threshold = 50;
    let message = |healthy| {
        let status = status_of(&pool, vec![tier(0, 4, healthy)], &[(0, Use::KeptDespiteFailing)], vec![]);
        head(&status, "Panic").2.to_owned()
    };
    assert!(message(1).contains("healthy, less than spec.panicThreshold (50 %)"));
    assert!(
        message(2).contains("healthy, and it takes one more than spec.panicThreshold (50 %)"),
        "{}",
        message(2)
    );
}

#[test]
fn panic_and_failover_are_conditions_with_their_numbers() {
    let kept = [(0, Use::KeptDespiteFailing), (0, Use::KeptDespiteFailing)];
    let status = status_of(&pool(None), vec![tier(0, 2, 0)], &kept, vec![]);
    let (holds, reason, message) = head(&status, "Panic");
    assert!(
        (holds, reason) == ("True", "TooFewHealthy")
            && message.starts_with("panic mode: 0 of 2 checked members"),
        "{message}"
    );
    let last = |out: &MemberOut| {
        (out.reason.clone(), out.message.as_deref().is_some_and(|text| text.contains("503")))
    };
    let expected = ("KeptDespiteFailing".to_owned(), true);
    assert_eq!(
        status.out.iter().map(last).collect::<Vec<_>>(),
        [expected.clone(), expected],
        "why they fail is told"
    );
    assert_eq!(head(&status, "FailedOver").0, "False");

    let over = [(0, Use::Failing), (1, Use::InUse)];
    let status = status_of(&pool(None), vec![tier(0, 1, 0), tier(1, 1, 1)], &over, vec![]);
    let (holds, reason, message) = head(&status, "FailedOver");
    assert!(
        (holds, reason) == ("True", "TierBelowShare")
            && message.contains("at least 70 % have been healthy for 30 s"),
        "{message}"
    );
}

#[test]
fn what_is_refused_is_listed_and_named() {
    let refused = |address: &str| Refused {
        set: "set".into(),
        address: Some(address.parse().unwrap()),
        name: None,
        reason: "RangeForbidden",
        message: format!("{address} is left out"),
        left_out: true,
    };
    let many = ["10.9.0.1", "10.9.0.2", "10.9.0.3", "10.9.0.4"].map(refused).to_vec();
    let status = status_of(&pool(None), vec![], &[], many);
    let (holds, reason, message) = head(&status, "MembersAccepted");
    assert!((holds, reason) == ("False", "RangeForbidden") && message.ends_with("; and 1 more"), "{message}");
    assert_eq!((status.members.refused, status.out.len()), (4, 4));
}

#[test]
fn what_stays_although_the_spec_does_not_have_it_is_named() {
    let replaced = [("set", "old.example")];
    let uses = [(0, Use::InUse)];
    let status = status_with(&pool(None), vec![tier(0, 1, 1)], &uses, vec![], vec![], &replaced);
    let (holds, reason, message) = head(&status, "MembersAccepted");
    assert!((holds, reason) == ("True", "AllAccepted") && message.contains("old.example"), "{message}");
}

#[test]
fn the_list_is_bounded_and_times_stand_as_long_as_their_reason() {
    let uses = vec![(0, Use::Failing); 30];
    let first = status_of(&pool(None), vec![tier(0, 30, 0)], &uses, vec![]);
    assert_eq!((first.out.len(), first.members.failing), (LISTED, 30));
    let mut standing = first.clone();
    standing.out[0].since = Some(Time(at(5)));
    let again = status_of(&pool(Some(standing)), vec![tier(0, 30, 0)], &uses, vec![]);
    assert_eq!(again.out[0].since, Some(Time(at(5))));
    assert!(!is_urgent(&first, &again), "only times and counters differ");
}

#[test]
fn a_service_that_may_still_come_is_waited_for_and_a_wrong_one_is_not() {
    let status = |error: ServiceError| unusable(&pool(None), &Failure::from(&error), 0, at(0));
    let missing = status(ServiceError::NotFound("web".into()));
    assert_eq!((head(&missing, "Reconciling").0, head(&missing, "Stalled").0), ("True", "False"));
    let wrong = status(ServiceError::HasSelector("web".into()));
    assert_eq!((head(&wrong, "Reconciling").0, head(&wrong, "Stalled").0), ("False", "True"));
    assert_eq!(head(&wrong, "Ready").1, "ServiceHasSelector");
}
