//! A plan that is being built.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;

use super::{
    action::{Plan, Problem},
    types::{AccountView, Desired, Mark, Observed, Origin, Part},
};

/// The account of pods that name none.
pub(super) const DEFAULT: &str = "default";

/// What is looked at, and what has been decided so far.
pub(super) struct Planner<'a> {
    pub(super) observed: &'a Observed,
    pub(super) now: Timestamp,
    pub(super) plan: Plan,
    /// The policy that makes or adopts each object in this plan: the first by name of those that name it.
    pub(super) claimed: BTreeMap<(Part, Arc<str>), Arc<str>>,
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
        let (part, kind) = match part {
            Part::Account => (part, "ServiceAccount"),
            Part::Binding => (part, "RoleBinding"),
            Part::Copy | Part::Handle | Part::Token => (Part::Token, "Secret"),
        };
        let key = (part, Arc::clone(name));
        let owner = Arc::clone(self.claimed.entry(key).or_insert_with(|| Arc::clone(&desired.policy)));
        let is_owner = owner == desired.policy;
        if !is_owner {
            let message =
                format!("{kind} {name} belongs to AccountPolicy {owner}: name it in only one of the two");
            self.problem(desired, "Conflict", message);
        }
        is_owner
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
            Some(mark) => {
                Err(format!("belongs to AccountPolicy {}: name it in only one of the two", mark.policy))
            }
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
