//! Turns the stores into what the rules need.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use kube::{
    ResourceExt,
    core::{Selector, SelectorExt},
};
use mainstay_crds::{ConfigMode, ConfigRollout, ConfigSource, ReplicaGroup, SourceKind, TargetKind};
use mainstay_runtime::{
    index::{Index, ObjectKey},
    undecoded::Undecoded,
};
use prometheus::Registry;
use thiserror::Error;

use crate::{
    plan::{
        Number, Observed, Pins, Snapshot, Snapshots, SourceKey, SourceVersion, TargetKey, TargetView, Uses,
    },
    references::{Keys, Reference},
    watched::{ADMISSION_PREFIX, Bucket, Config, Mark, RESTART_PREFIX, WatchedWorkload, Workload},
};

/// More targets than this are refused: each is a line of the status.
pub const MOST_TARGETS: usize = 512;
/// An object of another rollout's revision: no revision of this one has it, so the target is moved.
const FOREIGN: Number = Number::MAX;

/// What passes read.
#[derive(Clone)]
pub struct Stores {
    /// ConfigMaps.
    pub config_maps: Index<Config>,
    /// Secrets.
    pub secrets: Index<Config>,
    /// Deployments.
    pub deployments: Index<Workload>,
    /// StatefulSets.
    pub stateful_sets: Index<Workload>,
    /// DaemonSets.
    pub daemon_sets: Index<Workload>,
    /// ReplicaGroups.
    pub replica_groups: Index<Workload>,
    /// The ReplicaGroups that cannot be decoded. What their store keeps of them may no longer be so.
    pub undecoded_groups: Undecoded<WatchedWorkload<ReplicaGroup>>,
}

/// Every kind of source.
pub const SOURCE_KINDS: [SourceKind; 2] = [SourceKind::ConfigMap, SourceKind::Secret];
/// Every kind of target.
pub const TARGET_KINDS: [TargetKind; 4] =
    [TargetKind::Deployment, TargetKind::StatefulSet, TargetKind::DaemonSet, TargetKind::ReplicaGroup];

impl Stores {
    /// Empty stores. Registers the series that counts what cannot be decoded.
    ///
    /// # Panics
    /// When the registry has that series already.
    pub fn new(registry: &Registry) -> Self {
        Self {
            config_maps: Index::default(),
            secrets: Index::default(),
            deployments: Index::default(),
            stateful_sets: Index::default(),
            daemon_sets: Index::default(),
            replica_groups: Index::default(),
            undecoded_groups: Undecoded::new(registry),
        }
    }

    /// The targets of a kind that are there and cannot be decoded. The API server admits none of the built-in kinds.
    fn undecoded(&self, kind: TargetKind, namespace: &str) -> Vec<ObjectMeta> {
        match kind {
            TargetKind::ReplicaGroup => self.undecoded_groups.in_namespace(namespace),
            TargetKind::Deployment | TargetKind::StatefulSet | TargetKind::DaemonSet => Vec::new(),
        }
    }

    /// The store of a kind of source.
    pub fn configs(&self, kind: SourceKind) -> &Index<Config> {
        match kind {
            SourceKind::ConfigMap => &self.config_maps,
            SourceKind::Secret => &self.secrets,
        }
    }

    /// The store of a kind of target.
    pub fn workloads(&self, kind: TargetKind) -> &Index<Workload> {
        match kind {
            TargetKind::Deployment => &self.deployments,
            TargetKind::StatefulSet => &self.stateful_sets,
            TargetKind::DaemonSet => &self.daemon_sets,
            TargetKind::ReplicaGroup => &self.replica_groups,
        }
    }

    /// Ends when all have been filled once.
    pub async fn synced(&self) {
        for kind in SOURCE_KINDS {
            self.configs(kind).synced().await;
        }
        for kind in TARGET_KINDS {
            self.workloads(kind).synced().await;
        }
    }
}

/// Why a rollout cannot be planned.
#[derive(Debug, Error)]
pub enum ObserveError {
    /// A selector of the spec is none.
    #[error("{field} is not a selector: {message}; correct it")]
    Selector {
        /// Where it is.
        field: String,
        /// What is wrong with it.
        message: String,
    },
    /// The spec names too many targets.
    #[error(
        "spec.stages select {0} targets, and at most {MOST_TARGETS} are allowed: use several ConfigRollouts"
    )]
    TooManyTargets(usize),
}

