//! The slim objects that the stores keep. They contain no value of a source.

mod config;
mod progress;
mod template;
mod workload;

pub use config::{Bucket, Config, Mark, WatchedConfig};
pub use progress::{Blocked, Progress};
pub use template::Fingerprint;
pub use workload::{WatchedWorkload, Workload};
