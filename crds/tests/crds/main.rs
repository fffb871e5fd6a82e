//! What the definitions promise: one program, so that it is linked once.

#![allow(clippy::unwrap_used, reason = "helpers of tests panic as tests do")]

mod config_rollout;
mod decoding;
mod definitions;
mod node_health_policy;
