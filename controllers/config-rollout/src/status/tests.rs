use std::collections::BTreeMap;

use mainstay_crds::{SourceKind, TargetKind};
use mainstay_runtime::outcome::Failures;
use serde_json::json;

use super::*;
use crate::plan::{Failed, Finding, Findings, Pins, Rollout, SourceVersion, TargetKey, Unproven, Uses};
use crate::watched::{Blocked, Fingerprint, Progress};

fn rollout() -> ConfigRollout {
    rollout_of(&["canary"])
}

fn rollout_of(stages: &[&str]) -> ConfigRollout {
    let targets = json!([{"kind": "Deployment", "name": "web"}]);
    let stages: Vec<_> = stages.iter().map(|name| json!({"name": name, "targets": targets})).collect();
    serde_json::from_value(json!({
        "apiVersion": "mainstay.dev/v1alpha1",
        "kind": "ConfigRollout",
        "metadata": {"name": "web", "namespace": "shop", "generation": 4},
        "spec": {
            "sources": [{"kind": "ConfigMap", "name": "web"}],
            "stages": stages,
        },
    }))
    .unwrap()
}

fn target() -> TargetView {
    TargetView {
        key: TargetKey { kind: TargetKind::Deployment, name: "web".into() },
        uid: "u".into(),
        stage: 0,
        generation: 1,
        pins: Pins::default(),
        template: Fingerprint::default(),
        progress: Progress { wanted: 3, updated: 1, ..Progress::default() },
    }
}

