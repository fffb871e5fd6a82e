//! The input of a status.

use std::collections::HashMap;

use mainstay_crds::{EndpointPool, MemberCounts};
use mainstay_runtime::{conditions::number, outcome::Failures};

use crate::{
    checker::{State, Target},
    choose::Use,
    observe::Observed,
    plan::Plan,
};

/// What a reconcile saw of a pool.
pub struct Seen<'a> {
    /// The pool.
    pub pool: &'a EndpointPool,
    /// Its members.
    pub observed: &'a Observed,
    /// What its slices are to hold.
    pub plan: &'a Plan,
    /// What checks say; `None` when none are configured.
    pub states: Option<&'a HashMap<Target, State>>,
    /// What cannot be done.
    pub failures: &'a Failures,
    /// How many slices the pool has.
    pub slices: usize,
}

/// How many members are in which state.
pub(crate) fn counts(seen: &Seen<'_>) -> MemberCounts {
    let members = seen.observed.members.iter().zip(&seen.plan.choice.uses);
    // One that cannot be reached counts against its tier, and is told among those that are refused.
    let (reachable, unreachable): (Vec<_>, Vec<_>) = members.partition(|(member, _)| member.is_reachable);
    let uses: Vec<_> = reachable.into_iter().map(|(_, used)| used).collect();
    let count = |is: fn(Use) -> bool| number(uses.iter().filter(|used| is(***used)).count());
    MemberCounts {
        total: number(uses.len()),
        in_use: count(Use::is_used),
        standby: count(|used| used == Use::Standby),
        failing: count(|used| used == Use::Failing),
        not_ready: count(|used| used == Use::NotReady),
        unchecked: count(|used| used == Use::Unchecked),
        waiting: count(|used| used == Use::Waiting),
        leaving: number(
            uses.iter().filter(|used| ***used == Use::Leaving).count() + seen.plan.memory.draining.len(),
        ),
        refused: number(
            seen.observed.refused.iter().filter(|refused| refused.left_out).count() + unreachable.len(),
        ),
    }
}
