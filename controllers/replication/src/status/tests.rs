//! What a person reads for each thing that can keep a group from what is wanted.

mod told;

use std::{sync::Arc, time::Duration};

use mainstay_runtime::{
    failure::RequestError,
    outcome::{Explain, Failures},
};
use serde_json::json;

use super::*;
use crate::{
    apply::ApplyError,
    observe::{Assessment, Observed},
    plan::{Creation, Plan, RevisionCounts, Share},
    rollout::{Decision, Evidence, Failed, Ignored, Kept, Look, Phase, Reason, Rollout, RolloutEvent},
    stores::Stores,
};

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
    failed: Option<&ApplyError>,
    now: Timestamp,
) -> ReplicaGroupStatus {
    report(group, failed, now, |assessed| assessed.plan = plan.clone())
}

/// The status of a group of which a reconcile saw no pods, but what `change` makes of it.
fn report(
    group: &ReplicaGroup,
    failed: Option<&ApplyError>,
    now: Timestamp,
    change: impl FnOnce(&mut Assessment),
) -> ReplicaGroupStatus {
    report_from(group, &Stores::default(), failed, now, change)
}

/// The same, from these stores.
fn report_from(
    group: &ReplicaGroup,
    stores: &Stores,
    failed: Option<&ApplyError>,
    now: Timestamp,
    change: impl FnOnce(&mut Assessment),
) -> ReplicaGroupStatus {
    let seen = Observed::gather(group, stores).unwrap();
    let state = group.status.as_ref().map(|status| State::read(group, status)).unwrap_or_default();
    let look = Look { moment: Duration::ZERO, wall: now, watched: Duration::ZERO, sure: true };
    let mut assessed = seen.assess(group, &state, Evidence::default(), &look);
    change(&mut assessed);
    let failed = failed.map(|failed| (failed.concern(), failed.explain()));
    let failures: Failures = failed.iter().map(|(concern, failure)| (*concern, failure)).collect();
    let (observed_pods, assessed, failures) = (&seen, &assessed, &failures);
    let seen = Seen { group, observed: observed_pods, assessed, failures, blocked: None, behind: false };
    observed(&seen, now)
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
    let backoff = Plan { wait: Some(Wait::Backoff { revision: "abc".into(), until }), ..plan(4, 4, 4) };
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
    let status = status_of(&group(None), &plan(3, 3, 3), Some(&quota), at(0));
    assert_eq!(condition(&status, "Ready").1, "QuotaExceeded");
    let (stalled, _, message) = condition(&status, "Stalled");
    assert!(stalled == "True" && message.contains("exceeded quota: q") && message.contains("ResourceQuota"));
    assert_eq!(condition(&status, "Reconciling").0, "False");
    let (failed, reason, message) = condition(&status, "ReplicaFailure");
    assert!(failed == "True" && reason == "FailedCreate" && message.contains("exceeded quota: q"));

    let lost = ApplyError::Create(RequestError::timed_out(Duration::from_secs(10)));
    let status = status_of(&group(None), &plan(3, 3, 3), Some(&lost), at(0));
    assert_eq!((condition(&status, "Stalled").0, condition(&status, "Reconciling").0), ("False", "True"));
    assert_eq!(condition(&status, "ReplicaFailure").0, "True");
    assert_eq!(
        condition(&status, "CreationFailed").0,
        "True",
        "each concern that fails has a condition of its own"
    );
}

#[test]
fn a_settled_group_yields_an_equal_status_forever() {
    let first = status_of(&group(None), &plan(5, 5, 5), None, at(100));
    let again = status_of(&group(Some(first.clone())), &plan(5, 5, 5), None, at(200));
    assert_eq!(first, again);
}

#[test]
fn only_conditions_and_generations_are_urgent() {
    let one = status_of(&group(None), &plan(1, 0, 0), None, at(0));
    let two = status_of(&group(None), &plan(2, 0, 0), None, at(0));
    let ready = status_of(&group(None), &plan(5, 5, 5), None, at(0));
    assert!(one != two && !is_urgent(&group(None), &one, &two));
    assert!(is_urgent(&group(None), &two, &ready));
}

/// What is decided of a change from revision `a` to `b`.
fn decided(phase: Phase, state: State) -> Decision {
    let state = State { current: Some("a".into()), ..state };
    let target: Arc<str> = if matches!(phase, Phase::RollingBack) { "a".into() } else { "b".into() };
    let shares = vec![Share { revision: Arc::clone(&target), replicas: 5 }];
    Decision {
        state,
        evidence: Evidence::default(),
        overdue: false,
        waiting: 0,
        wanted: "b".into(),
        target,
        shares,
        keep: None,
        phase,
        due: None,
        news: Vec::<RolloutEvent>::new(),
    }
}

