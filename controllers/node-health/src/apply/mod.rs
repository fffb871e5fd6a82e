//! The only writers: of nodes, of their pods, and of remediations.
//!
//! Nothing here decides. Each writer looks at the live object, writes only what differs from what is wanted, and is
//! refused where the object has changed in between.

pub mod error;
pub mod leftovers;
pub mod node;
pub mod pods;
pub mod remediation;
#[cfg(test)]
pub(crate) mod server;
pub mod still;

pub use self::error::ApplyError;
