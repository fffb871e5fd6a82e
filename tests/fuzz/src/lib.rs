//! What every plan must hold to, whatever is wanted and whatever is observed.
//!
//! Each function reads a spec and an observed state from bytes, plans, and panics where the plan breaks a promise. A state
//! need not be one that a controller could have led to: objects are changed by others, and a status was written by
//! another version. The property tests beside each planner play histories of a small world; this is about all that can be
//! written down.
//!
//! `make test` tries some thousands of random inputs of each. `fuzz/` has a target for each, which libFuzzer leads to code
//! that no input has reached yet.

mod accounts;
mod config_rollout;
mod endpoints;
mod input;
mod node_health;
mod replication;
mod rollout;
mod specs;

use arbitrary::{Result, Unstructured};

/// A function that checks what it makes of the input. It fails where the input is too short.
pub type Check = fn(&mut Unstructured<'_>) -> Result<()>;

/// All checks, by the name of their fuzz target.
pub const CHECKS: [(&str, Check); 7] = [
    ("accounts", accounts::check),
    ("config_rollout", config_rollout::check),
    ("endpoints", endpoints::check),
    ("node_health", node_health::check),
    ("replication", replication::check),
    ("rollout", rollout::check),
    ("specs", specs::check),
];

/// Runs the check of this name.
///
/// # Panics
/// When a promise is broken, or there is no check of that name.
pub fn run(name: &str, bytes: &[u8]) {
    let check = CHECKS.iter().find(|(of, _)| *of == name).unwrap_or_else(|| panic!("no check {name}")).1;
    // Bytes that are too few for an input say nothing.
    let _ = check(&mut Unstructured::new(bytes));
}
