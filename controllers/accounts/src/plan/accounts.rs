//! Accounts, bindings, copies of pull secrets, and their removal when a policy is deleted or no longer names them.

use std::{collections::BTreeSet, sync::Arc};

use super::{
    action::Action,
    planner::{DEFAULT, Planner},
    types::{Account, Desired, Leaving, Origin, Part, Role, Source},
};

impl Planner<'_> {
    pub(super) fn copies(&mut self, desired: &Desired) {
        for (name, wanted) in &desired.copies {
            // The source is in this namespace, under this name.
            if wanted.namespace == self.observed.namespace && wanted.name == *name {
                continue;
            }
            match wanted.source {
                Source::At(..) => {}
                Source::Unknown => continue,
                Source::Missing => {
                    let message = format!(
                        "Secret {}/{}, the source of a copy, does not exist: create it",
                        wanted.namespace, wanted.name
                    );
                    self.problem(desired, "SourceMissing", message);
                    continue;
                }
                Source::NotPullSecret => {
                    let mut message = wanted.not_pull_secret(name);
                    // What works stays, also what is not made any more; but it is not kept silent.
                    if self.observed.copies.get(name).is_some_and(|copy| copy.policy == desired.policy) {
                        let left = format!(
                            ". Secret {name} is a copy that an earlier version has created of it, and is \
                             left as it is: delete it, or remove it from the policy, which deletes it"
                        );
                        message.push_str(&left);
                    }
                    self.problem(desired, "SourceType", message);
                    continue;
                }
            }
            match self.observed.copies.get(name) {
                Some(copy) if copy.policy != desired.policy => {
                    let message = format!("Secret {name} {}", self.belongs_to(&copy.policy));
                    self.problem(desired, "Conflict", message);
                }
                Some(copy) if copy.of == *wanted && copy.written.has(&[]) => {}
                None if !self.is_free(desired, Part::Copy, name) => {}
                None if !self.claims(desired, Part::Copy, name) => {}
                standing => {
                    self.plan.repairs += usize::from(standing.is_some_and(|copy| copy.of == *wanted));
                    let standing = standing.cloned().map(Box::new);
                    let (policy, name) = (Arc::clone(&desired.policy), Arc::clone(name));
                    self.plan.actions.push(Action::Copy(policy, name, wanted.clone(), standing));
                }
            }
        }
    }

    pub(super) fn accounts(&mut self, desired: &Desired) {
        for (name, wanted) in &desired.accounts {
            let Some(standing) = self.observed.accounts.get(name) else {
                if self.claims(desired, Part::Account, name) {
                    let (policy, name) = (Arc::clone(&desired.policy), Arc::clone(name));
                    self.plan.actions.push(Action::MakeAccount(policy, name, wanted.clone()));
                }
                continue;
            };
            let adopted = match self.may_have_account(desired, name, standing) {
                Ok(adopted) => adopted,
                Err(whose) => {
                    self.problem(desired, "Conflict", format!("ServiceAccount {name} {whose}"));
                    continue;
                }
            };
            if standing.mark.is_none() && !self.claims(desired, Part::Account, name) {
                continue;
            }
            // Entries of others stay, and what the policy gave and gives no more goes.
            let others: BTreeSet<_> =
                standing.account.pull_secrets.difference(&standing.given).cloned().collect();
            let pull_secrets = &others | &wanted.pull_secrets;
            // What the owner of an account that was taken over had before is not given, though it is wanted as well: what
            // is given is taken away at the end.
            let given = if adopted { &wanted.pull_secrets - &others } else { wanted.pull_secrets.clone() };
            let has = |all: &std::collections::BTreeMap<String, String>,
                       some: &std::collections::BTreeMap<_, _>| {
                some.iter().all(|(key, value)| all.get(key) == Some(value))
            };
            let stale = standing.ours.beyond(wanted);
            let is_right = stale.is_empty()
                && standing.mark.is_some()
                && has(&standing.account.labels, &wanted.labels)
                && has(&standing.account.annotations, &wanted.annotations)
                && wanted.automount.is_none_or(|wanted| standing.account.automount == Some(wanted))
                && standing.account.pull_secrets == pull_secrets
                && standing.given == given;
            if !is_right {
                self.plan.repairs += usize::from(standing.mark.is_some() || standing.unmarked.is_some());
                self.plan.actions.push(Action::UpdateAccount {
                    policy: Arc::clone(&desired.policy),
                    name: Arc::clone(name),
                    uid: standing.uid.clone(),
                    version: standing.version,
                    account: Account { pull_secrets: given, ..wanted.clone() },
                    pull_secrets,
                    stale,
                    adopted,
                });
            }
        }
    }

    pub(super) fn bindings(&mut self, desired: &Desired) {
        for (name, wanted) in &desired.bindings {
            // The API server lets the controller also give roles whose rights it has itself: it is the list that decides.
            if !self.observed.grantable.has(&wanted.role) {
                let Role { kind, name: role } = &wanted.role;
                let key = if &**kind == "Role" { "grantableRoles" } else { "grantableClusterRoles" };
                let message = format!(
                    "RoleBinding {name}: policies may not bind {kind} {role}: name another role, or add \
                     this one to controllers.accounts.{key} of the chart. An existing RoleBinding is left \
                     as it is"
                );
                self.problem(desired, "RoleNotListed", message);
                continue;
            }
            let Some(standing) = self.observed.bindings.get(name) else {
                if self.claims(desired, Part::Binding, name) {
                    let (policy, name) = (Arc::clone(&desired.policy), Arc::clone(name));
                    self.plan.actions.push(Action::MakeBinding(policy, name, wanted.clone()));
                }
                continue;
            };
            let adopted = match self.may_have(desired, standing.mark.as_ref(), standing.consent.as_ref()) {
                Ok(adopted) => adopted,
                Err(whose) => {
                    self.problem(desired, "Conflict", format!("RoleBinding {name} {whose}"));
                    continue;
                }
            };
            if standing.mark.is_none() && !self.claims(desired, Part::Binding, name) {
                continue;
            }
            let anew = standing.role != wanted.role;
            if anew && adopted {
                let Role { kind, name: role } = &standing.role;
                let message = format!(
                    "RoleBinding {name} was not created for a policy and is bound to {kind} {role}; \
                     another role requires that it is recreated: delete it, or name that role in the \
                     policy"
                );
                self.problem(desired, "Conflict", message);
                continue;
            }
            if standing.mark.is_none() || standing.binding.as_ref() != Some(wanted) {
                self.plan.repairs += usize::from(standing.mark.is_some());
                self.plan.actions.push(Action::UpdateBinding {
                    policy: Arc::clone(&desired.policy),
                    name: Arc::clone(name),
                    uid: standing.uid.clone(),
                    binding: wanted.clone(),
                    anew,
                    adopted,
                    first: adopted
                        && standing.mark.as_ref().is_none_or(|mark| mark.origin != Origin::Adopted),
                });
            }
        }
    }

    /// Removes what the policy no longer names.
    pub(super) fn leave(&mut self) {
        let observed = self.observed;
        // What this controller has not made is not deleted, whatever its labels say: those may have come with a copy of
        // an object, or by a tool that labels all that it finds.
        for (name, (uid, origin)) in &observed.invalid {
            self.act(Some(end_of(*origin)), Part::Token, name, uid);
        }
        for (name, handle) in &observed.handles {
            let is_kept = observed.desired.iter().any(|desired| {
                desired.policy == handle.policy && desired.tokens.contains_key(&handle.output)
            });
            if is_kept {
                continue;
            }
            let standing = observed.outputs.get(&handle.output);
            let is_named = standing.is_some_and(|output| output.names(name))
                || observed.unseen.contains_key(&handle.output);
            match self.end(&handle.policy, handle.origin) {
                // Its token is nobody's: it does not stay for the grace period.
                None if !is_named && handle.origin == Origin::Made => self.end_unused(name, handle),
                end => self.act(end, Part::Handle, name, &handle.uid),
            }
        }
        for (name, output) in &observed.outputs {
            if !self.gives(&output.policy, |desired| desired.tokens.contains_key(name)) {
                self.take(Part::Token, &output.policy, name, &output.uid, output.origin);
            }
        }
        for (name, binding) in &observed.bindings {
            let Some(mark) = &binding.mark else { continue };
            if !self.gives(&mark.policy, |desired| desired.bindings.contains_key(name)) {
                match self.end(&mark.policy, mark.origin) {
                    Some(End::Restore) => {
                        let restore = Action::RestoreBinding(Arc::clone(name), binding.uid.clone());
                        self.plan.actions.push(restore);
                    }
                    end => self.act(end, Part::Binding, name, &binding.uid),
                }
            }
        }
        for (name, account) in &observed.accounts {
            let Some(mark) = &account.mark else { continue };
            if !self.gives(&mark.policy, |desired| desired.accounts.contains_key(name)) {
                // Each namespace has this one: deleted, it is made anew, and the tokens of all running pods are void.
                let is_kept = &**name == DEFAULT && mark.origin == Origin::Made;
                match self.end(&mark.policy, if is_kept { Origin::Adopted } else { mark.origin }) {
                    Some(End::Restore) => {
                        let (theirs, given) = (&account.account.pull_secrets, &account.given);
                        self.plan.actions.push(Action::Restore {
                            name: Arc::clone(name),
                            uid: account.uid.clone(),
                            version: account.version,
                            pull_secrets: theirs.difference(given).cloned().collect(),
                            stale: account.ours.clone(),
                        });
                    }
                    end => self.act(end, Part::Account, name, &account.uid),
                }
            }
        }
        for (name, copy) in &observed.copies {
            if !self.gives(&copy.policy, |desired| desired.copies.contains_key(name)) {
                self.take(Part::Copy, &copy.policy, name, &copy.uid, copy.origin);
            }
        }
    }

    fn gives(&self, policy: &Arc<str>, gives: impl Fn(&Desired) -> bool) -> bool {
        self.observed.desired.iter().any(|desired| desired.policy == *policy && gives(desired))
    }

    /// Takes an object back.
    fn take(&mut self, part: Part, policy: &Arc<str>, name: &Arc<str>, uid: &str, origin: Origin) {
        let end = self.end(policy, origin);
        self.act(end, part, name, uid);
    }

    /// What happens to an object that its policy no longer names: it is removed at once if the policy still selects
    /// the namespace, and after the policy's grace period otherwise.
    fn end(&mut self, policy: &Arc<str>, origin: Origin) -> Option<End> {
        match self.observed.leaving.get(policy) {
            Some(Leaving::Orphan) => Some(End::Orphan),
            Some(Leaving::Unknown) => None,
            Some(Leaving::Delete(at)) if *at > self.now => {
                self.due(*at);
                None
            }
            _ => Some(end_of(origin)),
        }
    }

    fn act(&mut self, end: Option<End>, part: Part, name: &Arc<str>, uid: &str) {
        let (name, uid) = (Arc::clone(name), uid.into());
        self.plan.actions.extend(end.map(|end| match end {
            End::Delete => Action::Delete(part, name, uid),
            End::Restore | End::Orphan => Action::Release(part, name, uid),
        }));
    }
}

/// What happens to an object that its policy no longer names.
#[derive(Debug, Clone, Copy)]
enum End {
    /// It is deleted.
    Delete,
    /// It stays, without what the policy has added.
    Restore,
    /// It stays as it is, without the policy's mark.
    Orphan,
}

fn end_of(origin: Origin) -> End {
    match origin {
        Origin::Made => End::Delete,
        Origin::Adopted => End::Restore,
        Origin::Foreign => End::Orphan,
    }
}
