//! What is kept of the objects that are watched. No value of a source is among it.

mod config;
mod workload;

pub use config::{Bucket, Config, Mark, WatchedConfig, object_name};
pub use workload::{Progress, WatchedWorkload, Workload};

/// The label that every object of a revision has: the name of its rollout.
pub const ROLLOUT: &str = "mainstay.dev/config-rollout";
/// The annotation with the number of a revision.
pub const REVISION: &str = "mainstay.dev/config-revision";
/// The annotation with the name of the source that a revision's object is a copy of.
pub const SOURCE: &str = "mainstay.dev/source";
/// The annotation with the UID of that source.
pub const SOURCE_UID: &str = "mainstay.dev/source-uid";
/// The annotation with the resourceVersion that it had.
pub const SOURCE_VERSION: &str = "mainstay.dev/source-resource-version";

/// In mode `Admission` a template names the revision of a rollout in an annotation of this prefix and its name.
pub const ADMISSION_PREFIX: &str = "revision.mainstay.dev/";
/// The same in mode `RestartOnly`.
pub const RESTART_PREFIX: &str = "restarted-for.mainstay.dev/";
