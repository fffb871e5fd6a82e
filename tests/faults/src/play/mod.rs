//! Runs: a scenario is played with the real controller against the model, with one fault at one request.
//!
//! See the head of the crate for how to write a scenario, a fault and an oracle.

mod clean;
pub mod controller;
pub mod explore;
pub mod fault;
mod faults;
mod gate;
mod ledger;
pub mod oracle;
mod outcome;
pub mod report;
pub mod run;
pub mod scenario;
pub mod sent;
