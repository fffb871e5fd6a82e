//! The NodeHealthPolicy controller: detects dead nodes within seconds, with circuit breakers.
//!
//! Data flows one way: [`observations`] stamps what the watches show with the process's own clock, [`observe`] turns it into
//! what a plan is made from, [`plan`] decides without any I/O what each node is to carry, [`reconcile`] turns what differs
//! into jobs, [`live`] asks before anything is believed, [`apply`] is the only writer, and [`status`] says why. What
//! stands on a node is written down on the node itself ([`record`]).

pub mod announce;
pub mod apply;
pub mod controller;
pub mod heartbeat;
pub mod live;
pub mod metrics;
pub mod names;
pub mod observations;
pub mod observe;
pub mod plan;
pub mod reconcile;
pub mod record;
pub mod settings;
pub mod status;
pub mod watched;
