//! Tokens: issued once, renewed in time, revoked by deleting the Secret that they are bound to.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;

use super::{
    action::{Action, Why},
    planner::Planner,
    types::{Desired, HandleView, Origin, OutputView, Part, Token, Unseen},
};

/// After this share of its life a token is renewed.
const RENEWED_AT: f64 = 0.8;
/// By up to this share of its life earlier, so that tokens which were issued together are not renewed together.
const JITTER: f64 = 0.1;
/// How long a bound Secret without a token is kept: the previous reconcile may have created it, with a lost answer.
const UNUSED: Duration = Duration::from_secs(60);
/// Shortest time between two writes of a Secret whose values are changed by others again and again.
const CONTESTED: Duration = Duration::from_secs(10);

impl Planner<'_> {
    pub(super) fn tokens(&mut self, desired: &Desired) {
        for (name, token) in &desired.tokens {
            let account = self.observed.accounts.get(&token.account);
            // Nobody is given a token of somebody else's account. That it is somebody else's is told with it.
            let claimed = self.claimed.get(&(Part::Account, Arc::clone(&token.account)));
            if account.is_some_and(|account| self.may_have_account(desired, &token.account, account).is_err())
                || claimed.is_some_and(|(_, owner)| *owner != desired.policy)
            {
                continue;
            }
            let standing = self.observed.outputs.get(name);
            if let Some(other) = standing.filter(|output| output.policy != desired.policy) {
                let message = format!("Secret {name} {}", self.belongs_to(&other.policy));
                self.problem(desired, "Conflict", message);
                continue;
            }
            if standing.is_none() && !self.is_free(desired, Part::Token, name) {
                // What stands there instead is no place for a token of a handle.
                let unseen = self.observed.unseen.get(name);
                if matches!(unseen, Some(Unseen::Foreign(policy)) if policy.as_ref() != Some(&desired.policy))
                {
                    self.handles(desired, name, None, None);
                }
                continue;
            }
            if standing.is_none() && !self.claims(desired, Part::Token, name) {
                self.handles(desired, name, None, None);
                continue;
            }
            let made_for = word(token);
            let why = self.why(desired, token, &made_for, standing);
            let unused = why.and_then(|_| self.unused(desired, name, standing));
            let unused = unused.map(|(name, handle)| (Arc::clone(name), handle.uid.clone()));
            self.handles(desired, name, standing, unused.as_ref().map(|(handle, _)| handle));
            let Some(why) = why else { continue };
            self.plan.actions.push(Action::Issue {
                policy: Arc::clone(&desired.policy),
                output: Arc::clone(name),
                token: token.clone(),
                made_for,
                standing: standing.cloned().map(Box::new),
                handle: unused,
                why,
            });
        }
    }

    /// Why a token is to be issued now.
    fn why(
        &mut self,
        desired: &Desired,
        token: &Token,
        made_for: &str,
        standing: Option<&OutputView>,
    ) -> Option<Why> {
        let Some(output) = standing else { return Some(Why::First) };
        // Also by who has deleted the handle.
        if output.revoked || !self.has_handle(desired, &output.handle) {
            return Some(Why::Revoked);
        }
        let account = self.observed.accounts.get(&token.account);
        let is_of_another = account.is_some_and(|account| account.uid != output.account);
        if *output.made_for != *made_for || is_of_another || self.has_another_handle(output) {
            return Some(Why::Changed);
        }
        let is_touched = !output.written.has(keys(token));
        let (at, why) = if is_touched {
            // Who writes it again and again does not get a token each time.
            (output.issued.checked_add(CONTESTED).unwrap_or(output.issued), Why::Changed)
        } else {
            (renewed_at(output), Why::Renewal)
        };
        if at > self.now {
            self.due(at);
            return None;
        }
        self.plan.repairs += usize::from(is_touched);
        Some(why)
    }

    /// Whether the handle of a token was recreated under its name, for example restored from a backup.
    fn has_another_handle(&self, output: &OutputView) -> bool {
        let handle = self.observed.handles.get(&output.handle);
        handle.zip(output.handle_uid.as_ref()).is_some_and(|(handle, uid)| handle.uid != *uid)
    }

    /// A handle of a Secret that this process knows no token to be bound to. Another one's token would live on although a user
    /// has deleted its Secret to revoke it.
    fn unused<'b>(
        &'b self,
        desired: &'b Desired,
        output: &'b Arc<str>,
        standing: Option<&'b OutputView>,
    ) -> Option<(&'b Arc<str>, &'b HandleView)> {
        self.observed.handles.iter().find(|(name, handle)| {
            let ours = handle.policy == desired.policy && handle.output == *output;
            let is_unbound = self.observed.unbound.contains(&*handle.uid);
            ours && handle.origin == Origin::Made
                && is_unbound
                && !standing.is_some_and(|standing| standing.names(name))
        })
    }

    /// Deletes handles whose tokens are to be worth nothing any more, but for the one that is about to be `used`.
    fn handles(
        &mut self,
        desired: &Desired,
        output: &Arc<str>,
        standing: Option<&OutputView>,
        used: Option<&Arc<str>>,
    ) {
        let observed = self.observed;
        for (name, handle) in &observed.handles {
            let is_ours = handle.policy == desired.policy && handle.output == *output;
            if !is_ours || handle.origin != Origin::Made || used == Some(name) {
                continue;
            }
            let until = match standing {
                // At once, before anything else is done for the Secret.
                Some(standing) if standing.revoked && standing.names(name) => Some(self.now),
                Some(standing) if standing.handle == *name => None,
                Some(OutputView { previous: Some((previous, until)), .. }) if previous == name => {
                    Some(*until)
                }
                _ => Some(kept_until(handle)),
            };
            if let Some(until) = until {
                self.end_handle(name, handle, until);
            }
        }
    }

    /// Deletes a handle to which no token of a Secret is bound, once no answer about it can be under way any more.
    pub(super) fn end_unused(&mut self, name: &Arc<str>, handle: &HandleView) {
        self.end_handle(name, handle, kept_until(handle));
    }

    fn end_handle(&mut self, name: &Arc<str>, handle: &HandleView, at: Timestamp) {
        if at > self.now {
            self.due(at);
            return;
        }
        self.plan.actions.push(Action::Delete(Part::Handle, Arc::clone(name), handle.uid.clone()));
    }
}

/// Until when a handle without a token is kept.
fn kept_until(handle: &HandleView) -> Timestamp {
    handle.created.checked_add(UNUSED).unwrap_or(handle.created)
}

/// The keys of a Secret with a token.
fn keys(token: &Token) -> &'static [&'static str] {
    let keys = &["token", "ca.crt", "namespace", "kubeconfig"];
    if token.server.is_some() { keys } else { &keys[..3] }
}

impl OutputView {
    /// Whether its token, or the one before, is bound to this handle.
    pub(crate) fn names(&self, handle: &str) -> bool {
        *self.handle == *handle || self.previous.as_ref().is_some_and(|(previous, _)| **previous == *handle)
    }
}

/// What a token is issued for, as one word: if it differs, a new token is issued. Nothing in it is secret.
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
