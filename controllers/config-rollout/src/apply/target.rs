//! Gives a target a revision, by server-side apply.

use std::collections::BTreeSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{
    Api, ResourceExt,
    api::{DynamicObject, ListParams, Patch},
};
use mainstay_crds::{ConfigMode, ConfigRollout};
use mainstay_runtime::{
    failure::{FieldOwner, RequestError},
    index::ObjectKey,
    request::{ObjectPath, in_time, read},
    slim,
    writes::{Writes, Written},
};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{
    error::ApplyError,
    writer::{Writer, resource},
};
use crate::{
    names::{FIELD_MANAGER, OBJECTS_PREFIX, annotation},
    observe::Seen,
    plan::{Number, Observed, TargetKey},
    references,
};

/// What an object without any field manager is said to be managed by.
const BEFORE_FIRST_APPLY: &str = "before-first-apply";
/// What `kubectl rollout undo` writes a template as. Such a target is held until a source changes; then it is meant to
/// follow. A pipeline with `kubectl apply --server-side` has one of these names too, and applies.
const BY_HAND: [&str; 2] = ["kubectl", "kubectl-rollout"];

/// What has come of giving a target a revision.
#[derive(Debug, PartialEq, Eq)]
pub enum TargetResult {
    /// It has it.
    Done,
    /// It is gone, or another of that name.
    Gone,
    /// Fields of another manager are in the way: whose, and what to do.
    Conflict(String),
}

/// A target as it is, with what a move must know.
#[derive(Deserialize)]
struct Live {
    #[serde(deserialize_with = "slim::metadata")]
    metadata: ObjectMeta,
    spec: LiveSpec,
}

#[derive(Deserialize)]
struct LiveSpec {
    template: LiveTemplate,
}

#[derive(Deserialize)]
struct LiveTemplate {
    #[serde(default)]
    spec: Value,
}

impl Writer {
    /// Gives `target` the revision `number`.
    ///
    /// # Errors
    /// When the target cannot be read or written for another reason than another manager's fields.
    pub async fn give(
        &self,
        rollout: &ConfigRollout,
        seen: &Seen,
        target: &TargetKey,
        number: Number,
    ) -> Result<TargetResult, ApplyError> {
        let failed = |source| ApplyError::Target { what: target.to_string(), source };
        let namespace = rollout.namespace().unwrap_or_default();
        let key = ObjectKey::new(&namespace, &target.name);
        let resource = resource(target.kind);
        let path = ObjectPath::of_kind::<DynamicObject>(&resource, &key);
        let view = seen.observed.targets.iter().find(|view| view.key == *target);
        let Some(live) = read::<Live>(&self.client, &path).await.map_err(failed)? else {
            return Ok(TargetResult::Gone);
        };
        if view.is_none_or(|view| live.metadata.uid.as_deref() != Some(&*view.uid)) {
            return Ok(TargetResult::Gone);
        }
        let body = json!({
            "apiVersion": resource.api_version,
            "kind": target.kind,
            "metadata": {"name": &*target.name, "namespace": &namespace, "uid": live.metadata.uid},
            "spec": {"template": self.template(rollout, seen, target, &live.spec.template.spec, number)},
        });
        let (writes, rollout_key) = (self.of_rollout(rollout), ObjectKey::of(rollout));
        let noted = writes.noted(&self.targets[target.kind as usize], &rollout_key);
        let given = if rollout.spec.mode == ConfigMode::Repoint {
            self.repoint(rollout, target, &noted, &path, &body).await
        } else {
            // The annotations belong to this rollout, whichever manager wrote the template last.
            noted.apply(&path, &body).await
        };
        match given {
            Ok(_) => Ok(TargetResult::Done),
            Err(RequestError::FieldManagerConflict { managers, .. }) => {
                Ok(TargetResult::Conflict(sentence(target, &managers)))
            }
            Err(RequestError::NotFound(_)) => Ok(TargetResult::Gone),
            Err(error) => Err(failed(error)),
        }
    }

    /// Writes references, which may be another manager's, as far as they may be taken over.
    async fn repoint(
        &self,
        rollout: &ConfigRollout,
        target: &TargetKey,
        writes: &Writes<'_>,
        path: &ObjectPath,
        body: &Value,
    ) -> Result<Written, RequestError> {
        let given = writes.patch(path, &Patch::Apply(body)).await;
        if let Err(RequestError::FieldManagerConflict { managers, .. }) = &given
            && self.may_be_taken(rollout, managers).await?
        {
            tracing::info!(%target, ?managers, "taking fields over");
            return writes.apply(path, body).await;
        }
        given
    }

