//! Crashes, lost answers and stale reads, explored exhaustively.
//!
//! A [`run::Run`] plays a [`scenario`] with the controller's own reconciler, writer and stores against a small
//! [`server`] in memory, with one [`fault`] at one request and with watches that follow the server in one of many
//! ways. [`explore`] plays it for every fault at every request in every view, and holds each run against the
//! undisturbed one and against the promises that the [`ledger`] checks at every write.

pub mod defect;
pub mod explore;
pub mod fault;
pub mod kind;
pub mod ledger;
pub mod model;
pub mod play;
pub mod process;
pub mod run;
pub mod scenario;
pub mod server;
pub mod wire;
pub mod world;
