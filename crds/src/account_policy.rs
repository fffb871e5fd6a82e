//! `AccountPolicy`: accounts, role bindings and rotating tokens for every namespace that a selector picks.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector, Time};
use kube::CustomResource;
use kube::core::Rule;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::duration::Duration;
use crate::schema;

/// The objects that are created in every namespace that the policy selects.
#[derive(CustomResource, JsonSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "mainstay.dev",
    version = "v1alpha1",
    kind = "AccountPolicy",
    plural = "accountpolicies",
    shortname = "acp",
    category = "all",
    status = "AccountPolicyStatus",
    derive = "PartialEq",
    validation = name_rule(),
    doc = "AccountPolicy creates service accounts, pull secrets, role bindings and rotating tokens in every namespace that \
           its selector picks, and removes them again.",
    printcolumn(name = "Namespaces", type_ = "integer", json_path = ".status.namespaces.total"),
    printcolumn(name = "Ready", type_ = "integer", json_path = ".status.namespaces.ready"),
    printcolumn(name = "Failing", type_ = "integer", json_path = ".status.namespaces.failing"),
    printcolumn(name = "Tokens", type_ = "integer", json_path = ".status.tokens"),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].reason"#
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = spec_rules()), transform = schema::with_flowing_text)]
pub struct AccountPolicySpec {
    /// The namespaces, as long as they are Active; `{}` picks all.
    #[schemars(schema_with = "schema::namespace_selector")]
    pub namespace_selector: LabelSelector,

    /// Service accounts. At most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 16),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub service_accounts: Vec<PolicyAccount>,

    /// Role bindings for them. At most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 16),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub role_bindings: Vec<PolicyBinding>,

    /// Tokens for them. At most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 16),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub tokens: Vec<PolicyToken>,

    /// What happens to the policy's objects when it is deleted: `Delete` (the default) deletes them, `Orphan` leaves them
    /// as they are.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,

    /// How long a namespace that is no longer selected keeps the objects. Default 5m.
    #[serde(default = "five_minutes")]
    pub grace_period: Duration,
}

fn five_minutes() -> Duration {
    Duration::seconds(300)
}

/// The name is the value of a label.
fn name_rule() -> Rule {
    Rule::new("size(self.metadata.name) <= 63")
        .message("metadata.name must have at most 63 characters: the policy's objects carry it as a label")
}

fn spec_rules() -> Vec<Rule> {
    let names = "has(self.serviceAccounts) ? self.serviceAccounts.map(account, account.name) : []";
    vec![
        Rule::new(format!(
            "!has(self.roleBindings) || self.roleBindings.all(binding, \
             binding.serviceAccounts.all(name, name in ({names})))"
        ))
        .message("spec.roleBindings names an account that spec.serviceAccounts does not have: add it there")
        .field_path(".roleBindings"),
        Rule::new(format!("!has(self.tokens) || self.tokens.all(token, token.serviceAccount in ({names}))"))
            .message("spec.tokens names an account that spec.serviceAccounts does not have: add it there")
            .field_path(".tokens"),
        Rule::new(
            "!has(self.tokens) || !has(self.serviceAccounts) || self.tokens.all(token, \
             !self.serviceAccounts.exists(account, has(account.imagePullSecrets) && \
             account.imagePullSecrets.exists(secret, has(secret.copyFrom) && secret.name == token.name)))",
        )
        .message("a name in spec.tokens is also that of a copy in imagePullSecrets: choose another name")
        .field_path(".tokens"),
    ]
}

/// A service account.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PolicyAccount {
    /// Its name.
    #[schemars(schema_with = "schema::object_name")]
    pub name: String,

    /// Labels of the account. Labels that others add stay.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::label_map")]
    pub labels: BTreeMap<String, String>,

    /// Annotations of the account. Annotations that others add stay.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::annotation_map")]
    pub annotations: BTreeMap<String, String>,

    /// Whether a token is mounted into its pods automatically. Default: not changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub automount_service_account_token: Option<bool>,

    /// Pull secrets of the account. Entries that others add stay. At most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 16),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub image_pull_secrets: Vec<PolicyPullSecret>,
}

/// A pull secret of an account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PolicyPullSecret {
    /// Its name in the namespace.
    #[schemars(schema_with = "schema::object_name")]
    pub name: String,

    /// The Secret of which it is a copy, kept up to date: of type `kubernetes.io/dockerconfigjson` or
    /// `kubernetes.io/dockercfg`. Default: it is created by others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copy_from: Option<SecretSource>,
}

/// A Secret in any namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub struct SecretSource {
    /// Its namespace.
    #[schemars(schema_with = "schema::object_name")]
    pub namespace: String,
    /// Its name.
    #[schemars(schema_with = "schema::object_name")]
    pub name: String,
}

