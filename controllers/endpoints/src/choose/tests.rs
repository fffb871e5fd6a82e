//! Each rule of a choice.

use std::time::Duration;

use super::*;
use crate::health::Verdict::{Failing, Passing, Unknown};

fn second(second: u64) -> Moment {
    Duration::from_secs(second)
}

fn policy() -> Policy {
    Policy {
        panic_below: 1,
        max_ejected: 100,
        failover: Failover { below: 50, back_above: 70, back_after: second(30) },
        slow_start: None,
    }
}

/// A ready member that was in use.
fn member(tier: u8, verdict: crate::health::Verdict) -> Candidate {
    Candidate {
        tier,
        serving: true,
        verdict: Some(verdict),
        verdict_since: Moment::ZERO,
        admitted: true,
        leaving: false,
    }
}

fn members(tier: u8, passing: usize, failing: usize) -> Vec<Candidate> {
    let mut all = vec![member(tier, Passing); passing];
    all.extend(vec![member(tier, Failing); failing]);
    all
}

fn in_tier(tier: u8) -> Memory {
    Memory { tier: Some(tier), ..Memory::default() }
}

#[test]
fn states_of_members_are_told_apart() {
    let leaving = Candidate { leaving: true, ..member(0, Passing) };
    let not_ready = Candidate { serving: false, ..member(0, Passing) };
    let unasked = Candidate { verdict: None, ..member(0, Passing) };
    let all = [
        member(0, Passing),
        unasked,
        member(0, Failing),
        member(0, Unknown),
        not_ready,
        leaving,
        member(1, Passing),
    ];
    let choice = choose(&all, &policy(), &in_tier(0), second(9));
    let expected =
        [Use::InUse, Use::InUse, Use::Failing, Use::Unchecked, Use::NotReady, Use::Leaving, Use::Standby];
    assert_eq!(choice.uses, expected);
    assert_eq!((choice.tier, choice.panic), (Some(0), false));
    let tier = &choice.tiers[0];
    assert_eq!((tier.members, tier.serving, tier.unchecked, tier.healthy), (5, 4, 1, 2));
}

#[test]
fn a_tier_below_its_share_gives_way_at_once_and_one_at_its_share_does_not() {
    let pool = |passing, failing| [members(0, passing, failing), members(1, 2, 0)].concat();
    let tier = |passing, failing| choose(&pool(passing, failing), &policy(), &in_tier(0), second(9)).tier;
    assert_eq!((tier(2, 2), tier(1, 2)), (Some(0), Some(1)));
}

/// A member whose pod is not ready.
fn not_ready(tier: u8) -> Candidate {
    Candidate { serving: false, admitted: false, ..member(tier, Passing) }
}

#[test]
fn members_that_were_healthy_and_are_not_ready_any_more_count_for_the_share_and_unchecked_ones_do_not() {
    let well = [members(0, 3, 0), members(1, 1, 0)].concat();
    let before = choose(&well, &policy(), &in_tier(0), second(9));
    let pool = [members(0, 1, 0), vec![not_ready(0); 2], members(1, 1, 0)].concat();
    assert_eq!(choose(&pool, &policy(), &before.memory, second(9)).tier, Some(1));
    let pool = [members(0, 1, 0), vec![member(0, Unknown); 5], members(1, 1, 0)].concat();
    assert_eq!(choose(&pool, &policy(), &in_tier(0), second(9)).tier, Some(0));
}

// It once was so that every pod that is not ready counts. That took a tier out of use while it was scaled up: those that
// start take nothing away from those that serve.
#[test]
fn members_that_were_never_healthy_do_not_take_the_tier_in_use_out_of_use() {
    let before = choose(&[members(0, 2, 0), members(1, 2, 0)].concat(), &policy(), &in_tier(0), second(9));
    for joining in [not_ready(0), Candidate { admitted: false, ..member(0, Failing) }] {
        let pool =
            |well: usize, joining: Vec<Candidate>| [members(0, well, 0), joining, members(1, 2, 0)].concat();
        let scaled = choose(&pool(2, vec![joining.clone(); 4]), &policy(), &before.memory, second(9));
        assert_eq!((scaled.tier, scaled.tiers[0].expected), (Some(0), 2));
        let half = choose(&pool(1, vec![joining.clone(); 5]), &policy(), &scaled.memory, second(9));
        assert_eq!(half.tier, Some(0), "one of two is as many as belowPercent asks for");
        let grown = choose(&pool(6, vec![]), &policy(), &scaled.memory, second(9));
        assert_eq!((grown.tier, grown.tiers[0].expected), (Some(0), 6));
        let crashed = choose(&pool(2, vec![joining; 4]), &policy(), &grown.memory, second(9));
        assert_eq!(crashed.tier, Some(1), "a tier that crashed gives way, also when its pods were replaced");
    }
}

