//! The AccountPolicy controller: accounts, rights and rotating tokens for every namespace that a selector picks.
//!
//! Two loops: [`reconcile`] is the pass over one namespace, which is given what policies say, and [`policies`] the pass
//! over one policy, which tells what came of it. Data flows one way: [`observe`] turns the stores into what [`plan`] needs,
//! `plan` decides without any I/O, [`apply`] is the only writer.
//!
//! Tokens and the content of pull secrets are held in [`apply`] alone, from a request to the next one.

pub mod admission;
pub mod announce;
pub mod apply;
pub mod controller;
mod managed;
pub mod metrics;
pub mod names;
pub mod observe;
pub mod plan;
pub mod policies;
pub mod reconcile;
pub mod settings;
pub mod skew;
mod sources;
mod status;
pub mod stores;
pub mod watched;
