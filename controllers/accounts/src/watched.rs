//! The slim objects that the stores keep. They contain no value of a Secret.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::Timestamp;
use k8s_openapi::{
    api::{core::v1, rbac::v1 as rbac},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use mainstay_runtime::{
    index::Indexed,
    slim::{Header, MetadataOf},
    stands_for,
};
use serde::Deserialize;

use crate::managed::{ANNOTATIONS, LABELS, TOP, has_labelled, ours_alone, written};
use crate::names::{
    ACCOUNT, ADOPT, ADOPTED, EXPIRES, GIVEN, HANDLE, HANDLE_UID, ISSUED, MADE_FOR, OUTPUT, PART, POLICY,
    PREVIOUS, PREVIOUS_UNTIL, REVOKE, SOURCE, SOURCE_UID, SOURCE_VERSION,
};
use crate::plan::{
    Account, AccountView, Binding, BindingView, Copy, CopyView, Fields, HandleView, Mark, Origin, OutputView,
    Part, Role, SeenAt, Source, Unseen,
};
use kube::core::PartialObjectMeta;

fn text<'a>(map: &'a Option<BTreeMap<String, String>>, key: &str) -> Option<&'a str> {
    map.as_ref()?.get(key).map(String::as_str)
}

fn mark(metadata: &ObjectMeta) -> Option<Mark> {
    let policy = text(&metadata.labels, POLICY)?.into();
    let origin = match text(&metadata.annotations, ADOPTED) {
        _ if !has_labelled(metadata, POLICY) => Origin::Foreign,
        Some(_) => Origin::Adopted,
        None => Origin::Made,
    };
    Some(Mark { policy, origin })
}

/// The origin of an account whose mark was removed: what a policy has added is recorded with the mark, and is removed
/// with it when the policy releases the account.
fn unmarked(metadata: &ObjectMeta) -> Option<Origin> {
    let is_of_policy =
        text(&metadata.labels, POLICY).is_none() && ours_alone(metadata, ANNOTATIONS).contains(GIVEN);
    let is_adopted = text(&metadata.annotations, ADOPTED).is_some();
    is_of_policy.then_some(if is_adopted { Origin::Adopted } else { Origin::Made })
}

/// The policy that the owner of an object, or of a namespace, lets take it over.
pub(crate) fn consent(metadata: &ObjectMeta) -> Option<Arc<str>> {
    text(&metadata.annotations, ADOPT).map(Into::into)
}

/// A service account as the watch decodes it.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WatchedAccount {
    /// With managedFields.
    metadata: ObjectMeta,
    automount_service_account_token: Option<bool>,
    #[serde(default)]
    image_pull_secrets: Vec<v1::LocalObjectReference>,
}
stands_for!(WatchedAccount, v1::ServiceAccount);

/// By what objects are asked for together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Bucket {
    /// Those of a namespace.
    Namespace(Arc<str>),
    /// Those of a policy.
    Policy(Arc<str>),
}

fn buckets(header: &Header, policy: Option<&Arc<str>>) -> Vec<Bucket> {
    let namespace = Bucket::Namespace(Arc::clone(&header.key.namespace));
    [namespace].into_iter().chain(policy.map(|policy| Bucket::Policy(Arc::clone(policy)))).collect()
}

/// An object as the store keeps it: what the rules see of it.
#[derive(Debug, PartialEq)]
pub struct Stored<V> {
    /// Name, UID and version.
    pub header: Header,
    /// The policy whose it is.
    pub policy: Option<Arc<str>>,
    /// What the rules see.
    pub view: V,
}

impl<V: PartialEq + Send + Sync + 'static> Indexed for Stored<V> {
    type Bucket = Bucket;

    fn header(&self) -> &Header {
        &self.header
    }
    fn buckets(&self) -> Vec<Bucket> {
        buckets(&self.header, self.policy.as_ref())
    }
    fn is_same(&self, other: &Self) -> bool {
        self == other
    }
}

