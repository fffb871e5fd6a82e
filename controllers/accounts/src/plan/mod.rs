//! Decides what is done in one namespace; pure, without clock or client.
//!
//! All that is remembered is in the objects themselves: whose they are in a label, of a token when it was issued and
//! when it ends in annotations of its Secret. So a restart issues nothing anew.

mod accounts;
mod action;
mod tokens;
mod types;
mod unseen;

use std::sync::Arc;

use jiff::Timestamp;

pub use self::{action::*, types::*, unseen::Unseen};

/// Decides what is done in a namespace at this time of the API server's clock.
pub fn plan(observed: &Observed, now: Timestamp) -> Plan {
    let mut planner = Planner { observed, now, plan: Plan::default() };
    for gift in &observed.gifts {
        planner.copies(gift);
        planner.accounts(gift);
        planner.bindings(gift);
        planner.tokens(gift);
    }
    planner.leave();
    planner.plan
}

struct Planner<'a> {
    observed: &'a Observed,
    now: Timestamp,
    plan: Plan,
}

impl Planner<'_> {
    fn due(&mut self, at: Timestamp) {
        self.plan.due = Some(self.plan.due.map_or(at, |due| due.min(at)));
    }

    fn problem(&mut self, gift: &Gift, reason: &'static str, message: String) {
        self.plan.problems.push(Problem { policy: Arc::clone(&gift.policy), reason, message });
    }

    /// Whether an object that is marked so, and that the policy may have, was somebody else's. Fails with whose it is.
    fn may_have(&self, gift: &Gift, mark: Option<&Mark>, consent: Option<&Arc<str>>) -> Result<bool, String> {
        match mark {
            Some(mark) if mark.policy == gift.policy => Ok(mark.origin != Origin::Made),
            Some(mark) => {
                Err(format!("belongs to AccountPolicy {}: name it in one of the two alone", mark.policy))
            }
            None if consent == Some(&gift.policy) || self.observed.consent.as_ref() == Some(&gift.policy) => {
                Ok(true)
            }
            None => Err(format!(
                "was made by somebody else: annotate it, or its namespace, with mainstay.dev/adopt={} to hand it over",
                gift.policy
            )),
        }
    }

    /// The same of an account. One that has lost the mark of a policy is as it was: only the policies that name it can have
    /// given it away.
    fn may_have_account(&self, gift: &Gift, account: &AccountView) -> Result<bool, String> {
        match account.unmarked {
            Some(origin) => Ok(origin != Origin::Made),
            None => self.may_have(gift, account.mark.as_ref(), account.consent.as_ref()),
        }
    }
}

#[cfg(test)]
mod tests;