#[test]
fn a_tier_that_is_scaled_down_stays_in_use_and_is_soon_measured_by_what_it_has() {
    let before = choose(&[members(0, 10, 0), members(1, 1, 0)].concat(), &policy(), &in_tier(0), second(9));
    let leaving = Candidate { leaving: true, ..member(0, Passing) };
    let down = [members(0, 2, 0), vec![leaving; 8], members(1, 1, 0)].concat();
    let down = choose(&down, &policy(), &before.memory, second(9));
    assert_eq!((down.tier, down.tiers[0].expected, down.due), (Some(0), 10, Some(second(69))));
    let pool = |starting| [members(0, 2, 0), vec![not_ready(0); starting], members(1, 1, 0)].concat();
    let later = choose(&pool(0), &policy(), &down.memory, second(68));
    assert_eq!((later.tier, later.tiers[0].expected), (Some(0), 10));
    let settled = choose(&pool(0), &policy(), &later.memory, second(69));
    assert_eq!((settled.tier, settled.tiers[0].expected, settled.due), (Some(0), 2, None));
    for memory in [&settled.memory, &later.memory] {
        let up = choose(&pool(8), &policy(), memory, second(70));
        assert_eq!((up.tier, up.tiers[0].expected), (Some(0), 2), "those that start take nothing away");
    }
}

// It once was so that a lost member was expected no more at once, and the ones in its place counted as such that join.
#[test]
fn a_tier_gives_way_when_unready_members_take_the_place_of_lost_ones() {
    let before = choose(&[members(0, 10, 0), members(1, 1, 0)].concat(), &policy(), &in_tier(0), second(9));
    let pool = |starting| [members(0, 2, 0), vec![not_ready(0); starting], members(1, 1, 0)].concat();
    let lost = choose(&pool(0), &policy(), &before.memory, second(9));
    assert_eq!(lost.tier, Some(0), "there are no others that it could have");
    let replaced = choose(&pool(8), &policy(), &lost.memory, second(20));
    assert_eq!(replaced.tier, Some(1));

    // They come one by one, and more are lost shortly before the first loss has settled.
    let few = [members(0, 9, 0), members(1, 1, 0)].concat();
    let few = choose(&few, &policy(), &before.memory, second(9));
    let lost = choose(&pool(0), &policy(), &few.memory, second(68));
    let settled = choose(&pool(0), &policy(), &lost.memory, second(69));
    assert_eq!((settled.tier, settled.tiers[0].expected), (Some(0), 9));
    assert_eq!(choose(&pool(3), &policy(), &settled.memory, second(70)).tier, Some(1));
}

#[test]
fn all_members_of_a_tier_that_is_returned_to_count() {
    let at_once = Policy { failover: Failover { back_after: Moment::ZERO, ..policy().failover }, ..policy() };
    let pool =
        |well, starting| [members(0, well, 0), vec![not_ready(0); starting], members(1, 2, 0)].concat();
    assert_eq!(choose(&pool(1, 9), &at_once, &in_tier(1), second(9)).tier, Some(1), "one would carry it all");
    let back = choose(&pool(7, 3), &at_once, &in_tier(1), second(9));
    assert_eq!((back.tier, back.tiers[0].expected), (Some(0), 10));
    assert_eq!(choose(&pool(4, 6), &at_once, &back.memory, second(9)).tier, Some(1));
}

#[test]
fn the_tier_in_use_is_not_left_before_there_was_time_for_its_first_verdict() {
    let fresh = Candidate { verdict_since: second(10), admitted: false, ..member(0, Unknown) };
    let pool = [fresh, member(1, Passing)];
    let waits = choose(&pool, &policy(), &in_tier(0), second(11));
    assert_eq!(
        (waits.tier, waits.due, waits.uses),
        (Some(0), Some(second(12)), vec![Use::Unchecked, Use::Standby])
    );
    assert_eq!(choose(&pool, &policy(), &waits.memory, second(12)).tier, Some(1));
}

#[test]
fn what_serves_is_not_taken_out_of_use_to_wait_for_the_first_verdict_on_a_better_tier() {
    let fresh = Candidate { verdict_since: second(10), admitted: false, ..member(0, Unknown) };
    let choice = choose(&[fresh, member(1, Passing)], &policy(), &Memory::default(), second(11));
    assert_eq!(
        (choice.tier, choice.memory.tier),
        (Some(1), None),
        "and the better one is still returned to at once"
    );
}