impl ObserveError {
    /// As a condition names it.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Selector { .. } => "InvalidSelector",
            Self::TooManyTargets(_) => "TooManyTargets",
        }
    }
}

/// What a rollout's templates may name: its sources, and the objects of its revisions.
#[derive(Debug)]
pub struct Names {
    rollout: Arc<str>,
    namespace: Arc<str>,
    mode: ConfigMode,
    known: HashSet<SourceKey>,
    newest: Number,
}

impl Names {
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
        let number = number.parse().ok().filter(|number| (1..=self.newest).contains(number))?;
        self.known.contains(&key(source)).then(|| (key(source), number))
    }
}

/// All that is seen of a rollout.
#[derive(Debug)]
pub struct Seen {
    /// What the rules need.
    pub observed: Observed,
    /// What the templates' names mean.
    pub names: Names,
}

impl Stores {
    /// Looks at everything that belongs to `rollout`; `newest` is the newest revision that is remembered.
    ///
    /// # Errors
    /// When the spec cannot be read.
    pub fn observe(&self, rollout: &ConfigRollout, newest: Number) -> Result<Seen, ObserveError> {
        let key = ObjectKey::of(rollout);
        let mut observed = Observed { snapshots: self.snapshots(&key), ..Observed::default() };
        self.find_sources(rollout, &key.namespace, &mut observed)?;
        let known = observed.sources.keys().chain(&observed.missing_sources).chain(observed.snapshots.keys());
        let names = Names {
            known: known.cloned().collect(),
            newest: newest.max(observed.highest()),
            mode: rollout.spec.mode,
            namespace: key.namespace,
            rollout: key.name,
        };
        self.find_targets(rollout, &names, &mut observed)?;
        Ok(Seen { observed, names })
    }

    /// The objects of a rollout's revisions.
    pub fn snapshots(&self, key: &ObjectKey) -> Snapshots {
        let mut snapshots = Snapshots::new();
        let bucket = Bucket::Rollout(Arc::clone(&key.namespace), Arc::clone(&key.name));
        for kind in SOURCE_KINDS {
            for object in self.configs(kind).bucket(&bucket) {
                let Some(mark) = object.mark.as_ref().filter(|_| !object.header.terminating) else {
                    continue;
                };
                add_snapshot(&mut snapshots, kind, &object.header.key.name, &object.header.uid, mark);
            }
        }
        snapshots
    }

    fn find_sources(
        &self,
        rollout: &ConfigRollout,
        namespace: &Arc<str>,
        observed: &mut Observed,
    ) -> Result<(), ObserveError> {
        for (index, ConfigSource { kind, name, selector }) in rollout.spec.sources.iter().enumerate() {
            let store = self.configs(*kind);
            let mut add = |config: &Config| {
                let key = SourceKey { kind: *kind, name: Arc::clone(&config.header.key.name) };
                let version =
                    SourceVersion { uid: config.header.uid.clone(), version: config.version.clone() };
                observed.sources.insert(key, version);
            };
            if let Some(name) = name {
                match store.get(&ObjectKey::new(namespace, name)) {
                    Some(config) => add(&config),
                    None => {
                        observed.missing_sources.push(SourceKey { kind: *kind, name: name.as_str().into() })
                    }
                }
            }
            if let Some(selector) = selector {
                let selector = readable(selector, || format!("spec.sources[{index}].selector"))?;
                let all = store.bucket(&Bucket::Namespace(Arc::clone(namespace)));
                all.iter().filter(|config| selector.matches(&config.labels)).for_each(|config| add(config));
            }
        }
        Ok(())
    }

