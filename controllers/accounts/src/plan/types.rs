//! The input of a plan of one namespace.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;

/// What a policy gives to a namespace.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Desired {
    /// The policy's name.
    pub policy: Arc<str>,
    /// Its accounts, by name.
    pub accounts: BTreeMap<Arc<str>, Account>,
    /// Its bindings, by name.
    pub bindings: BTreeMap<Arc<str>, Binding>,
    /// Copies of pull secrets, by name.
    pub copies: BTreeMap<Arc<str>, Copy>,
    /// Its tokens, by the name of the Secret.
    pub tokens: BTreeMap<Arc<str>, Token>,
}

/// A service account as it should be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Account {
    /// Labels that it has among others.
    pub labels: BTreeMap<String, String>,
    /// Annotations that it has among others.
    pub annotations: BTreeMap<String, String>,
    /// `automountServiceAccountToken`, where the policy says something about it.
    pub automount: Option<bool>,
    /// Pull secrets that it has among others.
    pub pull_secrets: BTreeSet<Arc<str>>,
}

/// Fields of an account that a policy may say something about, its pull secrets apart.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fields {
    /// Labels, by their keys.
    pub labels: BTreeSet<String>,
    /// Annotations, by their keys.
    pub annotations: BTreeSet<String>,
    /// Whether `automountServiceAccountToken` is one.
    pub automount: bool,
}

impl Fields {
    /// Those of which an account that should be so says nothing.
    pub fn beyond(&self, account: &Account) -> Self {
        let beyond = |keys: &BTreeSet<String>, named: &BTreeMap<String, String>| {
            keys.iter().filter(|key| !named.contains_key(*key)).cloned().collect()
        };
        Self {
            labels: beyond(&self.labels, &account.labels),
            annotations: beyond(&self.annotations, &account.annotations),
            automount: self.automount && account.automount.is_none(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A role binding as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// The role.
    pub role: Role,
    /// The accounts of the namespace that have it.
    pub accounts: BTreeSet<Arc<str>>,
}

/// A role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Role {
    /// `Role` or `ClusterRole`.
    pub kind: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
}

/// The roles that policies may bind, whoever their author is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Grantable {
    /// Names of ClusterRoles.
    pub cluster_roles: BTreeSet<Arc<str>>,
    /// Names of Roles, in whichever namespace.
    pub roles: BTreeSet<Arc<str>>,
}

impl Grantable {
    /// Whether this role is among them.
    pub fn has(&self, role: &Role) -> bool {
        let names = if &*role.kind == "Role" { &self.roles } else { &self.cluster_roles };
        names.contains(&role.name)
    }
}

/// A copy of a Secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copy {
    /// The namespace of the source.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// What is known of the source.
    pub source: Source,
}

impl Copy {
    /// Why a Secret of another type is not copied. `name` is that of the copy.
    pub fn not_pull_secret(&self, name: &str) -> String {
        format!(
            "spec.serviceAccounts[].imagePullSecrets[].copyFrom: Secret {}/{} is of neither type \
             kubernetes.io/dockerconfigjson nor kubernetes.io/dockercfg, and no other types are copied: \
             name a Secret of these types, or remove copyFrom of {name} from the policy",
            self.namespace, self.name
        )
    }
}

/// What is known of a Secret that is copied.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Source {
    /// It has not been looked for yet.
    #[default]
    Unknown,
    /// It is not there.
    Missing,
    /// It is no pull secret, by its type.
    NotPullSecret,
    /// Its UID and resourceVersion.
    At(Box<str>, Box<str>),
}

/// Who wrote the values of a Secret, as far as `metadata.managedFields` say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Written {
    /// They say nothing.
    #[default]
    Unknown,
    /// This controller, these keys and no others.
    ByUs(BTreeSet<Box<str>>),
    /// At least one of these keys was written by another owner, or by an earlier version of the policy that no longer
    /// wants it.
    ByOthers(BTreeSet<Box<str>>),
}

impl Written {
    /// Whether none of these keys was changed or removed by others.
    pub fn has(&self, keys: &[&str]) -> bool {
        match self {
            Self::Unknown => true,
            Self::ByUs(ours) => keys.iter().all(|key| ours.contains(*key)),
            Self::ByOthers(_) => false,
        }
    }

    /// All keys that are known.
    pub fn keys(&self) -> BTreeSet<Box<str>> {
        match self {
            Self::Unknown => BTreeSet::new(),
            Self::ByUs(keys) | Self::ByOthers(keys) => keys.clone(),
        }
    }
}

/// A token as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Whose it is.
    pub account: Arc<str>,
    /// Its audiences; empty for the API server.
    pub audiences: Vec<String>,
    /// How long it is asked to live.
    pub ttl: Duration,
    /// For how long the one before lives on.
    pub overlap: Duration,
    /// Where the API server is, for a kubeconfig.
    pub server: Option<String>,
}

/// Whose an object is, and where it has come from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mark {
    /// The policy.
    pub policy: Arc<str>,
    /// Who made it.
    pub origin: Origin,
}

/// Who made an object that has a policy's mark.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Origin {
    /// This controller.
    #[default]
    Made,
    /// Another owner; the policy has adopted it.
    Adopted,
    /// Another owner, and the mark is not ours either: it was copied with the object, or set by hand.
    Foreign,
}

/// The version at which an object was seen. It is not compared: it says when, and not what.
#[derive(Debug, Clone, Copy, Default)]
pub struct SeenAt(pub Option<u64>);

