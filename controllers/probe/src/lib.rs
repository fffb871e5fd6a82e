//! One active check of one address, and lookups of names; no Kubernetes type and no rule about endpoints.
//!
//! | module | what it promises |
//! |---|---|
//! | [`check`] | one connection, one question, one answer, within a timeout; no body is read or shown |
//! | [`tls`] | the other side's certificate is verified anew at every check |
//! | [`failure`] | why an address did not pass, in a sentence and in a metric label |
//! | [`resolve`] | all addresses of a name, and for how long they hold |
//! | [`names`] | what is known of each name, and how soon it is asked again: pure, no socket and no clock |

pub mod check;
mod exchange;
pub mod failure;
mod grpc;
mod http;
pub mod names;
pub mod resolve;
#[cfg(test)]
mod testing;
pub mod tls;

pub use check::{Check, Kind, Outcome};
pub use failure::Failure;
pub use grpc::Grpc;
pub use http::Http;
pub use names::{Answered, Known, Names};
pub use resolve::{Answer, Family, ResolveError, Resolver};
pub use tls::{Tls, TlsError};
