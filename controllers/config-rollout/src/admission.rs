//! Changes the references of pods whose template names a revision: mode `Admission`.
//!
//! The API server calls the webhook only for pods that carry such an annotation, and refuses them while the webhook
//! does not answer. A pod whose revision is not found is refused too: it must not read the sources, which may have
//! content that was rolled back.

use k8s_openapi::{
    NamespaceResourceScope,
    api::core::v1::{ConfigMap, Secret},
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DynamicObject, ListParams, PartialObjectMeta},
};
use mainstay_crds::SourceKind;
use mainstay_runtime::{failure::RequestError, index::ObjectKey, request::paged};
use mainstay_webhook::{AdmissionRequest, AdmissionResponse, ConfigurationKind, Handler, Webhook};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::{
    names::{ADMISSION_PREFIX, OBJECTS_PREFIX, ROLLOUT},
    observe::{add_snapshot, snapshots},
    plan::{Number, Observed, Snapshots, SourceKey},
    references,
    stores::{SOURCE_KINDS, Stores},
    watched::{Mark, WatchedConfig},
};

/// The webhook.
pub const WEBHOOK: Webhook = Webhook {
    kind: ConfigurationKind::Mutating,
    name: "pods.config-rollout.mainstay.dev",
    path: "/mutate-pods",
};

/// Answers about pods.
pub struct Admission {
    /// For revisions that the stores do not show yet.
    pub client: Client,
    /// The objects of revisions.
    pub stores: Stores,
}

/// What has come of a pod.
type Patch = Vec<Value>;

impl Handler for Admission {
    async fn review(&self, request: &AdmissionRequest<DynamicObject>) -> AdmissionResponse {
        let answer = AdmissionResponse::from(request);
        let Some(pod) = &request.object else { return answer };
        let namespace =
            request.namespace.as_deref().or(pod.metadata.namespace.as_deref()).unwrap_or_default();
        match self.moved(namespace, pod).await {
            Ok(patch) if patch.is_empty() => answer,
            Ok(patch) => match serde_json::from_value(Value::Array(patch)) {
                Ok(patch) => answer.with_patch(patch).unwrap_or_else(AdmissionResponse::invalid),
                Err(error) => AdmissionResponse::invalid(error),
            },
            Err(why) => {
                tracing::warn!(namespace, why, "a pod is refused");
                answer.deny(why)
            }
        }
    }
}

impl Admission {
    /// The patch that moves the references of a pod, or why it cannot be had.
    async fn moved(&self, namespace: &str, pod: &DynamicObject) -> Result<Patch, String> {
        let mut patch = Patch::new();
        for (key, value) in pod.annotations() {
            let Some(rollout) = key.strip_prefix(ADMISSION_PREFIX) else { continue };
            let number: Number = value.parse().map_err(|_| {
                format!("the annotation {key} is {value:?}: it must be the number of a revision")
            })?;
            let rollout = ObjectKey::new(namespace, rollout);
            let listed = pod.annotations().get(&format!("{OBJECTS_PREFIX}{}", rollout.name));
            let listed = listed.map(String::as_str).unwrap_or_default();
            let revision = self.revision(&rollout, number, listed).await?;
            patch.extend(moves(&pod.data["spec"], &revision, number));
        }
        Ok(patch)
    }

    /// The objects of the rollout's revisions, of which `number` is one, and which have all that is listed.
    async fn revision(&self, rollout: &ObjectKey, number: Number, listed: &str) -> Result<Observed, String> {
        let (name, namespace) = (&rollout.name, &rollout.namespace);
        let mut seen = Observed { snapshots: snapshots(&self.stores, rollout), ..Observed::default() };
        if !seen.has(number, listed) {
            // The store of a replica may be behind the one that has made the revision.
            seen.snapshots = self.live(rollout).await.map_err(|error| {
                format!(
                    "revision {number} of ConfigRollout {namespace}/{name} could not be looked up: {error}"
                )
            })?;
        }
        seen.has(number, listed).then_some(seen).ok_or_else(|| {
            format!(
                "revision {number} of ConfigRollout {namespace}/{name} does not exist, or lacks an object: \
                 remove the annotations {ADMISSION_PREFIX}{name} and {OBJECTS_PREFIX}{name} from the pod's \
                 template, or let the ConfigRollout set them"
            )
        })
    }