#[test]
fn without_a_tier_at_its_share_the_healthiest_is_used_and_of_equals_the_better() {
    let tier = |first, second_tier| {
        let (one, other): ((usize, usize), (usize, usize)) = (first, second_tier);
        let pool = [members(0, one.0, one.1), members(1, other.0, other.1)].concat();
        choose(&pool, &policy(), &in_tier(0), second(9)).tier
    };
    assert_eq!(tier((1, 9), (2, 8)), Some(1));
    assert_eq!(tier((2, 8), (2, 8)), Some(0));
    assert_eq!(tier((10, 90), (19, 81)), Some(0), "what is hardly better moves no traffic");
    let pool = [members(0, 24, 76), members(1, 15, 85)].concat();
    assert_eq!(choose(&pool, &policy(), &in_tier(1), second(9)).tier, Some(1), "nor back");
}

#[test]
fn the_better_tier_is_returned_to_after_it_has_been_well_for_its_time() {
    let pool = |passing, failing| [members(0, passing, failing), members(1, 2, 0)].concat();
    let at = |passing, failing, memory: &Memory, now| {
        choose(&pool(passing, failing), &policy(), memory, second(now))
    };
    let began = at(7, 3, &in_tier(1), 100);
    assert_eq!((began.tier, began.due), (Some(1), Some(second(130))));
    let early = at(7, 3, &began.memory, 129);
    assert_eq!(early.tier, Some(1));
    assert_eq!(at(7, 3, &early.memory, 130).tier, Some(0));

    let broken = at(6, 4, &began.memory, 120);
    assert_eq!((broken.tier, broken.due), (Some(1), None), "below the share to return, the time begins anew");
    let again = at(7, 3, &broken.memory, 125);
    assert_eq!((again.tier, again.due), (Some(1), Some(second(155))));
}

#[test]
fn the_better_tier_is_taken_at_once_when_the_one_in_use_has_died() {
    let pool = [members(0, 7, 3), members(1, 0, 2)].concat();
    assert_eq!(choose(&pool, &policy(), &in_tier(1), second(100)).tier, Some(0));
}

#[test]
fn a_better_tier_that_is_not_below_its_share_is_taken_at_once_when_the_one_in_use_is() {
    let pool = |passing, failing| [members(0, passing, failing), members(1, 1, 9)].concat();
    let tier = |passing, failing| choose(&pool(passing, failing), &policy(), &in_tier(1), second(9)).tier;
    assert_eq!((tier(6, 4), tier(4, 6)), (Some(0), Some(0)), "nearly dead is worse than below the share");
}

#[test]
fn time_in_which_nothing_is_known_breaks_the_wait_for_the_better_tier() {
    let well = [members(0, 2, 0), members(1, 2, 0)].concat();
    let unknown = [member(0, Unknown), member(1, Unknown)];
    let began = choose(&well, &policy(), &in_tier(1), second(100));
    let unsure = choose(&unknown, &policy(), &began.memory, second(110));
    let again = choose(&well, &policy(), &unsure.memory, second(131));
    assert_eq!((unsure.tier, again.tier, again.due), (None, Some(1), Some(second(161))));
}

#[test]
fn a_share_between_the_thresholds_changes_no_tier() {
    for tier in [0, 1] {
        let pool = [members(0, 6, 4), members(1, 2, 0)].concat();
        assert_eq!(choose(&pool, &policy(), &in_tier(tier), second(1000)).tier, Some(tier));
    }
}

#[test]
fn nothing_is_used_before_the_first_verdict() {
    let choice = choose(&[member(0, Unknown), member(1, Unknown)], &policy(), &Memory::default(), second(1));
    assert_eq!((choice.tier, choice.uses), (None, vec![Use::Unchecked, Use::Unchecked]));
}

#[test]
fn a_new_pool_waits_for_its_best_tier_for_a_while_and_returns_to_it_without_delay() {
    let fresh = Candidate { verdict_since: second(10), admitted: false, ..member(0, Unknown) };
    let standby = Candidate { admitted: false, ..member(1, Passing) };
    let pool = [fresh.clone(), standby.clone()];
    let at = |pool: &[Candidate], memory: &Memory, now| choose(pool, &policy(), memory, now);
    let waits = at(&pool, &Memory::default(), second(11));
    assert_eq!((waits.tier, waits.due), (None, Some(second(12))));
    let gives_up = at(&pool, &waits.memory, second(12));
    assert_eq!(gives_up.tier, Some(1));
    let passed = [Candidate { verdict: Some(Passing), ..fresh }, Candidate { admitted: true, ..standby }];
    assert_eq!(at(&passed, &gives_up.memory, second(13)).tier, Some(0));
}

