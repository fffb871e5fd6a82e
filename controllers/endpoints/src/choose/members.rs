//! The members of the active tier.

use mainstay_runtime::clock::Moment;

use super::types::{Candidate, Memory, Policy, SlowStart, TierState, Use};

/// Why a member is not used when its tier is not.
pub(super) fn out_of_use(candidate: &Candidate) -> Use {
    match candidate {
        _ if candidate.leaving => Use::Leaving,
        _ if !candidate.serving => Use::NotReady,
        _ if candidate.is_healthy() => Use::Standby,
        _ if candidate.is_failing() => Use::Failing,
        _ => Use::Unchecked,
    }
}

/// Says of the members of the tier in use which are used. `uses` says of all why they would not be.
pub(super) fn put_to_use(
    uses: &mut [Use],
    candidates: &[Candidate],
    tier: &TierState,
    policy: &Policy,
    memory: &mut Memory,
    now: Moment,
) {
    let is_member = |&index: &usize| candidates[index].tier == tier.tier && !candidates[index].leaving;
    let members = || (0..candidates.len()).filter(is_member);
    if memory.panic {
        for index in members() {
            uses[index] = match uses[index] {
                Use::Standby | Use::Unchecked => Use::InUse,
                Use::Failing => Use::KeptDespiteFailing,
                other => other,
            };
        }
        return;
    }
    let mut failing: Vec<_> = members().filter(|&index| uses[index] == Use::Failing).collect();
    // The longest failing are left out; the sort is stable.
    failing.sort_by_key(|&index| candidates[index].verdict_since);
    let most = match policy.max_ejected {
        0 => 0,
        percent => (tier.checked() * usize::from(percent) / 100).max(1),
    };
    failing.into_iter().skip(most).for_each(|index| uses[index] = Use::KeptDespiteFailing);

    let healthy: Vec<_> = members().filter(|&index| uses[index] == Use::Standby).collect();
    let (admitted, mut waiting): (Vec<_>, Vec<_>) =
        healthy.into_iter().partition(|&index| candidates[index].admitted);
    waiting.sort_by_key(|&index| candidates[index].verdict_since);
    let room = match effective(policy) {
        Some(slow_start) => admissions(slow_start, admitted.len(), waiting.len(), memory, now),
        None => waiting.len(),
    };
    waiting.iter().skip(room).for_each(|&index| uses[index] = Use::Waiting);
    admitted.iter().chain(waiting.iter().take(room)).for_each(|&index| uses[index] = Use::InUse);
}

/// How many of the `waiting` members are let in now, and notes that.
fn admissions(
    slow_start: &SlowStart,
    admitted: usize,
    waiting: usize,
    memory: &mut Memory,
    now: Moment,
) -> usize {
    let within_period = |start: Moment| now < start.saturating_add(slow_start.period);
    let room = if waiting == 0 {
        return 0;
    } else if admitted == 0 {
        memory.filled = Some(now);
        waiting
    } else if memory.filled.is_some_and(within_period) {
        waiting
    } else if memory.last_admission.is_some_and(within_period) {
        return 0;
    } else {
        waiting.min((admitted * usize::from(slow_start.percent) / 100).max(1))
    };
    memory.last_admission = Some(now);
    room
}

/// When slow start lets in the next members, if any wait.
pub(super) fn next_admission(policy: &Policy, memory: &Memory) -> Option<Moment> {
    Some(memory.last_admission?.saturating_add(effective(policy)?.period))
}

/// The slow start, if it is one.
fn effective(policy: &Policy) -> Option<&SlowStart> {
    policy.slow_start.as_ref().filter(|slow_start| !slow_start.period.is_zero())
}
