//! Where a pod spec names Secrets and ConfigMaps: finds these references, and changes them to other names.
//!
//! A spec is handled as JSON, so that fields of a newer API server are kept. Handled are `env`, `envFrom`, volumes,
//! projected volumes and `imagePullSecrets`, in containers, init containers and ephemeral containers. A `secretRef`
//! for a storage driver belongs to the node, not to the program, and is not changed.

use mainstay_crds::SourceKind;
use serde_json::{Map, Value, json};

const CONTAINERS: [&str; 3] = ["containers", "initContainers", "ephemeralContainers"];

/// A place where a pod spec names a Secret or ConfigMap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// Where.
    pub place: Place,
    /// What is named.
    pub kind: SourceKind,
    /// Its name.
    pub name: String,
    /// What of it is used.
    pub keys: Keys,
    /// Whether pods start without it.
    pub optional: bool,
}

/// What of a Secret or ConfigMap is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Keys {
    /// All that there is.
    All,
    /// These keys, each of which must be there.
    Named(Vec<String>),
}

/// Where in a pod spec; the numbers are places in its lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// One variable.
    Env {
        /// The list of containers.
        list: &'static str,
        /// The container.
        container: usize,
        /// The variable.
        entry: usize,
    },
    /// All keys as variables.
    EnvFrom {
        /// The list of containers.
        list: &'static str,
        /// The container.
        container: usize,
        /// The entry.
        entry: usize,
    },
    /// A volume.
    Volume(usize),
    /// A part of a projected volume.
    Projected {
        /// The volume.
        volume: usize,
        /// The part.
        entry: usize,
    },
    /// Credentials for pulling images.
    PullSecret(usize),
}

impl Reference {
    /// The JSON pointer of the name, within the pod spec.
    pub fn pointer(&self) -> String {
        let of = match self.kind {
            SourceKind::ConfigMap => "configMap",
            SourceKind::Secret => "secret",
        };
        match &self.place {
            Place::Env { list, container, entry } => {
                format!("/{list}/{container}/env/{entry}/valueFrom/{of}KeyRef/name")
            }
            Place::EnvFrom { list, container, entry } => {
                format!("/{list}/{container}/envFrom/{entry}/{of}Ref/name")
            }
            Place::Volume(volume) => {
                let field = if self.kind == SourceKind::Secret { "secretName" } else { "name" };
                format!("/volumes/{volume}/{of}/{field}")
            }
            Place::Projected { volume, entry } => {
                format!("/volumes/{volume}/projected/sources/{entry}/{of}/name")
            }
            Place::PullSecret(entry) => format!("/imagePullSecrets/{entry}/name"),
        }
    }
}

/// All references of a pod spec.
pub fn find(spec: &Value) -> Vec<Reference> {
    let mut found = Vec::new();
    for list in CONTAINERS {
        for (container, value) in items(&spec[list]) {
            for (entry, env) in items(&value["env"]) {
                let place = Place::Env { list, container, entry };
                let from = &env["valueFrom"];
                found.extend(key_of(SourceKind::ConfigMap, &from["configMapKeyRef"], &place));
                found.extend(key_of(SourceKind::Secret, &from["secretKeyRef"], &place));
            }
            for (entry, from) in items(&value["envFrom"]) {
                let place = Place::EnvFrom { list, container, entry };
                found.extend(whole(SourceKind::ConfigMap, &from["configMapRef"], "name", &place));
                found.extend(whole(SourceKind::Secret, &from["secretRef"], "name", &place));
            }
        }
    }
    for (volume, value) in items(&spec["volumes"]) {
        let place = Place::Volume(volume);
        found.extend(whole(SourceKind::ConfigMap, &value["configMap"], "name", &place));
        found.extend(whole(SourceKind::Secret, &value["secret"], "secretName", &place));
        for (entry, part) in items(&value["projected"]["sources"]) {
            let place = Place::Projected { volume, entry };
            found.extend(whole(SourceKind::ConfigMap, &part["configMap"], "name", &place));
            found.extend(whole(SourceKind::Secret, &part["secret"], "name", &place));
        }
    }
    for (entry, secret) in items(&spec["imagePullSecrets"]) {
        found.extend(whole(SourceKind::Secret, secret, "name", &Place::PullSecret(entry)));
    }
    found
}

