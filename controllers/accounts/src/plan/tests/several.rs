//! Objects that several policies name, and those of policies that are not known.

use super::*;

#[test]
fn what_no_policy_has_yet_is_of_the_first_by_name_and_the_other_says_so() {
    let copy = |policy: &str| {
        let source = Source::At("s".into(), "1".into());
        let copy = Copy { namespace: name("registry"), name: name("pull"), source };
        Desired { copies: [(name("pull"), copy)].into(), ..desired(policy) }
    };
    let mut observed = Observed {
        desired: vec![copy("a"), copy("b")],
        grantable: grantable(&["edit"]),
        ..Observed::default()
    };
    let planned = plan(&observed, at(0));
    assert_eq!(planned.actions.len(), 4, "{planned:?}");
    assert!(planned.problems.iter().all(|problem| &*problem.policy == "b" && problem.reason == "Conflict"));
    let told: Vec<_> = planned.problems.iter().map(|problem| problem.message.clone()).collect();
    for object in ["ServiceAccount bot", "RoleBinding bot", "Secret pull"] {
        let message = format!("{object} belongs to AccountPolicy a");
        assert!(told.iter().any(|told| told.starts_with(&message)), "{object}: {told:?}");
    }
    // Who has it keeps it, whatever the names say.
    let account = AccountView { uid: "u".into(), mark: mark("b"), ..AccountView::default() };
    observed.accounts = [(name("bot"), account)].into();
    let planned = plan(&observed, at(0));
    let updates = planned.actions.iter().filter_map(|action| match action {
        Action::UpdateAccount { policy, .. } | Action::MakeAccount(policy, ..) => Some(&**policy),
        _ => None,
    });
    assert_eq!(updates.collect::<Vec<_>>(), ["b"]);
}

#[test]
fn the_account_of_pods_that_name_none_needs_no_consent_and_is_of_one_policy() {
    let with_default = |policy: &str| {
        let account = Account { pull_secrets: [name("pull")].into(), ..Account::default() };
        Desired { policy: policy.into(), accounts: [(name("default"), account)].into(), ..Desired::default() }
    };
    let theirs = AccountView { uid: "u".into(), ..AccountView::default() };
    let mut observed = Observed {
        desired: vec![with_default("a"), with_default("b")],
        accounts: [(name("default"), theirs)].into(),
        ..Observed::default()
    };
    let adopting = plan(&observed, at(0));
    let [Action::UpdateAccount { policy, adopted: true, .. }] = &adopting.actions[..] else {
        panic!("{adopting:?}")
    };
    assert_eq!((&**policy, adopting.problems.len()), ("a", 1));
    observed.accounts.get_mut("default").unwrap().mark = mark("c");
    observed.leaving = [(name("c"), Leaving::Unknown)].into();
    assert_eq!((plan(&observed, at(0)).actions.len(), plan(&observed, at(0)).problems.len()), (0, 2));
}

#[test]
fn what_a_policy_gave_that_is_not_known_stays_and_is_named_to_others() {
    let mut observed = settled();
    observed.desired = vec![desired("other")];
    observed.leaving = [(name("ci"), Leaving::Unknown)].into();
    let plan = plan(&observed, at(5000));
    assert_eq!(plan.actions, []);
    assert!(plan.problems.iter().all(|problem| problem.message.contains("AccountPolicy ci")), "{plan:?}");
}

#[test]
fn the_default_account_is_handed_back_and_never_deleted() {
    for leaving in [Some(Leaving::Delete(at(0))), None] {
        let mut observed = settled();
        observed.desired.clear();
        observed.leaving = leaving.map(|leaving| (name("ci"), leaving)).into_iter().collect();
        let account = observed.accounts.remove("bot").unwrap();
        observed.accounts.insert(name("default"), account);
        let plan = plan(&observed, at(1));
        let last = plan.actions.last();
        assert!(matches!(last, Some(Action::Restore { name, .. }) if &**name == "default"), "{plan:?}");
    }
}
