//! Labels, annotations and finalizers by which this controller and others recognise its objects.

/// The field manager of all that is written.
pub const FIELD_MANAGER: &str = "mainstay-accounts";
/// The finalizer of a policy: keeps a deleted policy until its objects are removed.
pub const FINALIZER: &str = "mainstay.dev/accounts";
/// The ownership label of every object that a policy has created or adopted: the policy's name.
pub const POLICY: &str = "mainstay.dev/account-policy";
/// The label that says what a Secret of a policy is: `copy`, `handle` or `token`.
pub const PART: &str = "mainstay.dev/account-part";
/// The annotation of objects that a policy has adopted.
pub const ADOPTED: &str = "mainstay.dev/adopted";
/// The annotation by which the owner of an object, or of a namespace, lets a policy of this name take it over.
pub const ADOPT: &str = "mainstay.dev/adopt";
/// The annotation of a binding that a policy has adopted: the subjects that it had before, for its owner to read.
pub const SUBJECTS: &str = "mainstay.dev/subjects";
/// The annotation by which a token is revoked.
pub const REVOKE: &str = "mainstay.dev/revoke";
/// The annotation with the pull secrets that a policy has given an account.
pub const GIVEN: &str = "mainstay.dev/pull-secrets";
/// Annotations of a Secret with a token.
pub const MADE_FOR: &str = "mainstay.dev/made-for";
/// See [`MADE_FOR`].
pub const ACCOUNT: &str = "mainstay.dev/account-uid";
/// See [`MADE_FOR`].
pub const HANDLE: &str = "mainstay.dev/handle";
/// See [`MADE_FOR`].
pub const HANDLE_UID: &str = "mainstay.dev/handle-uid";
/// See [`MADE_FOR`].
pub const ISSUED: &str = "mainstay.dev/issued-at";
/// See [`MADE_FOR`].
pub const EXPIRES: &str = "mainstay.dev/expires-at";
/// See [`MADE_FOR`].
pub const PREVIOUS: &str = "mainstay.dev/previous-handle";
/// See [`MADE_FOR`].
pub const PREVIOUS_UNTIL: &str = "mainstay.dev/previous-until";
/// The annotation of a handle: the Secret that it was made for.
pub const OUTPUT: &str = "mainstay.dev/token";
/// Annotations of a copy: namespace and name of its source, its UID and its resourceVersion.
pub const SOURCE: &str = "mainstay.dev/source";
/// See [`SOURCE`].
pub const SOURCE_UID: &str = "mainstay.dev/source-uid";
/// See [`SOURCE`].
pub const SOURCE_VERSION: &str = "mainstay.dev/source-resource-version";

/// The types of Secrets that are copied.
pub(crate) const PULL_SECRETS: [&str; 2] = ["kubernetes.io/dockerconfigjson", "kubernetes.io/dockercfg"];