fn items(list: &Value) -> impl Iterator<Item = (usize, &Value)> {
    list.as_array().into_iter().flatten().enumerate()
}

fn key_of(kind: SourceKind, selector: &Value, place: &Place) -> Option<Reference> {
    let keys = Keys::Named(vec![selector["key"].as_str()?.to_owned()]);
    reference(kind, selector, "name", keys, place)
}

/// A reference to the whole, or to those keys that `items` picks.
fn whole(kind: SourceKind, source: &Value, field: &str, place: &Place) -> Option<Reference> {
    let picked: Vec<_> =
        items(&source["items"]).filter_map(|(_, item)| item["key"].as_str().map(str::to_owned)).collect();
    let keys = if picked.is_empty() { Keys::All } else { Keys::Named(picked) };
    reference(kind, source, field, keys, place)
}

fn reference(kind: SourceKind, value: &Value, field: &str, keys: Keys, place: &Place) -> Option<Reference> {
    let name = value[field].as_str().filter(|name| !name.is_empty())?.to_owned();
    let optional = value["optional"].as_bool().unwrap_or_default();
    Some(Reference { place: place.clone(), kind, name, keys, optional })
}

/// The smallest server-side apply body that gives the references known to `rename` their new names, as far as the
/// merge rules allow, so that no other field is taken over. `None` if there are none.
///
/// An entry of `env` is merged by its name and the reference in it is one piece; `envFrom` and the sources of a
/// projected volume are one piece as a whole.
pub fn apply_body(
    spec: &Value,
    rename: impl Fn(SourceKind, &str) -> Option<String>,
) -> Option<Map<String, Value>> {
    let mut renamed = spec.clone();
    let mut places = Vec::new();
    for reference in find(spec) {
        let Some(name) = rename(reference.kind, &reference.name) else { continue };
        if let Some(slot) = renamed.pointer_mut(&reference.pointer()) {
            *slot = name.into();
        }
        places.push((reference.kind, reference.place));
    }
    let mut body = Map::new();
    for (kind, place) in &places {
        add(&mut body, &renamed, *kind, place);
    }
    (!places.is_empty()).then_some(body)
}

fn add(body: &mut Map<String, Value>, spec: &Value, kind: SourceKind, place: &Place) {
    match place {
        Place::Env { list, container, entry: variable } => {
            let container = &spec[*list][*container];
            let variable = &container["env"][*variable];
            let owned = entry(entry(body, list, &container["name"]), "env", &variable["name"]);
            owned.insert("valueFrom".into(), variable["valueFrom"].clone());
        }
        Place::EnvFrom { list, container, .. } => {
            let container = &spec[*list][*container];
            entry(body, list, &container["name"]).insert("envFrom".into(), container["envFrom"].clone());
        }
        Place::Volume(volume) => {
            let volume = &spec["volumes"][*volume];
            let (field, source) = match kind {
                SourceKind::ConfigMap => ("configMap", json!({"name": volume["configMap"]["name"]})),
                SourceKind::Secret => ("secret", json!({"secretName": volume["secret"]["secretName"]})),
            };
            entry(body, "volumes", &volume["name"]).insert(field.into(), source);
        }
        Place::Projected { volume, .. } => {
            let volume = &spec["volumes"][*volume];
            let sources = json!({"sources": volume["projected"]["sources"]});
            entry(body, "volumes", &volume["name"]).insert("projected".into(), sources);
        }
        Place::PullSecret(secret) => {
            entry(body, "imagePullSecrets", &spec["imagePullSecrets"][*secret]["name"]);
        }
    }
}

/// The entry of that name in a list of `owner`, made where it is missing.
fn entry<'a>(owner: &'a mut Map<String, Value>, list: &str, name: &Value) -> &'a mut Map<String, Value> {
    let entries = owner.entry(list).or_insert_with(|| json!([]));
    let entries = entries.as_array_mut().expect("only lists are made under these names");
    let at = entries.iter().position(|entry| entry["name"] == *name).unwrap_or_else(|| {
        entries.push(json!({"name": name}));
        entries.len() - 1
    });
    entries[at].as_object_mut().expect("only objects are put into these lists")
}

#[cfg(test)]
mod tests;
