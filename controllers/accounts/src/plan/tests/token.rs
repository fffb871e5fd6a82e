//! Tokens: when they are issued, renewed and revoked, and what becomes of their handles.

use super::*;

#[test]
fn a_token_is_renewed_late_in_the_life_that_was_granted() {
    let observed = settled();
    let renewed = renewed_at(&observed.outputs[&name("bot-token")]);
    assert!(renewed >= at(700) && renewed <= at(800), "{renewed}");
    assert_eq!(why(&plan(&observed, renewed)), [Why::Renewal]);
}

#[test]
fn the_handle_before_lives_for_the_overlap_and_one_without_a_token_for_a_minute() {
    let mut observed = settled();
    let output = observed.outputs.get_mut("bot-token").unwrap();
    output.previous = Some((name("h0"), at(100)));
    let handle = observed.handles[&name("h1")].clone();
    observed.handles.insert(name("h0"), HandleView { uid: "h0".into(), ..handle.clone() });
    observed.handles.insert(name("lost"), HandleView { uid: "lost".into(), created: at(40), ..handle });
    let deleted = |now| -> Vec<_> {
        let actions = plan(&observed, now).actions.into_iter();
        actions
            .filter_map(
                |action| if let Action::Delete(Part::Handle, name, _) = action { Some(name) } else { None },
            )
            .collect()
    };
    assert!(deleted(at(99)).is_empty());
    assert_eq!(deleted(at(100)), [name("h0"), name("lost")]);
}

#[test]
fn a_handle_that_was_made_for_nothing_is_used_for_the_next_token() {
    let mut observed = settled();
    let handle = observed.handles[&name("h1")].clone();
    observed.handles.insert(name("spare"), HandleView { uid: "spare".into(), created: at(800), ..handle });
    observed.unbound = ["spare".into()].into();
    let plan = plan(&observed, at(810));
    let Some(Action::Issue { handle, .. }) = plan.actions.last() else { panic!("{plan:?}") };
    assert_eq!(handle.as_ref().map(|(name, _)| &**name), Some("spare"));
}

/// Who deletes the Secret of a token has revoked it, also in the minute after it was issued.
#[test]
fn a_handle_to_which_a_token_may_be_bound_is_not_used_for_another() {
    for created in [700, 800] {
        let mut observed = settled();
        let handle = observed.handles[&name("h1")].clone();
        observed.handles.insert(name("other"), HandleView { created: at(created), ..handle });
        let plan = plan(&observed, at(810));
        let Some(Action::Issue { handle: None, .. }) = plan.actions.last() else { panic!("{plan:?}") };
    }
}

#[test]
fn one_to_which_no_token_was_ever_bound_is_used_and_not_deleted_however_old_it_is() {
    let mut observed = settled();
    let handle = observed.handles[&name("h1")].clone();
    observed.handles.insert(name("old"), HandleView { uid: "old".into(), created: at(100), ..handle });
    observed.unbound = ["old".into()].into();
    let issued = plan(&observed, at(810));
    let [Action::Issue { handle, .. }] = &*issued.actions else { panic!("{issued:?}") };
    assert_eq!(handle.as_ref().map(|(name, _)| &**name), Some("old"));
    let settled = plan(&observed, at(200));
    assert!(matches!(&*settled.actions, [Action::Delete(..)]), "none is to be issued: {settled:?}");
}

#[test]
fn a_handle_without_a_token_goes_also_where_the_rest_stays_for_its_grace_period() {
    let mut observed = settled();
    let handle = observed.handles[&name("h1")].clone();
    observed.handles.insert(name("lost"), HandleView { uid: "lost".into(), created: at(40), ..handle });
    observed.desired.clear();
    observed.leaving = [(name("ci"), Leaving::Delete(at(5000)))].into();
    let of = |observed: &Observed, now| {
        let plan = plan(observed, at(now));
        let gone = plan.actions.into_iter().filter_map(|action| match action {
            Action::Delete(Part::Handle, handle, _) if &*handle == "lost" => Some(handle),
            _ => None,
        });
        gone.count()
    };
    assert_eq!((of(&observed, 90), of(&observed, 100)), (0, 1));
    // A Secret that no watch shows may have it.
    observed.unseen.insert(name("bot-token"), Unseen::Unknown);
    observed.outputs.clear();
    assert_eq!(of(&observed, 100), 0);
}

#[test]
fn revoking_deletes_the_handles_first() {
    let mut observed = settled();
    observed.outputs.get_mut("bot-token").unwrap().revoked = true;
    let plan = plan(&observed, at(10));
    assert_eq!(plan.actions[0], Action::Delete(Part::Handle, name("h1"), "h".into()));
    assert_eq!(why(&plan), [Why::Revoked]);
}

/// What is decided of the settled namespace after a change of its Secret with a token.
fn decided(second: i64, change: impl FnOnce(&mut OutputView)) -> Plan {
    let mut observed = settled();
    change(observed.outputs.get_mut("bot-token").unwrap());
    plan(&observed, at(second))
}

#[test]
fn a_token_that_is_worth_nothing_is_made_anew() {
    // Its handle is gone, which somebody else has deleted.
    let mut observed = settled();
    observed.handles.clear();
    assert_eq!(why(&plan(&observed, at(1))), [Why::Revoked]);
    // It was restored from a backup, under the name that it had.
    let mut observed = settled();
    observed.handles.get_mut("h1").unwrap().uid = "restored".into();
    assert_eq!(why(&plan(&observed, at(1))), [Why::Changed]);
    // The account is another of the same name.
    assert_eq!(why(&decided(1, |output| output.account = "another".into())), [Why::Changed]);
    // One that is made in this reconcile is known in the next.
    let mut observed = settled();
    observed.accounts.clear();
    assert_eq!(why(&plan(&observed, at(1))), []);
}

#[test]
fn values_that_somebody_has_changed_are_put_right_but_not_again_and_again() {
    for written in
        [Written::ByOthers([].into()), Written::ByUs(["ca.crt", "namespace"].map(Into::into).into())]
    {
        let change = |output: &mut OutputView| output.written = written.clone();
        let early = decided(9, change);
        assert_eq!((why(&early), early.repairs, early.due), (vec![], 0, Some(at(10))));
        let late = decided(10, change);
        assert_eq!((why(&late), late.repairs), (vec![Why::Changed], 1));
    }
    assert_eq!(why(&decided(10, |output| output.written = Written::Unknown)), []);
}

#[test]
fn an_account_of_somebody_else_gets_no_token_and_a_spoilt_secret_goes() {
    let mut observed = settled();
    observed.outputs.clear();
    observed.accounts.get_mut("bot").unwrap().mark = None;
    let plan = plan(&observed, at(1));
    assert_eq!((why(&plan), plan.problems[0].reason), (vec![], "Conflict"));
    let mut observed = settled();
    observed.invalid = [(name("bot-token"), ("s".into(), Origin::Made))].into();
    let plan = super::plan(&observed, at(1));
    assert_eq!(plan.actions, [Action::Delete(Part::Token, name("bot-token"), "s".into())]);
}
