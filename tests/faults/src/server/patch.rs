//! What is patched and applied, and of each only what the controller uses.

use serde_json::Value;

use super::{Effect, Server, finalizers, is_terminating, metadata_of, not_found};
use crate::{kind::Kind, wire::Reply};

/// The fields of `metadata` that a pod may be patched in.
const MERGED: &[&str] = &["labels", "annotations", "ownerReferences", "uid", "finalizers", REMOVED];
const REMOVED: &str = "$deleteFromPrimitiveList/finalizers";

impl Server {
    /// A strategic merge of labels, annotations and finalizers, and of `metadata.ownerReferences`, whose merge key is the
    /// UID.
    pub(super) fn patch_pod(&mut self, name: &str, patch: &Value) -> (Reply, Effect) {
        let Some(before) = self.get(Kind::Pod, name).cloned() else { return (not_found(name), Effect::None) };
        let fields = patch["metadata"].as_object().expect("a patch of metadata");
        assert!(
            patch.as_object().is_some_and(|patch| patch.len() == 1)
                && fields.keys().all(|field| MERGED.contains(&&**field)),
            "the model server merges {MERGED:?} alone: {patch}"
        );
        if fields["uid"] != before["metadata"]["uid"] {
            return (Reply::failure(409, "Conflict", "the UID is another"), Effect::None);
        }
        let mut owners = before["metadata"]["ownerReferences"].as_array().cloned().unwrap_or_default();
        for owner in fields.get("ownerReferences").and_then(Value::as_array).into_iter().flatten() {
            owners.retain(|standing| standing["uid"] != owner["uid"]);
            if owner["$patch"] != "delete" {
                owners.push(owner.clone());
            }
        }
        if self.second_controller {
            owners.drain(..owners.len().saturating_sub(1));
        }
        if owners.iter().filter(|owner| owner["controller"] == true).count() > 1 {
            let text = "metadata.ownerReferences: Only one reference can have Controller set to true";
            return (Reply::failure(422, "Invalid", text), Effect::None);
        }
        self.edit(Kind::Pod, name, |pod| {
            pod["metadata"]["ownerReferences"] = owners.into();
            for map in ["labels", "annotations"] {
                for (key, value) in fields.get(map).and_then(Value::as_object).into_iter().flatten() {
                    pod["metadata"][map][key] = value.clone();
                }
                if let Some(entries) = pod["metadata"][map].as_object_mut() {
                    entries.retain(|_, value| !value.is_null());
                }
            }
            let mut finalizers = finalizers(pod);
            finalizers.retain(|finalizer| !names(fields.get(REMOVED)).contains(finalizer));
            for added in names(fields.get("finalizers")) {
                finalizers.retain(|finalizer| *finalizer != added);
                finalizers.push(added);
            }
            pod["metadata"]["finalizers"] = finalizers.into();
        });
        let after = self.get(Kind::Pod, name).expect("it was just changed").clone();
        (Reply::ok(200, metadata_of(&after)), Effect::Patched { before, after })
    }

    /// A merge of the number of a revision.
    pub(super) fn renumber(&mut self, name: &str, patch: &Value) -> Reply {
        let Some(revision) = self.get(Kind::Revision, name) else { return not_found(name) };
        if patch["metadata"]["uid"] != revision["metadata"]["uid"] {
            return Reply::failure(409, "Conflict", "the UID is another");
        }
        self.edit(Kind::Revision, name, |revision| revision["revision"] = patch["revision"].clone());
        Reply::ok(200, metadata_of(self.get(Kind::Revision, name).expect("it was just changed")))
    }

    /// Server-side apply of the status by its only manager: what it no longer names is gone.
    pub(super) fn apply_status(&mut self, name: &str, patch: &Value) -> (Reply, Effect) {
        let Some(group) = self.get(Kind::Group, name) else { return (not_found(name), Effect::None) };
        if patch["metadata"]["uid"] != group["metadata"]["uid"] {
            return (Reply::failure(409, "Conflict", "the UID is another"), Effect::None);
        }
        let version = &patch["metadata"]["resourceVersion"];
        if !version.is_null() && *version != group["metadata"]["resourceVersion"] {
            return (Reply::failure(409, "Conflict", "the object has been modified"), Effect::None);
        }
        self.edit(Kind::Group, name, |group| group["status"] = patch["status"].clone());
        let after = self.get(Kind::Group, name).expect("it was just changed").clone();
        (Reply::ok(200, after.clone()), Effect::Status(after))
    }

    /// Server-side apply of the finalizers of a group by the manager of all that it has.
    pub(super) fn apply_finalizers(&mut self, name: &str, patch: &Value) -> Reply {
        let Some(group) = self.get(Kind::Group, name) else { return not_found(name) };
        if patch["metadata"]["uid"] != group["metadata"]["uid"] {
            return Reply::failure(409, "Conflict", "the UID is another");
        }
        self.edit(Kind::Group, name, |group| {
            group["metadata"]["finalizers"] = patch["metadata"]["finalizers"].clone();
        });
        let after = self.get(Kind::Group, name).expect("it was just changed").clone();
        if is_terminating(&after) {
            self.delete(Kind::Group, name);
        }
        Reply::ok(200, metadata_of(&after))
    }

    /// Deletes a claim at once, as the server does when no pod uses it.
    pub(super) fn delete_claim(&mut self, name: &str, options: &Value) -> Reply {
        let Some(claim) = self.get(Kind::Claim, name).cloned() else { return not_found(name) };
        if options["preconditions"]["uid"] != claim["metadata"]["uid"] {
            return Reply::failure(409, "Conflict", "the UID in the precondition is another");
        }
        self.delete(Kind::Claim, name);
        Reply::ok(200, claim)
    }
}

fn names(list: Option<&Value>) -> Vec<String> {
    let all = list.and_then(Value::as_array).into_iter().flatten();
    all.filter_map(|name| name.as_str().map(str::to_owned)).collect()
}