/// A role binding.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PolicyBinding {
    /// Its name.
    #[schemars(schema_with = "schema::object_name")]
    pub name: String,

    /// The role. Both the author of the policy and the controller must have permission to bind it.
    pub role_ref: PolicyRole,

    /// The accounts of `serviceAccounts` that have it.
    #[schemars(length(min = 1, max = 16), extend("x-kubernetes-list-type" = "set"))]
    pub service_accounts: Vec<String>,
}

/// A role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PolicyRole {
    /// `ClusterRole`, or `Role`: the one of that name in each namespace.
    pub kind: RoleKind,
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// A kind of role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RoleKind {
    /// A ClusterRole.
    ClusterRole,
    /// A Role of the namespace.
    Role,
}

fn token_rules() -> Vec<Rule> {
    vec![
        Rule::new("duration(self.ttl) >= duration('10m')")
            .message("ttl must be at least 10m: the API server issues no token with a shorter lifetime")
            .field_path(".ttl"),
    ]
}

/// A token in a Secret, renewed before it expires.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = token_rules()))]
pub struct PolicyToken {
    /// The name of the Secret, with the keys `token`, `ca.crt` and `namespace`.
    #[schemars(schema_with = "schema::object_name")]
    pub name: String,

    /// The account of the token: one of `serviceAccounts`.
    #[schemars(schema_with = "schema::object_name")]
    pub service_account: String,

    /// The audiences of the token. Default: the API server. At most 8.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::audiences")]
    pub audiences: Vec<String>,

    /// The requested lifetime; the server may grant less. At least 10m. Default 1h.
    #[serde(default = "one_hour")]
    pub ttl: Duration,

    /// How long the previous token stays valid after there is a new one. Default 5m.
    #[serde(default = "five_minutes")]
    pub overlap: Duration,

    /// Adds the key `kubeconfig`, for kubectl and other clients that use the account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubeconfig: Option<PolicyKubeconfig>,
}

fn one_hour() -> Duration {
    Duration::seconds(3600)
}

/// A kubeconfig.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PolicyKubeconfig {
    /// The address at which its users reach the API server, for example `https://kubernetes.default.svc`.
    #[schemars(length(max = 2048), regex(pattern = r"^https://[!-~]+$"))]
    pub server: String,
}

/// What happens to the objects of a deleted policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DeletionPolicy {
    /// They are deleted.
    #[default]
    Delete,
    /// They stay as they are.
    Orphan,
}

/// The state of the policy, as the controller last saw it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(transform = schema::without_defaults, transform = schema::with_flowing_text)]
pub struct AccountPolicyStatus {
    /// The generation of the spec that this status is about; 0 means none yet.
    #[schemars(range(min = 0))]
    pub observed_generation: i64,

    /// How many namespaces are in which state.
    pub namespaces: NamespaceCounts,

    /// Namespaces in which an object is missing or wrong, and why; at most 20.
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub failing: Vec<FailingNamespace>,

    /// Namespaces that are no longer selected, and when their objects are removed; at most 1000.
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub leaving: Vec<LeavingNamespace>,

    /// How many tokens there are.
    #[schemars(range(min = 0))]
    pub tokens: i32,

    /// The tokens that expire first; at most 10.
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub soonest_expiry: Vec<TokenExpiry>,

    /// How many Secrets of the namespaces have tokens that never expire.
    #[schemars(range(min = 0))]
    pub eternal_tokens: i32,

    /// The conditions `Ready`, `Reconciling`, `Stalled` and `EternalTokens`, and `FinalizerFailed` while the policy's finalizer
    /// cannot be set or removed, each with a reason and a message.
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}

/// How many namespaces are in which state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(transform = schema::without_defaults)]
pub struct NamespaceCounts {
    /// All selected namespaces.
    pub total: i32,
    /// Those that have all objects of the policy.
    pub ready: i32,
    /// Those in which an object is missing or wrong.
    pub failing: i32,
}

/// A namespace in which an object is missing or wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FailingNamespace {
    /// Its name.
    pub name: String,
    /// Why.
    #[serde(default)]
    pub reason: String,
    /// What is wrong and what to do.
    #[serde(default)]
    pub message: String,
}

/// A namespace that is no longer selected.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LeavingNamespace {
    /// Its name.
    pub name: String,
    /// When its objects are removed.
    pub at: Time,
}

/// When a token expires.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TokenExpiry {
    /// Its namespace.
    pub namespace: String,
    /// The name of its Secret.
    pub name: String,
    /// When it expires.
    pub expires: Time,
}
