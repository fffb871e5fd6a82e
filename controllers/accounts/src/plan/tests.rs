mod bindings;
mod several;
mod token;
mod unseen;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::{tokens::renewed_at, *};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + second).unwrap()
}

fn name(text: &str) -> Arc<str> {
    text.into()
}

fn desired(policy: &str) -> Desired {
    let account = Account { automount: Some(false), ..Account::default() };
    let binding = Binding {
        role: Role { kind: "ClusterRole".into(), name: "edit".into() },
        accounts: [name("bot")].into(),
    };
    let token = Token {
        account: name("bot"),
        audiences: vec![],
        ttl: Duration::from_secs(1000),
        overlap: Duration::from_secs(100),
        server: None,
    };
    Desired {
        policy: policy.into(),
        accounts: [(name("bot"), account)].into(),
        bindings: [(name("bot"), binding)].into(),
        tokens: [(name("bot-token"), token)].into(),
        ..Desired::default()
    }
}

fn grantable(cluster_roles: &[&str]) -> Arc<Grantable> {
    let cluster_roles = cluster_roles.iter().map(|role| name(role)).collect();
    Arc::new(Grantable { cluster_roles, roles: [name("deploy")].into() })
}

fn mark(policy: &str) -> Option<Mark> {
    Some(Mark { policy: policy.into(), origin: Origin::Made })
}

/// A namespace in which all is as the policy wants it; the token was issued at 0.
fn settled() -> Observed {
    let desired = desired("ci");
    let account = AccountView {
        uid: "a".into(),
        mark: mark("ci"),
        account: desired.accounts[&name("bot")].clone(),
        ..AccountView::default()
    };
    let binding = desired.bindings[&name("bot")].clone();
    let binding = BindingView {
        uid: "b".into(),
        mark: mark("ci"),
        consent: None,
        role: binding.role.clone(),
        binding: Some(binding),
    };
    let output = OutputView {
        uid: "o".into(),
        origin: Origin::Made,
        version: "1".into(),
        policy: "ci".into(),
        made_for: tokens::word(&desired.tokens[&name("bot-token")]),
        account: "a".into(),
        written: Written::ByUs(["token", "ca.crt", "namespace"].map(Into::into).into()),
        handle: name("h1"),
        handle_uid: Some("h".into()),
        issued: at(0),
        expires: at(1000),
        previous: None,
        revoked: false,
    };
    let handle = HandleView {
        uid: "h".into(),
        origin: Origin::Made,
        policy: "ci".into(),
        output: name("bot-token"),
        created: at(0),
    };
    Observed {
        desired: vec![desired],
        grantable: grantable(&["edit", "view"]),
        accounts: [(name("bot"), account)].into(),
        bindings: [(name("bot"), binding)].into(),
        outputs: [(name("bot-token"), output)].into(),
        handles: [(name("h1"), handle)].into(),
        ..Observed::default()
    }
}

fn why(plan: &Plan) -> Vec<Why> {
    plan.actions
        .iter()
        .filter_map(|action| if let Action::Issue { why, .. } = action { Some(*why) } else { None })
        .collect()
}

#[test]
fn a_new_namespace_gets_all_and_a_settled_one_nothing() {
    let observed =
        Observed { desired: vec![desired("ci")], grantable: grantable(&["edit"]), ..Observed::default() };
    let plan = plan(&observed, at(0));
    assert!(matches!(plan.actions[0], Action::MakeAccount(..)), "{plan:?}");
    assert!(matches!(plan.actions[1], Action::MakeBinding(..)), "{plan:?}");
    assert_eq!((plan.actions.len(), why(&plan)), (3, vec![Why::First]));
    let plan = super::plan(&settled(), at(100));
    assert_eq!((plan.actions.clone(), plan.problems.clone()), (vec![], vec![]));
    assert_eq!(plan.due, Some(renewed_at(&settled().outputs[&name("bot-token")])));
}

#[test]
fn drift_is_repaired_and_entries_of_others_stay() {
    let mut observed = settled();
    observed.desired[0].accounts.get_mut("bot").unwrap().pull_secrets = [name("ours")].into();
    let account = observed.accounts.get_mut("bot").unwrap();
    account.account.automount = Some(true);
    account.account.pull_secrets = [name("theirs"), name("before")].into();
    account.given = [name("before")].into();
    let plan = plan(&observed, at(10));
    let [Action::UpdateAccount { pull_secrets, .. }] = &plan.actions[..] else { panic!("{plan:?}") };
    assert_eq!(*pull_secrets, [name("ours"), name("theirs")].into());
    assert_eq!(plan.repairs, 1);
}