    fn find_targets(
        &self,
        rollout: &ConfigRollout,
        names: &Names,
        observed: &mut Observed,
    ) -> Result<(), ObserveError> {
        let (mut taken, none) = (HashSet::new(), BTreeMap::new());
        for (stage, settings) in rollout.spec.stages.iter().enumerate() {
            for (index, target) in settings.targets.iter().enumerate() {
                let store = self.workloads(target.kind);
                let undecoded = self.undecoded(target.kind, &names.namespace);
                let is_undecoded =
                    |name: &str| undecoded.iter().any(|object| object.name.as_deref() == Some(name));
                let left = undecoded.iter().filter(|object| object.deletion_timestamp.is_none());
                let mut add_unreadable = |object: &ObjectMeta, taken: &mut HashSet<TargetKey>| {
                    let name = object.name.as_deref().unwrap_or_default().into();
                    let key = TargetKey { kind: target.kind, name };
                    if taken.insert(key.clone()) {
                        observed.unreadable_targets.push((key, stage));
                    }
                };
                if let Some(name) = &target.name {
                    let named = left.clone().filter(|object| object.name.as_ref() == Some(name));
                    named.for_each(|object| add_unreadable(object, &mut taken));
                }
                if let Some(selector) = &target.selector {
                    let field = || format!("spec.stages[{stage}].targets[{index}].selector");
                    let selector = readable(selector, field)?;
                    // Whether it uses a source is not known.
                    let selected =
                        left.filter(|object| selector.matches(object.labels.as_ref().unwrap_or(&none)));
                    selected.for_each(|object| add_unreadable(object, &mut taken));
                }
                if let Some(name) = &target.name {
                    let key = TargetKey { kind: target.kind, name: name.as_str().into() };
                    // One that is on its way out shows nothing any more.
                    let found = store.get(&ObjectKey::new(&names.namespace, name));
                    match found.filter(|found| !found.header.terminating && !is_undecoded(name)) {
                        Some(found) if taken.insert(key.clone()) => {
                            self.add_target(names, observed, stage, key, &found);
                        }
                        Some(_) => {}
                        None if taken.insert(key.clone()) => observed.missing_targets.push((key, stage)),
                        None => {}
                    }
                }
                if let Some(selector) = &target.selector {
                    let field = || format!("spec.stages[{stage}].targets[{index}].selector");
                    let selector = readable(selector, field)?;
                    let mut selected = store.bucket(&names.namespace);
                    selected.retain(|found| {
                        !found.header.terminating
                            && !is_undecoded(&found.header.key.name)
                            && selector.matches(&found.labels)
                            && self.uses_any(names, found)
                    });
                    selected.sort_by(|one, other| one.header.key.name.cmp(&other.header.key.name));
                    for found in selected {
                        let key = TargetKey { kind: target.kind, name: Arc::clone(&found.header.key.name) };
                        if taken.insert(key.clone()) {
                            self.add_target(names, observed, stage, key, &found);
                        }
                    }
                }
            }
        }
        let Observed { targets, missing_targets, unreadable_targets, .. } = &*observed;
        let count = targets.len() + missing_targets.len() + unreadable_targets.len();
        if count > MOST_TARGETS { Err(ObserveError::TooManyTargets(count)) } else { Ok(()) }
    }

    fn uses_any(&self, names: &Names, workload: &Workload) -> bool {
        workload.references.iter().any(|used| names.resolve(self, used.kind, &used.name).is_some())
    }

