//! The EndpointPool controller: the endpoints of a Service, checked, with failover.
//!
//! Data flows in one direction: [`observe`] turns the stores into a pool's members, [`checker`] checks them and
//! [`lookups`] looks their names up, [`plan`] decides without any I/O what the slices should contain, [`apply`] is the
//! only writer, and [`status`] says why. [`health`], [`choose`] and [`pack`] are the rules, and know nothing of
//! Kubernetes.

pub mod announce;
pub mod apply;
pub mod checker;
pub mod choose;
pub mod controller;
pub mod health;
pub mod interests;
pub mod lookups;
pub mod metrics;
pub mod names;
pub mod network;
pub mod observe;
pub mod pack;
pub mod plan;
pub mod ranges;
pub mod reconcile;
pub mod settings;
pub mod status;
pub mod stores;
#[cfg(test)]
mod takeover;
pub mod watched;
