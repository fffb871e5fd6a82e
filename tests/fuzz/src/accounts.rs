//! Plans of the accounts, bindings and tokens of one namespace.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use arbitrary::{Result, Unstructured};
use jiff::Timestamp;
use mainstay_accounts::plan::{
    Account, AccountView, Action, Binding, BindingView, Copy, CopyView, Desired, Fields, Grantable,
    HandleView, Leaving, Mark, Observed, Origin, OutputView, Part, Plan, Role, SeenAt, Source, Token, Unseen,
    Written, plan,
};

use crate::input::{NOW, duration, maybe, name, one_of, some, time};

const POLICIES: [&str; 3] = ["p", "q", "r"];
const NAMES: [&str; 4] = ["a", "b", "c", "default"];
const KEYS: [&str; 4] = ["token", "ca.crt", "namespace", "kubeconfig"];
const UIDS: [&str; 2] = ["one", "two"];

fn names(u: &mut Unstructured<'_>) -> Result<Arc<str>> {
    name(u, &NAMES)
}

fn uid(u: &mut Unstructured<'_>) -> Result<Box<str>> {
    Ok(one_of(u, &UIDS)?.into())
}

fn origin(u: &mut Unstructured<'_>) -> Result<Origin> {
    one_of(u, &[Origin::Made, Origin::Made, Origin::Adopted, Origin::Foreign])
}

fn mark(u: &mut Unstructured<'_>) -> Result<Option<Mark>> {
    maybe(u, |u| Ok(Mark { policy: name(u, &POLICIES)?, origin: origin(u)? }))
}

fn consent(u: &mut Unstructured<'_>) -> Result<Option<Arc<str>>> {
    if u.ratio(1, 4)? { name(u, &POLICIES).map(Some) } else { Ok(None) }
}

