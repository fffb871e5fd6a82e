//! The slim objects that the stores keep. They contain no value of a source.

mod config;
mod workload;

pub use config::{Bucket, Config, Mark, WatchedConfig};
pub use workload::{Progress, WatchedWorkload, Workload};