#[test]
fn who_took_over_from_a_leader_does_not_wait_for_anything() {
    let fresh = Candidate { verdict_since: second(10), ..member(0, Unknown) };
    assert_eq!(choose(&[fresh, member(1, Passing)], &policy(), &in_tier(1), second(10)).tier, Some(1));
}

#[test]
fn in_panic_all_that_are_ready_are_used() {
    let not_ready = Candidate { serving: false, ..member(0, Passing) };
    let pool = [members(0, 0, 2), vec![not_ready, member(0, Unknown)]].concat();
    let choice = choose(&pool, &policy(), &in_tier(0), second(9));
    assert!(choice.panic && choice.memory.panic);
    assert_eq!(choice.uses, [Use::KeptDespiteFailing, Use::KeptDespiteFailing, Use::NotReady, Use::InUse]);

    let never = Policy { panic_below: 0, ..policy() };
    let choice = choose(&members(0, 0, 2), &never, &in_tier(0), second(9));
    assert_eq!((choice.panic, choice.uses), (false, vec![Use::Failing; 2]));
    assert!(!choose(&members(0, 1, 99), &policy(), &in_tier(0), second(9)).panic, "1 % is enough for 1");
    let half = Policy { panic_below: 50, ..policy() };
    assert!(choose(&members(0, 1, 2), &half, &in_tier(0), second(9)).panic);
    assert!(!choose(&members(0, 1, 1), &half, &in_tier(0), second(9)).panic);
}

#[test]
fn panic_ends_with_one_healthy_member_more_than_it_begins_with() {
    let half = Policy { panic_below: 50, ..policy() };
    let panics = |healthy, failing, policy: &Policy, was| {
        let memory = Memory { panic: was, ..in_tier(0) };
        choose(&members(0, healthy, failing), policy, &memory, second(9)).panic
    };
    assert_eq!([panics(4, 6, &half, false), panics(5, 5, &half, false)], [true, false]);
    assert_eq!([panics(5, 5, &half, true), panics(6, 4, &half, true)], [true, false]);
    assert!(!panics(1, 9, &policy(), true), "where one is enough, it is");
    assert!(!panics(2, 0, &Policy { panic_below: 100, ..policy() }, true), "more than all there are not");
}

#[test]
fn no_more_are_left_out_than_allowed_and_those_that_failed_first_are() {
    let since = |moment| Candidate { verdict_since: second(moment), ..member(0, Failing) };
    let pool = [members(0, 2, 0), vec![since(5), since(3), since(4)]].concat();
    let limited = Policy { max_ejected: 40, ..policy() };
    let uses = choose(&pool, &limited, &in_tier(0), second(9)).uses;
    assert_eq!(uses[2..], [Use::KeptDespiteFailing, Use::Failing, Use::Failing]);
    let ejected = |max_ejected| {
        let policy = Policy { max_ejected, ..policy() };
        choose(&members(0, 1, 1), &policy, &in_tier(0), second(9)).uses[1] == Use::Failing
    };
    assert_eq!([ejected(34), ejected(1), ejected(0)], [true, true, false], "one of two can be");
}

#[test]
fn slow_start_lets_members_in_by_and_by_oldest_first() {
    let slow = Policy { slow_start: Some(SlowStart { percent: 50, period: second(5) }), ..policy() };
    let joining = |since| Candidate { admitted: false, verdict_since: second(since), ..member(0, Passing) };
    let mut pool = [members(0, 4, 0), vec![joining(3), joining(1), joining(2)]].concat();
    let first = choose(&pool, &slow, &in_tier(0), second(10));
    assert_eq!(first.uses[4..], [Use::Waiting, Use::InUse, Use::InUse]);
    assert_eq!(first.due, Some(second(15)));
    for (candidate, used) in pool.iter_mut().zip(&first.uses) {
        candidate.admitted = used.is_used();
    }
    assert_eq!(choose(&pool, &slow, &first.memory, second(14)).uses[4], Use::Waiting);
    assert_eq!(choose(&pool, &slow, &first.memory, second(15)).uses[4], Use::InUse);
}

#[test]
fn a_tier_in_which_nobody_was_used_is_filled_at_once() {
    let slow = Policy { slow_start: Some(SlowStart { percent: 1, period: second(5) }), ..policy() };
    let joining = vec![Candidate { admitted: false, ..member(0, Passing) }; 9];
    let choice = choose(&joining, &slow, &Memory::default(), second(10));
    assert_eq!(choice.uses, vec![Use::InUse; 9]);
}