impl PartialEq for SeenAt {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for SeenAt {}

/// A service account as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AccountView {
    /// Its UID.
    pub uid: Box<str>,
    /// Its version.
    pub version: SeenAt,
    /// Whose it is; `None`: of no policy.
    pub mark: Option<Mark>,
    /// The origin of an object that belongs to a policy although its mark was removed.
    pub unmarked: Option<Origin>,
    /// The policy that its owner lets take it over.
    pub consent: Option<Arc<str>>,
    /// What it has.
    pub account: Account,
    /// The pull secrets that a policy has given it.
    pub given: BTreeSet<Arc<str>>,
    /// What a policy has added to it, and no other field manager has written as well.
    pub ours: Fields,
}

/// A role binding as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BindingView {
    /// Its UID.
    pub uid: Box<str>,
    /// Whose it is.
    pub mark: Option<Mark>,
    /// The policy that its owner lets take it over.
    pub consent: Option<Arc<str>>,
    /// Its role, and the accounts of its own namespace; `None`: it has other subjects as well.
    pub binding: Option<Binding>,
    /// Its role.
    pub role: Role,
}

/// A copy as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyView {
    /// Its UID.
    pub uid: Box<str>,
    /// Who made it.
    pub origin: Origin,
    /// Whose it is.
    pub policy: Arc<str>,
    /// Of which Secret it is a copy, and of which version.
    pub of: Copy,
    /// Who wrote its values.
    pub written: Written,
}

/// A handle as it is: the tokens that are bound to it live no longer than it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandleView {
    /// Its UID.
    pub uid: Box<str>,
    /// Who made it.
    pub origin: Origin,
    /// Whose it is.
    pub policy: Arc<str>,
    /// The Secret for which it was made.
    pub output: Arc<str>,
    /// When it was made.
    pub created: Timestamp,
}

/// A Secret with a token as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputView {
    /// Its UID.
    pub uid: Box<str>,
    /// Who made it.
    pub origin: Origin,
    /// Its resourceVersion.
    pub version: Box<str>,
    /// Whose it is.
    pub policy: Arc<str>,
    /// What it was issued for, as one word; if the word changes, a new token is issued.
    pub made_for: Box<str>,
    /// The UID of the account for which the token was issued. It is worth nothing for another one of the same name.
    pub account: Box<str>,
    /// Who wrote its values.
    pub written: Written,
    /// The handle of its token.
    pub handle: Arc<str>,
    /// The UID of that, where it was written down: the token is worth nothing with another one of its name.
    pub handle_uid: Option<Box<str>>,
    /// When the token was issued, by the API server's clock.
    pub issued: Timestamp,
    /// When it ends.
    pub expires: Timestamp,
    /// The handle of the token before, and until when it is kept.
    pub previous: Option<(Arc<str>, Timestamp)>,
    /// Whether its revocation was requested.
    pub revoked: bool,
}

/// One namespace, as a reconcile sees it.
#[derive(Debug, Clone, Default)]
pub struct Observed {
    /// Its name.
    pub namespace: Arc<str>,
    /// What it is to be given, by policies in the order of their names.
    pub desired: Vec<Desired>,
    /// Policies that give it nothing any more, and since when; `None` for one that goes itself.
    pub leaving: BTreeMap<Arc<str>, Leaving>,
    /// The policy that the namespace's owner lets take things over.
    pub consent: Option<Arc<str>>,
    /// The roles that policies may give.
    pub grantable: Arc<Grantable>,
    /// All service accounts.
    pub accounts: BTreeMap<Arc<str>, AccountView>,
    /// All role bindings.
    pub bindings: BTreeMap<Arc<str>, BindingView>,
    /// Copies of pull secrets.
    pub copies: BTreeMap<Arc<str>, CopyView>,
    /// Handles.
    pub handles: BTreeMap<Arc<str>, HandleView>,
    /// Secrets with tokens.
    pub outputs: BTreeMap<Arc<str>, OutputView>,
    /// Secrets with a policy's mark but without valid annotations, by name: their UIDs, and their origin. Those that
    /// this controller has created are recreated.
    pub invalid: BTreeMap<Arc<str>, (Box<str>, Origin)>,
    /// What was found live at names of Secrets that may be there although none is seen.
    pub unseen: BTreeMap<Arc<str>, Unseen>,
    /// The UIDs of handles to which no token was ever bound.
    pub unbound: BTreeSet<Box<str>>,
}

impl Observed {
    /// The policy whose mark the object of this name has.
    pub fn owner(&self, part: Part, name: &Arc<str>) -> Option<&Arc<str>> {
        match part {
            Part::Account => Some(&self.accounts.get(name)?.mark.as_ref()?.policy),
            Part::Binding => Some(&self.bindings.get(name)?.mark.as_ref()?.policy),
            Part::Copy => Some(&self.copies.get(name)?.policy),
            Part::Handle => Some(&self.handles.get(name)?.policy),
            Part::Token => Some(&self.outputs.get(name)?.policy),
        }
    }
}

/// How a policy leaves a namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leaving {
    /// It takes away what it gave, at this time.
    Delete(Timestamp),
    /// It leaves what it gave as it is, and forgets it.
    Orphan,
    /// What it wants cannot be read, or it is not known any more: what it gave stays.
    Unknown,
}

/// A kind of object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// A service account.
    Account,
    /// A role binding.
    Binding,
    /// A copy of a pull secret.
    Copy,
    /// A handle.
    Handle,
    /// A Secret with a token.
    Token,
}

/// What was found live at the name of a Secret that the watch does not show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unseen {
    /// The server has not said.
    Unknown,
    /// One that this controller has created, as this part and with this UID; its policy's mark was removed.
    Unmarked(Part, Box<str>),
    /// One of another owner, or of the policy that its mark names.
    Foreign(Option<Arc<str>>),
    /// One that is being deleted.
    Going,
}
