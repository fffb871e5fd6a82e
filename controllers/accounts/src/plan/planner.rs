//! A plan that is being built.

use std::sync::Arc;

use jiff::Timestamp;

use super::{
    action::{Plan, Problem},
    types::{AccountView, Desired, Mark, Observed, Origin},
};

/// What is looked at, and what has been decided so far.
pub(super) struct Planner<'a> {
    pub(super) observed: &'a Observed,
    pub(super) now: Timestamp,
    pub(super) plan: Plan,
}

impl Planner<'_> {
    pub(super) fn due(&mut self, at: Timestamp) {
        self.plan.due = Some(self.plan.due.map_or(at, |due| due.min(at)));
    }

    pub(super) fn problem(&mut self, desired: &Desired, reason: &'static str, message: String) {
        self.plan.problems.push(Problem { policy: Arc::clone(&desired.policy), reason, message });
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
    /// given it away.
    pub(super) fn may_have_account(&self, desired: &Desired, account: &AccountView) -> Result<bool, String> {
        match account.unmarked {
            Some(origin) => Ok(origin != Origin::Made),
            None => self.may_have(desired, account.mark.as_ref(), account.consent.as_ref()),
        }
    }
}
