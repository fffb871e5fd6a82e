//! Which lists and maps are merged how, as the schemas of the kinds say.

/// How a list is merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum List {
    /// As one value.
    Atomic,
    /// As a set of scalars.
    Set,
    /// As a map, whose keys are these fields of its items; of those with a default it may be missing.
    Map(&'static [(&'static str, Option<&'static str>)]),
}

/// The last two names of fields of a path, as `managedFields` writes its steps.
fn ends(path: &[String]) -> (&str, &str) {
    let mut names = path.iter().rev().filter_map(|step| step.strip_prefix("f:"));
    let last = names.next().unwrap_or_default();
    (names.next().unwrap_or_default(), last)
}

/// How server-side apply merges the list at this path. What no row names is atomic.
pub(super) fn list(path: &[String]) -> List {
    const CONTAINERS: [&str; 2] = ["containers", "initContainers"];
    match ends(path) {
        ("metadata", "finalizers") => List::Set,
        ("metadata", "ownerReferences") => List::Map(&[("uid", None)]),
        ("status", "conditions") => List::Map(&[("type", None)]),
        ("spec", "containers" | "initContainers" | "volumes") | (_, "env" | "imagePullSecrets") => {
            List::Map(&[("name", None)])
        }
        (parent, "ports") if CONTAINERS.contains(&parent) => {
            List::Map(&[("containerPort", None), ("protocol", Some("TCP"))])
        }
        (parent, "volumeMounts") if CONTAINERS.contains(&parent) => List::Map(&[("mountPath", None)]),
        ("spec", "ports") => List::Map(&[("port", None), ("protocol", Some("TCP"))]),
        ("", "secrets") => List::Map(&[("name", None)]),
        _ => List::Atomic,
    }
}

/// Whether the map at this path is one value to server-side apply.
pub(super) fn is_atomic(path: &[String]) -> bool {
    matches!(ends(path).1, "selector" | "labelSelector" | "roleRef" | "nodeSelector" | "resourceFieldRef")
}

/// By which field of its items a strategic merge patch merges the list under this name; `None` when it replaces the list.
pub(super) fn strategic(name: &str) -> Option<&'static str> {
    Some(match name {
        "conditions" => "type",
        "containers" | "initContainers" | "env" | "volumes" | "imagePullSecrets" => "name",
        "ownerReferences" => "uid",
        "volumeMounts" => "mountPath",
        _ => return None,
    })
}
