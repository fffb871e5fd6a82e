//! Carries out plans; the only reader of values, and the only writer of revisions and targets.
//!
//! Every object that is made is noted in the write gate, every delete names the object's UID, and a target is changed
//! by server-side apply under the rollout's own field manager.

mod collect;
mod error;
mod revision;
mod target;
mod writer;

pub use self::{
    error::{ApplyError, COLLECTION, EVIDENCE, READS, REVISIONS, TARGETS},
    revision::Examined,
    target::TargetResult,
    writer::Writer,
};
