//! The template of a workload, and by what a change of it is known.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
};

use serde::Deserialize;
use serde_json::Value;

use crate::{
    names::{ADMISSION_PREFIX, OBJECTS_PREFIX, RESTART_PREFIX},
    references::Reference,
};

#[derive(Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Template {
    pub(super) metadata: TemplateMetadata,
    pub(super) spec: Value,
}

#[derive(Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct TemplateMetadata {
    pub(super) annotations: BTreeMap<String, String>,
}

/// By what it is known that a template has changed. It is kept in memory only.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Fingerprint {
    /// Of all of it.
    pub whole: u64,
    /// Of what a rollout does not write: without the names of Secrets and ConfigMaps.
    pub rest: u64,
}

impl Fingerprint {
    pub(super) fn of(template: &Template, references: &[Reference]) -> Self {
        let Template { metadata, spec } = template;
        let whole = hash(&(&metadata.annotations, spec.to_string()));
        let mut spec = spec.clone();
        for reference in references {
            if let Some(name) = spec.pointer_mut(&reference.pointer()) {
                *name = Value::Null;
            }
        }
        let others = metadata.annotations.iter().filter(|(key, _)| !is_written(key));
        Self { whole, rest: hash(&(others.collect::<Vec<_>>(), spec.to_string())) }
    }
}

fn hash(of: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}

/// Whether a rollout writes the annotation of a template.
pub(super) fn is_written(annotation: &str) -> bool {
    [ADMISSION_PREFIX, OBJECTS_PREFIX, RESTART_PREFIX].iter().any(|prefix| annotation.starts_with(prefix))
}
