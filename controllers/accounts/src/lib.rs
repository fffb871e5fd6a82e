//! The AccountPolicy controller: accounts, role bindings and rotating tokens for every namespace that a selector
//! picks.
//!
//! Two loops: [`reconcile`] reconciles one namespace, in which it creates what policies say, and [`policies`]
//! reconciles one policy, whose status it writes. Data flows in one direction: [`observe`] turns the stores into what
//! [`plan`] needs, `plan` decides without any I/O, [`apply`] is the only writer.
//!
//! Tokens and the content of pull secrets are held only in [`apply`], between two requests.

pub mod admission;
pub mod announce;
pub mod apply;
pub mod controller;
mod departures;
mod failing;
mod managed;
pub mod metrics;
pub mod names;
pub mod observe;
pub mod plan;
pub mod policies;
pub mod reconcile;
pub mod server_clock;
pub mod settings;
mod sources;
mod status;
pub mod stores;
pub mod watched;
