//! The ReplicaGroup controller: a number of pods of one template, kept running.
//!
//! Data flows in one direction: [`observe`] turns the stores into what [`plan`] needs, `plan` decides without any I/O,
//! [`apply`] is the only writer of pods, [`status`] turns what was observed into conditions and counters, and
//! [`reconcile`] joins them.

pub mod announce;
pub mod apply;
pub mod claim;
pub mod controller;
mod images;
mod losses;
pub mod memory;
pub mod metrics;
pub mod names;
pub mod node;
pub mod observe;
pub mod owner;
pub mod plan;
pub mod pod;
pub mod quota;
pub mod reconcile;
pub mod revision;
pub mod rollout;
mod slots;
pub mod status;
pub mod stores;
pub mod upkeep;
