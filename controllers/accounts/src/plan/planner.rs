//! A plan that is being built.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;

use super::{
    action::{Plan, Problem},
    types::{AccountView, Desired, Leaving, Mark, Observed, Origin, Part},
};

/// The account of pods that name none.
pub(super) const DEFAULT: &str = "default";

/// What is looked at, and what has been decided so far.
pub(super) struct Planner<'a> {
    pub(super) observed: &'a Observed,
    pub(super) now: Timestamp,
    pub(super) plan: Plan,
    /// The policy that makes or adopts each object in this plan, and as what: the first by name of those that name it.
    /// All Secrets have their names in common.
    pub(super) claimed: BTreeMap<(Part, Arc<str>), (Part, Arc<str>)>,
}

impl Planner<'_> {
    pub(super) fn due(&mut self, at: Timestamp) {
        self.plan.due = Some(self.plan.due.map_or(at, |due| due.min(at)));
    }

    pub(super) fn problem(&mut self, desired: &Desired, reason: &'static str, message: String) {
        self.plan.problems.push(Problem { policy: Arc::clone(&desired.policy), reason, message });
    }

    /// Whether an object that no policy has yet is this policy's: of several the first by name has it, and the others say so.
    pub(super) fn claims(&mut self, desired: &Desired, part: Part, name: &Arc<str>) -> bool {
        let (names, kind) = match part {
            Part::Account => (part, "ServiceAccount"),
            Part::Binding => (part, "RoleBinding"),
            Part::Copy | Part::Handle | Part::Token => (Part::Token, "Secret"),
        };
        let is_secret = names == Part::Token;
        if is_secret && self.is_name_of_another(desired, part, name) {
            return false;
        }
        let claim = || (part, Arc::clone(&desired.policy));
        let (owned_as, owner) = self.claimed.entry((names, Arc::clone(name))).or_insert_with(claim).clone();
        let message = if owner != desired.policy {
            format!("{kind} {name} belongs to AccountPolicy {owner}: name it in only one of the two")
        } else if owned_as != part {
            format!("Secret {name} would be {} as well: choose another name for one of them", words(owned_as))
        } else {
            return true;
        };
        self.problem(desired, "Conflict", message);
        false
    }

    /// Whether the name of a Secret that is to be made is that of another Secret of a policy: a create would be refused each
    /// time, after a token was issued for it.
    fn is_name_of_another(&mut self, desired: &Desired, part: Part, name: &Arc<str>) -> bool {
        let observed = self.observed;
        let secrets = [Part::Copy, Part::Handle, Part::Token];
        let standing = secrets.into_iter().find_map(|part| Some((part, observed.owner(part, name)?)));
        let message = match standing {
            Some((other, owner)) if other != part || *owner != desired.policy => format!(
                "Secret {name} is {} of AccountPolicy {owner}: it is replaced when that is removed; else choose \
                 another name",
                words(other)
            ),
            None if observed.invalid.contains_key(name) => format!(
                "Secret {name} has the label of a policy and lacks annotations: it is replaced when that is \
                 removed"
            ),
            _ => return false,
        };
        self.problem(desired, "Conflict", message);
        true
    }

    /// That an object is another policy's, and what to do about it.
    pub(super) fn belongs_to(&self, owner: &Arc<str>) -> String {
        let what_to_do = if self.observed.leaving.get(owner) == Some(&Leaving::Unknown) {
            ", which does not exist or cannot be read: correct that policy or, if it was deleted, remove the label \
             mainstay.dev/account-policy from the object"
        } else {
            ": name it in only one of the two"
        };
        format!("belongs to AccountPolicy {owner}{what_to_do}")
    }

    /// Whether an object with this mark, which the policy may have, is adopted from another owner. Fails with the
    /// owner if the policy may not have it.
    pub(super) fn may_have(
        &self,
        desired: &Desired,
        mark: Option<&Mark>,
        consent: Option<&Arc<str>>,
    ) -> Result<bool, String> {
        match mark {
            Some(mark) if mark.policy == desired.policy => Ok(mark.origin != Origin::Made),
            Some(mark) => Err(self.belongs_to(&mark.policy)),
            None if consent == Some(&desired.policy)
                || self.observed.consent.as_ref() == Some(&desired.policy) =>
            {
                Ok(true)
            }
            None => Err(format!(
                "already exists and is not managed by a policy: annotate it, or its namespace, with \
                 mainstay.dev/adopt={} to hand it over",
                desired.policy
            )),
        }
    }

    /// The same of an account. One that has lost the mark of a policy is as it was: only the policies that name it can have
    /// given it away. That of pods that name none has no owner who could consent: each namespace has it from the cluster.
    pub(super) fn may_have_account(
        &self,
        desired: &Desired,
        name: &str,
        account: &AccountView,
    ) -> Result<bool, String> {
        match account.unmarked {
            Some(origin) => Ok(origin != Origin::Made),
            None if name == DEFAULT && account.mark.is_none() => Ok(true),
            None => self.may_have(desired, account.mark.as_ref(), account.consent.as_ref()),
        }
    }
}

/// What a Secret of a policy is.
fn words(part: Part) -> &'static str {
    match part {
        Part::Copy => "a copy of a pull secret",
        Part::Handle => "the bound Secret of a token",
        _ => "a Secret with a token",
    }
}
