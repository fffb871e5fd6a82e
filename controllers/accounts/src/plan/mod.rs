//! Decides what is done in one namespace; pure, without clock or client.
//!
//! All state is in the objects themselves: a label says which policy an object belongs to, and annotations of a Secret
//! say when its token was issued and when it expires. So a restart issues no token again.

mod accounts;
mod action;
mod planner;
mod tokens;
mod types;
mod unseen;

use std::collections::BTreeMap;

use jiff::Timestamp;

use self::planner::Planner;
pub use self::{action::*, types::*};

/// Decides what is done in a namespace at this time of the API server's clock.
pub fn plan(observed: &Observed, now: Timestamp) -> Plan {
    let mut planner = Planner { observed, now, plan: Plan::default(), claimed: BTreeMap::new() };
    for desired in &observed.desired {
        planner.copies(desired);
        planner.accounts(desired);
        planner.bindings(desired);
        planner.tokens(desired);
    }
    planner.leave();
    planner.plan
}

#[cfg(test)]
mod tests;