impl From<WatchedAccount> for Stored<AccountView> {
    fn from(watched: WatchedAccount) -> Self {
        let header = Header::of(&watched);
        let WatchedAccount { metadata, automount_service_account_token, image_pull_secrets } = watched;
        let (mark, unmarked) = (mark(&metadata), unmarked(&metadata));
        let given = text(&metadata.annotations, GIVEN).unwrap_or_default();
        let is_of_policy = mark.is_some() || unmarked.is_some();
        let ours = if is_of_policy { ours(&metadata) } else { Fields::default() };
        let view = AccountView {
            uid: header.uid.clone(),
            version: SeenAt::default(),
            unmarked,
            consent: consent(&metadata),
            given: given.split(',').filter(|name| !name.is_empty()).map(Into::into).collect(),
            account: Account {
                automount: automount_service_account_token,
                pull_secrets: image_pull_secrets.into_iter().map(|secret| secret.name.into()).collect(),
                // Nothing of others is needed, and policies look at what is theirs alone.
                labels: metadata.labels.unwrap_or_default(),
                annotations: metadata.annotations.unwrap_or_default(),
            },
            ours,
            mark,
        };
        Self { header, policy: view.mark.as_ref().map(|mark| Arc::clone(&mark.policy)), view }
    }
}

/// What a policy has given an account. Its mark is not among it.
fn ours(metadata: &ObjectMeta) -> Fields {
    let but = |path, marks: &[&str]| {
        let mut keys = ours_alone(metadata, path);
        keys.retain(|key| !marks.contains(&&**key));
        keys
    };
    Fields {
        labels: but(LABELS, &[POLICY]),
        annotations: but(ANNOTATIONS, &[ADOPTED, GIVEN]),
        automount: ours_alone(metadata, TOP).contains("automountServiceAccountToken"),
    }
}

/// A role binding as the watch decodes it.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WatchedBinding {
    /// With managedFields.
    metadata: ObjectMeta,
    role_ref: rbac::RoleRef,
    #[serde(default)]
    subjects: Vec<rbac::Subject>,
}
stands_for!(WatchedBinding, rbac::RoleBinding);

impl From<WatchedBinding> for Stored<BindingView> {
    fn from(watched: WatchedBinding) -> Self {
        let header = Header::of(&watched);
        let WatchedBinding { metadata, role_ref, subjects } = watched;
        let role = Role { kind: role_ref.kind.into(), name: role_ref.name.into() };
        let accounts: Option<BTreeSet<Arc<str>>> = subjects
            .into_iter()
            .map(|subject| {
                let is_own = subject.namespace.as_deref() == Some(&header.key.namespace);
                (subject.kind == "ServiceAccount" && is_own).then(|| subject.name.into())
            })
            .collect();
        let mark = mark(&metadata);
        let view = BindingView {
            uid: header.uid.clone(),
            consent: consent(&metadata),
            binding: accounts.map(|accounts| Binding { role: role.clone(), accounts }),
            role,
            mark,
        };
        Self { header, policy: view.mark.as_ref().map(|mark| Arc::clone(&mark.policy)), view }
    }
}

/// What a Secret of a policy is.
#[derive(Debug, PartialEq)]
pub enum SecretView {
    /// A copy of a pull secret.
    Copy(CopyView),
    /// A handle.
    Handle(HandleView),
    /// A Secret with a token.
    Output(OutputView),
    /// One whose annotations say nothing.
    Invalid(Origin),
}

impl From<PartialObjectMeta<v1::Secret>> for Stored<SecretView> {
    fn from(watched: PartialObjectMeta<v1::Secret>) -> Self {
        let header = Header::of(&watched);
        let metadata = watched.metadata;
        let policy: Option<Arc<str>> = text(&metadata.labels, POLICY).map(Into::into);
        let view = match (policy.clone(), text(&metadata.labels, PART)) {
            (Some(policy), Some("copy")) => copy(&header, policy, &metadata).map(SecretView::Copy),
            (Some(policy), Some("handle")) => handle(&header, policy, &metadata).map(SecretView::Handle),
            (Some(policy), Some("token")) => output(&header, policy, &metadata).map(SecretView::Output),
            _ => None,
        };
        let view = view.unwrap_or_else(|| SecretView::Invalid(origin(&metadata)));
        Self { header, policy, view }
    }
}

