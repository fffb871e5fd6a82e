//! Labels and annotations that this controller writes and reads: they are defined nowhere else.

use mainstay_crds::ConfigMode;

/// The field manager of the status, and the beginning of those of targets.
pub const FIELD_MANAGER: &str = "mainstay-config-rollout";

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
/// Beside it the template names the objects that the target has in that revision, so that no replica of the webhook
/// takes a part of a revision for the whole.
pub const OBJECTS_PREFIX: &str = "objects.mainstay.dev/";
/// The same in mode `RestartOnly`.
pub const RESTART_PREFIX: &str = "restarted-for.mainstay.dev/";

/// The annotation that ends the pause of a stage: `<revision>/<stage>`. Each value is carried out once; `/` and any
/// further text makes another value of it, here and in the annotations below.
pub(crate) const CONTINUE: &str = "mainstay.dev/continue";
/// The annotation that requests a retry of a failed revision: its number.
pub(crate) const RETRY: &str = "mainstay.dev/retry";
/// The annotation that rolls a revision back during its rollout: its number.
pub(crate) const ABORT: &str = "mainstay.dev/abort";

/// The annotation of a template that names the revision of a rollout.
pub fn annotation(mode: ConfigMode, rollout: &str) -> Option<String> {
    match mode {
        ConfigMode::Repoint => None,
        ConfigMode::Admission => Some(format!("{ADMISSION_PREFIX}{rollout}")),
        ConfigMode::RestartOnly => Some(format!("{RESTART_PREFIX}{rollout}")),
    }
}

/// The name of the object that a revision has for a source.
pub fn object_name(source: &str, number: u64) -> String {
    format!("{source}-{number}")
}
