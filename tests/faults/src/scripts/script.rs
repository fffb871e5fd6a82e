//! A list of requests.

use super::step::Step;

/// A list of requests.
#[derive(Debug)]
pub struct Script {
    /// What it is about.
    pub name: &'static str,
    /// The requests, in order.
    pub steps: Vec<Step>,
}

pub(super) fn script(name: &'static str, steps: impl Into<Vec<Step>>) -> Script {
    Script { name, steps: steps.into() }
}
