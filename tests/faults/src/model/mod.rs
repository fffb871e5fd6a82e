//! A model of the API server: any kind as JSON, in memory, in the time of the test.
//!
//! | module | what it holds |
//! |---|---|
//! | [`kinds`] | the table of kinds: one line each |
//! | [`store`] | objects, their versions and their history |
//! | [`deletion`] | what becomes of an object that is deleted |
//! | [`server`] | the verbs |
//! | [`managed`] | field owners, and server-side apply |
//! | [`patch`] | the other patches |
//! | [`watch`] | watches, which may lag |
//! | [`service`] | the server as a kube client sees it |
//!
//! [`scripts`](crate::scripts) hold it to the answers of a real API server. It has no authorization, and it validates no
//! object by its schema: it refuses as invalid only what breaks a rule of `rules.rs`, and keeps fields that no schema has. A pod
//! gets no volume with a token.

mod defaults;
pub mod deletion;
mod fields;
pub mod kinds;
mod list;
pub mod managed;
mod merge;
pub mod object;
pub mod patch;
pub mod request;
mod rules;
pub mod schema;
pub mod selector;
pub mod server;
pub mod service;
mod special;
pub mod store;
pub mod watch;