fn source() -> SourceKey {
    SourceKey { kind: SourceKind::ConfigMap, name: "web".into() }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// The status, and `Ready`'s reason and sentence.
fn say(observed: &Observed, findings: &Findings, plan: &Plan) -> (ConfigRolloutStatus, String, String) {
    say_of(&rollout(), observed, findings, plan)
}

fn say_of(
    rollout: &ConfigRollout,
    observed: &Observed,
    findings: &Findings,
    plan: &Plan,
) -> (ConfigRolloutStatus, String, String) {
    let failures = Failures::default();
    let status = told(&StatusInput { rollout, observed, findings, plan, failures: &failures }, at(100));
    let ready = status.conditions.iter().find(|condition| condition.type_ == "Ready").unwrap().clone();
    (status, ready.reason, ready.message)
}

fn holds(status: &ConfigRolloutStatus, kind: &str) -> bool {
    status.conditions.iter().any(|condition| condition.type_ == kind && condition.status == "True")
}

#[test]
fn a_paused_stage_says_how_it_goes_on() {
    let rollout = Rollout { to: 7, back: false, started: at(1), stage: 0, passed: Some(at(2)) };
    let state = State { newest: 7, stable: Some(6), rollout: Some(rollout), ..State::default() };
    let plan = Plan { state, wait: Wait::Stage(None), ..Plan::default() };
    let (status, reason, message) = say(&Observed::default(), &Findings::new(), &plan);
    assert_eq!(reason, "StagePaused");
    let command =
        "kubectl annotate configrollout web --namespace shop --overwrite mainstay.dev/continue=7/canary";
    assert!(message.contains(command), "{message}");
    assert!(holds(&status, "Reconciling") && !holds(&status, "Stalled"));
    assert_eq!(status.rollout.unwrap().stage, "canary");
}

#[test]
fn a_failure_is_told_with_its_target_and_the_way_to_try_again() {
    let failed = Failed {
        reason: "MoreRestarts",
        target: "Deployment/web".to_owned(),
        message: "a new pod has restarted 2 times, but no pod before the change more than 0 times".to_owned(),
    };
    let state = State { newest: 7, stable: Some(6), failed: Some((7, failed)), ..State::default() };
    let plan = Plan { state: state.clone(), wait: Wait::Source, ..Plan::default() };
    let (status, reason, message) = say(&Observed::default(), &Findings::new(), &plan);
    assert_eq!(reason, "MoreRestarts");
    assert!(
        message.contains("revision 7 has failed at Deployment/web") && message.contains("retry=7"),
        "{message}"
    );
    assert!(holds(&status, "Stalled") && holds(&status, "RolledBack"));
    assert_eq!((status.failed_revision, status.current_revision), (Some(7), Some(6)));
    assert!(record::read(&rollout(), &status).remembers(&state), "the status keeps all that is remembered");
}

#[test]
fn what_a_status_keeps_of_targets_is_what_was_remembered() {
    let key = target().key;
    let remembered = TargetState {
        uid: "u".into(),
        given: 7,
        changed: Some(at(10)),
        available: Some(at(20)),
        broken: Some(at(15)),
        unavailable_before: Some(1),
        restarts_before: 3,
        restarted: Some(at(30)),
        reverts: 2,
        reverted: Some(at(5)),
        reverted_from: 6,
        ..TargetState::default()
    };
    for change in [
        TargetState { passed: true, ..remembered.clone() },
        TargetState { held: true, changed: None, available: None, restarts_before: 0, ..remembered.clone() },
        TargetState { conflict: Some((4, "Deployment/web is managed by x".into())), ..remembered.clone() },
        // Its pods are not replaced: its time has yet to begin.
        TargetState { changed: None, available: None, broken: None, ..remembered.clone() },
        remembered,
    ] {
        let rollout = Rollout { to: 7, back: false, started: at(1), stage: 0, passed: None };
        let state = State {
            newest: 7,
            stable: Some(6),
            rollout: Some(rollout),
            last: Some(at(1)),
            targets: [(key.clone(), change)].into(),
            ..State::default()
        };
        let observed = Observed { targets: vec![target()], ..Observed::default() };
        let plan = Plan { state: state.clone(), wait: Wait::Targets, ..Plan::default() };
        let (status, ..) = say(&observed, &Findings::new(), &plan);
        assert!(record::read(&self::rollout(), &status).remembers(&state), "{:?}", status.targets);
    }
}

#[test]
fn problems_of_sources_are_named_without_a_value() {
    let version = SourceVersion { uid: "u".into(), version: "1".into() };
    let uses = Uses { keys: [("mode".to_owned(), true)].into(), ..Uses::default() };
    let observed = Observed {
        sources: [(source(), version.clone())].into(),
        uses: [(source(), uses.clone())].into(),
        missing_sources: vec![SourceKey { kind: SourceKind::Secret, name: "keys".into() }],
        ..Observed::default()
    };
    let problem = Some(Problem::KeyMissing(vec!["mode".to_owned()]));
    let finding = Finding { version, uses, equals: Default::default(), problem };
    let findings: Findings = BTreeMap::from([(source(), finding)]);
    let (status, reason, message) = say(&observed, &findings, &Plan::default());
    assert_eq!(reason, "SourceMissing");
    assert!(message.contains("Secret/keys") && message.contains("1 more"), "{message}");
    let reasons: Vec<_> = status.source_problems.iter().map(|problem| problem.reason.as_str()).collect();
    assert_eq!(reasons, ["SourceMissing", "KeyMissing"]);
}

#[test]
fn sentences_alone_are_not_urgent() {
    let (mut one, ..) = say(&Observed::default(), &Findings::new(), &Plan::default());
    one.targets.push(record::target_status(
        &target().key,
        "canary".into(),
        &TargetState::default(),
        "Updating",
        None,
    ));
    let mut other = one.clone();
    other.waiting_for = Some("something else".to_owned());
    other.targets[0].message = Some("1 of 3".to_owned());
    assert!(!is_urgent(&one, &other));
    other.targets[0].state = "Soaking".to_owned();
    assert!(is_urgent(&one, &other));
}

#[test]
fn a_stage_that_has_shown_nothing_says_what_to_do() {
    let key = || target().key;
    for (unproven, reason, words) in [
        (
            Unproven::Missing(key()),
            "TargetMissing",
            "Deployment/web of stage canary does not exist: create it",
        ),
        (Unproven::Empty, "StageEmpty", "stage canary has no target that uses a source"),
        (
            Unproven::NoPods(key()),
            "ScaledToZero",
            "Deployment/web of stage canary has 0 replicas: scale it up",
        ),
        (Unproven::Held(key()), "TargetHeld", "Deployment/web was rolled back by hand"),
    ] {
        let rollout = Rollout { to: 7, back: false, started: at(1), stage: 0, passed: None };
        let state = State { newest: 7, stable: Some(6), rollout: Some(rollout), ..State::default() };
        let plan = Plan { state, wait: Wait::Unproven(unproven), ..Plan::default() };
        let (status, said, message) = say(&Observed::default(), &Findings::new(), &plan);
        assert_eq!(said, reason);
        assert!(message.contains(words), "{message}");
        assert!(
            message.contains("until then revision 7 is not rolled out to stages after canary"),
            "{message}"
        );
        assert!(holds(&status, "Reconciling") && !holds(&status, "Stalled"));
    }
}

#[test]
fn a_target_that_cannot_be_read_says_where_to_look_and_what_it_holds_up() {
    let stages = rollout_of(&["canary", "rest"]);
    for (stage, back, words) in [
        (0, false, "until then revision 7 is not rolled out to stages after canary"),
        (1, false, "until then it is not known whether it works with revision 7"),
        (0, true, "until then it is not known whether it is rolled back to revision 7"),
    ] {
        let rollout = Rollout { to: 7, back, started: at(1), stage, passed: None };
        let state = State { newest: 8, stable: Some(6), rollout: Some(rollout), ..State::default() };
        let plan = Plan { state, wait: Wait::Unreadable(target().key), ..Plan::default() };
        let observed = Observed { unreadable_targets: vec![(target().key, stage)], ..Observed::default() };
        let (status, reason, message) = say_of(&stages, &observed, &Findings::new(), &plan);
        assert_eq!(reason, "TargetUnreadable");
        let correct = "Deployment/web cannot be read: correct the field that its condition Ready names";
        assert!(message.contains(correct) && message.ends_with(words), "{message}");
        assert!(holds(&status, "Reconciling") && !holds(&status, "Stalled"));
        let [told] = &*status.targets else { panic!("{:?}", status.targets) };
        let expected = ("Unreadable", stages.spec.stages[stage].name.as_str(), Some(correct));
        assert_eq!((told.state.as_str(), told.stage.as_str(), told.message.as_deref()), expected);
    }
    let state = State { newest: 6, stable: Some(6), ..State::default() };
    let observed = Observed { unreadable_targets: vec![(target().key, 1)], ..Observed::default() };
    let plan = Plan { state, ..Plan::default() };
    let (status, reason, _) = say_of(&stages, &observed, &Findings::new(), &plan);
    assert_eq!((reason.as_str(), holds(&status, "Ready")), ("TargetUnreadable", false), "also at rest");
}

#[test]
fn targets_that_join_the_others_are_judged_by_nobody() {
    let rollout = Rollout { to: 6, back: false, started: at(1), stage: 0, passed: None };
    let remembered = TargetState {
        uid: "u".into(),
        given: 6,
        seen: true,
        changed: Some(at(10)),
        ..TargetState::default()
    };
    let targets = [(target().key, remembered)].into();
    let state = State { newest: 6, stable: Some(6), rollout: Some(rollout), targets, ..State::default() };
    let observed = Observed { targets: vec![target()], ..Observed::default() };
    let progress = "Deployment/web: 1 of 3 pods run the new template and 0 are available";
    let plan = Plan { state: state.clone(), wait: Wait::Targets, ..Plan::default() };
    let (_, reason, message) = say(&observed, &Findings::new(), &plan);
    let expected = format!("the targets to be updated to revision 6: {progress}");
    assert_eq!((reason.as_str(), message), ("RollingOut", expected));
    let plan = Plan { state: state.clone(), wait: Wait::Slots, ..Plan::default() };
    let (_, reason, message) = say(&observed, &Findings::new(), &plan);
    let expected = "other rollouts, before more targets get revision 6".to_owned();
    assert_eq!((reason.as_str(), message), ("WaitingForOthers", expected));

    // All have it, and the pods of one are not all back.
    let plan = Plan { state: State { rollout: None, ..state.clone() }, ..Plan::default() };
    let (status, reason, _) = say(&observed, &Findings::new(), &plan);
    assert_eq!((reason.as_str(), holds(&status, "Ready")), ("Current", true));
    assert_eq!(
        (status.targets[0].state.as_str(), status.targets[0].message.as_deref()),
        ("Updating", Some(progress))
    );
    assert_eq!(record::read(&self::rollout(), &status).in_progress(), 1, "a restart does not forget it");
}

#[test]
fn a_source_that_pods_start_without_is_no_problem_and_one_that_is_no_source_any_more_is() {
    let uses = |required| Uses { all: true, required, ..Uses::default() };
    let missing = |uses| Observed {
        missing_sources: vec![source()],
        uses: [(source(), uses)].into(),
        ..Observed::default()
    };
    let ready = |observed: &Observed| say(observed, &Findings::new(), &Plan::default()).1;
    assert_eq!(ready(&missing(uses(false))), "Current");
    assert_eq!(ready(&missing(uses(true))), "SourceMissing");
    let unused = Observed { missing_sources: vec![source()], ..Observed::default() };
    assert_eq!(ready(&unused), "SourceMissing", "its name may be wrong");
    let deselected = Observed {
        deselected_sources: vec![source()],
        uses: [(source(), uses(true))].into(),
        ..Observed::default()
    };
    let (_, reason, message) = say(&deselected, &Findings::new(), &Plan::default());
    assert_eq!(reason, "SourceMissing");
    assert!(message.contains("ConfigMap/web is not among spec.sources any more"), "{message}");
    assert!(
        message.ends_with("the other sources are rolled out without it"),
        "nothing holds them: {message}"
    );
    let (_, _, message) = say(&missing(uses(true)), &Findings::new(), &Plan::default());
    assert!(message.ends_with("no revision is created of the other sources until then"), "{message}");
}

#[test]
fn what_does_not_have_the_current_revision_is_not_ready() {
    let remembered = TargetState { held: true, given: 7, ..TargetState::default() };
    let targets = [(target().key, remembered)].into();
    let state = State { newest: 7, stable: Some(7), targets, ..State::default() };
    let observed = Observed { targets: vec![target()], ..Observed::default() };
    let (status, reason, message) = say(&observed, &Findings::new(), &Plan { state, ..Plan::default() });
    assert_eq!((reason.as_str(), holds(&status, "Ready")), ("TargetHeld", false));
    assert!(message.contains("Deployment/web was rolled back by hand"), "{message}");

    let unused = Plan { wait: Wait::NoUse, ..Plan::default() };
    let (status, reason, _) = say(&Observed::default(), &Findings::new(), &unused);
    assert_eq!((reason.as_str(), holds(&status, "Ready")), ("NotUsed", false));
    let mut empty = rollout();
    empty.spec.stages[0].allow_empty = true;
    let (status, reason, _) = say_of(&empty, &Observed::default(), &Findings::new(), &unused);
    assert_eq!((reason.as_str(), holds(&status, "Ready")), ("NotUsed", true));
}

#[test]
fn a_target_whose_pods_are_not_replaced_says_why() {
    for (blocked, reason, words) in [
        (Blocked::Paused, "TargetPaused", "Deployment/web of stage canary is paused"),
        (
            Blocked::OnDelete,
            "TargetOnDelete",
            "has the update strategy OnDelete, so not all of its pods have the revision",
        ),
        (
            Blocked::Partition,
            "TargetPartition",
            "set the partition to 0; until then revision 7 is not judged",
        ),
        (Blocked::Step, "TargetStepPaused", "pauses in a step of its own update"),
    ] {
        let rollout = Rollout { to: 7, back: false, started: at(1), stage: 0, passed: None };
        let state = State { newest: 7, stable: Some(6), rollout: Some(rollout), ..State::default() };
        let wait = Wait::Unproven(Unproven::Blocked(target().key, blocked));
        let plan = Plan { state, wait, ..Plan::default() };
        let (_, said, message) = say(&Observed::default(), &Findings::new(), &plan);
        assert_eq!(said, reason);
        assert!(message.contains(words), "{message}");
    }
}

mod stuck;
