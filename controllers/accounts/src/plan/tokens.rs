//! Tokens: issued once, renewed in time, revoked by deleting what they are bound to.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;

use super::{Action, Gift, HandleView, OutputView, Part, Planner, Token, Why};

/// After this share of its life a token is renewed.
const RENEWED_AT: f64 = 0.8;
/// By up to this share of its life earlier, so that tokens which were issued together are not renewed together.
const JITTER: f64 = 0.1;
/// A handle without a token is kept for so long: it may have been made by the pass before, whose answer was lost.
const UNUSED: Duration = Duration::from_secs(60);

impl Planner<'_> {
    pub(super) fn tokens(&mut self, gift: &Gift) {
        for (name, token) in &gift.tokens {
            if !gift.accounts.contains_key(&token.account)
                && !self.observed.accounts.contains_key(&token.account)
            {
                let message =
                    format!("token {name} is for ServiceAccount {}, which is not there", token.account);
                self.problem(gift, "AccountMissing", message);
                continue;
            }
            let standing = self.observed.outputs.get(name);
            if let Some(other) = standing.filter(|output| output.policy != gift.policy) {
                let message = format!("Secret {name} belongs to AccountPolicy {}", other.policy);
                self.problem(gift, "Conflict", message);
                continue;
            }
            self.handles(gift, name, standing);
            let made_for = word(token);
            let why = match standing {
                None => Some(Why::First),
                Some(output) if output.revoked => Some(Why::Revoked),
                Some(output) if output.made_for != made_for => Some(Why::Changed),
                Some(output) => {
                    let at = renewed_at(output);
                    if at <= self.now {
                        Some(Why::Renewal)
                    } else {
                        self.due(at);
                        None
                    }
                }
            };
            let Some(why) = why else { continue };
            let unused = self
                .unused(gift, name, standing)
                .map(|(name, handle)| (Arc::clone(name), handle.uid.clone()));
            self.plan.actions.push(Action::Issue {
                policy: Arc::clone(&gift.policy),
                output: Arc::clone(name),
                token: token.clone(),
                made_for,
                standing: standing.cloned(),
                handle: unused,
                why,
            });
        }
    }

    /// The handles of a Secret that no token is bound to, as far as its annotations say.
    fn unused<'b>(
        &'b self,
        gift: &'b Gift,
        output: &'b Arc<str>,
        standing: Option<&'b OutputView>,
    ) -> Option<(&'b Arc<str>, &'b HandleView)> {
        self.observed.handles.iter().find(|(name, handle)| {
            let ours = handle.policy == gift.policy && handle.output == *output;
            ours && !standing.is_some_and(|standing| standing.names(name))
        })
    }

    /// Deletes handles whose tokens are to be worth nothing any more.
    fn handles(&mut self, gift: &Gift, output: &Arc<str>, standing: Option<&OutputView>) {
        let observed = self.observed;
        for (name, handle) in &observed.handles {
            if handle.policy != gift.policy || handle.output != *output {
                continue;
            }
            let until = match standing {
                // At once, before anything else is done for the Secret.
                Some(standing) if standing.revoked && standing.names(name) => Some(self.now),
                Some(standing) if standing.handle == *name => None,
                Some(OutputView { previous: Some((previous, until)), .. }) if previous == name => {
                    Some(*until)
                }
                _ => Some(handle.created.checked_add(UNUSED).unwrap_or(handle.created)),
            };
            match until {
                Some(until) if until <= self.now => {
                    let delete = Action::Delete(Part::Handle, Arc::clone(name), handle.uid.clone());
                    self.plan.actions.push(delete);
                }
                Some(until) => self.due(until),
                None => {}
            }
        }
    }
}

impl OutputView {
    fn names(&self, handle: &str) -> bool {
        *self.handle == *handle || self.previous.as_ref().is_some_and(|(previous, _)| **previous == *handle)
    }
}

/// What a token is made for, in one word: where it differs, the token is made anew. Nothing of it is secret.
pub(super) fn word(token: &Token) -> Box<str> {
    let Token { account, audiences, ttl, overlap: _, server } = token;
    let audiences = audiences.join(",");
    let server = server.as_deref().unwrap_or_default();
    format!("{account};{audiences};{};{server}", ttl.as_secs()).into()
}

/// When a token is renewed: after most of the life that was granted, which may be less than was asked for.
pub(super) fn renewed_at(output: &OutputView) -> Timestamp {
    let life = Duration::try_from(output.expires.duration_since(output.issued)).unwrap_or_default();
    // The UID of the Secret is as good as a throw of dice, and the same after a restart.
    let dice = output.uid.bytes().fold(0_u32, |dice, byte| dice.wrapping_mul(31).wrapping_add(byte.into()));
    let early = f64::from(dice % 1000) / 1000.0 * JITTER;
    output.issued.checked_add(life.mul_f64(RENEWED_AT - early)).unwrap_or(output.issued)
}
