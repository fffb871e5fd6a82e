//! Which pods of a StatefulSet a user is told to delete.

use super::*;

const COMMAND: &str =
    "kubectl delete pods --namespace shop --selector 'app=db,controller-revision-hash!=db-6'";

/// The status of a rollout whose target, a StatefulSet with a pod of another template and one that is not available, was
/// given this revision.
fn status(given: u64, rollout: Option<Rollout>, wait: Wait) -> (ConfigRolloutStatus, String) {
    let failed = Failed {
        reason: "DeadlineExceeded",
        target: "StatefulSet/db".to_owned(),
        message: "late".to_owned(),
    };
    let remembered = TargetState { uid: "u".into(), given, changed: Some(at(10)), ..TargetState::default() };
    let state = State {
        newest: 8,
        stable: Some(6),
        failed: Some((7, failed)),
        rollout,
        targets: [(target().key, remembered)].into(),
        ..State::default()
    };
    let outdated = Some("app=db,controller-revision-hash!=db-6".to_owned());
    let progress =
        Progress { observed: true, wanted: 2, updated: 1, available: 1, outdated, ..Progress::default() };
    let observed = Observed { targets: vec![TargetView { progress, ..target() }], ..Observed::default() };
    let plan = Plan { state, wait, ..Plan::default() };
    let (status, _, message) = say(&observed, &Findings::new(), &plan);
    (status, message)
}

fn rollout_to(to: u64, back: bool) -> Rollout {
    Rollout { to, back, started: at(1), stage: 0, passed: None }
}

#[test]
fn one_that_is_rolled_back_and_waits_for_its_broken_pod_says_what_to_do() {
    let (stalled, message) = status(6, None, Wait::Source);
    assert!(message.contains(COMMAND) && holds(&stalled, "Stalled"), "{message}");
    let (rolled_back, _) = status(6, Some(rollout_to(6, true)), Wait::Targets);
    let said = serde_json::to_string(&rolled_back.conditions).unwrap();
    assert!(said.contains(COMMAND), "{said}");
}

#[test]
fn the_pods_that_work_are_never_among_those_to_delete() {
    for (given, rollout, wait) in [
        // The next revision is rolled out: pods of another template are those before it.
        (8, Some(rollout_to(8, false)), Wait::Targets),
        // What has failed is in place still.
        (7, Some(rollout_to(6, true)), Wait::Targets),
        (7, None, Wait::Source),
    ] {
        let (status, _) = status(given, rollout, wait);
        let said = serde_json::to_string(&status).unwrap();
        assert!(!said.contains("kubectl delete"), "{said}");
    }
}
