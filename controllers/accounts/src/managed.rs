//! Which field manager wrote what of an object, as `metadata.managedFields` shows.
//!
//! What this controller has created is recorded there as its `Update`, what it has changed by server-side apply as its
//! `Apply`: both are ours, so that objects of an earlier version are recognised as well.

use std::collections::BTreeSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta};
use serde_json::Value;

use crate::{names::FIELD_MANAGER, plan::Written};

/// Where the keys of a map are.
type Path = &'static [&'static str];
/// The object's own fields.
pub(crate) const TOP: Path = &[];
/// Its labels.
pub(crate) const LABELS: Path = &["f:metadata", "f:labels"];
/// Its annotations.
pub(crate) const ANNOTATIONS: Path = &["f:metadata", "f:annotations"];
const DATA: Path = &["f:data"];

/// The keys of the map at `path` that some of the entries have.
fn keys<'a>(
    metadata: &'a ObjectMeta,
    path: Path,
    is_meant: impl Fn(&ManagedFieldsEntry) -> bool + 'a,
) -> BTreeSet<&'a str> {
    let entries = metadata.managed_fields.iter().flatten().filter(move |entry| is_meant(entry));
    let maps = entries.filter_map(|entry| {
        let fields = &entry.fields_v1.as_ref()?.0;
        path.iter().try_fold(fields, |fields, key| fields.get(key)).and_then(Value::as_object)
    });
    maps.flat_map(|map| map.keys().filter_map(|key| key.strip_prefix("f:"))).collect()
}

fn is_ours(entry: &ManagedFieldsEntry) -> bool {
    entry.manager.as_deref() == Some(FIELD_MANAGER)
}

/// Whether this controller has put this label on the object, or the object into the cluster with it: anybody may copy a
/// label, together with the object or onto another.
pub(crate) fn has_labelled(metadata: &ObjectMeta, label: &str) -> bool {
    keys(metadata, LABELS, is_ours).contains(label)
}

/// The keys of the map at `path` that only this controller has written.
pub(crate) fn ours_alone(metadata: &ObjectMeta, path: Path) -> BTreeSet<String> {
    let others = keys(metadata, path, |entry| !is_ours(entry));
    let ours = keys(metadata, path, is_ours).into_iter();
    ours.filter(|key| !others.contains(key)).map(Into::into).collect()
}

/// Who wrote the values of a Secret.
///
/// Who applies another set of keys than before still has those of the create: where there is an `Apply`, it alone counts.
pub(crate) fn written(metadata: &ObjectMeta) -> Written {
    if metadata.managed_fields.iter().flatten().next().is_none() {
        return Written::Unknown;
    }
    let is_applied =
        |entry: &ManagedFieldsEntry| is_ours(entry) && entry.operation.as_deref() == Some("Apply");
    let applied = keys(metadata, DATA, is_applied);
    let ours = if applied.is_empty() { keys(metadata, DATA, is_ours) } else { applied };
    let all = keys(metadata, DATA, |_| true);
    let owned = |keys: BTreeSet<&str>| keys.into_iter().map(Into::into).collect();
    if all.is_subset(&ours) { Written::ByUs(owned(all)) } else { Written::ByOthers(owned(all)) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Metadata with entries of manager, operation, and the keys of labels and data.
    fn metadata(entries: &[(&str, &str, &[&str], &[&str])]) -> ObjectMeta {
        let map = |keys: &[&str]| -> Value {
            let keys = keys.iter().map(|key| (format!("f:{key}"), json!({})));
            keys.chain([(".".to_owned(), json!({}))]).collect::<serde_json::Map<_, _>>().into()
        };
        let entries = entries.iter().map(|(manager, operation, labels, data)| {
            json!({
                "manager": manager, "operation": operation, "fieldsType": "FieldsV1",
                "fieldsV1": {"f:metadata": {"f:labels": map(labels)}, "f:data": map(data)},
            })
        });
        serde_json::from_value(json!({"managedFields": entries.collect::<Vec<_>>()})).unwrap()
    }

    #[test]
    fn what_was_created_and_what_was_applied_is_ours_but_not_what_others_have_as_well() {
        let metadata = metadata(&[
            (FIELD_MANAGER, "Update", &["created", "shared"], &[]),
            (FIELD_MANAGER, "Apply", &["applied"], &[]),
            ("kubectl", "Apply", &["shared", "theirs"], &[]),
        ]);
        assert_eq!(ours_alone(&metadata, LABELS), ["applied", "created"].map(Into::into).into());
        assert!(ours_alone(&metadata, ANNOTATIONS).is_empty());
        let labelled = ["shared", "applied", "theirs"].map(|label| has_labelled(&metadata, label));
        assert_eq!(labelled, [true, true, false]);
    }

    #[test]
    fn values_are_ours_where_no_key_is_of_another() {
        let (us, other) = (FIELD_MANAGER, "kubectl");
        let (create, apply) = ("Update", "Apply");
        for (entries, is_ours) in [
            (vec![(us, create, &[][..], &["a", "b"][..])], true),
            (vec![(us, create, &[], &["a"]), (us, apply, &[], &["a", "b"])], true),
            // The other says the same.
            (vec![(us, create, &[], &["a"]), (other, apply, &[], &["a"])], true),
            (vec![(us, create, &[], &["a"]), (other, create, &[], &[])], true),
            (vec![(us, create, &[], &["a"]), (other, create, &[], &["b"])], false),
            (vec![(us, create, &[], &[]), (other, create, &[], &["a"])], false),
            // The source has lost a key, which the create has still.
            (vec![(us, create, &[], &["a", "b"]), (us, apply, &[], &["a"])], false),
        ] {
            let found = written(&metadata(&entries));
            assert_eq!(matches!(found, Written::ByUs(_)), is_ours, "{entries:?}: {found:?}");
        }
        assert_eq!(written(&ObjectMeta::default()), Written::Unknown);
    }
}
