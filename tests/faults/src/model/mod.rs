//! A model of the API server: any kind as JSON, in memory, in the time of the test.
//!
//! | module | what it holds |
//! |---|---|
//! | [`kinds`] | the table of kinds: one line each |
//! | [`store`] | objects, their versions and their history |
//! | [`server`] | the verbs |
//! | [`managed`] | field owners, and server-side apply |
//! | [`patch`] | the other patches |
//! | [`watch`] | watches, which may lag |
//! | [`service`] | the server as a kube client sees it |

mod defaults;
mod fields;
pub mod kinds;
pub mod managed;
pub mod object;
pub mod patch;
pub mod request;
mod rules;
mod schema;
pub mod selector;
pub mod server;
pub mod service;
mod special;
pub mod store;
pub mod watch;
