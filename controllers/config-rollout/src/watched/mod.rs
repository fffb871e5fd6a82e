//! What is kept of the objects that are watched. No value of a source is among it.

mod config;
mod workload;

pub use config::{Bucket, Config, Mark, WatchedConfig};
pub use workload::{Progress, WatchedWorkload, Workload};
