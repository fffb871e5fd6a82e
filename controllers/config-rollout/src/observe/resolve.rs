//! Resolves the names in a template to sources and revisions.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use mainstay_crds::{ConfigMode, SourceKind};
use mainstay_runtime::index::ObjectKey;

use crate::{
    names::annotation,
    plan::{FOREIGN, Number, SourceKey},
    stores::Stores,
};

/// What a rollout's templates may name: its sources, and the objects of its revisions.
#[derive(Debug)]
pub struct Names {
    /// The rollout's name.
    pub(super) rollout: Arc<str>,
    /// Its namespace.
    pub(super) namespace: Arc<str>,
    /// How its targets get a revision.
    pub(super) mode: ConfigMode,
    /// Its sources, and those of its revisions.
    pub(super) known: HashSet<SourceKey>,
    /// The highest number that an object of a revision which is gone may have had.
    pub(super) last: Number,
}

impl Names {
    /// The revision that an annotation of a template or pod names; 0 where there is none.
    pub(super) fn annotated(&self, annotations: &BTreeMap<String, String>) -> Number {
        let key = annotation(self.mode, &self.rollout);
        key.and_then(|key| annotations.get(&key)?.parse().ok()).unwrap_or_default()
    }

    /// The source that a template means by this name, and the number of the object of a revision that it names; 0
    /// for the source itself.
    pub fn resolve(&self, stores: &Stores, kind: SourceKind, name: &str) -> Option<(SourceKey, Number)> {
        let key = |name: &str| SourceKey { kind, name: name.into() };
        if self.known.contains(&key(name)) {
            return Some((key(name), 0));
        }
        if self.mode != ConfigMode::Repoint {
            return None;
        }
        if let Some(object) = stores.configs(kind).get(&ObjectKey::new(&self.namespace, name)) {
            let mark = object.mark.as_ref()?;
            let source = key(&mark.source);
            let number = if mark.rollout == self.rollout { mark.number } else { FOREIGN };
            return self.known.contains(&source).then_some((source, number));
        }
        // An object that somebody has deleted is still meant.
        let (source, number) = name.rsplit_once('-')?;
        let number = number.parse().ok().filter(|number| (1..=self.last).contains(number))?;
        self.known.contains(&key(source)).then(|| (key(source), number))
    }
}