/// A map of a few names.
fn map<T>(
    u: &mut Unstructured<'_>,
    mut make: impl FnMut(&mut Unstructured<'_>) -> Result<T>,
) -> Result<BTreeMap<Arc<str>, T>> {
    Ok(some(u, 3, |u| Ok((names(u)?, make(u)?)))?.into_iter().collect())
}

fn account(u: &mut Unstructured<'_>) -> Result<Account> {
    let labels =
        some(u, 2, |u| Ok((one_of(u, &["x", "y"])?.to_owned(), one_of(u, &["1", "2"])?.to_owned())))?;
    Ok(Account {
        labels: labels.into_iter().collect(),
        annotations: BTreeMap::new(),
        automount: u.arbitrary()?,
        pull_secrets: some(u, 2, names)?.into_iter().collect(),
    })
}

fn role(u: &mut Unstructured<'_>) -> Result<Role> {
    Ok(Role { kind: name(u, &["Role", "ClusterRole"])?, name: name(u, &["view", "edit"])? })
}

fn binding(u: &mut Unstructured<'_>) -> Result<Binding> {
    Ok(Binding { role: role(u)?, accounts: some(u, 2, names)?.into_iter().collect() })
}

fn copy(u: &mut Unstructured<'_>) -> Result<Copy> {
    let source = match u.int_in_range(0..=5)? {
        0 => Source::Unknown,
        1 => Source::Missing,
        2 => Source::NotPullSecret,
        _ => Source::At("u".into(), one_of(u, &["1", "2"])?.into()),
    };
    Ok(Copy { namespace: name(u, &["ns", "other"])?, name: names(u)?, source })
}

fn token(u: &mut Unstructured<'_>) -> Result<Token> {
    Ok(Token {
        account: names(u)?,
        audiences: some(u, 2, |u| Ok(one_of(u, &["api", "vault"])?.to_owned()))?,
        ttl: duration(u)?,
        overlap: duration(u)?,
        server: maybe(u, |_| Ok("https://kubernetes".to_owned()))?,
    })
}

fn written(u: &mut Unstructured<'_>) -> Result<Written> {
    let keys = some(u, 4, |u| Ok(one_of(u, &KEYS)?.into()))?.into_iter().collect();
    Ok(match u.int_in_range(0..=2)? {
        0 => Written::Unknown,
        1 => Written::ByUs(keys),
        _ => Written::ByOthers(keys),
    })
}

fn output(u: &mut Unstructured<'_>) -> Result<OutputView> {
    let (issued, expires) = (time(u)?, time(u)?);
    Ok(OutputView {
        uid: uid(u)?,
        origin: origin(u)?,
        version: "1".into(),
        policy: name(u, &POLICIES)?,
        made_for: one_of(u, &["a;;600;", "b;api;0;"])?.into(),
        account: uid(u)?,
        written: written(u)?,
        handle: names(u)?,
        handle_uid: maybe(u, uid)?,
        issued,
        expires,
        previous: maybe(u, |u| Ok((names(u)?, time(u)?)))?,
        revoked: u.ratio(1, 8)?,
    })
}

fn account_view(u: &mut Unstructured<'_>) -> Result<AccountView> {
    let account = account(u)?;
    let mark = mark(u)?;
    let ours = Fields { labels: account.labels.keys().cloned().collect(), ..Fields::default() };
    Ok(AccountView {
        uid: uid(u)?,
        version: SeenAt::default(),
        unmarked: if mark.is_none() && u.ratio(1, 6)? { Some(origin(u)?) } else { None },
        mark,
        consent: consent(u)?,
        given: some(u, 2, names)?.into_iter().collect(),
        ours: if u.arbitrary()? { ours } else { Fields::default() },
        account,
    })
}

fn binding_view(u: &mut Unstructured<'_>) -> Result<BindingView> {
    let binding = binding(u)?;
    Ok(BindingView {
        uid: uid(u)?,
        mark: mark(u)?,
        consent: consent(u)?,
        role: binding.role.clone(),
        binding: Some(binding).filter(|_| u.ratio(7, 8).unwrap_or_default()),
    })
}

fn desired(u: &mut Unstructured<'_>, policy: &str) -> Result<Desired> {
    Ok(Desired {
        policy: policy.into(),
        accounts: map(u, account)?,
        bindings: map(u, binding)?,
        copies: map(u, copy)?,
        tokens: map(u, token)?,
    })
}

fn unseen(u: &mut Unstructured<'_>) -> Result<Unseen> {
    let part = one_of(u, &[Part::Copy, Part::Handle, Part::Token])?;
    Ok(match u.int_in_range(0..=3)? {
        0 => Unseen::Unknown,
        1 => Unseen::Unmarked(part, uid(u)?),
        2 => Unseen::Foreign(consent(u)?),
        _ => Unseen::Going,
    })
}

fn observed(u: &mut Unstructured<'_>) -> Result<Observed> {
    let mut observed = Observed { namespace: "ns".into(), ..Observed::default() };
    for policy in POLICIES {
        match u.int_in_range(0..=5)? {
            0 => drop(observed.leaving.insert(policy.into(), Leaving::Delete(time(u)?))),
            1 => drop(observed.leaving.insert(policy.into(), Leaving::Orphan)),
            2 => drop(observed.leaving.insert(policy.into(), Leaving::Unknown)),
            _ => observed.desired.push(desired(u, policy)?),
        }
    }
    let roles = some(u, 2, |u| name(u, &["view", "edit"]))?.into_iter().collect();
    observed.consent = consent(u)?;
    observed.grantable = Arc::new(Grantable { cluster_roles: roles, roles: ["view".into()].into() });
    observed.accounts = map(u, account_view)?;
    observed.bindings = map(u, binding_view)?;
    observed.copies = map(u, |u| {
        Ok(CopyView {
            uid: uid(u)?,
            origin: origin(u)?,
            policy: name(u, &POLICIES)?,
            of: copy(u)?,
            written: written(u)?,
        })
    })?;
    observed.handles = map(u, |u| {
        let (output, created) = (names(u)?, time(u)?);
        Ok(HandleView { uid: uid(u)?, origin: origin(u)?, policy: name(u, &POLICIES)?, output, created })
    })?;
    observed.outputs = map(u, output)?;
    observed.invalid = map(u, |u| Ok((uid(u)?, origin(u)?)))?;
    // A Secret is one thing.
    let Observed { copies, handles, outputs, invalid, .. } = &mut observed;
    handles.retain(|name, _| !copies.contains_key(name));
    outputs.retain(|name, _| !copies.contains_key(name) && !handles.contains_key(name));
    let is_seen = |name: &Arc<str>| {
        copies.contains_key(name) || handles.contains_key(name) || outputs.contains_key(name)
    };
    invalid.retain(|name, _| !is_seen(name));
    let hidden = map(u, unseen)?;
    observed.unseen =
        hidden.into_iter().filter(|(name, _)| !is_seen(name) && !invalid.contains_key(name)).collect();
    Ok(observed)
}

/// The kind of name that an object has: all Secrets share theirs.
fn names_of(part: Part) -> Part {
    match part {
        Part::Account | Part::Binding => part,
        Part::Copy | Part::Handle | Part::Token => Part::Token,
    }
}

/// What an action does to what.
fn object(action: &Action) -> (Part, &Arc<str>) {
    match action {
        Action::MakeAccount(_, name, _)
        | Action::UpdateAccount { name, .. }
        | Action::Restore { name, .. } => (Part::Account, name),
        Action::MakeBinding(_, name, _)
        | Action::UpdateBinding { name, .. }
        | Action::RestoreBinding(name, _) => (Part::Binding, name),
        Action::Copy(_, name, ..) => (Part::Copy, name),
        Action::Issue { output, .. } => (Part::Token, output),
        Action::Mark(_, part, name, _) | Action::Delete(part, name, _) | Action::Release(part, name, _) => {
            (*part, name)
        }
    }
}

/// The policy for which an object is made, changed or adopted.
fn policy(action: &Action) -> Option<&Arc<str>> {
    match action {
        Action::MakeAccount(policy, ..)
        | Action::MakeBinding(policy, ..)
        | Action::Copy(policy, ..)
        | Action::Mark(policy, ..)
        | Action::UpdateAccount { policy, .. }
        | Action::UpdateBinding { policy, .. }
        | Action::Issue { policy, .. } => Some(policy),
        Action::Delete(..) | Action::Release(..) | Action::RestoreBinding(..) | Action::Restore { .. } => {
            None
        }
    }
}

/// Plans.
pub(crate) fn check(u: &mut Unstructured<'_>) -> Result<()> {
    let observed = observed(u)?;
    let now = Timestamp::from_second(NOW).unwrap_or_default();
    let planned = plan(&observed, now);
    assert!(planned.due.is_none_or(|due| due > now), "due at once: {planned:?}");
    let mut touched = BTreeSet::new();
    for action in &planned.actions {
        let (part, name) = object(action);
        assert!(touched.insert((names_of(part), name)), "{part:?} {name} twice: {planned:?} of {observed:?}");
        belongs(&observed, action);
    }
    for problem in &planned.problems {
        assert!(!problem.reason.is_empty() && !problem.message.is_empty(), "{problem:?}");
    }
    assert!(planned == plan(&observed, now), "planned again, it is another");
    is_given(&observed, &planned);
    Ok(())
}

/// Nothing of another policy, or of nobody, is touched without the consent of its owner.
fn belongs(observed: &Observed, action: &Action) {
    let (part, name) = object(action);
    let Some(policy) = policy(action) else {
        // What is removed or released is the policy's that its mark names, and is known by its UID.
        let marked = observed.owner(part, name).is_some() || observed.invalid.contains_key(name);
        assert!(marked, "{action:?} of {observed:?}");
        return;
    };
    let desired = observed.desired.iter().find(|desired| desired.policy == *policy);
    assert!(desired.is_some(), "for a policy that gives nothing: {action:?}");
    let adopts =
        |consent: Option<&Arc<str>>| consent == Some(policy) || observed.consent.as_ref() == Some(policy);
    match (action, observed.owner(part, name)) {
        (Action::Mark(..), None) => {}
        (_, Some(owner)) => assert_eq!(owner, policy, "{action:?} of {observed:?}"),
        (Action::UpdateAccount { name, .. }, None) => {
            let view = &observed.accounts[name];
            let may = view.unmarked.is_some() || &**name == "default" || adopts(view.consent.as_ref());
            assert!(may, "taken without consent: {action:?}");
        }
        (Action::UpdateBinding { name, .. }, None) => {
            assert!(adopts(observed.bindings[name].consent.as_ref()), "taken without consent: {action:?}");
        }
        (Action::MakeAccount(..), None) => assert!(!observed.accounts.contains_key(name), "{action:?}"),
        (Action::MakeBinding(..), None) => assert!(!observed.bindings.contains_key(name), "{action:?}"),
        (_, None) => assert!(!observed.invalid.contains_key(name), "made where there is one: {action:?}"),
    }
    if let Action::MakeBinding(_, _, binding) | Action::UpdateBinding { binding, .. } = action {
        assert!(observed.grantable.has(&binding.role), "a role that may not be given: {action:?}");
    }
}

/// Each object that a policy wants is there, is made, or has a reason why not.
fn is_given(observed: &Observed, plan: &Plan) {
    for desired in &observed.desired {
        let told = plan.problems.iter().any(|problem| problem.policy == desired.policy);
        for name in desired.accounts.keys() {
            let stands = observed.accounts.contains_key(name);
            let made = plan.actions.iter().any(|action| object(action) == (Part::Account, name));
            assert!(stands || made || told, "ServiceAccount {name} of {}: {plan:?}", desired.policy);
        }
    }
}