    fn add_target(
        &self,
        names: &Names,
        observed: &mut Observed,
        stage: usize,
        key: TargetKey,
        workload: &Workload,
    ) {
        let annotated = annotation(names.mode, &names.rollout)
            .and_then(|key| workload.annotations.get(&key)?.parse().ok())
            .unwrap_or_default();
        let mut pins = Pins::default();
        for used in &workload.references {
            let Some((source, pin)) = names.resolve(self, used.kind, &used.name) else { continue };
            let uses = observed.uses.entry(source.clone()).or_default();
            uses.add(used);
            let pin = match names.mode {
                ConfigMode::Repoint => pin,
                ConfigMode::Admission | ConfigMode::RestartOnly => observed.object(&source, annotated),
            };
            pins.0.entry(source).or_default().insert(pin);
        }
        observed.targets.push(TargetView {
            key,
            uid: workload.header.uid.clone(),
            stage,
            generation: workload.generation,
            pins,
            progress: workload.progress.clone(),
        });
    }
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

/// Adds the object of a revision that has this mark.
pub fn add_snapshot(snapshots: &mut Snapshots, kind: SourceKind, name: &str, uid: &str, mark: &Mark) {
    let snapshot = Snapshot {
        name: name.into(),
        uid: uid.into(),
        of: SourceVersion { uid: mark.source_uid.clone(), version: mark.source_version.clone() },
    };
    let source = SourceKey { kind, name: mark.source.as_ref().into() };
    snapshots.entry(source).or_default().insert(mark.number, snapshot);
}

/// The annotation of a template that names the revision of a rollout.
pub fn annotation(mode: ConfigMode, rollout: &str) -> Option<String> {
    match mode {
        ConfigMode::Repoint => None,
        ConfigMode::Admission => Some(format!("{ADMISSION_PREFIX}{rollout}")),
        ConfigMode::RestartOnly => Some(format!("{RESTART_PREFIX}{rollout}")),
    }
}

fn readable(selector: &LabelSelector, field: impl Fn() -> String) -> Result<Selector, ObserveError> {
    Selector::try_from(selector.clone())
        .map_err(|error| ObserveError::Selector { field: field(), message: error.to_string() })
}

/// Whether a change of this source or workload can matter to `rollout`.
pub fn concerns(rollout: &ConfigRollout, what: &Concern<'_>) -> bool {
    let selects = |selector: &LabelSelector, labels| {
        Selector::try_from(selector.clone()).is_ok_and(|selector| selector.matches(labels))
    };
    match what {
        Concern::Source(kind, config) => rollout.spec.sources.iter().any(|source| {
            let named = source.name.as_deref() == Some(&*config.header.key.name);
            source.kind == *kind
                && (named || source.selector.as_ref().is_some_and(|select| selects(select, &config.labels)))
        }),
        Concern::Target(kind, workload) => {
            rollout.spec.stages.iter().flat_map(|stage| &stage.targets).any(|target| {
                let named = target.name.as_deref() == Some(&*workload.header.key.name);
                let selected =
                    target.selector.as_ref().is_some_and(|select| selects(select, &workload.labels));
                target.kind == *kind && (named || selected)
            })
        }
    }
}

/// Something that has changed.
#[derive(Debug)]
pub enum Concern<'a> {
    /// A Secret or ConfigMap that is no object of a revision.
    Source(SourceKind, &'a Config),
    /// A workload.
    Target(TargetKind, &'a Workload),
}

/// The name of a rollout's field manager: of each its own, so that two of them do not take each other's fields away.
pub fn field_manager(rollout: &ConfigRollout) -> String {
    format!("{}.{}", crate::apply::FIELD_MANAGER, rollout.name_any())
}

#[cfg(test)]
mod tests {
    use kube::runtime::watcher::Event;
    use mainstay_runtime::decode::Decoded;
    use serde_json::json;

    use super::*;

    /// More replicas than a field can hold.
    const TOO_MUCH: i64 = 1 << 40;

    #[tokio::test]
    async fn a_group_that_cannot_be_decoded_is_neither_missing_nor_passed_over() {
        let stores = Stores::new(&Registry::new());
        let group = |name: &str, app: &str, replicas: i64| {
            let metadata = json!({"name": name, "namespace": "shop", "uid": name, "resourceVersion": "1",
                "labels": {"app": app}});
            let group = json!({"metadata": metadata, "spec": {"replicas": replicas}});
            Event::InitApply(serde_json::from_value::<Decoded<WatchedWorkload<ReplicaGroup>>>(group).unwrap())
        };
        let listed =
            [group("canary", "x", TOO_MUCH), group("web", "web", TOO_MUCH), group("other", "x", TOO_MUCH)];
        let events = [Event::Init].into_iter().chain(listed).chain([Event::InitDone]);
        let events = futures::stream::iter(events.map(Ok));
        stores.replica_groups.follow_decoded(&stores.undecoded_groups, events, Into::into, |_| {}).await;
        let rollout: ConfigRollout = serde_json::from_value(json!({
            "apiVersion": "mainstay.dev/v1alpha1",
            "kind": "ConfigRollout",
            "metadata": {"name": "web", "namespace": "shop"},
            "spec": {
                "sources": [{"kind": "ConfigMap", "name": "web"}],
                "stages": [
                    {"name": "canary", "targets": [{"kind": "ReplicaGroup", "name": "canary"},
                        {"kind": "ReplicaGroup", "name": "gone"}]},
                    {"name": "rest", "targets": [
                        {"kind": "ReplicaGroup", "selector": {"matchLabels": {"app": "web"}}}]},
                ],
            },
        }))
        .unwrap();
        let observed = stores.observe(&rollout, 0).unwrap().observed;
        let key = |name: &str| TargetKey { kind: TargetKind::ReplicaGroup, name: name.into() };
        assert_eq!(observed.unreadable_targets, [(key("canary"), 0), (key("web"), 1)]);
        assert_eq!(observed.missing_targets, [(key("gone"), 0)]);
    }
}