    /// What the target's template is to say. What an earlier apply said and this one does not is taken away by the
    /// server, so all references are named each time.
    fn template(
        &self,
        rollout: &ConfigRollout,
        seen: &Seen,
        target: &TargetKey,
        spec: &Value,
        number: Number,
    ) -> Value {
        let Seen { observed, names } = seen;
        match annotation(rollout.spec.mode, &rollout.name_any()) {
            Some(_) if number == 0 => json!({}),
            Some(key) => {
                let mut annotations = Map::from_iter([(key, number.to_string().into())]);
                if rollout.spec.mode == ConfigMode::Admission {
                    let key = format!("{OBJECTS_PREFIX}{}", rollout.name_any());
                    annotations.insert(key, objects(observed, target, number).into());
                }
                json!({"metadata": {"annotations": annotations}})
            }
            None => {
                let rename = |kind, name: &str| {
                    let (source, _) = names.resolve(&self.stores, kind, name)?;
                    let Some(objects) = observed.snapshots.get(&source).filter(|_| number > 0) else {
                        // What is gone is named until there is something better: the source has not been proven.
                        return Some(if number == 0 { source.name.to_string() } else { name.to_owned() });
                    };
                    let object = objects.get(&observed.object(&source, number));
                    Some(object.map_or_else(|| source.name.to_string(), |object| object.name.to_string()))
                };
                let spec = references::apply_body(spec, rename);
                spec.map_or_else(|| json!({}), |spec| json!({"spec": spec}))
            }
        }
    }

    /// Whether the fields of all these managers may be taken over: the spec names them, a user has rolled the target back
    /// by hand, or they are ConfigRollouts that do not exist any more.
    async fn may_be_taken(
        &self,
        rollout: &ConfigRollout,
        managers: &[FieldOwner],
    ) -> Result<bool, RequestError> {
        let own = format!("{FIELD_MANAGER}.");
        let namespace = rollout.namespace().unwrap_or_default();
        let others = Api::<ConfigRollout>::namespaced(self.client.clone(), &namespace);
        for owner in managers {
            let FieldOwner { manager, applies } = owner;
            let is_undone = BY_HAND.contains(&manager.as_str()) && !applies;
            if is_undone || manager == BEFORE_FIRST_APPLY || rollout.spec.take_over_from.contains(manager) {
                continue;
            }
            let Some(other) = manager.strip_prefix(&own) else { return Ok(false) };
            let params = ListParams::default().fields(&format!("metadata.name={other}"));
            if !in_time(others.list_metadata(&params)).await?.items.is_empty() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Writes under the rollout's own field manager, so that two rollouts do not take each other's fields away.
    fn of_rollout(&self, rollout: &ConfigRollout) -> Writes<'static> {
        Writes::new(self.client.clone(), &format!("{FIELD_MANAGER}.{}", rollout.name_any()))
    }
}

/// The objects that a target has in a revision, as its template lists them for the webhook.
fn objects(observed: &Observed, target: &TargetKey, number: Number) -> String {
    let view = observed.targets.iter().find(|view| view.key == *target);
    let sources = view.into_iter().flat_map(|view| view.pins.0.keys());
    let objects = sources.filter_map(|source| {
        let object = observed.snapshots.get(source)?.get(&observed.object(source, number))?;
        Some(format!("{:?}/{}", source.kind, object.name))
    });
    objects.collect::<Vec<_>>().join(",")
}

fn sentence(target: &TargetKey, managers: &[FieldOwner]) -> String {
    let managers: BTreeSet<_> = managers.iter().map(|owner| owner.manager.as_str()).collect();
    format!(
        "{target} is managed by {}: use spec.mode {:?}, which does not change its references, or name that \
         manager in spec.takeOverFrom",
        managers.into_iter().collect::<Vec<_>>().join(" and "),
        ConfigMode::Admission
    )
}

#[cfg(test)]
mod tests {
    use http::{Method, Request, Response};
    use k8s_openapi::api::{
        apps::v1::Deployment,
        core::v1::{ConfigMap, Secret},
    };
    use kube::{Client, client::Body, runtime::watcher::Event};
    use mainstay_crds::TargetKind;
    use prometheus::Registry;

    use super::*;
    use crate::{
        observe::observe,
        stores::Stores,
        watched::{Mark, WatchedConfig, WatchedWorkload},
    };

    const LAST: Number = 7;

    fn mark(source: &str, number: Number) -> Value {
        let mark = Mark {
            rollout: "web".into(),
            source: source.into(),
            number,
            source_uid: "s".into(),
            source_version: "1".into(),
        };
        let mut metadata = json!(mark.write("ns"));
        metadata["uid"] = format!("{source}-{number}").into();
        json!({"metadata": metadata})
    }

    /// A rollout of the ConfigMap `web` and the Secret `keys`.
    fn rollout(mode: &str) -> ConfigRollout {
        serde_json::from_value(json!({
            "apiVersion": "mainstay.dev/v1alpha1", "kind": "ConfigRollout",
            "metadata": {"name": "web", "namespace": "ns"},
            "spec": {
                "mode": mode,
                "sources": [{"kind": "ConfigMap", "name": "web"}, {"kind": "Secret", "name": "keys"}],
                "stages": [{"name": "all", "targets": [{"kind": "Deployment", "name": "web"}]}],
            },
        }))
        .unwrap()
    }

