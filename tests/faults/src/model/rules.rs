//! What the kinds' own rules admit, and which part of an object a request may write.

use serde_json::Value;

use super::{
    kinds::Kind,
    object::{is_terminating, map, name, tidy},
    request::Reply,
    store::Store,
};

/// Whether objects may be made in a namespace.
///
/// # Errors
/// 404 where there is none, 403 where it is being deleted.
pub(super) fn namespace(store: &Store, name: &str) -> Result<(), Reply> {
    let kind = Kind::named("namespaces");
    let namespace = store.find(kind, "", name).ok_or_else(|| Reply::not_found(kind, name))?;
    if is_terminating(namespace) {
        let message =
            format!("unable to create new content in namespace {name} because it is being terminated");
        let details = serde_json::json!({"causes": [{"reason": "NamespaceTerminating"}]});
        return Err(Reply::detailed(403, "Forbidden", &message, details));
    }
    Ok(())
}

/// Keeps of a write only what it may change: the status or all else, and never what the server alone writes.
pub(super) fn restrict(kind: Kind, old: &Value, new: &mut Value, subresource: &str) {
    if kind.row().status {
        let mut kept = if subresource == "status" { old.clone() } else { std::mem::take(new) };
        let status = if subresource == "status" { new["status"].take() } else { old["status"].clone() };
        if let Some(object) = kept.as_object_mut() {
            if status.is_null() {
                object.remove("status");
            } else {
                object.insert("status".to_owned(), status);
            }
        }
        if subresource == "status" {
            kept["metadata"]["managedFields"] = new["metadata"]["managedFields"].take();
        }
        *new = kept;
    }
    let before = &old["metadata"];
    let metadata = map(new, "metadata");
    for server_alone in [
        "uid",
        "name",
        "namespace",
        "resourceVersion",
        "generation",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
    ] {
        match before.get(server_alone) {
            Some(value) => drop(metadata.insert(server_alone.to_owned(), value.clone())),
            None => drop(metadata.remove(server_alone)),
        }
    }
    tidy(new);
    new["kind"] = kind.row().kind.into();
    new["apiVersion"] = kind.api_version().into();
}

/// Whether the kind's own rules admit the object.
///
/// # Errors
/// 422 that says what is wrong.
pub(super) fn valid(kind: Kind, old: Option<&Value>, new: &Value) -> Result<(), Reply> {
    let refuse = |why: &str| Err(Reply::invalid(kind, name(new), why));
    let plural = kind.row().plural;
    if name(new).is_empty() {
        return refuse("metadata.name: Required value: name or generateName is required");
    }
    let Some(old) = old else { return Ok(()) };
    let changed = |field: &str| old[field] != new[field];
    let is_content = ["secrets", "configmaps"].contains(&plural);
    if is_content && old["immutable"] == true {
        let is_kept = new["immutable"] == true && !["data", "binaryData"].iter().any(|field| changed(field));
        if !is_kept {
            return refuse("data: Forbidden: field is immutable when `immutable` is set");
        }
    }
    if plural == "secrets" && changed("type") {
        return refuse("type: Invalid value: field is immutable");
    }
    if ["rolebindings", "clusterrolebindings"].contains(&plural) && changed("roleRef") {
        return refuse("roleRef: Invalid value: cannot change roleRef");
    }
    if plural == "pods"
        && old["spec"]["nodeName"].is_string()
        && old["spec"]["nodeName"] != new["spec"]["nodeName"]
    {
        return refuse("spec: Forbidden: pod updates may not change fields other than the image");
    }
    Ok(())
}