    async fn live(&self, rollout: &ObjectKey) -> Result<Snapshots, RequestError> {
        let mut snapshots = Snapshots::new();
        for kind in SOURCE_KINDS {
            let found = match kind {
                SourceKind::ConfigMap => self.list::<ConfigMap>(rollout).await?,
                SourceKind::Secret => self.list::<Secret>(rollout).await?,
            };
            for (name, uid, mark) in found {
                add_snapshot(&mut snapshots, kind, &name, &uid, &mark);
            }
        }
        Ok(snapshots)
    }

    /// The names, UIDs and marks of the objects of a kind that are of the rollout.
    async fn list<K>(&self, rollout: &ObjectKey) -> Result<Vec<(String, String, Mark)>, RequestError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone,
        WatchedConfig<K>: DeserializeOwned,
    {
        let objects = Api::<WatchedConfig<K>>::namespaced(self.client.clone(), &rollout.namespace);
        let params = ListParams::default().labels(&format!("{ROLLOUT}={}", rollout.name));
        let list = |page| {
            let objects = objects.clone();
            async move { objects.list_metadata(&page).await }
        };
        let marked = |object: PartialObjectMeta<WatchedConfig<K>>| {
            let mark = Mark::read(&object.metadata)?;
            Some((object.metadata.name.unwrap_or_default(), object.metadata.uid.unwrap_or_default(), mark))
        };
        paged(params, list, marked).await
    }
}

impl Observed {
    /// Whether there is a revision of this number, and each of the objects that a template lists: a store may show one
    /// object of a revision before another.
    fn has(&self, number: Number, listed: &str) -> bool {
        let is_there = |listed: &str| {
            listed.split_once('/').is_some_and(|(kind, name)| {
                self.snapshots.iter().any(|(source, objects)| {
                    format!("{:?}", source.kind) == kind
                        && objects.values().any(|object| &*object.name == name)
                })
            })
        };
        self.snapshots.values().any(|objects| objects.contains_key(&number))
            && listed.split(',').filter(|listed| !listed.is_empty()).all(is_there)
    }
}

/// The operations of a JSON patch that move the references of a pod's spec to a revision.
fn moves(spec: &Value, seen: &Observed, number: Number) -> Patch {
    let moved = references::find(spec).into_iter().filter_map(|reference| {
        let source = SourceKey { kind: reference.kind, name: reference.name.as_str().into() };
        let object = seen.snapshots.get(&source)?.get(&seen.object(&source, number))?;
        let path = format!("/spec{}", reference.pointer());
        Some(json!({"op": "replace", "path": path, "value": &*object.name}))
    });
    moved.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Snapshot, SourceVersion};

    #[test]
    fn a_pod_gets_the_objects_of_its_revision_and_keeps_the_rest() {
        let snapshot = |name: &str| Snapshot {
            name: name.into(),
            uid: "u".into(),
            of: SourceVersion { uid: "u".into(), version: "1".into() },
        };
        let web = SourceKey { kind: SourceKind::ConfigMap, name: "web".into() };
        let objects = [(2, snapshot("web-2")), (5, snapshot("web-5")), (9, snapshot("web-9"))];
        let seen = Observed { snapshots: [(web, objects.into())].into(), ..Observed::default() };
        let spec = json!({
            "containers": [{"name": "app", "envFrom": [{"configMapRef": {"name": "web"}}]}],
            "volumes": [{"name": "a", "configMap": {"name": "other"}}, {"name": "b", "secret": {"secretName": "web"}}],
        });
        let expected = |name: &str| {
            vec![
                json!({"op": "replace", "path": "/spec/containers/0/envFrom/0/configMapRef/name", "value": name}),
            ]
        };
        assert_eq!(moves(&spec, &seen, 7), expected("web-5"));
        assert_eq!(moves(&spec, &seen, 9), expected("web-9"));
        assert!(moves(&spec, &seen, 1).is_empty());
        assert!(seen.has(5, "") && !seen.has(7, ""));
        assert!(seen.has(5, "ConfigMap/web-5") && seen.has(9, "ConfigMap/web-5,ConfigMap/web-9"));
        for listed in ["Secret/web-5", "ConfigMap/web-5,Secret/keys-9", "ConfigMap/web-7", "web-5"] {
            assert!(!seen.has(9, listed), "{listed}: another object of the revision is not shown yet");
        }
    }
}
