//! Secrets that have lost the label by which the watch finds them.

use std::collections::BTreeSet;

use super::*;

/// The Secret of the token is not seen; what is found at its name, if anything.
fn without_output(unseen: Option<Unseen>) -> Observed {
    let mut observed = settled();
    observed.outputs.clear();
    observed.unseen = unseen.map(|unseen| (name("bot-token"), unseen)).into_iter().collect();
    observed
}

fn reasons(plan: &Plan) -> Vec<&'static str> {
    plan.problems.iter().map(|problem| problem.reason).collect()
}

#[test]
fn the_name_of_a_token_is_asked_for_before_its_handle_is_taken_for_unused() {
    assert_eq!(without_output(None).doubtful(&BTreeSet::new()), [name("bot-token")].into());
    assert_eq!(settled().doubtful(&[name("bot-token")].into()), BTreeSet::new(), "it is seen");
    // It is long unused, as the name was found to be free.
    let plan = plan(&without_output(None), at(500));
    assert_eq!(plan.actions[0], Action::Delete(Part::Handle, name("h1"), "h".into()));
    assert_eq!(why(&plan), [Why::First]);
}

#[test]
fn a_token_that_has_lost_its_mark_gets_it_back_and_lives_on() {
    let plan = plan(&without_output(Some(Unseen::Unmarked(Part::Token, "o".into()))), at(500));
    let mark = Action::Mark("ci".into(), Part::Token, name("bot-token"), "o".into());
    assert_eq!((plan.actions, plan.problems, plan.repairs), (vec![mark], vec![], 1));
}

#[test]
fn while_it_is_not_known_whether_there_is_one_nothing_is_revoked_or_issued() {
    let own = Unseen::Foreign(Some("ci".into()));
    for unseen in [Unseen::Unknown, Unseen::Going, own] {
        let plan = plan(&without_output(Some(unseen.clone())), at(500));
        assert_eq!((plan.actions.len(), plan.problems.len()), (0, 1), "{unseen:?}");
    }
}

#[test]
fn somebody_elses_secret_is_told_and_is_no_place_for_the_token_of_a_handle() {
    let others = [None, Some("other".into())].map(Unseen::Foreign);
    for unseen in others.into_iter().chain([Unseen::Unmarked(Part::Copy, "o".into())]) {
        let is_foreign = matches!(unseen, Unseen::Foreign(_));
        let plan = plan(&without_output(Some(unseen)), at(500));
        assert_eq!((reasons(&plan), why(&plan)), (vec!["Conflict"], vec![]));
        assert_eq!(plan.actions.len(), usize::from(is_foreign));
    }
}

#[test]
fn a_handle_that_has_lost_its_mark_revokes_nothing() {
    let mut observed = settled();
    observed.handles.clear();
    assert_eq!(observed.doubtful(&BTreeSet::new()), [name("h1")].into());
    for (unseen, expected, marks) in [
        (None, vec![Why::Revoked], 0),
        (Some(Unseen::Going), vec![Why::Revoked], 0),
        (Some(Unseen::Unknown), vec![], 0),
        (Some(Unseen::Unmarked(Part::Handle, "h".into())), vec![], 1),
    ] {
        observed.unseen = unseen.map(|unseen| (name("h1"), unseen)).into_iter().collect();
        let plan = plan(&observed, at(500));
        assert_eq!((why(&plan), plan.actions.len()), (expected.clone(), expected.len() + marks));
    }
}

#[test]
fn a_copy_that_has_lost_its_mark_is_of_one_policy() {
    let copy =
        Copy { namespace: name("registry"), name: name("pull"), source: Source::At("s".into(), "1".into()) };
    let desired = |policy: &str| Desired {
        policy: policy.into(),
        copies: [(name("pull"), copy.clone())].into(),
        ..Desired::default()
    };
    let unseen = [(name("pull"), Unseen::Unmarked(Part::Copy, "c".into()))].into();
    let observed = Observed { desired: vec![desired("a"), desired("b")], unseen, ..Observed::default() };
    let mark = Action::Mark("a".into(), Part::Copy, name("pull"), "c".into());
    assert_eq!(plan(&observed, at(0)).actions, [mark]);
}

#[test]
fn an_account_that_has_lost_its_mark_gets_it_back_from_who_named_it() {
    for (origin, was_adopted) in [(Origin::Made, false), (Origin::Adopted, true)] {
        let mut observed = settled();
        let account = observed.accounts.get_mut("bot").unwrap();
        (account.mark, account.unmarked) = (None, Some(origin));
        let plan = plan(&observed, at(100));
        let [Action::UpdateAccount { policy, adopted, .. }] = &plan.actions[..] else { panic!("{plan:?}") };
        assert_eq!((&**policy, *adopted, plan.problems.len(), plan.repairs), ("ci", was_adopted, 0, 1));
    }
}
