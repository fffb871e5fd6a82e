//! What a person reads for each thing that can keep a group from what is wanted.

use std::time::Duration;

use serde_json::json;

use super::*;
use crate::observe::Stores;

fn group(status: Option<ReplicaGroupStatus>) -> ReplicaGroup {
    let group: ReplicaGroup = serde_json::from_value(json!({
        "apiVersion": "mainstay.dev/v1alpha1", "kind": "ReplicaGroup",
        "metadata": {"name": "web", "namespace": "ns", "uid": "u", "generation": 3},
        "spec": {
            "replicas": 5,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": []}}
        }
    }))
    .unwrap();
    ReplicaGroup { status, ..group }
}

fn plan(active: usize, ready: usize, available: usize) -> Plan {
    let counts = Counts { active, ready, available, terminating: 1, fully_labeled: active };
    Plan { counts, ..Plan::default() }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn status_of(
    group: &ReplicaGroup,
    plan: &Plan,
    failure: Option<&Failure>,
    now: Timestamp,
) -> ReplicaGroupStatus {
    let seen = Observed::gather(group, &Stores::default()).unwrap();
    observed(group, &seen, plan, failure, now)
}

fn condition<'a>(status: &'a ReplicaGroupStatus, kind: &str) -> (&'a str, &'a str, &'a str) {
    let found = status.conditions.iter().find(|condition| condition.type_ == kind).unwrap();
    (&found.status, &found.reason, &found.message)
}

#[test]
fn ready_names_the_first_thing_that_is_missing() {
    let cases = [
        (plan(3, 3, 3), "ScalingUp", "3 of 5 pods exist"),
        (plan(7, 7, 7), "ScalingDown", "7 pods exist, 5 are wanted"),
        (plan(5, 4, 4), "PodsNotReady", "4 of 5 pods are ready"),
        (plan(5, 5, 2), "PodsNotAvailable", "2 of 5 pods have been ready for spec.minReadySeconds"),
    ];
    for (plan, reason, message) in cases {
        let status = status_of(&group(None), &plan, None, at(0));
        assert_eq!(condition(&status, "Ready"), ("False", reason, message));
        assert_eq!(condition(&status, "Reconciling").0, "True");
        assert_eq!(condition(&status, "Stalled").0, "False");
    }
    let status = status_of(&group(None), &plan(5, 5, 5), None, at(0));
    assert_eq!(condition(&status, "Ready"), ("True", "AllAvailable", "5 of 5 pods are available"));
    assert_eq!(condition(&status, "Reconciling").0, "False");
}

#[test]
fn counters_and_generation_are_those_of_the_pass() {
    let status = status_of(&group(None), &plan(5, 4, 3), None, at(0));
    let counters =
        (status.replicas, status.ready_replicas, status.available_replicas, status.terminating_replicas);
    assert_eq!((counters, status.fully_labeled_replicas), ((5, 4, 3, 1), 5));
    assert_eq!((status.observed_generation, status.selector.as_str()), (3, "app=web"));
    assert!(status.conditions.iter().all(|condition| condition.observed_generation == Some(3)));
}

#[test]
fn waits_say_what_is_waited_for() {
    let until = at(1_700_000_000);
    let backoff = Plan { wait: Some(Wait::Backoff { until }), ..plan(4, 4, 4) };
    let status = status_of(&group(None), &backoff, None, at(0));
    let (_, reason, message) = condition(&status, "Ready");
    assert_eq!(reason, "CreateBackoff");
    assert!(message.contains("at 2023-11-14T22:13:20Z"), "{message}");
    let terminating = Plan { wait: Some(Wait::Terminating(1)), ..plan(4, 4, 4) };
    let status = status_of(&group(None), &terminating, None, at(0));
    assert_eq!(condition(&status, "Ready").1, "WaitingForTermination");
}

#[test]
fn a_refusal_stalls_the_group_in_the_servers_words_and_a_lost_answer_does_not() {
    let quota =
        ApplyError::Create(RequestError::QuotaExceeded("pods \"x\" is forbidden: exceeded quota: q".into()));
    let status = status_of(&group(None), &plan(3, 3, 3), Some(&Failure::from(&quota)), at(0));
    assert_eq!(condition(&status, "Ready").1, "QuotaExceeded");
    let (stalled, _, message) = condition(&status, "Stalled");
    assert!(stalled == "True" && message.contains("exceeded quota: q") && message.contains("ResourceQuota"));
    assert_eq!(condition(&status, "Reconciling").0, "False");
    let (failed, reason, message) = condition(&status, "ReplicaFailure");
    assert!(failed == "True" && reason == "FailedCreate" && message.contains("exceeded quota: q"));

    let lost = ApplyError::Create(RequestError::timed_out(Duration::from_secs(10)));
    let status = status_of(&group(None), &plan(3, 3, 3), Some(&Failure::from(&lost)), at(0));
    assert_eq!((condition(&status, "Stalled").0, condition(&status, "Reconciling").0), ("False", "True"));
    assert_eq!(condition(&status, "ReplicaFailure").0, "True");
}

#[test]
fn a_settled_group_yields_an_equal_status_forever() {
    let first = status_of(&group(None), &plan(5, 5, 5), None, at(100));
    let again = status_of(&group(Some(first.clone())), &plan(5, 5, 5), None, at(9_999));
    assert_eq!(first, again);
}

#[test]
fn only_conditions_and_generations_are_urgent() {
    let one = status_of(&group(None), &plan(1, 0, 0), None, at(0));
    let two = status_of(&group(None), &plan(2, 0, 0), None, at(0));
    let ready = status_of(&group(None), &plan(5, 5, 5), None, at(0));
    assert!(one != two && !is_urgent(&one, &two));
    assert!(is_urgent(&two, &ready));
}
