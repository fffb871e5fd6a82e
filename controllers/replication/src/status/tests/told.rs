//! What a person is told besides the reason that comes first.

use super::*;

#[test]
fn a_rollback_is_told_of_whatever_else_fails_for_the_moment() {
    let failed = Failed { revision: "b".into(), reason: Reason::CrashLoop, message: "it crashed".into() };
    let lost = ApplyError::Create(RequestError::timed_out(Duration::from_secs(10)));
    let status = report(&group(None), Some(&lost), at(0), |assessed| {
        assessed.plan = plan(4, 4, 4);
        let decision = decided(Phase::Complete, State { failed: Some(failed), ..State::default() });
        assessed.decision = Decision { target: "a".into(), ..decision };
    });
    let (stalled, reason, _) = condition(&status, "Stalled");
    assert_eq!((stalled, reason), ("True", "CrashLoop"));
}

#[test]
fn an_abort_that_exchanges_no_pods_says_which_are_left() {
    let failed = Failed { revision: "b".into(), reason: Reason::Aborted, message: "by hand".into() };
    let status = report(&group(None), None, at(0), |assessed| {
        assessed.plan = plan(5, 5, 5);
        let decision = decided(Phase::WaitingForDeletion, State { failed: Some(failed), ..State::default() });
        assessed.decision = Decision { target: "a".into(), ..decision };
        assessed.target = RevisionCounts { active: 2, available: 2, ..RevisionCounts::default() };
    });
    let (_, reason, message) = condition(&status, "Ready");
    assert_eq!(reason, "Aborted");
    assert!(message.contains("3 pods are not of web-a and stay until they are deleted by hand"), "{message}");
}

#[test]
fn a_command_that_cannot_be_read_is_named() {
    let mut group = group(None);
    let own = revision::name("web", &revision::hash(&group.spec.template));
    for (value, is_named) in [
        ("web", true),
        ("web-none/1", true),
        (&*format!("{own}/2nd"), true),
        (&*format!("{own}/again"), false),
    ] {
        let note = (crate::names::CONTINUE.to_owned(), value.to_owned());
        group.metadata.annotations = Some([note].into());
        let status = report(&group, None, at(0), |assessed| {
            let phase = Phase::StepPaused { step: 1, of: 2, weight: 20, until: None };
            assessed.decision = decided(phase, State { rollout: Some(at_step(0)), ..State::default() });
        });
        let (_, _, message) = condition(&status, "Ready");
        let words = format!("mainstay.dev/continue={value} names no revision of this group");
        assert_eq!(message.contains(&words), is_named, "{message}");
    }
}

#[test]
fn a_group_that_waits_for_a_watch_or_for_what_its_namesake_left_behind_says_so() {
    let group = group(None);
    let mut seen = Observed::gather(&group, &Stores::default()).unwrap();
    seen.revisions.stored = false;
    let look = Look { moment: Duration::ZERO, wall: at(0), watched: Duration::ZERO, sure: true };
    let assessed = seen.assess(&group, &State::default(), Evidence::default(), &look);
    let failures = Failures::default();
    let status = observed(
        &Seen {
            group: &group,
            observed: &seen,
            assessed: &assessed,
            failures: &failures,
            blocked: None,
            behind: true,
        },
        at(0),
    );
    assert_eq!(condition(&status, "Ready").1, "WaitingForWatch");
    let status = observed(
        &Seen {
            group: &group,
            observed: &seen,
            assessed: &assessed,
            failures: &failures,
            blocked: None,
            behind: false,
        },
        at(0),
    );
    let (_, reason, message) = condition(&status, "Ready");
    assert_eq!(reason, "TemplateNotStored");
    assert!(message.contains("a deleted group of this name has left"), "{message}");
}

#[test]
fn pods_of_a_revision_that_somebody_has_deleted_are_named() {
    let creation = |revision: &str| Creation { revision: revision.into(), count: 2 };
    let group = group(None);
    let own = revision::hash(&group.spec.template);
    for (revision, is_lost) in [("lost", true), (&*own, false)] {
        let status = report(&group, None, at(0), |assessed| {
            assessed.plan = Plan { create: vec![creation(revision)], ..plan(3, 3, 3) };
            assessed.decision = decided(Phase::Paused, State::default());
        });
        let (_, reason, message) = condition(&status, "Ready");
        assert_eq!(reason == "RevisionLost", is_lost, "{message}");
        assert_eq!(message.starts_with("the pods of web-lost that are missing (2)"), is_lost, "{message}");
        assert_eq!(condition(&status, "Stalled").0 == "True", is_lost);
    }
}

#[test]
fn pods_that_wait_for_a_volume_or_a_network_are_named_after_a_while() {
    for (seconds, is_told) in [(29, false), (30, true)] {
        let unprepared_for = Duration::from_secs(seconds);
        let target = RevisionCounts { active: 2, unprepared: 2, unprepared_for, ..RevisionCounts::default() };
        for phase in [Phase::Rolling, Phase::Complete] {
            let status = report(&group(None), None, at(0), |assessed| {
                assessed.plan = plan(5, 3, 3);
                assessed.decision = decided(phase, State::default());
                assessed.target = target;
            });
            let (_, _, message) = condition(&status, "Ready");
            assert_eq!(message.contains("2 pods wait for volumes"), is_told, "{phase:?}: {message}");
        }
    }
}