    fn key() -> TargetKey {
        TargetKey { kind: TargetKind::Deployment, name: "web".into() }
    }

    /// What is seen of the rollout and of a Deployment with this pod spec.
    fn seen(stores: &Stores, rollout: &ConfigRollout, spec: &Value) -> Seen {
        let target: WatchedWorkload<Deployment> = serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "ns", "uid": "t"},
            "spec": {"template": {"spec": spec}},
        }))
        .unwrap();
        stores.deployments.apply(Event::Apply(target.into()), |_| {});
        observe(stores, rollout, LAST, true).unwrap()
    }

    /// What the template of a Deployment with this pod spec is to say in revision 7.
    fn template(stores: &Stores, mode: &str, spec: &Value) -> Value {
        let rollout = rollout(mode);
        let seen = seen(stores, &rollout, spec);
        let silent = tower::service_fn(|_: Request<Body>| async {
            Err::<Response<Body>, _>(std::io::Error::other("no request is expected"))
        });
        let writer = Writer::new(Client::new(silent, "ns"), stores.clone());
        writer.template(&rollout, &seen, &key(), spec, LAST)
    }

    /// What comes of giving a Deployment revision 7 where the server says this of the manager of its template.
    async fn given(mode: &str, conflict: &'static str) -> TargetResult {
        let stores = Stores::new(&Registry::new());
        let config: WatchedConfig<ConfigMap> = serde_json::from_value(mark("web", 7)).unwrap();
        stores.config_maps.apply(Event::Apply(config.into()), |_| {});
        let (rollout, spec) = (rollout(mode), spec("web-6", "keys"));
        let seen = seen(&stores, &rollout, &spec);
        let server = tower::service_fn(move |request: Request<Body>| {
            let is_forced = request.uri().query().is_some_and(|query| query.contains("force=true"));
            let refused = json!({
                "status": "Failure", "reason": "Conflict", "code": 409, "message": conflict,
                "details": {"causes": [{"reason": "FieldManagerConflict", "message": conflict, "field": ".spec"}]},
            });
            let target = json!({
                "metadata": {"name": "web", "namespace": "ns", "uid": "t", "resourceVersion": "1"},
                "spec": {"template": {"spec": spec}},
            });
            let (code, answer) = match *request.method() {
                Method::PATCH if !is_forced => (409, refused),
                _ => (200, target),
            };
            let answer = Response::builder().status(code).body(Body::from(answer.to_string().into_bytes()));
            async { Ok::<_, std::io::Error>(answer.unwrap()) }
        });
        let writer = Writer::new(Client::new(server, "ns"), stores);
        writer.give(&rollout, &seen, &key(), LAST).await.unwrap()
    }

    #[tokio::test]
    async fn a_template_that_was_rolled_back_by_hand_follows_the_next_revision() {
        for mode in ["Admission", "RestartOnly", "Repoint"] {
            let given = given(mode, "conflict with \"kubectl\" using apps/v1").await;
            assert_eq!(given, TargetResult::Done, "{mode}");
        }
    }

    #[tokio::test]
    async fn references_that_a_pipeline_applies_are_left_to_it() {
        for conflict in ["conflict with \"kubectl\"", "conflict with \"git-tool\" using apps/v1"] {
            let given = given("Repoint", conflict).await;
            assert!(matches!(given, TargetResult::Conflict(_)), "{conflict}: {given:?}");
        }
    }

    fn spec(config: &str, keys: &str) -> Value {
        json!({"containers": [{"name": "app", "envFrom": [
            {"configMapRef": {"name": config}}, {"secretRef": {"name": keys}},
        ]}]})
    }

    #[tokio::test]
    async fn the_webhook_is_told_all_objects_that_a_target_has_in_its_revision() {
        let stores = Stores::new(&Registry::new());
        for number in [5, 7, 9] {
            let config: WatchedConfig<ConfigMap> = serde_json::from_value(mark("web", number)).unwrap();
            stores.config_maps.apply(Event::Apply(config.into()), |_| {});
        }
        let keys: WatchedConfig<Secret> = serde_json::from_value(mark("keys", 6)).unwrap();
        stores.secrets.apply(Event::Apply(keys.into()), |_| {});
        let annotations = &template(&stores, "Admission", &spec("web", "keys"))["metadata"]["annotations"];
        let expected = json!({
            "revision.mainstay.dev/web": "7",
            "objects.mainstay.dev/web": "ConfigMap/web-7,Secret/keys-6",
        });
        assert_eq!(*annotations, expected);
    }

    #[tokio::test]
    async fn no_reference_is_removed_where_every_copy_of_its_source_is_gone() {
        let stores = Stores::new(&Registry::new());
        let keys: WatchedConfig<Secret> = serde_json::from_value(mark("keys", 7)).unwrap();
        stores.secrets.apply(Event::Apply(keys.into()), |_| {});
        let spec = |keys: &str| spec("web-4", keys);
        assert_eq!(template(&stores, "Repoint", &spec("keys-6")), json!({"spec": spec("keys-7")}));
    }
}