#[test]
fn what_a_policy_no_longer_says_of_an_account_is_taken_off() {
    let keys = |keys: &[&str]| keys.iter().map(ToString::to_string).collect();
    let ours = Fields { labels: keys(&["kept", "gone"]), annotations: keys(&["role"]), automount: true };
    let stale = |change: fn(&mut Account)| {
        let mut observed = settled();
        let account = observed.accounts.get_mut("bot").unwrap();
        account.ours = ours.clone();
        account.account.labels = [("kept", "1"), ("gone", "1"), ("theirs", "1")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into();
        account.account.annotations = [("role".to_owned(), "1".to_owned())].into();
        let all = account.account.clone();
        let wanted = observed.desired[0].accounts.get_mut("bot").unwrap();
        (wanted.labels, wanted.annotations) = (all.labels, all.annotations);
        wanted.labels.remove("theirs");
        change(wanted);
        plan(&observed, at(10)).actions.into_iter().find_map(|action| match action {
            Action::UpdateAccount { stale, .. } => Some(stale),
            _ => None,
        })
    };
    let none = Fields::default();
    assert_eq!(stale(|_| ()), None);
    let gone = Fields { labels: keys(&["gone"]), ..none.clone() };
    assert_eq!(stale(|wanted| drop(wanted.labels.remove("gone"))), Some(gone));
    let gone = Fields { annotations: keys(&["role"]), ..none.clone() };
    assert_eq!(stale(|wanted| wanted.annotations.clear()), Some(gone));
    let gone = Fields { automount: true, ..none.clone() };
    assert_eq!(stale(|wanted| wanted.automount = None), Some(gone));
    assert_eq!(stale(|wanted| wanted.automount = Some(true)), Some(none));
    assert_eq!(stale(|wanted| *wanted = Account::default()), Some(ours.clone()));
}

#[test]
fn a_binding_to_another_role_is_made_anew() {
    let mut observed = settled();
    let binding = observed.bindings.get_mut("bot").unwrap();
    binding.role.name = name("view");
    binding.binding = None;
    let made = plan(&observed, at(10));
    assert!(matches!(&made.actions[..], [Action::UpdateBinding { anew: true, .. }]), "{made:?}");
    // What somebody else has made is not deleted for it, with or without the policy's mark.
    for mark in [Some(Mark { policy: name("ci"), origin: Origin::Adopted }), None] {
        let binding = observed.bindings.get_mut("bot").unwrap();
        (binding.mark, binding.consent) = (mark, Some(name("ci")));
        let kept = plan(&observed, at(10));
        assert_eq!((kept.actions.len(), kept.problems[0].reason), (0, "Conflict"), "{kept:?}");
        assert!(kept.problems[0].message.contains("ClusterRole view"), "{kept:?}");
    }
}

#[test]
fn a_role_that_is_not_listed_is_not_given_and_what_stands_is_left_as_it_is() {
    let role = |kind: &str, role: &str| Role { kind: name(kind), name: name(role) };
    for (wanted, listed) in [
        (role("ClusterRole", "view"), true),
        (role("ClusterRole", "cluster-admin"), false),
        (role("ClusterRole", "deploy"), false),
        (role("Role", "deploy"), true),
        (role("Role", "edit"), false),
    ] {
        let mut observed = settled();
        observed.desired[0].bindings.get_mut("bot").unwrap().role = wanted.clone();
        for stands in [true, false] {
            if !stands {
                observed.bindings.clear();
            }
            let plan = plan(&observed, at(10));
            let expected = if listed { vec![] } else { vec!["RoleNotListed"] };
            let problems: Vec<_> = plan.problems.iter().map(|problem| problem.reason).collect();
            assert_eq!(
                (plan.actions.len(), problems),
                (usize::from(listed), expected),
                "{wanted:?} {stands}"
            );
        }
    }
}

#[test]
fn what_is_somebody_elses_is_taken_over_with_consent_alone() {
    let mut observed = settled();
    observed.accounts.get_mut("bot").unwrap().mark = None;
    let refused = plan(&observed, at(10));
    assert!(
        refused.actions.is_empty() && refused.problems[0].message.contains("mainstay.dev/adopt=ci"),
        "{refused:?}"
    );
    for consent in ["account", "namespace"] {
        let mut observed = observed.clone();
        match consent {
            "account" => observed.accounts.get_mut("bot").unwrap().consent = Some(name("ci")),
            _ => observed.consent = Some(name("ci")),
        }
        let plan = plan(&observed, at(10));
        assert!(matches!(&plan.actions[..], [Action::UpdateAccount { adopted: true, .. }]), "{plan:?}");
    }
    observed.accounts.get_mut("bot").unwrap().mark = mark("other");
    assert!(plan(&observed, at(10)).problems[0].message.contains("AccountPolicy other"));
}

#[test]
fn pull_secrets_that_an_account_had_before_it_was_taken_over_are_not_given_and_stay() {
    let mut observed = settled();
    observed.desired[0].accounts.get_mut("bot").unwrap().pull_secrets = [name("both"), name("ours")].into();
    let account = observed.accounts.get_mut("bot").unwrap();
    (account.mark, account.consent) = (None, Some(name("ci")));
    account.account.pull_secrets = [name("both"), name("theirs")].into();
    let adopting = plan(&observed, at(10)).actions;
    let [Action::UpdateAccount { account: given, pull_secrets, adopted: true, .. }] = &adopting[..] else {
        panic!("{adopting:?}")
    };
    assert_eq!(given.pull_secrets, [name("ours")].into());
    assert_eq!(*pull_secrets, [name("both"), name("ours"), name("theirs")].into());
    // As the patch leaves it: nothing more is to be done, and what was there before is there at the end.
    let account = observed.accounts.get_mut("bot").unwrap();
    account.mark = Some(Mark { policy: name("ci"), origin: Origin::Adopted });
    (account.account.pull_secrets, account.given) = (pull_secrets.clone(), given.pull_secrets.clone());
    assert_eq!(plan(&observed, at(10)).actions, []);
    observed.desired.clear();
    observed.leaving = [(name("ci"), Leaving::Delete(at(0)))].into();
    let left = plan(&observed, at(10)).actions;
    let kept = left.iter().find_map(|action| match action {
        Action::Restore { pull_secrets, .. } => Some(pull_secrets.clone()),
        _ => None,
    });
    assert_eq!(kept, Some([name("both"), name("theirs")].into()));
}

#[test]
fn a_policy_that_leaves_takes_away_what_it_gave_when_the_time_has_come() {
    let mut observed = settled();
    observed.desired.clear();
    observed.leaving = BTreeMap::from([(name("ci"), Leaving::Delete(at(60)))]);
    let plan_at = |observed: &Observed, now| plan(observed, now);
    assert_eq!((plan_at(&observed, at(59)).actions, plan_at(&observed, at(59)).due), (vec![], Some(at(60))));
    let parts: Vec<_> = plan_at(&observed, at(60))
        .actions
        .into_iter()
        .map(|action| if let Action::Delete(part, ..) = action { part } else { panic!("{action:?}") })
        .collect();
    assert_eq!(parts, [Part::Handle, Part::Token, Part::Binding, Part::Account]);
    let account = observed.accounts.get_mut("bot").unwrap();
    account.mark = Some(Mark { policy: "ci".into(), origin: Origin::Adopted });
    account.account.pull_secrets = [name("ours"), name("theirs")].into();
    account.given = [name("ours")].into();
    account.ours = Fields { annotations: ["role".to_owned()].into(), ..Fields::default() };
    let back = Action::Restore {
        name: name("bot"),
        uid: "a".into(),
        version: SeenAt::default(),
        pull_secrets: [name("theirs")].into(),
        stale: account.ours.clone(),
    };
    assert!(plan_at(&observed, at(60)).actions.contains(&back));
    observed.leaving = BTreeMap::from([(name("ci"), Leaving::Orphan)]);
    assert!(plan_at(&observed, at(0)).actions.iter().all(|action| matches!(action, Action::Release(..))));
}

#[test]
fn what_a_policy_no_longer_names_goes_at_once() {
    let mut observed = settled();
    observed.desired[0].tokens.clear();
    let plan = plan(&observed, at(10));
    let gone = [
        Action::Delete(Part::Handle, name("h1"), "h".into()),
        Action::Delete(Part::Token, name("bot-token"), "o".into()),
    ];
    assert_eq!(plan.actions, gone);
}

#[test]
fn what_the_controller_has_not_made_is_never_deleted_whatever_its_labels_say() {
    let mut observed = settled();
    observed.namespace = name("one");
    let source = Source::At("u".into(), "1".into());
    let of = Copy { namespace: name("registry"), name: name("pull"), source };
    let (uid, policy) = ("x".into(), "ci".into());
    let copy = CopyView { uid, origin: Origin::Foreign, policy, of, written: Written::Unknown };
    observed.copies = [(name("x"), copy)].into();
    observed.invalid = [(name("y"), ("y".into(), Origin::Foreign))].into();
    observed.outputs.get_mut("bot-token").unwrap().origin = Origin::Foreign;
    let handle = HandleView { origin: Origin::Foreign, ..observed.handles[&name("h1")].clone() };
    observed.handles = [(name("h1"), handle.clone()), (name("old"), handle)].into();
    for account in observed.accounts.values_mut() {
        account.mark = Some(Mark { policy: name("ci"), origin: Origin::Foreign });
    }
    for binding in observed.bindings.values_mut() {
        binding.mark = Some(Mark { policy: name("ci"), origin: Origin::Foreign });
    }
    // While the policy gives what it gives, only what it does not name is let go.
    let standing = plan(&observed, at(100)).actions;
    let release = |part, of: &str, uid: &str| Action::Release(part, name(of), uid.into());
    assert_eq!(standing, [release(Part::Token, "y", "y"), release(Part::Copy, "x", "x")]);
    observed.desired.clear();
    observed.leaving = [(name("ci"), Leaving::Delete(at(0)))].into();
    let left = plan(&observed, at(100)).actions;
    assert_eq!(left.len(), 7, "{left:?}");
    assert!(left.iter().all(|action| matches!(action, Action::Release(..))), "{left:?}");
}

#[test]
fn a_copy_of_what_is_no_pull_secret_is_left_as_it_is_and_named() {
    let of = |source| Copy { namespace: name("registry"), name: name("source"), source };
    let mut observed = settled();
    observed.desired[0].copies = [(name("pull"), of(Source::NotPullSecret))].into();
    let said = |observed: &Observed| {
        let plan = plan(observed, at(1));
        assert_eq!((plan.actions.len(), plan.problems.len()), (0, 1), "{plan:?}");
        assert_eq!(plan.problems[0].reason, "SourceType");
        plan.problems[0].message.contains("Secret pull is a copy")
    };
    assert!(!said(&observed), "there is none");
    let copy = CopyView {
        uid: "c".into(),
        origin: Origin::Made,
        policy: "ci".into(),
        of: of(Source::At("u".into(), "1".into())),
        written: Written::Unknown,
    };
    observed.copies = [(name("pull"), copy)].into();
    assert!(said(&observed));
}

#[test]
fn a_source_is_copied_where_it_is_not_itself_and_one_that_is_not_known_yet_is_waited_for() {
    let of =
        |namespace: &str, source: Source| Copy { namespace: name(namespace), name: name("pull"), source };
    let known = Source::At("u".into(), "1".into());
    let look = |namespace: &str, wanted: Copy, standing: Option<Copy>| {
        let mut observed = settled();
        observed.namespace = name(namespace);
        observed.desired[0].copies = [(name("pull"), wanted)].into();
        let view = |of| CopyView {
            uid: "c".into(),
            origin: Origin::Made,
            policy: "ci".into(),
            of,
            written: Written::Unknown,
        };
        observed.copies = standing.map(|of| (name("pull"), view(of))).into_iter().collect();
        let plan = plan(&observed, at(1));
        (plan.actions.len(), plan.problems.len())
    };
    assert_eq!(look("one", of("registry", known.clone()), None), (1, 0));
    assert_eq!(look("registry", of("registry", known.clone()), None), (0, 0));
    assert_eq!(look("one", of("registry", Source::Missing), None), (0, 1));
    assert_eq!(look("one", of("registry", Source::NotPullSecret), None), (0, 1));
    assert_eq!(
        look("one", of("registry", Source::NotPullSecret), Some(of("registry", known.clone()))),
        (0, 1)
    );
    assert_eq!(look("one", of("registry", Source::Unknown), Some(of("registry", known.clone()))), (0, 0));
    let later = Source::At("u".into(), "2".into());
    assert_eq!(look("one", of("registry", later), Some(of("registry", known))), (1, 0));
}
