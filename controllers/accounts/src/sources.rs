//! The Secrets that policies copy: one watch each, of their metadata only, as long as a policy names them.

use std::{collections::HashMap, pin::pin, sync::Arc, time::Duration};

use futures::StreamExt;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client, api::ListParams};
use mainstay_runtime::{failure::RequestError, index::ObjectKey, request::in_time, slim::MetadataOf, watch};
use parking_lot::Mutex;
use tokio_util::task::AbortOnDropHandle;

use crate::{names::PULL_SECRETS, plan::Source, stores::Stores};

/// When a source of which the type could not be found out is asked for again.
const AGAIN: Duration = Duration::from_secs(5);

/// The watches of sources.
pub(crate) struct Sources {
    client: Client,
    stores: Stores,
    watches: Mutex<HashMap<ObjectKey, AbortOnDropHandle<()>>>,
    changed: Arc<dyn Fn() + Send + Sync>,
}

impl Sources {
    /// Calls `changed` whenever a source does.
    pub(crate) fn new(client: Client, stores: Stores, changed: impl Fn() + Send + Sync + 'static) -> Self {
        Self { client, stores, watches: Mutex::default(), changed: Arc::new(changed) }
    }

    /// Watches these and no others.
    pub(crate) fn watch(&self, wanted: &std::collections::HashSet<ObjectKey>) {
        let mut watches = self.watches.lock();
        watches.retain(|source, _| wanted.contains(source));
        self.stores.sources.lock().retain(|source, _| wanted.contains(source));
        for source in wanted {
            if !watches.contains_key(source) {
                watches.insert(source.clone(), self.follow(source.clone()));
            }
        }
    }

    fn follow(&self, source: ObjectKey) -> AbortOnDropHandle<()> {
        let api = Api::<MetadataOf<Secret>>::namespaced(self.client.clone(), &source.namespace);
        let secrets = Api::<Secret>::namespaced(self.client.clone(), &source.namespace);
        let (stores, changed) = (self.stores.clone(), Arc::clone(&self.changed));
        let seen = watch::object(api, &source.name);
        AbortOnDropHandle::new(tokio::spawn(async move {
            let mut seen = pin!(seen);
            // The last one that was looked at: a Secret never changes its type, so each is asked for once.
            let mut judged: Option<(String, bool)> = None;
            while let Some(seen) = seen.next().await {
                let secret = match seen {
                    Ok(secret) => secret.map(|secret| secret.metadata),
                    Err(error) => {
                        tracing::warn!(%error, "the watch of a pull secret failed and is tried again");
                        continue;
                    }
                };
                let mut known = Source::Missing;
                if let Some(metadata) = secret {
                    let uid = metadata.uid.unwrap_or_default();
                    let is_pull_secret = match &judged {
                        Some((before, is_pull_secret)) if *before == uid => *is_pull_secret,
                        _ => judge(&secrets, &source.name, &uid).await,
                    };
                    judged = Some((uid.clone(), is_pull_secret));
                    known = if is_pull_secret {
                        Source::At(uid.into(), metadata.resource_version.unwrap_or_default().into())
                    } else {
                        Source::NotPullSecret
                    };
                }
                let before = stores.sources.lock().insert(source.clone(), known.clone());
                if before != Some(known) {
                    changed();
                }
            }
        }))
    }
}

/// Whether this Secret is of a type that is copied. Until that is known, the last known answer counts.
async fn judge(secrets: &Api<Secret>, name: &str, uid: &str) -> bool {
    loop {
        match is_pull_secret(secrets, name, uid).await {
            Ok(is_pull_secret) => return is_pull_secret,
            Err(error) => {
                tracing::warn!(%error, "the type of a pull secret could not be read; trying again");
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}

/// Asks by a selector of the type: metadata does not have it, and the content is not to be read for it.
async fn is_pull_secret(secrets: &Api<Secret>, name: &str, uid: &str) -> Result<bool, RequestError> {
    let types: String = PULL_SECRETS.iter().map(|of| format!(",type!={of}")).collect();
    let others = ListParams::default().fields(&format!("metadata.name={name}{types}"));
    let others = in_time(secrets.list_metadata(&others)).await?;
    Ok(!others.items.iter().any(|other| other.metadata.uid.as_deref() == Some(uid)))
}

#[cfg(test)]
mod tests {
    use http::{Request, Response};
    use kube::{client::Body, runtime::reflector};
    use serde_json::json;
    use tokio::sync::mpsc;

    use super::*;
    use crate::plan::Grantable;

    /// The results of reading a source of this type, and the requests that were made.
    async fn known_of(of: &'static str) -> (Source, Vec<String>) {
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let log = Arc::clone(&asked);
        let service = tower::service_fn(move |request: Request<Body>| {
            let url = request.uri().to_string();
            log.lock().push(url.clone());
            async move {
                if url.contains("watch=true") {
                    return std::future::pending().await;
                }
                let is_excluded = url.contains("type%21%3D") && PULL_SECRETS.contains(&of);
                let item = json!({
                    "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata",
                    "metadata": {"name": "pull", "namespace": "registry", "uid": "s", "resourceVersion": "1"},
                });
                let items = if is_excluded { vec![] } else { vec![item] };
                let list = json!({
                    "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadataList",
                    "metadata": {"resourceVersion": "1"}, "items": items,
                });
                Ok::<_, tower::BoxError>(Response::new(Body::from(list.to_string().into_bytes())))
            }
        });
        let (namespaces, _) = reflector::store();
        let stores = Stores::new(namespaces, Grantable::default());
        let (told, mut news) = mpsc::unbounded_channel();
        let sources = Sources::new(Client::new(service, "default"), stores.clone(), move || {
            let _ = told.send(());
        });
        let key = ObjectKey::new("registry", "pull");
        sources.watch(&[key.clone()].into());
        news.recv().await.unwrap();
        let known = stores.sources.lock()[&key].clone();
        let asked = asked.lock().clone();
        (known, asked)
    }

    #[tokio::test]
    async fn the_type_of_a_source_is_known_before_anything_is_copied_and_its_content_is_not_read() {
        for (of, expected) in [
            ("kubernetes.io/dockerconfigjson", Source::At("s".into(), "1".into())),
            ("bootstrap.kubernetes.io/token", Source::NotPullSecret),
        ] {
            let (known, asked) = known_of(of).await;
            assert_eq!(known, expected, "{of}: {asked:?}");
            // Lists of metadata alone.
            assert!(asked.iter().all(|url| url.contains("/namespaces/registry/secrets?")), "{asked:?}");
        }
    }
}
