//! Finds the targets of a rollout, and what they use.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use kube::core::{Selector, SelectorExt};
use mainstay_crds::{ConfigMode, ConfigRollout, TargetKind};
use mainstay_runtime::index::ObjectKey;

use super::{
    error::{MOST_TARGETS, ObserveError, readable},
    resolve::Names,
};
use crate::{
    plan::{Observed, Pins, SourceKey, TargetKey, TargetView, Uses},
    references::{Keys, Place, Reference},
    stores::Stores,
    watched::Workload,
};

/// Adds the targets to what is observed, each once: one that two stages name is of the first.
pub(super) fn find(
    stores: &Stores,
    rollout: &ConfigRollout,
    names: &Names,
    observed: &mut Observed,
) -> Result<(), ObserveError> {
    let mut finder = Finder { stores, names, observed, taken: HashSet::new() };
    for (stage, settings) in rollout.spec.stages.iter().enumerate() {
        for (index, target) in settings.targets.iter().enumerate() {
            if let Some(name) = &target.name {
                finder.named(stage, target.kind, name);
            }
            if let Some(selector) = &target.selector {
                let field = || format!("spec.stages[{stage}].targets[{index}].selector");
                finder.selected(stage, target.kind, &readable(selector, field)?);
            }
        }
    }
    let count = finder.taken.len();
    if count > MOST_TARGETS { Err(ObserveError::TooManyTargets(count)) } else { Ok(()) }
}

struct Finder<'a> {
    stores: &'a Stores,
    names: &'a Names,
    observed: &'a mut Observed,
    taken: HashSet<TargetKey>,
}

impl Finder<'_> {
    fn named(&mut self, stage: usize, kind: TargetKind, name: &str) {
        let key = TargetKey { kind, name: name.into() };
        if !self.taken.insert(key.clone()) {
            return;
        }
        let namespace = &self.names.namespace;
        let undecoded = self.stores.undecoded(kind, namespace);
        let undecoded = undecoded.iter().find(|object| object.name.as_deref() == Some(name));
        let found = self.stores.workloads(kind).get(&ObjectKey::new(namespace, name));
        match (undecoded, found) {
            (Some(object), _) if object.deletion_timestamp.is_none() => {
                self.observed.unreadable_targets.push((key, stage));
            }
            (None, Some(found)) if !found.header.terminating => self.add(stage, key, &found),
            // One that is on its way out shows nothing any more.
            _ => self.observed.missing_targets.push((key, stage)),
        }
    }

    fn selected(&mut self, stage: usize, kind: TargetKind, selector: &Selector) {
        let (namespace, none) = (&self.names.namespace, BTreeMap::new());
        let undecoded = self.stores.undecoded(kind, namespace);
        // Whether one that cannot be read uses a source is not known.
        let left = undecoded.iter().filter(|object| {
            object.deletion_timestamp.is_none() && selector.matches(object.labels.as_ref().unwrap_or(&none))
        });
        for object in left {
            let key = TargetKey { kind, name: object.name.as_deref().unwrap_or_default().into() };
            if self.taken.insert(key.clone()) {
                self.observed.unreadable_targets.push((key, stage));
            }
        }
        let is_undecoded = |name: &str| undecoded.iter().any(|object| object.name.as_deref() == Some(name));
        let mut selected = self.stores.workloads(kind).bucket(namespace);
        selected.retain(|found| {
            !found.header.terminating
                && !is_undecoded(&found.header.key.name)
                && selector.matches(&found.labels)
                && self.uses_any(found)
        });
        selected.sort_by(|one, other| one.header.key.name.cmp(&other.header.key.name));
        for found in selected {
            let key = TargetKey { kind, name: Arc::clone(&found.header.key.name) };
            if self.taken.insert(key.clone()) {
                self.add(stage, key, &found);
            }
        }
    }

    fn uses_any(&self, workload: &Workload) -> bool {
        let resolve = |used: &Reference| self.names.resolve(self.stores, used.kind, &used.name);
        workload.references.iter().any(|used| resolve(used).is_some())
    }

    fn add(&mut self, stage: usize, key: TargetKey, workload: &Workload) {
        let Self { stores, names, observed, .. } = self;
        for used in &workload.references {
            if let Some((source, _)) = names.resolve(stores, used.kind, &used.name) {
                observed.uses.entry(source).or_default().add(used);
            }
        }
        let mut pins = named(names, stores, &workload.references);
        if names.mode != ConfigMode::Repoint {
            let annotated = names.annotated(&workload.annotations);
            for (source, pins) in &mut pins.0 {
                *pins = [observed.object(source, annotated)].into();
            }
        }
        observed.targets.push(TargetView {
            key,
            uid: workload.header.uid.clone(),
            stage,
            generation: workload.generation,
            pins,
            template: workload.template,
            progress: workload.progress.clone(),
        });
    }
}

/// The objects that these references name. Names in `imagePullSecrets` are added beside those of other field managers,
/// which stay: the kubelet tries them all, so that the name of a source is none where there is one of a revision.
pub(super) fn named(names: &Names, stores: &Stores, references: &[Reference]) -> Pins {
    let resolved = references.iter().filter_map(|used| {
        let (source, pin) = names.resolve(stores, used.kind, &used.name)?;
        Some((matches!(used.place, Place::PullSecret(_)), source, pin))
    });
    let resolved: Vec<_> = resolved.collect();
    let is_beside =
        |source: &SourceKey| resolved.iter().any(|(pulls, other, pin)| *pulls && other == source && *pin > 0);
    let mut pins = Pins::default();
    for (pulls, source, pin) in &resolved {
        if !(*pulls && *pin == 0 && is_beside(source)) {
            pins.0.entry(source.clone()).or_default().insert(*pin);
        }
    }
    pins
}

impl Uses {
    fn add(&mut self, used: &Reference) {
        self.required |= !used.optional;
        match &used.keys {
            Keys::All => self.all = true,
            Keys::Named(keys) => {
                for key in keys {
                    *self.keys.entry(key.clone()).or_default() |= !used.optional;
                }
            }
        }
    }
}