/// A change at the step of this index.
fn at_step(step: usize) -> Rollout {
    let second = at(1_700_000_000);
    Rollout {
        revision: "b".into(),
        started: second,
        progressed: second,
        available: 3,
        step: Some(step),
        reached: Some(second),
        held: vec![Share { revision: "a".into(), replicas: 4 }],
        kept: Some(Kept { replicas: 2, of: 5 }),
        unschedulable: 1,
        ignored: Ignored { resume: Some("web-b".into()), abort: None },
    }
}

#[test]
fn a_step_of_a_group_of_one_pod_says_what_becomes_of_the_old_one() {
    let mut single = group(None);
    single.spec.replicas = 1;
    single.spec.update.steps = vec![mainstay_crds::Step { weight: 10, pause: None }];
    let old = |replicas| (replicas > 0).then(|| Share { revision: "a".into(), replicas });
    for (old, words) in [(old(1), "the old pod stays beside it"), (old(0), "no old pod stays beside it")] {
        for phase in [Phase::Rolling, Phase::StepPaused { step: 1, of: 1, weight: 10, until: None }] {
            let status = report(&single, None, at(0), |assessed| {
                assessed.plan = plan(2, 2, 2);
                let state = State { rollout: Some(at_step(0)), ..State::default() };
                assessed.decision = Decision { keep: old.clone(), ..decided(phase, state) };
            });
            let (_, _, message) = condition(&status, "Ready");
            assert!(message.contains(words), "{message}");
        }
    }
}

#[test]
fn a_change_says_what_it_does_and_what_it_waits_for() {
    let failed = Failed { revision: "b".into(), reason: Reason::CrashLoop, message: "it crashed".into() };
    let pause = |until| Phase::StepPaused { step: 1, of: 2, weight: 20, until };
    let cases = [
        (
            Phase::Rolling,
            None,
            "RollingOut",
            "updating the pods to web-b: 2 of 5 pods are updated and 1 of these are available; waiting for 1",
        ),
        (
            Phase::RollingBack,
            Some(&failed),
            "RollingBack",
            "web-b has failed (CrashLoop): it crashed; rolling back to web-a",
        ),
        (
            pause(None),
            None,
            "StepPaused",
            "kubectl annotate replicagroup web --namespace ns --overwrite mainstay.dev/continue=web-b/1",
        ),
        (pause(Some(at(0))), None, "StepPaused", "continues at 1970-01-01T00:00:00Z"),
        (Phase::Paused, None, "Paused", "spec.paused pauses the rollout of web-b"),
        (
            Phase::Failed,
            Some(&failed),
            "CrashLoop",
            "web-b has failed (CrashLoop): it crashed; correct spec.template",
        ),
    ];
    for (phase, failed, reason, words) in cases {
        let status = report(&group(None), None, at(0), |assessed| {
            assessed.plan = plan(5, 4, 4);
            assessed.decision = decided(phase, State { failed: failed.cloned(), ..State::default() });
            assessed.target = RevisionCounts { active: 2, available: 1, ..RevisionCounts::default() };
        });
        let (ready, seen, message) = condition(&status, "Ready");
        assert_eq!((ready, seen), ("False", reason), "{message}");
        assert!(message.contains(words), "{message}");
    }
}

#[test]
fn whoever_waits_for_a_change_that_was_rolled_back_learns_that_it_has_failed() {
    let failed = Failed { revision: "b".into(), reason: Reason::CrashLoop, message: "it crashed".into() };
    let status = report(&group(None), None, at(0), |assessed| {
        assessed.plan = plan(5, 5, 5);
        let decision = decided(Phase::Complete, State { failed: Some(failed), ..State::default() });
        assessed.decision = Decision { target: "a".into(), ..decision };
        assessed.target = RevisionCounts { active: 5, available: 5, ..RevisionCounts::default() };
    });
    for (kind, expected) in [("Ready", "False"), ("Stalled", "True")] {
        let (ready, reason, message) = condition(&status, kind);
        assert_eq!((ready, reason), (expected, "CrashLoop"), "{kind}");
        assert!(message.contains("of web-a, because web-b has failed (CrashLoop)"), "{message}");
    }
    assert_eq!(condition(&status, "Reconciling").0, "False");
    assert_eq!(condition(&status, "Available").0, "True");
    assert_eq!(condition(&status, "RolledBack").0, "True");
    assert_eq!(
        condition(&status, "Progressing"),
        ("False", "CrashLoop", "web-b has failed (CrashLoop): it crashed")
    );
    assert_eq!(status.failed_revision.as_deref(), Some("web-b"));
}