/// The origin of a Secret. Both labels are written with it: the remaining label shows it if the other was removed.
fn origin(metadata: &ObjectMeta) -> Origin {
    let is_ours = [PART, POLICY].iter().any(|label| has_labelled(metadata, label));
    if is_ours { Origin::Made } else { Origin::Foreign }
}

/// What a Secret is that the watch does not show. Both labels are written with one of ours: the other one tells whose it is
/// that has lost its policy's.
pub(crate) fn unseen(metadata: &ObjectMeta) -> Unseen {
    let part = match text(&metadata.labels, PART) {
        Some("copy") => Some(Part::Copy),
        Some("handle") => Some(Part::Handle),
        Some("token") => Some(Part::Token),
        _ => None,
    };
    let uid = metadata.uid.as_deref().unwrap_or_default();
    match (text(&metadata.labels, POLICY), part.filter(|_| has_labelled(metadata, PART))) {
        _ if metadata.deletion_timestamp.is_some() => Unseen::Going,
        (None, Some(part)) => Unseen::Unmarked(part, uid.into()),
        (policy, _) => Unseen::Foreign(policy.map(Into::into)),
    }
}

fn copy(header: &Header, policy: Arc<str>, metadata: &ObjectMeta) -> Option<CopyView> {
    let annotation = |key| text(&metadata.annotations, key);
    let (namespace, name) = annotation(SOURCE)?.split_once('/')?;
    let source = Source::At(annotation(SOURCE_UID)?.into(), annotation(SOURCE_VERSION)?.into());
    let of = Copy { namespace: namespace.into(), name: name.into(), source };
    let origin = origin(metadata);
    Some(CopyView { uid: header.uid.clone(), origin, policy, of, written: written(metadata) })
}

fn handle(header: &Header, policy: Arc<str>, metadata: &ObjectMeta) -> Option<HandleView> {
    let created = metadata.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0);
    let output = text(&metadata.annotations, OUTPUT)?.into();
    Some(HandleView { uid: header.uid.clone(), origin: origin(metadata), policy, output, created })
}

fn output(header: &Header, policy: Arc<str>, metadata: &ObjectMeta) -> Option<OutputView> {
    let annotation = |key| text(&metadata.annotations, key);
    let time = |key| annotation(key)?.parse::<Timestamp>().ok();
    let previous = annotation(PREVIOUS).zip(time(PREVIOUS_UNTIL));
    Some(OutputView {
        uid: header.uid.clone(),
        origin: origin(metadata),
        version: metadata.resource_version.as_deref()?.into(),
        policy,
        made_for: annotation(MADE_FOR)?.into(),
        account: annotation(ACCOUNT)?.into(),
        written: written(metadata),
        handle: annotation(HANDLE)?.into(),
        handle_uid: annotation(HANDLE_UID).map(Into::into),
        issued: time(ISSUED)?,
        expires: time(EXPIRES)?,
        previous: previous.map(|(handle, until)| (handle.into(), until)),
        revoked: annotation(REVOKE).is_some(),
    })
}

/// A Secret with a token that never ends: that there is one is all that is known of it.
#[derive(Debug, PartialEq)]
pub struct NonExpiring(pub Header);

impl From<MetadataOf<v1::Secret>> for NonExpiring {
    fn from(watched: MetadataOf<v1::Secret>) -> Self {
        Self(Header::of(&watched))
    }
}

impl Indexed for NonExpiring {
    /// The namespace.
    type Bucket = Arc<str>;

