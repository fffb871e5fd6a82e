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
    for told in ["AccountPolicy ci", "remove the label mainstay.dev/account-policy"] {
        assert!(plan.problems.iter().all(|problem| problem.message.contains(told)), "{told}: {plan:?}");
    }
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

#[test]
fn a_name_of_a_secret_is_given_once() {
    let pull = |policy: &str, of: &str| Desired {
        policy: policy.into(),
        copies: [(
            name(of),
            Copy {
                namespace: name("registry"),
                name: name("pull"),
                source: Source::At("s".into(), "1".into()),
            },
        )]
        .into(),
        ..Desired::default()
    };
    let copy_of = |policy: &str| CopyView {
        uid: "c".into(),
        origin: Origin::Made,
        policy: policy.into(),
        of: pull(policy, "bot-token").copies[&name("bot-token")].clone(),
        written: Written::Unknown,
    };
    // A policy that names it as both, and two of which one names it as a copy; the copy stands, or is still to be made.
    let mut both = desired("ci");
    both.copies = pull("ci", "bot-token").copies;
    for (policies, owner) in [(vec![both], "ci"), (vec![pull("a", "bot-token"), desired("ci")], "a")] {
        for stands in [false, true] {
            let mut observed = settled();
            (observed.outputs, observed.handles) = Default::default();
            observed.desired.clone_from(&policies);
            observed.copies = stands.then(|| (name("bot-token"), copy_of(owner))).into_iter().collect();
            let planned = plan(&observed, at(10));
            assert_eq!(why(&planned), [], "each try would issue a token: {planned:?}");
            assert_eq!(planned.actions.len(), usize::from(!stands), "{planned:?}");
            let [problem] = &planned.problems[..] else { panic!("{planned:?}") };
            assert_eq!((&*problem.policy, problem.reason), ("ci", "Conflict"));
            assert!(problem.message.contains("Secret bot-token"), "{problem:?}");
        }
    }
    // Nor a copy over a Secret with a token, or a token where one stands that cannot be read.
    let mut observed = settled();
    observed.desired.insert(0, pull("a", "bot-token"));
    let planned = plan(&observed, at(10));
    assert_eq!((planned.actions.len(), &*planned.problems[0].policy), (0, "a"), "{planned:?}");
    let mut observed = settled();
    (observed.outputs, observed.handles) = Default::default();
    observed.invalid = [(name("bot-token"), ("s".into(), Origin::Made))].into();
    let planned = plan(&observed, at(10));
    assert_eq!(planned.actions, [Action::Delete(Part::Token, name("bot-token"), "s".into())]);
}
