//! Which members of a pool are used: healthy members of one tier, with limits on how many are left out and added.
//!
//! [`choose`] is pure and total. Everything it needs to know of the past is in the [`Memory`] that it returns. It
//! promises:
//!
//! - A member that is leaving or whose pod is not ready is never used.
//! - Two tiers are never active at once. A worse tier becomes active at once, a better one with hysteresis
//!   ([`Failover`]), so that a share between the two thresholds changes nothing. If no tier has the share to be active, it
//!   takes a clearly higher one to change it.
//! - Members that have never been healthy make no tier inactive: neither new members of the active tier, nor, as long
//!   as there was no time for a first check result, members that have replaced all others. Members that replace lost
//!   ones do, as long as they are not healthy.
//! - With a panic threshold, something is used as long as any member is ready and has been checked, without waiting
//!   for first check results.
//! - With its own memory and the members it admitted as input, it returns the same choice. If time alone would change
//!   it, or what is remembered for the next one, [`Choice::due`] says when.

mod members;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
mod tier;
mod types;

pub use types::{Candidate, Choice, Failover, Memory, Policy, SlowStart, TierState, Use};

use mainstay_runtime::clock::Moment;

/// Chooses among `candidates`, given what the last choice left in `memory` (the default before the first one).
pub fn choose(candidates: &[Candidate], policy: &Policy, memory: &Memory, now: Moment) -> Choice {
    let tiers = tier::take_stock(candidates, memory, now);
    let before = memory.tier.or(memory.expected.map(|(tier, _)| tier)).filter(|_| memory.panic);
    let (tier, mut memory) = tier::pick(&tiers, &policy.failover, memory, now);
    let state = tier.and_then(|tier| tiers.iter().find(|state| state.tier == tier));
    memory.panic = state.is_some_and(|state| state.is_below_panic(policy.panic_below, before == tier));
    let mut uses: Vec<_> = candidates.iter().map(members::out_of_use).collect();
    if let Some(state) = state {
        members::put_to_use(&mut uses, candidates, state, policy, &mut memory, now);
    }
    let returns = memory.better_since.values().map(|since| since.saturating_add(policy.failover.back_after));
    let waiting = uses.contains(&Use::Waiting);
    let admission = members::next_admission(policy, &memory).filter(|_| waiting);
    let patience = tiers.iter().filter_map(TierState::patience);
    let settling = memory.fewer.map(|(since, _)| since.saturating_add(tier::SETTLING));
    let due = returns.chain(admission).chain(patience).chain(settling).filter(|&due| due > now).min();
    Choice { uses, tier, panic: memory.panic, memory, due, tiers }
}
