//! The ConfigRollout controller: rolls out changes of Secrets and ConfigMaps in stages, and rolls them back.
//!
//! Data flows in one direction: [`observe`] turns the stores into what [`plan`] needs, `plan` decides without any I/O,
//! [`apply`] is the only writer of revisions and targets, [`status`] turns what was observed into conditions, and
//! [`reconcile`] joins them. Only [`references`] knows where a pod spec names Secrets and ConfigMaps.
//!
//! Values of Secrets are read only in [`apply`], compared there, copied into a revision there, and dropped.

pub mod admission;
pub mod announce;
pub mod apply;
pub mod controller;
mod evidence;
pub mod memory;
pub mod metrics;
pub mod names;
pub mod observe;
pub mod plan;
pub mod probes;
pub mod reconcile;
mod record;
pub mod references;
mod settings;
pub mod slots;
pub mod status;
pub mod stores;
pub mod watched;