#[test]
fn new_pods_that_have_waited_for_room_for_too_long_are_told_and_no_failure() {
    let told = |left| {
        let status = report(&group(None), None, at(0), |assessed| {
            assessed.decision =
                decided(Phase::Rolling, State { current: Some("a".into()), ..State::default() });
            assessed.decision.waiting = 2;
            (assessed.target.active, assessed.plan) = (2, plan(5, 5, 5));
            assessed.may_wait = Some(Duration::from_secs(left));
        });
        let [ready, progressing] = ["Ready", "Progressing"].map(|kind| {
            let (status, reason, _) = condition(&status, kind);
            (status.to_owned(), reason.to_owned())
        });
        (ready, progressing, condition(&status, "Stalled").0.to_owned())
    };
    let pair = |status: &str, reason: &str| (status.to_owned(), reason.to_owned());
    assert_eq!(told(1), (pair("False", "RollingOut"), pair("True", "RollingOut"), "False".to_owned()));
    assert_eq!(
        told(0),
        (pair("False", "WaitingForRoom"), pair("False", "WaitingForRoom"), "False".to_owned())
    );
}

#[test]
fn why_pods_are_not_changed_in_place_is_said() {
    let status = report(&group(None), None, at(0), |assessed| {
        assessed.decision = decided(Phase::Rolling, State { current: Some("a".into()), ..State::default() });
        assessed.plan = plan(5, 5, 5);
        assessed.none_may_be_unavailable = true;
    });
    let (.., message) = condition(&status, "Ready");
    assert!(message.contains("because spec.update.maxUnavailable comes to 0 of 5"), "{message}");
}

#[test]
fn a_template_that_waits_behind_a_rollback_by_hand_is_named() {
    let mut group = group(None);
    let own = revision::name("web", &revision::hash(&group.spec.template));
    let status = report(&group, None, at(0), |assessed| assessed.plan = plan(5, 5, 5));
    assert!(!condition(&status, "Ready").2.contains("rollbackTo"));

    group.spec.rollback_to = Some("web-a".into());
    let stores = Stores::default();
    let kept = json!({
        "metadata": {
            "name": "web-a", "namespace": "ns", "uid": "a", "labels": {"mainstay.dev/revision": "a"},
            "ownerReferences": [{"apiVersion": "mainstay.dev/v1alpha1", "kind": "ReplicaGroup", "name": "web",
                "uid": "u", "controller": true}]
        },
        "data": revision::data(&mainstay_crds::PodTemplate::default()), "revision": 1
    });
    let kept: revision::WatchedRevision = serde_json::from_value(kept).unwrap();
    stores.revisions.apply(kube::runtime::watcher::Event::Apply(kept.into()), |_| {});
    let status = report_from(&group, &stores, None, at(0), |assessed| assessed.plan = plan(5, 5, 5));
    let (ready, _, message) = condition(&status, "Ready");
    assert_eq!(ready, "True");
    assert!(message.contains("names web-a") && message.contains(&own), "{message}");
}

#[test]
fn a_command_of_an_earlier_rollout_is_named_and_the_new_one_has_another_value() {
    let rollout = Rollout { ignored: Ignored { resume: Some("web-b/1".into()), abort: None }, ..at_step(0) };
    let status = report(&group(None), None, at(0), |assessed| {
        let phase = Phase::StepPaused { step: 1, of: 2, weight: 20, until: None };
        let state = State { rollout: Some(rollout), ..State::default() };
        assessed.decision = decided(phase, state);
    });
    let (_, _, message) = condition(&status, "Ready");
    for words in ["mainstay.dev/continue=web-b/1/again`", "mainstay.dev/continue=web-b/1 is from before"] {
        assert!(message.contains(words), "{message}");
    }
}

#[test]
fn what_is_remembered_survives_the_status() {
    let rollout = at_step(1);
    let failed = Failed { revision: "c".into(), reason: Reason::ImagePullFailed, message: "m".into() };
    let state =
        State { current: Some("a".into()), failed: Some(failed), rollout: Some(rollout), ..State::default() };
    let mut status = ReplicaGroupStatus::default();
    state.write(&group(None), &mut status);
    let read: ReplicaGroupStatus = serde_json::from_value(serde_json::to_value(&status).unwrap()).unwrap();
    assert_eq!(State::read(&group(None), &read), state);
}
