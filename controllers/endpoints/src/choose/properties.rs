//! Properties of every choice, over histories of check results, readiness and time.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::health::Verdict;

fn verdict() -> impl Strategy<Value = Option<Verdict>> {
    prop_oneof![
        Just(None),
        Just(Some(Verdict::Unknown)),
        Just(Some(Verdict::Failing)),
        Just(Some(Verdict::Passing)),
        Just(Some(Verdict::Passing)),
    ]
}

fn candidate() -> impl Strategy<Value = Candidate> {
    (0..3_u8, prop::bool::weighted(0.8), verdict(), 0..50_u64, prop::bool::weighted(0.1)).prop_map(
        |(tier, serving, verdict, since, leaving)| Candidate {
            tier,
            serving,
            verdict,
            verdict_since: Duration::from_secs(since),
            admitted: false,
            leaving,
        },
    )
}

fn policy() -> impl Strategy<Value = Policy> {
    let slow_start = prop::option::of((1..=100_u8, 1..10_u64));
    (0..=100_u8, 0..=100_u8, 1..=100_u8, 1..=100_u8, 0..20_u64, slow_start).prop_map(
        |(panic_below, max_ejected, below, back_above, back_after, slow_start)| Policy {
            panic_below,
            max_ejected,
            failover: Failover { below, back_above, back_after: Duration::from_secs(back_after) },
            slow_start: slow_start
                .map(|(percent, period)| SlowStart { percent, period: Duration::from_secs(period) }),
        },
    )
}

/// The same members, step by step in new states; who is used is carried over.
fn histories() -> impl Strategy<Value = Vec<(Vec<Candidate>, u64)>> {
    (1..12_usize).prop_flat_map(|count| {
        prop::collection::vec((prop::collection::vec(candidate(), count), 0..15_u64), 1..8)
    })
}

fn admit(candidates: &mut [Candidate], uses: &[Use]) {
    for (candidate, used) in candidates.iter_mut().zip(uses) {
        candidate.admitted = used.is_used();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn every_choice_keeps_its_promises(policy in policy(), history in histories()) {
        let (mut memory, mut now) = (Memory::default(), Duration::from_secs(60));
        let mut used: Vec<bool> = vec![false; history[0].0.len()];
        for (mut candidates, wait) in history {
            now += Duration::from_secs(wait);
            for (candidate, used) in candidates.iter_mut().zip(&used) {
                candidate.admitted = *used;
            }
            let choice = choose(&candidates, &policy, &memory, now);
            promises(&candidates, &policy, &choice, now)?;

            let newly = candidates.iter().zip(&choice.uses)
                .filter(|(candidate, used)| candidate.is_healthy() && !candidate.admitted && **used == Use::InUse).count();
            let admitted = candidates.iter()
                .filter(|candidate| candidate.admitted && candidate.is_healthy() && Some(candidate.tier) == choice.tier
                    && !candidate.leaving)
                .count();
            let filling = choice.memory.filled.is_some_and(|since| policy.slow_start.as_ref()
                .is_some_and(|slow| now < since + slow.period));
            if let Some(slow) = policy.slow_start.as_ref().filter(|_| !choice.panic && admitted > 0 && !filling) {
                prop_assert!(newly <= (admitted * usize::from(slow.percent) / 100).max(1), "{newly} of {admitted}");
            }

            admit(&mut candidates, &choice.uses);
            // Those that take the place of lost ones do take it out of use.
            let is_whole = choice.tiers.iter().any(|state| Some(state.tier) == choice.tier && state.fewer.is_none());
            if let Some(tier) = choice.tier.filter(|_| is_whole && candidates.iter().all(|other| other.verdict != Some(Verdict::Unknown))) {
                let joining = Candidate { tier, serving: false, admitted: false, leaving: false, ..candidates[0].clone() };
                let scaled = [candidates.clone(), vec![joining; 9]].concat();
                let scaled = choose(&scaled, &policy, &choice.memory, now);
                prop_assert_eq!(scaled.tier, Some(tier), "those that join take it out of use");
                prop_assert_eq!(&scaled.uses[..candidates.len()], &choice.uses[..]);
            }
            let again = choose(&candidates, &policy, &choice.memory, now);
            prop_assert_eq!(&again.uses, &choice.uses, "asked again, it says the same");
            prop_assert_eq!(again.tier, choice.tier);
            used = choice.uses.iter().map(|used| used.is_used()).collect();
            memory = choice.memory;
        }
    }
}

fn promises(
    candidates: &[Candidate],
    policy: &Policy,
    choice: &Choice,
    now: Moment,
) -> Result<(), TestCaseError> {
    prop_assert_eq!(candidates.len(), choice.uses.len());
    for (candidate, used) in candidates.iter().zip(&choice.uses) {
        if used.is_used() {
            prop_assert!(candidate.serving && !candidate.leaving, "{:?} is used", candidate);
            prop_assert_eq!(Some(candidate.tier), choice.tier, "one tier at a time");
        }
        if candidate.is_healthy() && !candidate.leaving && Some(candidate.tier) == choice.tier {
            prop_assert!(used.is_used() || *used == Use::Waiting, "{:?} is {:?}", candidate, used);
        }
    }
    prop_assert!(choice.due.is_none_or(|due| due > now));
    let checked = |candidate: &&Candidate| {
        candidate.serving && !candidate.leaving && candidate.verdict != Some(Verdict::Unknown)
    };
    let state = choice.tiers.iter().find(|state| Some(state.tier) == choice.tier);
    let patient = state.is_none_or(|state| state.members == state.unchecked) && choice.due.is_some();
    if policy.panic_below > 0 && !patient && candidates.iter().any(|candidate| checked(&candidate)) {
        prop_assert!(choice.uses.iter().any(|used| used.is_used()), "nothing is used: {:?}", choice);
    }
    Ok(())
}
