//! The active tier.

use std::{cmp::Ordering, collections::BTreeMap, time::Duration};

use mainstay_runtime::clock::Moment;

use super::types::{Candidate, Failover, Memory, TierState};

/// How long the first check result of a better tier is awaited before any tier is used, and that of the active tier
/// before it is left: first checks come within a second.
const PATIENCE: Duration = Duration::from_secs(2);

/// After this time with fewer members than expected, the active tier is expected to have no more than it had in that
/// time. Pods that replace lost ones have their addresses earlier.
pub(super) const SETTLING: Duration = Duration::from_secs(60);

/// Where no tier has the share that is asked for, one is left only for another whose share is higher by this many percentage
/// points: in times when all tiers are ill, each check result would move all traffic otherwise.
const MARGIN: usize = 10;

impl TierState {
    /// Until when its first verdict is waited for, if it has none.
    pub(super) fn patience(&self) -> Option<Moment> {
        let since = self.unchecked_since.filter(|_| self.decided() == 0);
        since.map(|since| since.saturating_add(PATIENCE))
    }

    /// Members of which something is known. A member that is not ready is one: a tier that crashed is to give way.
    fn decided(&self) -> usize {
        self.members - self.unchecked
    }

    /// The members that the share is measured by.
    fn counted(&self) -> usize {
        self.decided().min(self.expected)
    }

    /// Members that are ready and have been checked.
    pub(super) fn checked(&self) -> usize {
        self.serving - self.unchecked
    }

    /// Whether any member is healthy and the share of healthy members is at least this percentage.
    fn has_share(&self, percent: u8) -> bool {
        self.healthy > 0 && self.healthy * 100 >= usize::from(percent) * self.counted()
    }

    /// Whether so few are healthy that the checks are not to be believed. Where more than one has to be, it takes one more for
    /// panic mode to end, so that a single member at the threshold does not change how all the others are used.
    pub(super) fn is_below_panic(&self, percent: u8, was_below: bool) -> bool {
        let needed = (usize::from(percent) * self.checked()).div_ceil(100);
        let spare = was_below && needed > 1 && needed < self.checked();
        self.healthy < needed + usize::from(spare)
    }

    /// Settles how many should be healthy, once the members are counted.
    fn expect(&mut self, memory: &Memory, now: Moment) {
        let Some((_, expected)) = memory.expected.filter(|(tier, _)| *tier == self.tier) else {
            self.expected = self.members;
            return;
        };
        // What had lasted long enough before this choice counts, whatever has joined since.
        let has_lasted = |(since, _): &(Moment, usize)| now >= since.saturating_add(SETTLING);
        let (settled, lasting) = match memory.fewer {
            Some(fewer) if has_lasted(&fewer) => (fewer.1, None),
            fewer => (expected, fewer),
        };
        self.expected = settled.max(self.healthy);
        let (since, most) = lasting.unwrap_or((now, 0));
        self.fewer = (self.members < self.expected).then(|| (since, most.max(self.members)));
    }

    /// Whether its share is higher than that of another one by the [`MARGIN`].
    fn is_well_above(&self, other: &Self) -> bool {
        self.healthy * 100 * other.counted()
            >= (other.healthy * 100 + MARGIN * other.counted()) * self.counted()
    }

    /// The order of the shares of two tiers that have one.
    fn cmp_share(&self, other: &Self) -> Ordering {
        (self.healthy * other.counted()).cmp(&(other.healthy * self.counted()))
    }
}

/// The tiers that have members, best first.
pub(super) fn take_stock(candidates: &[Candidate], memory: &Memory, now: Moment) -> Vec<TierState> {
    let mut tiers: BTreeMap<u8, TierState> = BTreeMap::new();
    for candidate in candidates.iter().filter(|candidate| !candidate.leaving) {
        let tier = candidate.tier;
        let state = tiers.entry(tier).or_insert_with(|| TierState { tier, ..TierState::default() });
        state.members += 1;
        state.serving += usize::from(candidate.serving);
        if candidate.is_unchecked() {
            state.unchecked += 1;
            state.unchecked_since = state.unchecked_since.max(Some(candidate.verdict_since));
        }
        state.healthy += usize::from(candidate.is_healthy());
        state.used |= candidate.admitted;
    }
    tiers.values_mut().for_each(|state| state.expect(memory, now));
    tiers.into_values().collect()
}

/// The tier to use, `None` if there is none or nothing is known of any, and the memory with what concerns tiers.
pub(super) fn pick(
    tiers: &[TierState],
    failover: &Failover,
    memory: &Memory,
    now: Moment,
) -> (Option<u8>, Memory) {
    let threshold = failover.back_above.max(failover.below);
    let since = |state: &TierState| *memory.better_since.get(&state.tier).unwrap_or(&now);
    let in_use = tiers.iter().find(|state| Some(state.tier) == memory.tier && state.healthy > 0);
    let is_open = |state: &TierState| {
        let Some(in_use) = in_use else { return true };
        let waited = now.saturating_sub(since(state)) >= failover.back_after;
        state.tier >= in_use.tier
            || state.has_share(threshold) && waited
            || !in_use.has_share(failover.below)
                && (state.has_share(failover.below) || state.is_well_above(in_use))
    };
    let open: Vec<_> = tiers.iter().filter(|state| is_open(state)).collect();
    let healthiest = || {
        // Of equals the last is found, hence backwards.
        let healthy = open.iter().rev().filter(|state| state.healthy > 0);
        let best = healthy.max_by(|one, other| one.cmp_share(other))?;
        let stays = in_use.filter(|in_use| !best.is_well_above(in_use));
        Some(stays.unwrap_or(best))
    };
    // Where nothing is healthy, the members that panic or the limit of ejections may use are of some use.
    let least_bad = || {
        open.iter().min_by_key(|state| (state.checked() == 0, Some(state.tier) != memory.tier, state.tier))
    };
    let picked = open.iter().copied().find(|state| state.has_share(failover.below));
    let picked = picked.or_else(healthiest).or_else(|| least_bad().copied());
    let picked = picked.filter(|_| tiers.iter().any(|state| state.decided() > 0));
    let is_waited_for = |state: &&TierState| state.patience().is_some_and(|until| now < until);
    // The tier in use is not left for want of a verdict: as long as there was no time for one.
    let unsure = tiers.iter().find(|state| Some(state.tier) == memory.tier).filter(is_waited_for);
    let picked = unsure.or(picked);

    // No better tier has the share to return to it now, so none has had it without a break.
    let undecided = || (None, Memory { better_since: BTreeMap::new(), ..memory.clone() });
    let Some(picked) = picked else { return undecided() };
    let better: Vec<_> = tiers.iter().take_while(|state| state.tier < picked.tier).collect();
    // What serves is not taken out of use for that.
    if memory.tier.is_none() && !picked.used && better.iter().any(is_waited_for) {
        return undecided();
    }
    let is_settled = memory.tier.is_some() || better.iter().all(|state| state.unchecked == 0);
    let better = better.into_iter().filter(|state| state.has_share(threshold));
    let better_since = better.map(|state| (state.tier, since(state))).collect();
    let tier = is_settled.then_some(picked.tier);
    let expected = Some((picked.tier, picked.expected));
    (Some(picked.tier), Memory { tier, expected, fewer: picked.fewer, better_since, ..memory.clone() })
}
