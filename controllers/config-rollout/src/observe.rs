//! Turns the stores into what the plan needs.

mod error;
mod resolve;
mod targets;

use std::{collections::BTreeMap, sync::Arc};

use kube::core::SelectorExt;
use mainstay_crds::{ConfigMode, ConfigRollout, ConfigSource, SourceKind};
use mainstay_runtime::index::ObjectKey;
use serde_json::Value;

use self::error::readable;
pub use self::{
    error::{MOST_TARGETS, ObserveError},
    resolve::Names,
};
use crate::{
    plan::{Number, Observed, Snapshot, Snapshots, SourceKey, SourceVersion, TargetView},
    references,
    stores::{SOURCE_KINDS, Stores},
    watched::{Bucket, Config, Mark},
};

/// All that is seen of a rollout.
#[derive(Debug)]
pub struct Seen {
    /// What the rules need.
    pub observed: Observed,
    /// What the templates' names mean.
    pub names: Names,
}

impl Seen {
    /// Whether a pod of the target has what revision `number` has for it.
    pub fn pod_has(
        &self,
        stores: &Stores,
        target: &TargetView,
        number: Number,
        annotations: &BTreeMap<String, String>,
        spec: &Value,
    ) -> bool {
        let Self { observed, names } = self;
        if names.mode == ConfigMode::Repoint {
            let named = targets::named(names, stores, &references::find(spec));
            return observed.names(&named, number);
        }
        let annotated = names.annotated(annotations);
        let same = |source| observed.object(source, annotated) == observed.object(source, number);
        annotated > 0 && target.pins.0.keys().all(same)
    }
}

/// Looks at everything that belongs to `rollout`; `newest` is the newest revision that is remembered, and `admits` whether
/// there is the webhook of the mode `Admission`.
///
/// # Errors
/// When the spec cannot be read, or carried out.
pub fn observe(
    stores: &Stores,
    rollout: &ConfigRollout,
    newest: Number,
    admits: bool,
) -> Result<Seen, ObserveError> {
    if rollout.spec.mode == ConfigMode::Admission && !admits {
        return Err(ObserveError::WebhookOff);
    }
    let key = ObjectKey::of(rollout);
    let mut observed = Observed { snapshots: snapshots(stores, &key), ..Observed::default() };
    find_sources(stores, rollout, &key.namespace, &mut observed)?;
    let known = observed.sources.keys().chain(&observed.missing_sources).chain(observed.snapshots.keys());
    let names = Names {
        known: known.cloned().collect(),
        // Where no revision is known, what the templates name tells which numbers were used.
        last: if newest == 0 { Mark::LAST_FOUND } else { newest.max(observed.highest()) },
        mode: rollout.spec.mode,
        namespace: key.namespace,
        rollout: key.name,
    };
    targets::find(stores, rollout, &names, &mut observed)?;
    find_deselected(stores, &names.namespace, &mut observed);
    Ok(Seen { observed, names })
}

/// Sources that targets use, of which the spec names none: what a selector found and is deleted is missing, as what a
/// name finds. What is there still was taken out of the spec.
fn find_deselected(stores: &Stores, namespace: &Arc<str>, observed: &mut Observed) {
    let is_named = |source: &&SourceKey| {
        observed.sources.contains_key(*source) || observed.missing_sources.contains(source)
    };
    let others: Vec<_> = observed.uses.keys().filter(|source| !is_named(source)).cloned().collect();
    for source in others {
        match stores.configs(source.kind).get(&ObjectKey::new(namespace, &source.name)) {
            Some(_) => observed.deselected_sources.push(source),
            None => observed.missing_sources.push(source),
        }
    }
}

