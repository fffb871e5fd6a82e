//! What the kinds' own rules admit, and which part of an object a request may write.

use serde_json::Value;

use super::{
    kinds::Kind,
    object::{finalizers, is_terminating, map, name, tidy},
    request::Reply,
    store::{Key, Store},
};

/// Whether objects may be made in a namespace.
///
/// # Errors
/// 404 where there is none, 403 where it is being deleted.
pub(super) fn namespace(store: &Store, of: Kind, name: &str, object: &str) -> Result<(), Reply> {
    let kind = Kind::named("namespaces");
    let namespace = store.find(kind, "", name).ok_or_else(|| Reply::not_found(kind, name))?;
    if is_terminating(namespace) {
        let message =
            format!("unable to create new content in namespace {name} because it is being terminated");
        let mut details = serde_json::json!({"name": object, "kind": of.row().plural,
            "causes": [{"reason": "NamespaceTerminating", "field": "metadata.namespace"}]});
        if !of.row().group.is_empty() {
            details["group"] = of.row().group.into();
        }
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
    // Who is named twice is named once.
    if let Some(owners) = new["metadata"]["ownerReferences"].as_array_mut() {
        let all = std::mem::take(owners);
        for owner in all {
            if !owners.contains(&owner) {
                owners.push(owner);
            }
        }
    }
    tidy(new);
    new["kind"] = kind.row().kind.into();
    new["apiVersion"] = kind.api_version().into();
}

/// Takes out of an applied configuration what its path does not write.
pub(super) fn of_subresource(kind: Kind, config: &mut Value, subresource: &str) {
    let Some(config) = config.as_object_mut() else { return };
    match subresource {
        "status" if kind.is_custom() => {
            config.retain(|field, _| ["apiVersion", "kind", "metadata", "status"].contains(&&**field))
        }
        "status" => drop(config.remove("spec")),
        _ if kind.row().status => drop(config.remove("status")),
        _ => {}
    }
}

/// Whether the object that a request writes is the one that its path names.
///
/// # Errors
/// 400 where it is not.
pub(super) fn is_meant(kind: Kind, key: &Key, object: &Value) -> Result<(), Reply> {
    let differs = |found: &str, wanted: &str| !found.is_empty() && found != wanted;
    if differs(name(object), &key.1) {
        return Err(Reply::bad("the name of the object does not match the name on the URL"));
    }
    if kind.row().namespaced && differs(super::object::namespace(object), &key.0) {
        return Err(Reply::bad("the namespace of the object does not match the namespace on the request"));
    }
    Ok(())
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
    let is_new = |finalizer: &str| finalizers(old).all(|standing| standing != finalizer);
    if is_terminating(old) && finalizers(new).any(is_new) {
        return refuse(
            "metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted",
        );
    }
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
    if plural == "endpointslices" && changed("addressType") {
        return refuse("addressType: Invalid value: field is immutable");
    }
    if plural == "pods"
        && old["spec"]["nodeName"].is_string()
        && old["spec"]["nodeName"] != new["spec"]["nodeName"]
    {
        return refuse("spec: Forbidden: pod updates may not change fields other than the image");
    }
    Ok(())
}