    fn header(&self) -> &Header {
        &self.0
    }
    fn buckets(&self) -> Vec<Arc<str>> {
        vec![Arc::clone(&self.0.key.namespace)]
    }
    fn is_same(&self, other: &Self) -> bool {
        self == other
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::names::FIELD_MANAGER;

    #[test]
    fn what_a_policy_has_given_an_account_is_known_but_not_its_mark() {
        let fields = json!({
            "f:metadata": {
                "f:labels": {".": {}, "f:mainstay.dev/account-policy": {}, "f:team": {}},
                "f:annotations": {".": {}, "f:mainstay.dev/pull-secrets": {}, "f:example.com/role": {}},
            },
            "f:automountServiceAccountToken": {},
        });
        let account = |labels| -> Stored<AccountView> {
            let watched: WatchedAccount = serde_json::from_value(json!({
                "metadata": {
                    "name": "bot", "namespace": "ns", "uid": "u", "labels": labels,
                    "managedFields": [{"manager": FIELD_MANAGER, "operation": "Update", "fieldsV1": fields}],
                },
            }))
            .unwrap();
            watched.into()
        };
        let ours = Fields {
            labels: ["team".to_owned()].into(),
            annotations: ["example.com/role".to_owned()].into(),
            automount: true,
        };
        let marked = account(json!({"team": "blue", "mainstay.dev/account-policy": "ci"})).view;
        assert_eq!((&marked.ours, marked.unmarked), (&ours, None));
        let unmarked = account(json!({"team": "blue"})).view;
        assert_eq!((unmarked.ours, unmarked.mark, unmarked.unmarked), (ours, None, Some(Origin::Made)));
    }

    #[test]
    fn a_mark_that_somebody_else_has_set_makes_nothing_ours() {
        let labels = json!({"mainstay.dev/account-policy": "ci", "mainstay.dev/account-part": "handle"});
        let names = labels.as_object().unwrap().keys().map(|key| (format!("f:{key}"), json!({})));
        let fields = json!({"f:metadata": {"f:labels": names.collect::<serde_json::Map<_, _>>()}});
        for (manager, origin) in [(FIELD_MANAGER, Origin::Made), ("kubectl-label", Origin::Foreign)] {
            let object = json!({
                "metadata": {
                    "name": "bot", "namespace": "ns", "uid": "u", "labels": labels,
                    "annotations": {OUTPUT: "bot-token"},
                    "managedFields": [{"manager": manager, "operation": "Update", "fieldsV1": fields}],
                },
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r"},
            });
            let account: WatchedAccount = serde_json::from_value(object.clone()).unwrap();
            let binding: WatchedBinding = serde_json::from_value(object.clone()).unwrap();
            let mark = Some(Mark { policy: "ci".into(), origin });
            assert_eq!(Stored::<AccountView>::from(account).view.mark, mark, "{manager}");
            assert_eq!(Stored::<BindingView>::from(binding).view.mark, mark, "{manager}");
            let mut secret: PartialObjectMeta<v1::Secret> = serde_json::from_value(object).unwrap();
            let view = Stored::<SecretView>::from(secret.clone()).view;
            assert!(
                matches!(view, SecretView::Handle(HandleView { origin: of, .. }) if of == origin),
                "{view:?}"
            );
            secret.metadata.annotations = None;
            let view = Stored::<SecretView>::from(secret).view;
            assert!(matches!(view, SecretView::Invalid(of) if of == origin), "{view:?}");
        }
    }

    #[test]
    fn a_secret_that_has_lost_one_of_its_labels_is_still_ours() {
        for (left, manager, origin) in [
            (PART, FIELD_MANAGER, Origin::Made),
            (POLICY, FIELD_MANAGER, Origin::Made),
            (POLICY, "kubectl-label", Origin::Foreign),
        ] {
            let labels = json!({left: "token"});
            let fields = json!({"f:metadata": {"f:labels": {format!("f:{left}"): {}}}});
            let secret: PartialObjectMeta<v1::Secret> = serde_json::from_value(json!({"metadata": {
                "name": "bot-token", "namespace": "ns", "uid": "u", "labels": labels,
                "managedFields": [{"manager": manager, "operation": "Update", "fieldsV1": fields}],
            }}))
            .unwrap();
            let view = Stored::<SecretView>::from(secret).view;
            assert!(matches!(view, SecretView::Invalid(of) if of == origin), "{left} {manager}: {view:?}");
        }
    }
}