/// The objects of a rollout's revisions.
pub fn snapshots(stores: &Stores, key: &ObjectKey) -> Snapshots {
    let mut snapshots = Snapshots::new();
    let bucket = Bucket::Rollout(Arc::clone(&key.namespace), Arc::clone(&key.name));
    for kind in SOURCE_KINDS {
        for object in stores.configs(kind).bucket(&bucket) {
            let Some(mark) = object.mark.as_ref().filter(|_| !object.header.terminating) else {
                continue;
            };
            add_snapshot(&mut snapshots, kind, &object.header.key.name, &object.header.uid, mark);
        }
    }
    snapshots
}

fn find_sources(
    stores: &Stores,
    rollout: &ConfigRollout,
    namespace: &Arc<str>,
    observed: &mut Observed,
) -> Result<(), ObserveError> {
    for (index, ConfigSource { kind, name, selector }) in rollout.spec.sources.iter().enumerate() {
        let store = stores.configs(*kind);
        let mut add = |config: &Config| {
            let key = SourceKey { kind: *kind, name: Arc::clone(&config.header.key.name) };
            let version = SourceVersion { uid: config.header.uid.clone(), version: config.version.clone() };
            observed.sources.insert(key, version);
        };
        if let Some(name) = name {
            match store.get(&ObjectKey::new(namespace, name)) {
                Some(config) => add(&config),
                None => observed.missing_sources.push(SourceKey { kind: *kind, name: name.as_str().into() }),
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

#[cfg(test)]
mod tests {
    use k8s_openapi::api::{
        apps::v1::Deployment,
        core::v1::{ConfigMap, Secret},
    };
    use kube::runtime::watcher::Event;
    use mainstay_crds::{ReplicaGroup, TargetKind};
    use mainstay_runtime::decode::Decoded;
    use prometheus::Registry;
    use serde_json::json;

    use super::*;
    use crate::{
        plan::{Findings, TargetKey},
        watched::{WatchedConfig, WatchedWorkload},
    };

    /// More replicas than a field can hold.
    const TOO_MUCH: i64 = 1 << 40;

    #[test]
    fn a_group_that_cannot_be_decoded_is_neither_missing_nor_passed_over() {
        let stores = Stores::new(&Registry::new());
        let group = |name: &str, app: &str, replicas: i64| {
            let metadata = json!({"name": name, "namespace": "shop", "uid": name, "resourceVersion": "1",
                "labels": {"app": app}});
            let group = json!({"metadata": metadata, "spec": {"replicas": replicas}});
            Event::InitApply(serde_json::from_value::<Decoded<WatchedWorkload<ReplicaGroup>>>(group).unwrap())
        };
        let listed =
            [group("canary", "x", TOO_MUCH), group("web", "web", TOO_MUCH), group("other", "x", TOO_MUCH)];
        for event in [Event::Init].into_iter().chain(listed).chain([Event::InitDone]) {
            stores.replica_groups.take_in_decoded(
                &stores.undecoded_groups,
                Ok(event),
                |object| Some(Into::into(object)),
                |_| {},
            );
        }
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
        let observed = observe(&stores, &rollout, 0, true).unwrap().observed;
        let key = |name: &str| TargetKey { kind: TargetKind::ReplicaGroup, name: name.into() };
        assert_eq!(observed.unreadable_targets, [(key("canary"), 0), (key("web"), 1)]);
        assert_eq!(observed.missing_targets, [(key("gone"), 0)]);
    }

    #[test]
    fn a_pull_secret_of_another_manager_beside_that_of_the_revision_is_none_of_the_source() {
        let stores = Stores::new(&Registry::new());
        let source = SourceKey { kind: SourceKind::Secret, name: "pull".into() };
        let mark = Mark {
            rollout: "web".into(),
            source: "pull".into(),
            number: 7,
            source_uid: "s".into(),
            source_version: "1".into(),
        };
        let copy: WatchedConfig<Secret> =
            serde_json::from_value(json!({"metadata": mark.write("shop")})).unwrap();
        stores.secrets.apply(Event::Apply(copy.into()), |_| {});
        let names = Names {
            rollout: "web".into(),
            namespace: "shop".into(),
            mode: ConfigMode::Repoint,
            known: [source.clone()].into(),
            last: 7,
        };
        let pins = |spec: Value| targets::named(&names, &stores, &references::find(&spec)).0;
        let pulls = |names: Value| json!({"imagePullSecrets": names});
        let both = pins(pulls(json!([{"name": "pull"}, {"name": "pull-7"}])));
        assert_eq!(both, [(source.clone(), [7].into())].into());
        assert_eq!(pins(pulls(json!([{"name": "pull"}]))), [(source.clone(), [0].into())].into());
        let mut volume = pulls(json!([{"name": "pull-7"}]));
        volume["volumes"] = json!([{"name": "a", "secret": {"secretName": "pull"}}]);
        assert_eq!(pins(volume), [(source, [0, 7].into())].into(), "a volume reads what it names");
    }

    #[test]
    fn a_source_of_a_selector_is_missing_when_it_is_deleted_and_deselected_when_it_is_there() {
        let stores = Stores::new(&Registry::new());
        let mark = Mark {
            rollout: "web".into(),
            source: "web".into(),
            number: 7,
            source_uid: "s".into(),
            source_version: "1".into(),
        };
        let config = |metadata: Value| {
            let config: WatchedConfig<ConfigMap> =
                serde_json::from_value(json!({"metadata": metadata})).unwrap();
            stores.config_maps.apply(Event::Apply(config.into()), |_| {});
        };
        config(json!(mark.write("shop")));
        let target: WatchedWorkload<Deployment> = serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "shop", "uid": "t"},
            "spec": {"template": {"spec": {"containers": [{"envFrom": [{"configMapRef": {"name": "web"}}]}]}}},
        }))
        .unwrap();
        stores.deployments.apply(Event::Apply(target.into()), |_| {});
        let rollout: ConfigRollout = serde_json::from_value(json!({
            "apiVersion": "mainstay.dev/v1alpha1",
            "kind": "ConfigRollout",
            "metadata": {"name": "web", "namespace": "shop"},
            "spec": {
                "sources": [{"kind": "ConfigMap", "selector": {"matchLabels": {"app": "web"}}}],
                "stages": [{"name": "all", "targets": [{"kind": "Deployment", "name": "web"}]}],
            },
        }))
        .unwrap();
        let source = SourceKey { kind: SourceKind::ConfigMap, name: "web".into() };
        let observed = observe(&stores, &rollout, 7, true).unwrap().observed;
        assert_eq!(
            (&*observed.missing_sources, &*observed.deselected_sources),
            (&[source.clone()][..], &[][..])
        );
        assert!(observed.is_incomplete(&Findings::new()));
        config(json!({"name": "web", "namespace": "shop", "uid": "s", "resourceVersion": "1"}));
        let observed = observe(&stores, &rollout, 7, true).unwrap().observed;
        assert_eq!((&*observed.missing_sources, &*observed.deselected_sources), (&[][..], &[source][..]));
        assert!(!observed.is_incomplete(&Findings::new()));
    }

    #[test]
    fn the_mode_admission_needs_its_webhook_and_the_others_do_not() {
        let stores = Stores::new(&Registry::new());
        for (mode, is_usable) in [("Admission", false), ("Repoint", true), ("RestartOnly", true)] {
            let rollout: ConfigRollout = serde_json::from_value(json!({
                "apiVersion": "mainstay.dev/v1alpha1",
                "kind": "ConfigRollout",
                "metadata": {"name": "web", "namespace": "shop"},
                "spec": {"mode": mode, "sources": [], "stages": []},
            }))
            .unwrap();
            assert_eq!(observe(&stores, &rollout, 0, false).is_ok(), is_usable, "{mode}");
            assert!(observe(&stores, &rollout, 0, true).is_ok(), "{mode}");
        }
    }
}
