//! The NodeHealthPolicy controller: detects dead nodes within seconds, with circuit breakers.
//!
//! Data flows in one direction: [`sight`] stamps the events of the watches with the process's own clock, [`observe`]
//! turns them into the input of a plan, [`plan`] decides without any I/O what each node should have, [`keeper`] turns
//! the differences into jobs, [`live`] reads from the API server before a verdict, [`apply`] is the only writer, and
//! [`status`] says why. What the controller has set on a node is recorded on the node itself ([`record`]).

pub mod announce;
pub mod apply;
pub mod controller;
pub mod heartbeat;
pub mod keeper;
pub mod live;
pub mod metrics;
pub mod names;
pub mod observe;
pub mod plan;
pub mod record;
pub mod settings;
pub mod sight;
pub mod status;
pub mod watched;
